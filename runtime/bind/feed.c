/* advrt.core.feed: batches of training images that threads make in advance; see io/feed.h. */
#include <math.h>

#include "io/feed.h"

#include <string.h>

#include "base/random.h"
#include "bind/bind.h"
#include "bind/fields.h"

#define FEED "advrt.feed"

typedef struct FeedBox {
    Feed *feed;
    bool closed;
} FeedBox;

static Feed *check_feed(lua_State *L) {
    const FeedBox *b = luaL_checkudata(L, 1, FEED);
    luaL_argcheck(L, b->feed && !b->closed, 1, "the feed is closed");
    return b->feed;
}

/* new{shape = {C,H,W}, resize =, crop =, round =, low = 0, high = 1} -> an empty feed. resize and
 * crop apply to image files. round rounds every value to the nearest of the 256 levels. low and
 * high are the range of float values. */
static int make(lua_State *L) {
    Error e = {0};
    static const char *const known[] = {"shape", "resize", "crop", "round", "low", "high", NULL};
    int64_t shape[3];
    Fields f = fields_of(L, 1, known);
    luaL_argcheck(L, fields_integers(&f, "shape", 3, shape) == 3, 1,
                  "the shape of images must be {C, H, W}");
    int64_t resize = fields_integer(&f, "resize", 0, 0, IMAGE_SIDE),
            crop = fields_integer(&f, "crop", 0, 0, IMAGE_SIDE);
    FeedSpec spec = {.C = shape[0],
                     .H = shape[1],
                     .W = shape[2],
                     .wish = {.resize = (uint32_t)resize, .crop = (uint32_t)crop},
                     .round = fields_flag(&f, "round"),
                     .low = (float)fields_number(&f, "low", 0, -HUGE_VAL, HUGE_VAL),
                     .high = (float)fields_number(&f, "high", 1, -HUGE_VAL, HUGE_VAL)};
    FeedBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (FeedBox){0};
    luaL_setmetatable(L, FEED);
    return feed_new(&b->feed, &spec, &e) ? bind_error(L, &e) : 1;
}

static int collect(lua_State *L) {
    FeedBox *b = luaL_checkudata(L, 1, FEED);
    b->closed = true;
    if (!operation_may_free(L)) return 0;
    feed_free(b->feed);
    b->feed = NULL;
    return 0;
}

static int length(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)feed_count(check_feed(L)));
    return 1;
}

/* Reads `count` labels from an argument, one label for all images or an i64 tensor [count], into an
 * array that the Lua stack keeps. */
static const int64_t *check_labels(lua_State *L, int arg, int64_t count) {
    Error e = {0};
    int64_t *labels = lua_newuserdatauv(L, (size_t)count * sizeof *labels + 1, 0);
    if (lua_isinteger(L, arg)) {
        for (int64_t i = 0; i < count; i++) labels[i] = lua_tointeger(L, arg);
        return labels;
    }
    const Tensor *t = bind_check_tensor_of(L, arg, DTYPE_I64, 1);
    luaL_argcheck(L, t->shape[0] == count, arg, "wanted one label for each image");
    if (tensor_to_host(t, labels, &e)) bind_fail(L, 1, &e);
    return labels;
}

/* file(path, label): adds one image from an image file. */
static int file(lua_State *L) {
    Error e = {0};
    Feed *f = check_feed(L);
    if (feed_add_file(f, luaL_checkstring(L, 2), luaL_checkinteger(L, 3), &e))
        return bind_error(L, &e);
    return 0;
}

/* raw(path, "u8" | "f32", offset, count, labels): adds `count` images from byte `offset` of a
 * file. */
static int raw(lua_State *L) {
    Error e = {0};
    Feed *f = check_feed(L);
    const char *path = luaL_checkstring(L, 2);
    Dtype type;
    if (dtype_of(luaL_checkstring(L, 3), &type))
        return luaL_argerror(L, 3, "element type must be u8 or f32");
    lua_Integer offset = luaL_checkinteger(L, 4), count = luaL_checkinteger(L, 5);
    luaL_argcheck(L, offset >= 0, 4, "must be 0 or more");
    luaL_argcheck(L, count >= 1 && count < INT32_MAX, 5, "must be 1 or more");
    const int64_t *labels = check_labels(L, 6, count);
    if (feed_add_raw(f, path, type, (uint64_t)offset, count, labels, &e)) return bind_error(L, &e);
    return 0;
}

