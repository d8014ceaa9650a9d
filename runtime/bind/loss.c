/* "advrt.core.loss": the losses on logits, and the numbers about logits that records hold. */
#include <math.h>

#include "bind/fields.h"
#include "bind/loss.h"
#include "bind/tensor.h"
#include "tensor/loss.h"
#include "tensor/ops.h"

LossCall bind_loss_call(lua_State *L, const char *name, int arg) {
    const Loss *loss = loss_find(name);
    if (!loss) luaL_error(L, "there is no loss '%s'", name);
    LossCall call = loss_usual(loss);
    if (lua_isnil(L, arg)) return call;
    Fields f = fields_of(L, arg, NULL);
    for (int i = 0; i < LOSS_PARAMETERS && loss->parameter[i].name; i++) {
        const LossParameter *p = &loss->parameter[i];
        call.p[i] = fields_number(&f, p->name, p->usual, p->least, p->most);
    }
    return call;
}

/* evaluate(name, parameters, z, target[, value, dz]): parameters is a table whose fields include
 * the loss's parameters, or nil for the defaults. z [N,K]; target: N classes, counted from 0.
 * Returns value [N], which the attack ascends, and its gradient dz [N,K]. */
static int evaluate(lua_State *L) {
    Error e;
    lua_settop(L, 6);
    LossCall call = bind_loss_call(L, luaL_checkstring(L, 1), 2);
    Tensor *z = bind_check_tensor_of(L, 3, DTYPE_F32, 2);
    if (z->shape[1] < call.loss->fewest)
        luaL_argerror(L, 3,
                      lua_pushfstring(L, "%s needs at least %I classes", call.loss->name,
                                      (LUAI_UACINT)call.loss->fewest));
    Tensor *value = bind_output(L, 5, DTYPE_F32, 1, z->shape);
    Tensor *dz = bind_output(L, 6, DTYPE_F32, 2, z->shape);
    /* Check last: a finaliser may write to them. */
    Tensor *target = bind_check_classes(L, 4, z->shape[0], z->shape[1]);
    if (tensor_loss(&call, z, target, value, dz, &e) != 0) bind_error(L, &e);
    lua_pop(L, 1);
    return 2;
}

static void push_parameter(lua_State *L, const LossParameter *p) {
    lua_createtable(L, 0, 5);
    lua_pushstring(L, p->name);
    lua_setfield(L, -2, "name");
    lua_pushnumber(L, p->usual);
    lua_setfield(L, -2, "usual");
    lua_pushnumber(L, p->least);
    lua_setfield(L, -2, "least");
    lua_pushnumber(L, p->most);
    lua_setfield(L, -2, "most");
    lua_pushboolean(L, p->cuts);
    lua_setfield(L, -2, "cuts");
}

/* records() -> array of {name =, min_classes =, parameters = array of {name =, usual =, least =,
 * most =, cuts =}}, sorted by name. */
static int records(lua_State *L) {
    const Loss *loss;
    lua_newtable(L);
    for (int i = 0; (loss = loss_at(i)); i++) {
        lua_createtable(L, 0, 3);
        lua_pushstring(L, loss->name);
        lua_setfield(L, -2, "name");
        lua_pushinteger(L, loss->fewest);
        lua_setfield(L, -2, "min_classes");
        lua_newtable(L);
        for (int k = 0; k < LOSS_PARAMETERS && loss->parameter[k].name; k++) {
            push_parameter(L, &loss->parameter[k]);
            lua_seti(L, -2, k + 1);
        }
        lua_setfield(L, -2, "parameters");
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

/* The tensor [N] in field `name` of the table at argument 4, checked; if it is missing, a new one
 * put there. It also stays on the stack, because a table with metamethods may not keep it. */
static Tensor *field_output(lua_State *L, const char *name, Dtype type, int64_t N) {
    int kind = lua_getfield(L, 4, name);
    Tensor *t = bind_test_tensor(L, -1);
    if (kind == LUA_TNIL) {
        t = bind_make_tensor(L, type, 1, &N);
        lua_pushvalue(L, -1);
        lua_setfield(L, 4, name);
    } else if (!t || t->dtype != type || t->ndim != 1 || t->shape[0] != N) {
        lua_pushfstring(L, "field %s: wanted a tensor of %s [%I], got %s", name, dtype_name(type),
                        (lua_Integer)N, luaL_tolstring(L, -1, NULL));
        luaL_argerror(L, 4, lua_tostring(L, -1));
    }
    return t;
}

/* stats(z, initial, target[, out]) -> a table of tensors [N]: p_initial, p_target, z_initial,
 * z_target (f32), prediction (i64; -1 if a logit is NaN) and subspace (u8: 1, 2, 3, Definition IV.1
 * with tau = 0.9). `out`, if given, is that table; tensors that it holds are overwritten. */
static int stats(lua_State *L) {
    static const struct {
        const char *name;
        Dtype type;
    } fields[6] = {{"p_initial", DTYPE_F32}, {"p_target", DTYPE_F32},   {"z_initial", DTYPE_F32},
                   {"z_target", DTYPE_F32},  {"prediction", DTYPE_I64}, {"subspace", DTYPE_U8}};
    Error e;
    Tensor out[6];
    Tensor *z = bind_check_tensor_of(L, 1, DTYPE_F32, 2);
    if (lua_isnoneornil(L, 4)) {
        lua_settop(L, 3);
        lua_newtable(L);
    }
    luaL_checktype(L, 4, LUA_TTABLE);
    lua_settop(L, 4);
    bind_room(L, 24);
    int64_t N = z->shape[0], K = z->shape[1];
    for (int i = 0; i < 6; i++) out[i] = *field_output(L, fields[i].name, fields[i].type, N);
    /* Check both last: a finaliser or a metamethod may write to them. */
    bind_check_classes(L, 2, N, K);
    lua_replace(L, 2);
    bind_check_classes(L, 3, N, K);
    lua_replace(L, 3);
    Tensor *initial = bind_check_classes(L, 2, N, K), *target = bind_check_classes(L, 3, N, K);
    if (tensor_logit_stats(z, initial, target, out, &e) != 0) bind_error(L, &e);
    lua_settop(L, 4);
    return 1;
}

/* not_finite(z): the first row of z [N,K], counted from 1, with a NaN or infinite number; nil if
 * there is none. */
static int not_finite(lua_State *L) {
    enum { BLOCK = 1024 };
    Error e;
    float block[BLOCK];
    const Tensor *z = bind_check_tensor_of(L, 1, DTYPE_F32, 2);
    Device *d = tensor_device(z);
    int64_t n = tensor_count(z);
    for (int64_t i = 0; i < n; i += BLOCK) {
        int64_t m = n - i < BLOCK ? n - i : BLOCK;
        if (d->copy_out(d, block, (float *)z->data + i, (size_t)m * sizeof *block, &e) != 0)
            return bind_error(L, &e);
        for (int64_t j = 0; j < m; j++)
            if (!isfinite(block[j])) {
                lua_pushinteger(L, (i + j) / z->shape[1] + 1);
                return 1;
            }
    }
    lua_pushnil(L);
    return 1;
}

static const luaL_Reg functions[] = {
    {"not_finite", not_finite}, {"evaluate", evaluate}, {"records", records},
    {"stats", stats},           {NULL, NULL},
};

int luaopen_advrt_core_loss(lua_State *L);
int luaopen_advrt_core_loss(lua_State *L) {
    operation_library(L, functions);
    return 1;
}
