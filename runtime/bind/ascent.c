/* "advrt.core.ascent": the buffers of an attack that a device runs without Lua. */
#include "bind/ascent.h"

#include <math.h>
#include <stddef.h>

#include "bind/fields.h"
#include "bind/loss.h"
#include "device/dtype.h"
#include "device/plan.h"

/* The elements of a buffer for a batch of N: one per value of the images, per logit, per image, or
 * per image and step. */
typedef enum Extent { IMAGES, LOGITS, EACH, STEPS } Extent;

static const char *const extents[] = {"images", "logits", "each", "steps"};

static const struct {
    const char *name;
    Dtype type;
    Extent extent;
    size_t at; /* offset of the pointer in Ascent */
} buffers[] = {
    {"x0", DTYPE_F32, IMAGES, offsetof(Ascent, x0)},
    {"x", DTYPE_F32, IMAGES, offsetof(Ascent, x)},
    {"q", DTYPE_F32, IMAGES, offsetof(Ascent, q)},
    {"first", DTYPE_F32, IMAGES, offsetof(Ascent, first)},
    {"z", DTYPE_F32, LOGITS, offsetof(Ascent, z)},
    {"dz", DTYPE_F32, LOGITS, offsetof(Ascent, dz)},
    {"value", DTYPE_F32, EACH, offsetof(Ascent, value)},
    {"flip_iteration", DTYPE_I64, EACH, offsetof(Ascent, flip_iteration)},
    {"zero_steps", DTYPE_I64, EACH, offsetof(Ascent, zero_steps)},
    {"flip_l2", DTYPE_F64, EACH, offsetof(Ascent, flip_l2)},
    {"flip_linf", DTYPE_F64, EACH, offsetof(Ascent, flip_linf)},
    {"p_initial", DTYPE_F32, STEPS, offsetof(Ascent, p_initial)},
    {"p_target", DTYPE_F32, STEPS, offsetof(Ascent, p_target)},
    {"z_initial", DTYPE_F32, STEPS, offsetof(Ascent, z_initial)},
    {"z_target", DTYPE_F32, STEPS, offsetof(Ascent, z_target)},
    {"grad_l2", DTYPE_F64, STEPS, offsetof(Ascent, grad_l2)},
    {"step_l2", DTYPE_F64, STEPS, offsetof(Ascent, step_l2)},
    {"l2", DTYPE_F64, STEPS, offsetof(Ascent, l2)},
    {"linf", DTYPE_F64, STEPS, offsetof(Ascent, linf)},
    {"zero_share", DTYPE_F64, STEPS, offsetof(Ascent, zero_share)},
    {"subspace", DTYPE_U8, STEPS, offsetof(Ascent, subspace)},
};
enum { BUFFERS = sizeof buffers / sizeof buffers[0] };

static void check_buffers(const Fields *job, Ascent *a) {
    const Plan *p = a->plan;
    int64_t N = p->request.N;
    int64_t counts[] = {[IMAGES] = N * p->C * p->H * p->W,
                        [LOGITS] = N * p->K,
                        [EACH] = N,
                        [STEPS] = N * (a->iterations + 1)};
    bind_room(job->L, BUFFERS + 8);
    lua_getfield(job->L, job->table, "buffers");
    if (!lua_istable(job->L, -1)) fields_refuse(job, "buffers", "a table of tensors");
    Fields given = {job->L, job->arg, lua_gettop(job->L)};
    for (int i = 0; i < BUFFERS; i++) {
        void **to = (void **)((char *)a + buffers[i].at);
        *to = fields_tensor(&given, buffers[i].name, buffers[i].type, counts[buffers[i].extent])
                  ->data;
    }
}

Ascent bind_check_ascent(lua_State *L, Plan *p) {
    static const char *const rules[] = {"constant", "l2", "linf", NULL};
    static const char *const known[] = {"loss",    "parameters", "sign",   "rule",
                                        "size",    "iterations", "labels", "targets",
                                        "buffers", "low",        "high",   NULL};
    Fields f = fields_of(L, 2, known);
    Ascent a = {.plan = p};
    const char *loss = fields_text(&f, "loss", true, NULL);
    lua_getfield(L, 2, "parameters");
    a.loss = bind_loss_call(L, loss, lua_gettop(L));
    a.rule = (AscentRule)fields_choice(&f, "rule", -1, rules);
    a.sign = fields_flag(&f, "sign");
    a.size = fields_number(&f, "size", FIELDS_NONE, 0, HUGE_VAL);
    a.iterations = fields_integer(&f, "iterations", FIELDS_NO_INTEGER, 1, INT32_MAX);
    a.initial = fields_tensor(&f, "labels", DTYPE_I64, p->request.N)->data;
    a.target = fields_tensor(&f, "targets", DTYPE_I64, p->request.N)->data;
    check_buffers(&f, &a);
    const int64_t D = p->C * p->H * p->W;
    if (lua_getfield(L, 2, "low") != LUA_TNIL)
        a.box = (Box){fields_tensor(&f, "low", DTYPE_F32, D)->data,
                      fields_tensor(&f, "high", DTYPE_F32, D)->data};
    return a;
}

int luaopen_advrt_core_ascent(lua_State *L);
/* buffers: an array of {name, element type, extent}, the buffers that plan:ascend needs in its job.
 * extent is "images" (N images), "logits" ([N,K]), "each" ([N]) or "steps" ([iterations + 1,
 * N]). */
int luaopen_advrt_core_ascent(lua_State *L) {
    lua_createtable(L, 0, 1);
    lua_createtable(L, BUFFERS, 0);
    for (int i = 0; i < BUFFERS; i++) {
        const char *row[] = {buffers[i].name, dtype_name(buffers[i].type),
                             extents[buffers[i].extent]};
        lua_createtable(L, 3, 0);
        for (int k = 0; k < 3; k++) {
            lua_pushstring(L, row[k]);
            lua_rawseti(L, -2, k + 1);
        }
        lua_rawseti(L, -2, i + 1);
    }
    lua_setfield(L, -2, "buffers");
    return 1;
}
