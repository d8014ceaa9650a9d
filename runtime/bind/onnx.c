/* advrt.core.onnx: the structure of ONNX models as tables, and their tensors (io/onnx.h). */
#include <string.h>

#include "base/memory.h"
#include "bind/bind.h"
#include "io/onnx.h"

#define MODEL "advrt.onnx_model"

typedef struct ModelBox {
    Onnx model;
    bool closed;
} ModelBox;

static ModelBox *check_model(lua_State *L) {
    ModelBox *b = luaL_checkudata(L, 1, MODEL);
    luaL_argcheck(L, b->model.path && !b->closed, 1, "the model has been closed");
    return b;
}

static int model_gc(lua_State *L) {
    ModelBox *b = luaL_checkudata(L, 1, MODEL);
    b->closed = true;
    if (operation_may_free(L)) onnx_close(&b->model);
    return 0;
}

/* open(path) -> model, or nil and a message. */
static int model_open(lua_State *L) {
    const char *path = luaL_checkstring(L, 1);
    Error e = {0};
    ModelBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (ModelBox){0};
    luaL_setmetatable(L, MODEL);
    if (onnx_open(&b->model, path, &e) != 0) return bind_nil(L, &e);
    return 1;
}

/* Pushes the contents of an item; for data, whose numbers tensor() reads, pushes true. */
static void push_item(lua_State *L, const Onnx *m, const OnnxItem *item) {
    switch (item->field ? item->field->form : ONNX_MESSAGE) {
    case ONNX_INTEGER: lua_pushinteger(L, item->integer); return;
    case ONNX_REAL: lua_pushnumber(L, item->real); return;
    case ONNX_STRING: lua_pushlstring(L, onnx_text(m, item), (size_t)item->bytes); return;
    case ONNX_DATA: lua_pushboolean(L, 1); return;
    case ONNX_MESSAGE: break;
    }
    bind_room(L, 4);
    lua_newtable(L);
    lua_pushinteger(L, item - m->items);
    lua_setfield(L, -2, "item");
    for (int i = item->first; i; i = m->items[i].next) {
        const OnnxField *f = m->items[i].field;
        if (!f->repeated) {
            push_item(L, m, &m->items[i]);
            lua_setfield(L, -2, f->name);
            continue;
        }
        if (lua_getfield(L, -1, f->name) == LUA_TNIL) {
            lua_pop(L, 1);
            lua_newtable(L);
            lua_pushvalue(L, -1);
            lua_setfield(L, -3, f->name);
        }
        push_item(L, m, &m->items[i]);
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
        lua_pop(L, 1);
    }
}

/* structure() -> the model as a table: the fields of a message by name, repeated ones as arrays.
 * `item`, the number of a message, is the argument of tensor() and tensor_file(). */
static int model_structure(lua_State *L) {
    const ModelBox *b = check_model(L);
    push_item(L, &b->model, &b->model.items[0]);
    return 1;
}

static const OnnxItem *check_item(lua_State *L, const Onnx *m) {
    lua_Integer i = luaL_checkinteger(L, 2);
    const OnnxField *f = i > 0 && i < m->count ? m->items[i].field : NULL;
    luaL_argcheck(L, f && f->form == ONNX_MESSAGE && f->message == ONNX_TENSOR, 2,
                  "the item is not a tensor");
    return &m->items[i];
}

/* tensor(item) -> the values of a tensor, or nil and a message. */
static int model_tensor(lua_State *L) {
    const ModelBox *b = check_model(L);
    const OnnxItem *item = check_item(L, &b->model);
    Error e = {0};
    Tensor *t = bind_new_tensor(L);
    if (onnx_tensor(&b->model, item, bind_device(L), t, &e) != 0) return bind_nil(L, &e);
    return 1;
}

/* tensor_file(item) -> the path of the other file that holds a tensor's values; false if the model
 * file holds them; nil and a message if the reference is invalid. */
static int model_tensor_file(lua_State *L) {
    const ModelBox *b = check_model(L);
    const OnnxItem *item = check_item(L, &b->model);
    char *path;
    Error e = {0};
    if (onnx_tensor_file(&b->model, item, &path, &e) != 0) return bind_nil(L, &e);
    if (path)
        lua_pushstring(L, path);
    else
        lua_pushboolean(L, 0);
    memory_free(path);
    return 1;
}

int luaopen_advrt_core_onnx(lua_State *L) {
    static const luaL_Reg functions[] = {{"open", model_open}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"structure", model_structure},
                                       {"tensor", model_tensor},
                                       {"tensor_file", model_tensor_file},
                                       {NULL, NULL}};
    static const luaL_Reg finalisers[] = {{"__gc", model_gc}, {"__close", model_gc}, {NULL, NULL}};
    luaL_newmetatable(L, MODEL);
    luaL_setfuncs(L, finalisers, 0);
    operation_library(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    operation_library(L, functions);
    return 1;
}
