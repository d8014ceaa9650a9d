/* advrt.core.record: makes, stores and reads records (io/record.h). */
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "io/record.h"

#define BUFFER "advrt.buffer"
#define READER "advrt.record_reader"
#define PART "advrt.record_part"

static int raise(lua_State *L, const Error *e) {
    return bind_error(L, e);
}

/* A buffer that is freed with its userdata, so that a Lua error does not leak it. */
static Buffer *new_buffer(lua_State *L) {
    Buffer *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (Buffer){0};
    luaL_setmetatable(L, BUFFER);
    return b;
}

static int free_buffer(lua_State *L) {
    buffer_free(luaL_checkudata(L, 1, BUFFER));
    return 0;
}

/* --- pack --- */

static int pack_tensor(Buffer *out, Buffer *host, const char *key, const Tensor *t, Error *e) {
    host->size = 0;
    if (buffer_reserve(host, tensor_bytes(t), e) != 0) return -1;
    if (tensor_count(t) && tensor_to_host(t, host->bytes, e) != 0) return -1;
    return record_series(out, key, t->dtype, host->bytes, tensor_count(t), e);
}

/* Packs the table on top of the stack: an array of integers, or of numbers with at least one
 * float. */
static int pack_array(lua_State *L, Buffer *out, Buffer *host, const char *key, Error *e) {
    lua_Integer n = (lua_Integer)lua_rawlen(L, -1);
    bool real = false;
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, -1, i) != LUA_TNUMBER)
            luaL_argerror(L, 1,
                          lua_pushfstring(L, "element %d of '%s' is not a number", (int)i, key));
        real |= !lua_isinteger(L, -1);
        lua_pop(L, 1);
    }
    host->size = 0;
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, -1, i);
        double d = lua_tonumber(L, -1);
        int64_t k = real ? 0 : lua_tointeger(L, -1);
        lua_pop(L, 1);
        if (buffer_append(host, real ? (void *)&d : (void *)&k, 8, e) != 0) return -1;
    }
    return record_series(out, key, real ? DTYPE_F64 : DTYPE_I64, host->bytes, n, e);
}

/* Packs the value on top of the stack under a key. */
static int pack_value(lua_State *L, Buffer *out, Buffer *host, const char *key, Error *e) {
    size_t n;
    const Tensor *t = bind_test_tensor(L, -1);
    if (t && t->ndim == 1) return pack_tensor(out, host, key, t, e);
    switch (lua_type(L, -1)) {
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &n);
        return record_text(out, key, text, n, e);
    }
    case LUA_TBOOLEAN: return record_boolean(out, key, lua_toboolean(L, -1), e);
    case LUA_TNUMBER:
        if (lua_isinteger(L, -1)) return record_integer(out, key, lua_tointeger(L, -1), e);
        return record_real(out, key, lua_tonumber(L, -1), e);
    case LUA_TTABLE: return pack_array(L, out, host, key, e);
    default:
        return luaL_argerror(L, 1,
                             lua_pushfstring(L,
                                             "'%s' must be a string, number, boolean, array of "
                                             "numbers or tensor of one dimension",
                                             key));
    }
}

/* pack{{key, value}, ...} -> the bytes of one record, with its fields in this order. A value is a
 * string, integer, float, boolean, tensor [n] or array of numbers. */
static int pack(lua_State *L) {
    luaL_checktype(L, 1, LUA_TTABLE);
    Error e = {0};
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    luaL_argcheck(L, n <= RECORD_FIELDS, 1, "too many fields");
    Buffer *out = new_buffer(L), *host = new_buffer(L);
    if (record_begin(out, (size_t)n, &e) != 0) return raise(L, &e);
    for (lua_Integer i = 1; i <= n; i++) {
        if (lua_rawgeti(L, 1, i) != LUA_TTABLE)
            return luaL_argerror(L, 1, "wanted a list of {key, value}");
        size_t length;
        if (lua_rawgeti(L, -1, 1) != LUA_TSTRING)
            return luaL_argerror(L, 1, "a field's key must be a string");
        const char *key = lua_tolstring(L, -1, &length);
        luaL_argcheck(L, length < RECORD_KEY && strlen(key) == length, 1,
                      "a field's key is too long or holds a NUL byte");
        lua_rawgeti(L, -2, 2);
        if (pack_value(L, out, host, key, &e) != 0) return raise(L, &e);
        lua_pop(L, 3);
    }
    lua_pushlstring(L, (const char *)out->bytes, out->size);
    buffer_free(out);
    buffer_free(host);
    return 1;
}