/* pixels(images u8 or f32 [M,C,H,W], labels): adds copies of M images. */
static int pixels(lua_State *L) {
    Error e = {0};
    Feed *f = check_feed(L);
    const Tensor *images = bind_check_tensor(L, 2);
    if (feed_add_pixels(f, images, check_labels(L, 3, images->ndim ? images->shape[0] : 1), &e))
        return bind_error(L, &e);
    return 0;
}

/* Copies the indices in an i64 tensor [n] to a new userdata on the stack. */
static int64_t *copy_places(lua_State *L, const Tensor *t) {
    Error e = {0};
    int64_t *places = lua_newuserdatauv(L, tensor_bytes(t) + 1, 0);
    if (tensor_to_host(t, places, &e)) bind_fail(L, 1, &e);
    return places;
}

/* start{order = i64 [n], batch =, threads = 1, flip =, shift =, stream = name, numbers = i64 [n]}:
 * begins a pass over the images in `order`, counted from 0. Without a stream the images are not
 * augmented. numbers: the index of each image in the random stream; default: order. */
static int start(lua_State *L) {
    static const char *const known[] = {"order", "batch",  "threads", "flip",
                                        "shift", "stream", "numbers", NULL};
    Error e = {0};
    size_t length;
    check_feed(L);
    Fields f = fields_of(L, 2, known);
    const char *stream = fields_text(&f, "stream", false, &length);
    Augment a = {.flip = fields_flag(&f, "flip"),
                 .shift = (int)fields_integer(&f, "shift", 0, 0, 1024)};
    if (stream) a.key = random_hash(RANDOM_EMPTY, stream, length);
    int threads = (int)fields_integer(&f, "threads", 1, 1, 64);
    int64_t batch = fields_integer(&f, "batch", FIELDS_NO_INTEGER, INT64_MIN, INT64_MAX);
    const Tensor *order = fields_tensor(&f, "order", DTYPE_I64, -1), *numbers = NULL;
    int at = lua_gettop(L), numbers_at = 0;
    if (lua_getfield(L, 2, "numbers") != LUA_TNIL) {
        numbers = fields_tensor(&f, "numbers", DTYPE_I64, tensor_count(order));
        numbers_at = lua_gettop(L);
    }
    /* check last: a field's metamethod may have closed the feed or a tensor */
    Feed *feed = check_feed(L);
    luaL_argcheck(L, bind_test_tensor(L, at) && (!numbers || bind_test_tensor(L, numbers_at)), 2,
                  "a tensor has been emptied");
    luaL_argcheck(L, order->ndim == 1, 2, "order must be an i64 tensor [n]");
    int64_t *places = copy_places(L, order);
    if (stream && numbers) a.numbers = copy_places(L, numbers);
    if (feed_start(feed, places, tensor_count(order), batch, stream ? &a : NULL, threads, &e))
        return bind_error(L, &e);
    return 0;
}

/* next(x f32 [N,C,H,W], y i64 [N]) -> true after filling both with the next batch; false after the
 * last batch. An image that cannot be read raises a failure. */
static int next(lua_State *L) {
    Error e = {0};
    bool more;
    Feed *f = check_feed(L);
    if (feed_next(f, bind_check_tensor(L, 2), bind_check_tensor(L, 3), &more, &e))
        return bind_fail(L, 1, &e);
    lua_pushboolean(L, more);
    return 1;
}

/* waited() -> the seconds that `next` has waited in this pass. */
static int waited(lua_State *L) {
    lua_pushnumber(L, feed_waited(check_feed(L)));
    return 1;
}

int luaopen_advrt_core_feed(lua_State *L);
int luaopen_advrt_core_feed(lua_State *L) {
    static const luaL_Reg functions[] = {{"new", make}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"file", file}, {"raw", raw},       {"pixels", pixels}, {"start", start},
        {"next", next}, {"waited", waited}, {"close", collect}, {NULL, NULL},
    };
    luaL_newmetatable(L, FEED);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__close");
    operation_push(L, length, 0);
    lua_setfield(L, -2, "__len");
    operation_library(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    operation_library(L, functions);
    return 1;
}
