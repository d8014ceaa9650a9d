/* advrt.core.image: image, IDX and CIFAR files as u8 tensors, and PNG files from tensors
 * (io/image.h, io/idx.h, io/cifar.h). */
#include <limits.h>
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "bind/fields.h"
#include "io/cifar.h"
#include "io/idx.h"
#include "io/image.h"

static ImageWish check_wish(lua_State *L) {
    static const char *const known[] = {"resize", "crop", "channels", NULL};
    ImageWish wish = {0};
    if (lua_isnoneornil(L, 2)) return wish;
    Fields f = fields_of(L, 2, known);
    wish.resize = (uint32_t)fields_integer(&f, "resize", 0, 1, IMAGE_SIDE);
    wish.crop = (uint32_t)fields_integer(&f, "crop", 0, 1, IMAGE_SIDE);
    wish.channels = (int)fields_integer(&f, "channels", 0, 1, INT_MAX);
    if (wish.channels != 0 && wish.channels != 1 && wish.channels != 3)
        luaL_argerror(L, 2, lua_pushfstring(L, "'channels' must be 1 or 3, got %d", wish.channels));
    return wish;
}

static int tensor_of_image(Tensor *t, Device *d, const Image *image, Error *e) {
    int64_t shape[] = {image->C, image->H, image->W};
    if (tensor_new(t, d, DTYPE_U8, 3, shape, e) != 0) return -1;
    unsigned char *planes = memory_take(tensor_bytes(t), "an image", e);
    if (!planes) return -1;
    image_planes(image, planes);
    int failed = tensor_from_host(t, planes, e);
    memory_free(planes);
    return failed;
}

/* load(path[, {resize=N, crop=N, channels=1|3}]) -> u8 tensor [C,H,W]; or nil and a message. If
 * memory ran out, which does not mean that the file is bad, a third result is true. */
static int load(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    ImageWish wish = check_wish(L);
    Error e = {0};
    Image image;
    Tensor *t = bind_new_tensor(L);
    int failed = image_load(path, &wish, &image, &e);
    if (!failed) {
        failed = tensor_of_image(t, bind_device(L), &image, &e);
        image_free(&image);
        if (failed) error_prefix(&e, "%s", path);
    }
    if (!failed) return 1;
    int results = bind_nil(L, &e);
    if (e.code != ERROR_NO_MEMORY) return results;
    lua_pushboolean(L, 1);
    return results + 1;
}

/* size(path) -> width, height, and "grey" or "rgb", from the file's header; or nil and a
 * message. */
static int size(lua_State *L) {
    Error e = {0};
    uint32_t W, H;
    int C;
    if (image_size(luaL_checkstring(L, 1), &W, &H, &C, &e) != 0) return bind_nil(L, &e);
    lua_pushinteger(L, W);
    lua_pushinteger(L, H);
    lua_pushstring(L, C == 1 ? "grey" : "rgb");
    return 3;
}

/* The tensor's values as u8 in counted memory; NULL with the error set. */
static unsigned char *host_levels(const Tensor *t, Error *e) {
    size_t n = (size_t)tensor_count(t);
    void *host = memory_take(tensor_bytes(t), "an image", e);
    if (!host) return NULL;
    if (tensor_to_host(t, host, e) != 0) {
        memory_free(host);
        return NULL;
    }
    /* In place: byte i is written after the float at its address was read. */
    if (t->dtype == DTYPE_F32)
        for (size_t i = 0; i < n; i++) {
            float v;
            memcpy(&v, (char *)host + i * sizeof v, sizeof v);
            ((unsigned char *)host)[i] = image_level(v);
        }
    return host;
}

/* save(path, u8 or f32 tensor [1|3,H,W] or [H,W]) -> true, or nil and a message. f32 is clamped to
 * [0,1], multiplied by 255 and rounded half to even; NaN becomes 0. */
static int save(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    const Tensor *t = bind_check_tensor(L, 2);
    Error e = {0};
    char text[128];
    int64_t C = t->ndim == 3 ? t->shape[0] : 1;
    if ((t->dtype != DTYPE_U8 && t->dtype != DTYPE_F32) || (t->ndim != 3 && t->ndim != 2) ||
        (C != 1 && C != 3))
        luaL_argerror(L, 2,
                      lua_pushfstring(L, "wanted u8 or f32 [1,H,W], [3,H,W] or [H,W], got %s %s",
                                      dtype_name(t->dtype), tensor_shape_text(t, text)));
    unsigned char *levels = host_levels(t, &e);
    if (!levels) return bind_nil(L, &e);
    int failed = image_save_png(path, levels, (int)C, (uint64_t)t->shape[t->ndim - 2],
                                (uint64_t)t->shape[t->ndim - 1], &e);
    memory_free(levels);
    if (failed) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* idx(path) -> u8 tensor with the shape in the file, or nil and a message. */
static int idx(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    IdxArray file;
    Tensor *t = bind_new_tensor(L);
    if (idx_load(path, &file, &e) != 0) return bind_nil(L, &e);
    int failed = tensor_new(t, bind_device(L), DTYPE_U8, file.ndim, file.shape, &e);
    if (!failed) failed = tensor_from_host(t, file.data, &e);
    idx_free(&file);
    if (failed) error_prefix(&e, "%s", path);
    return failed ? bind_nil(L, &e) : 1;
}

/* cifar(path) -> x u8 [N,3,32,32], y u8 [N], and the number of classes (10 or 100); or nil and a
 * message. */
static int cifar(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    int classes;
    Tensor *x = bind_new_tensor(L), *y = bind_new_tensor(L);
    if (cifar_load(path, bind_device(L), x, y, &classes, &e) != 0) return bind_nil(L, &e);
    lua_pushinteger(L, classes);
    return 3;
}

int luaopen_advrt_core_image(lua_State *L);
int luaopen_advrt_core_image(lua_State *L) {
    static const luaL_Reg functions[] = {{"load", load}, {"size", size},   {"save", save},
                                         {"idx", idx},   {"cifar", cifar}, {NULL, NULL}};
    operation_library(L, functions);
    return 1;
}