/* --- each --- */

/* A reader is in use while an operation makes a table of its fields: reading the next record would
 * overwrite them. */
typedef struct ReaderBox {
    RecordReader *reader, *lent;
    bool closed;
} ReaderBox;

static int close_reader(lua_State *L) {
    ReaderBox *b = luaL_checkudata(L, 1, READER);
    b->closed = true;
    if (!operation_may_free(L)) return 0;
    record_close(b->reader);
    record_close(b->lent);
    b->reader = b->lent = NULL;
    return 0;
}

static void push_field(lua_State *L, const RecordField *f) {
    switch (f->kind) {
    case RECORD_NIL: lua_pushnil(L); break;
    case RECORD_BOOLEAN: lua_pushboolean(L, (int)f->integer); break;
    case RECORD_INTEGER: lua_pushinteger(L, f->integer); break;
    case RECORD_REAL: lua_pushnumber(L, f->real); break;
    case RECORD_TEXT: lua_pushlstring(L, f->text, f->count); break;
    case RECORD_INTEGERS:
        lua_createtable(L, (int)f->count, 0);
        for (size_t i = 0; i < f->count; i++) {
            lua_pushinteger(L, f->integers[i]);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    case RECORD_REALS:
        lua_createtable(L, (int)f->count, 0);
        for (size_t i = 0; i < f->count; i++) {
            lua_pushnumber(L, f->reals[i]);
            lua_rawseti(L, -2, (lua_Integer)i + 1);
        }
        break;
    }
}

/* Pushes the fields as a table by key. */
static void push_record(lua_State *L, const RecordField *fields, size_t count) {
    lua_createtable(L, 0, (int)count);
    for (size_t i = 0; i < count; i++) {
        push_field(L, &fields[i]);
        lua_setfield(L, -2, fields[i].key);
    }
}

/* One step of the iteration: the next record as a table. A damaged file raises a failure. */
static int next_record(lua_State *L) {
    ReaderBox *b = luaL_checkudata(L, lua_upvalueindex(OPERATION_UPVALUE), READER);
    const RecordField *fields = NULL;
    size_t count;
    Error e = {0};
    if (b->lent) return luaL_error(L, "the records' file is being read");
    if (!b->reader || b->closed) return 0;
    if (record_next(b->reader, &fields, &count, &e) != 0) return bind_fail(L, 1, &e);
    if (!fields) {
        record_close(b->reader);
        b->reader = NULL;
        return 0;
    }
    b->lent = b->reader;
    b->reader = NULL;
    push_record(L, fields, count);
    b->reader = b->lent;
    b->lent = NULL;
    return 1;
}

/* A reader that is closed with its userdata. */
static ReaderBox *new_reader(lua_State *L) {
    ReaderBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (ReaderBox){0};
    luaL_setmetatable(L, READER);
    return b;
}

/* each(path) -> iterator over the records of a finished file or of a part file. Each record is a
 * new table, with series as arrays. Raises a failure if the file cannot be read or is damaged. */
static int each(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    if (record_open(&new_reader(L)->reader, path, &e) != 0) return bind_fail(L, 1, &e);
    lua_pushvalue(L, -1);
    operation_push(L, next_record, 1);
    lua_insert(L, -2);
    /* As the fourth value of a for loop, the reader is closed when the loop ends, early or not. */
    lua_pushnil(L);
    lua_pushnil(L);
    lua_rotate(L, -3, 2);
    return 4;
}

/* --- part --- */

static const char *const frame_names[] = {"records", "note", "bytes", NULL};
static const RecordFrame frame_kinds[] = {FRAME_RECORDS, FRAME_NOTE, FRAME_BYTES};

typedef struct PartBox {
    RecordPart *part;
    bool closed;
} PartBox;

static RecordPart *check_part(lua_State *L) {
    const PartBox *b = luaL_checkudata(L, 1, PART);
    luaL_argcheck(L, b->part && !b->closed, 1, "the part file is closed");
    return b->part;
}

/* part(path[, "append"]) -> writer of a part file: empty, or, with "append", after the complete
 * frames of the existing file. Or nil and a message. */
static int part(lua_State *L) {
    static const char *const modes[] = {"new", "append", NULL};
    const char *path = luaL_checkstring(L, 1);
    int mode = luaL_checkoption(L, 2, "new", modes);
    Error e = {0};
    PartBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (PartBox){0};
    luaL_setmetatable(L, PART);
    return record_part_open(&b->part, path, mode == 1, &e) == 0 ? 1 : bind_nil(L, &e);
}

/* append(bytes): adds a frame, which is on disk when this returns true; or nil and a message. */
static int part_append(lua_State *L) {
    RecordPart *p = check_part(L);
    size_t n;
    const char *bytes = luaL_checklstring(L, 2, &n);
    Error e = {0};
    if (record_part_append(p, bytes, n, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* add(kind, bytes): adds a frame, which is on disk after sync(). kind: "records", "note" (one
 * record) or "bytes". Returns true, or nil and a message. */
static int part_add(lua_State *L) {
    RecordPart *p = check_part(L);
    RecordFrame kind = frame_kinds[luaL_checkoption(L, 2, NULL, frame_names)];
    size_t n;
    const char *bytes = luaL_checklstring(L, 3, &n);
    Error e = {0};
    if (record_part_add(p, kind, bytes, n, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* sync(): true when all frames are on disk; or nil and a message. */
static int part_sync(lua_State *L) {
    Error e = {0};
    if (record_part_sync(check_part(L), &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* #part: the number of frames. */
static int part_length(lua_State *L) {
    lua_pushinteger(L, (lua_Integer)record_part_frames(check_part(L)));
    return 1;
}

/* The frame number at argument 2, counted from 1, as the core counts it. */
static size_t check_frame(lua_State *L, const RecordPart *p) {
    lua_Integer i = luaL_checkinteger(L, 2);
    luaL_argcheck(L, i >= 1 && (lua_Unsigned)i <= record_part_frames(p), 2,
                  "there is no frame of this number");
    return (size_t)i - 1;
}

/* kind(i) -> "records", "note" or "bytes". */
static int part_kind(lua_State *L) {
    const RecordPart *p = check_part(L);
    RecordFrame kind = record_part_kind(p, check_frame(L, p));
    int i = 0;
    while (frame_kinds[i] != kind) i++;
    lua_pushstring(L, frame_names[i]);
    return 1;
}

/* bytes(i) -> a frame's payload; or nil and a message. */
static int part_bytes(lua_State *L) {
    Error e = {0};
    Buffer *b = new_buffer(L); /* make it first: a finaliser may cut frames off */
    const RecordPart *p = check_part(L);
    size_t frame = check_frame(L, p);
    if (record_part_read(p, frame, b, &e) != 0) return bind_nil(L, &e);
    lua_pushlstring(L, (const char *)b->bytes, b->size);
    buffer_free(b);
    return 1;
}

static int first_record(lua_State *L,
                        int (*open)(const RecordPart *, size_t, RecordReader **, Error *)) {
    size_t count = 0;
    const RecordField *fields = NULL;
    Error e = {0};
    RecordReader **r = &new_reader(L)->reader; /* first, as above */
    const RecordPart *p = check_part(L);
    size_t frame = check_frame(L, p);
    if (open(p, frame, r, &e) != 0 || record_next(*r, &fields, &count, &e) != 0)
        return bind_nil(L, &e);
    push_record(L, fields, count);
    record_close(*r);
    *r = NULL;
    return 1;
}

/* record(i) -> the first record of frame i, as a table; or nil and a message. */
static int part_record(lua_State *L) {
    return first_record(L, record_part_reader);
}

/* head(i) -> the fields of the first record before its first series. Does not verify the frame's
 * checksum again. */
static int part_head(lua_State *L) {
    return first_record(L, record_part_head);
}

/* cut(n): removes all frames after the first n. Returns true, or nil and a message. */
static int part_cut(lua_State *L) {
    RecordPart *p = check_part(L);
    lua_Integer n = luaL_checkinteger(L, 2);
    Error e = {0};
    luaL_argcheck(L, n >= 0, 2, "wanted a number of frames");
    if (record_part_cut(p, (size_t)n, &e) != 0) return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

/* write(path[, order]): writes the payloads of all record frames, or of the frames in the array
 * `order`, as a finished file. Returns true, or nil and a message. The part file stays. */
static int part_write(lua_State *L) {
    const RecordPart *p = check_part(L);
    const char *path = luaL_checkstring(L, 2);
    Error e = {0};
    size_t n = 0;
    Buffer *order = NULL;
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        order = new_buffer(L);
        /* An empty order is valid too. */
        if (buffer_reserve(order, sizeof n, &e) != 0) return bind_nil(L, &e);
        for (lua_Integer i = 1; i <= (lua_Integer)lua_rawlen(L, 3); i++, n++) {
            lua_rawgeti(L, 3, i);
            lua_Integer frame = lua_tointeger(L, -1);
            luaL_argcheck(L, frame >= 1 && (lua_Unsigned)frame <= record_part_frames(p), 3,
                          "there is no frame of this number");
            size_t k = (size_t)frame - 1;
            if (buffer_append(order, &k, sizeof k, &e) != 0) return bind_nil(L, &e);
            lua_pop(L, 1);
        }
    }
    if (record_part_write(p, order ? (const size_t *)(void *)order->bytes : NULL, n, path, &e) != 0)
        return bind_nil(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

static int part_close(lua_State *L) {
    PartBox *b = luaL_checkudata(L, 1, PART);
    b->closed = true;
    if (!operation_may_free(L)) return 0;
    record_part_close(b->part);
    b->part = NULL;
    return 0;
}

/* finish(path): moves the records to their final name; the part file is closed and removed. Returns
 * true, or nil and a message; after a failure the part file is unchanged. */
static int part_finish(lua_State *L) {
    RecordPart *p = check_part(L);
    const char *path = luaL_checkstring(L, 2);
    Error e = {0};
    if (record_part_finish(p, path, &e) != 0) return bind_nil(L, &e);
    part_close(L);
    lua_pushboolean(L, 1);
    return 1;
}

/* part_recover(path) -> bytes of payload and number of the complete frames; cuts off everything
 * after them. Or nil and a message. */
static int part_recover(lua_State *L) {
    uint64_t frames, bytes;
    Error e = {0};
    if (record_recover(luaL_checkstring(L, 1), &frames, &bytes, &e) != 0) return bind_nil(L, &e);
    lua_pushinteger(L, (lua_Integer)bytes);
    lua_pushinteger(L, (lua_Integer)frames);
    return 2;
}

static void new_type(lua_State *L, const char *name, lua_CFunction collect,
                     const luaL_Reg *methods) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, collect);
    lua_setfield(L, -2, "__close");
    if (methods) {
        operation_library(L, methods);
        lua_setfield(L, -2, "__index");
    }
    lua_pop(L, 1);
}

int luaopen_advrt_core_record(lua_State *L) {
    static const luaL_Reg functions[] = {
        {"pack", pack}, {"each", each}, {"part", part}, {"part_recover", part_recover},
        {NULL, NULL},
    };
    static const luaL_Reg methods[] = {
        {"append", part_append}, {"add", part_add},     {"sync", part_sync},
        {"kind", part_kind},     {"bytes", part_bytes}, {"record", part_record},
        {"head", part_head},     {"cut", part_cut},     {"write", part_write},
        {"finish", part_finish}, {"close", part_close}, {NULL, NULL},
    };
    new_type(L, BUFFER, free_buffer, NULL);
    new_type(L, READER, close_reader, NULL);
    new_type(L, PART, part_close, methods);
    luaL_getmetatable(L, PART);
    operation_push(L, part_length, 0);
    lua_setfield(L, -2, "__len");
    lua_pop(L, 1);
    operation_library(L, functions);
    return 1;
}
