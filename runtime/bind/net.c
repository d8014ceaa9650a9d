/* "advrt.core.net": networks as graphs, built layer by layer, and their compiled plans. Values are
 * counted from 1; the input is first. */
#include <math.h>
#include <string.h>

#include "base/interrupt.h"
#include "bind/ascent.h"
#include "bind/fields.h"
#include "bind/tensor.h"
#include "net/plan.h"
#include "tensor/loss.h"

#define GRAPH "advrt.graph"
#define PLAN "advrt.plan"

/* The userdata of a plan. Its one user value is the graph, which training plans read and write. A
 * trace is a forward whose images backward can use. Its number is unique in the process, so that
 * one plan's trace is never taken for another's. */
typedef struct PlanBox {
    Plan *plan;
    bool closed;
    const Graph *graph;
    lua_Integer trace; /* the last forward's; 0: none */
} PlanBox;

typedef struct GraphBox {
    Graph *graph;
    bool closed;
} GraphBox;

static Graph *check_graph(lua_State *L) {
    const GraphBox *b = luaL_checkudata(L, 1, GRAPH);
    luaL_argcheck(L, b->graph && !b->closed, 1, "the graph has been freed");
    return b->graph;
}

static PlanBox *check_plan(lua_State *L) {
    PlanBox *b = luaL_checkudata(L, 1, PLAN);
    luaL_argcheck(L, b->plan && !b->closed, 1, "the plan has been freed");
    return b;
}

/* --- building --- */

/* new{C, H, W} -> graph. */
static int graph_make(lua_State *L) {
    int64_t shape[TENSOR_DIMS];
    Error e;
    luaL_argcheck(L, bind_check_shape(L, 1, shape) == 3, 1, "an input shape is {C, H, W}");
    GraphBox *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (GraphBox){0};
    luaL_setmetatable(L, GRAPH);
    if (graph_new(&b->graph, shape[0], shape[1], shape[2], &e)) return luaL_argerror(L, 1, e.text);
    return 1;
}

static int graph_gc(lua_State *L) {
    GraphBox *b = luaL_checkudata(L, 1, GRAPH);
    b->closed = true;
    if (!operation_may_free(L)) return 0;
    graph_free(b->graph);
    b->graph = NULL;
    return 0;
}

static LayerKind check_kind(lua_State *L, const Fields *f) {
    const char *name = fields_text(f, "kind", true, NULL);
    for (int k = 0; k < LAYER_KINDS; k++)
        if (k != LAYER_INPUT && !strcmp(layer_kind_name((LayerKind)k), name)) return (LayerKind)k;
    luaL_error(L, "unknown kind of layer '%s'", name);
    return LAYER_KINDS;
}

/* The text in a layer's field; "" if it is nil. */
static void layer_text(const Fields *f, const char *name, char *out, size_t room) {
    size_t length = 0;
    const char *text = fields_text(f, name, false, &length);
    if (text && (length >= room || strlen(text) != length))
        luaL_argerror(f->L, f->arg,
                      lua_pushfstring(f->L, "'%s' has at most %d bytes, and no zero byte", name,
                                      (int)room - 1));
    strcpy(out, text ? text : "");
}

static void push_shape(lua_State *L, const Shape *s) {
    lua_createtable(L, s->ndim, 0);
    for (int i = 0; i < s->ndim; i++) {
        lua_pushinteger(L, s->dim[i]);
        lua_seti(L, -2, i + 1);
    }
}

/* Reads all fields that a layer of any kind may have into l. */
static void check_layer(const Fields *f, Layer *l) {
    layer_text(f, "name", l->name, sizeof l->name);
    layer_text(f, "text", l->text, sizeof l->text);
    fields_integers(f, "kernel", 2, l->kernel);
    fields_integers(f, "stride", 2, l->stride);
    fields_integers(f, "dilation", 2, l->dilation);
    fields_integers(f, "pad", 4, l->pad);
    fields_integers(f, "grid", 2, l->out);
    l->n_sizes = fields_integers(f, "sizes", LAYER_SIZES, l->sizes);
    l->C = fields_integer(f, "out", 0, INT64_MIN, INT64_MAX);
    l->groups = fields_integer(f, "groups", 1, INT64_MIN, INT64_MAX);
    l->bias = fields_flag(f, "bias");
    l->ceil_mode = fields_flag(f, "ceil_mode");
    l->flags[0] = fields_flag(f, "flag");
    l->flags[1] = fields_flag(f, "second_flag");
    l->cap = fields_number(f, "cap", HUGE_VAL, -HUGE_VAL, HUGE_VAL);
    l->eps = fields_number(f, "eps", 1e-5, -HUGE_VAL, HUGE_VAL);
    l->momentum = fields_number(f, "momentum", 0.1, -HUGE_VAL, HUGE_VAL);
    l->p = fields_number(f, "p", 0.5, -HUGE_VAL, HUGE_VAL);
    l->scale = fields_number(f, "scale", 1, -HUGE_VAL, HUGE_VAL);
    l->factor[0] = fields_number(f, "factor_y", 0, 0, HUGE_VAL);
    l->factor[1] = fields_number(f, "factor_x", 0, 0, HUGE_VAL);
}

/* add{kind =, name =, input = {i[, j]}, ...} -> value, its shape as an array. The fields are those
 * of Layer in net/graph.h: out (output channels), kernel, stride, dilation, pad = {top, left,
 * bottom, right}, groups, bias, ceil_mode, cap, eps, momentum, p, mean, std, grid, sizes, scale,
 * factor_y, factor_x, text, flag, second_flag. Raises an error if they do not fit the input. */
static int graph_add_layer(lua_State *L) {
    Graph *g = check_graph(L);
    Error e;
    int value;
    static const char *const known[] = {
        "kind", "input",       "name",     "text",     "kernel", "stride",   "dilation",
        "pad",  "grid",        "sizes",    "out",      "groups", "bias",     "ceil_mode",
        "flag", "second_flag", "cap",      "eps",      "p",      "momentum", "scale",
        "mean", "std",         "factor_y", "factor_x", NULL};
    Fields f = fields_of(L, 2, known);
    int64_t input[LAYER_INPUTS] = {0};
    Layer l = {.kind = check_kind(L, &f),
               .kernel = {1, 1},
               .stride = {1, 1},
               .dilation = {1, 1},
               .out = {1, 1}};
    l.inputs = fields_integers(&f, "input", LAYER_INPUTS, input);
    check_layer(&f, &l);
    g = check_graph(L); /* a field's metamethod may have freed it */
    for (int i = 0; i < l.inputs; i++) {
        if (input[i] < 1 || input[i] > g->n_layers)
            return luaL_error(L, "input %d of a layer is value %I of %d", i + 1,
                              (LUAI_UACINT)input[i], g->n_layers);
        l.input[i] = (int)input[i] - 1;
    }
    if (l.kind == LAYER_NORMALIZE && l.inputs == 1) {
        l.mean = fields_numbers(&f, "mean", g->layers[l.input[0]].C);
        l.std = fields_numbers(&f, "std", g->layers[l.input[0]].C);
    }
    if (graph_add(g, &l, &value, &e)) return bind_error(L, &e);
    const Layer *made = &g->layers[value];
    lua_pushinteger(L, value + 1);
    push_shape(L, &made->shape);
    return 2;
}

static void set_pair(lua_State *L, const char *name, const int64_t pair[2]) {
    lua_createtable(L, 2, 0);
    for (int i = 0; i < 2; i++) {
        lua_pushinteger(L, pair[i]);
        lua_seti(L, -2, i + 1);
    }
    lua_setfield(L, -2, name);
}

/* layers() -> array of {kind =, name =, shape =, C =, H =, W =, inputs = {values}}, in order; entry
 * [i] made value i. A convolution also has kernel = {R, S}, stride = {y, x} and groups =; a map has
 * formula =. */
static int graph_layers(lua_State *L) {
    const Graph *g = check_graph(L);
    lua_createtable(L, g->n_layers, 0);
    for (int i = 0; i < g->n_layers; i++) {
        Layer l = g->layers[i]; /* a copy: a finaliser may add layers, which moves the array */
        lua_createtable(L, 0, 8);
        lua_pushstring(L, layer_kind_name(l.kind));
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, l.name);
        lua_setfield(L, -2, "name");
        push_shape(L, &l.shape);
        lua_setfield(L, -2, "shape");
        lua_createtable(L, l.inputs, 0);
        for (int j = 0; j < l.inputs; j++) {
            lua_pushinteger(L, l.input[j] + 1);
            lua_seti(L, -2, j + 1);
        }
        lua_setfield(L, -2, "inputs");
        lua_pushinteger(L, l.C);
        lua_setfield(L, -2, "C");
        lua_pushinteger(L, l.H);
        lua_setfield(L, -2, "H");
        lua_pushinteger(L, l.W);
        lua_setfield(L, -2, "W");
        if (l.kind == LAYER_CONV) {
            set_pair(L, "kernel", l.kernel);
            set_pair(L, "stride", l.stride);
            lua_pushinteger(L, l.groups);
            lua_setfield(L, -2, "groups");
        }
        if (l.kind == LAYER_MAP) {
            lua_pushstring(L, l.text);
            lua_setfield(L, -2, "formula");
        }
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

/* --- parameters --- */

/* parameters() -> array of {name =, shape =, role =, layer = the value that it helps to compute},
 * in the order of the layers, without constants. */
static int graph_parameters(lua_State *L) {
    const Graph *g = check_graph(L);
    int count = 0;
    lua_createtable(L, g->n_params, 0);
    for (int i = 0; i < g->n_params; i++) {
        Param p = g->params[i]; /* a copy, as above */
        if (p.role == PARAM_CONSTANT) continue;
        lua_createtable(L, 0, 3);
        lua_pushstring(L, p.name);
        lua_setfield(L, -2, "name");
        lua_pushstring(L, param_role_name(p.role));
        lua_setfield(L, -2, "role");
        lua_pushinteger(L, p.layer + 1);
        lua_setfield(L, -2, "layer");
        lua_createtable(L, p.value.ndim, 0);
        for (int d = 0; d < p.value.ndim; d++) {
            lua_pushinteger(L, p.value.shape[d]);
            lua_seti(L, -2, d + 1);
        }
        lua_setfield(L, -2, "shape");
        lua_seti(L, -2, ++count);
    }
    return 1;
}

static int param_index(lua_State *L, const Graph *g, int arg) {
    const char *name = luaL_checkstring(L, arg);
    for (int i = 0; i < g->n_params; i++)
        if (!strcmp(g->params[i].name, name)) return i;
    return luaL_error(L, "the network has no parameter '%s'", name);
}

/* set(name, tensor): copies the values, converted to f32; raises an error for another shape. An
 * existing plan keeps its own weights, unless it is a training plan. */
static int graph_set(lua_State *L) {
    Graph *g = check_graph(L);
    Param *p = &g->params[param_index(L, g, 2)];
    Tensor *t = bind_check_tensor(L, 3), copy;
    char got[128], wanted[128];
    Error e;
    if (!tensor_same_shape(t, &p->value))
        return luaL_error(L, "parameter '%s' is %s, got %s", p->name,
                          tensor_shape_text(&p->value, wanted), tensor_shape_text(t, got));
    if (tensor_convert(&copy, t, DTYPE_F32, &e)) return bind_fail(L, 1, &e);
    if (!p->value.storage) {
        p->value = copy;
        return 0;
    }
    int status = tensor_copy(&p->value, &copy, &e);
    tensor_free(&copy);
    return status ? bind_fail(L, 1, &e) : 0;
}

/* get(name) -> the parameter's tensor, sharing its storage; nil if it has no values yet. */
static int graph_get(lua_State *L) {
    const Graph *g = check_graph(L);
    const Param *p = &g->params[param_index(L, g, 2)];
    if (!p->value.storage) return 0;
    *bind_new_tensor(L) = tensor_share(&p->value);
    return 1;
}

/* init_golden(salt[, branch_end]): fills parameters with the golden formula. Batch norms whose name
 * ends in branch_end get a weight ten times smaller. */
static int graph_golden(lua_State *L) {
    Graph *g = check_graph(L);
    Error e;
    const char *salt = luaL_checkstring(L, 2), *branch_end = luaL_optstring(L, 3, NULL);
    return graph_init_golden(g, bind_device(L), salt, branch_end, &e) ? bind_fail(L, 1, &e) : 0;
}

/* init_he(seed): He initialisation. */
static int graph_he(lua_State *L) {
    Graph *g = check_graph(L);
    Error e;
    return graph_init_he(g, bind_device(L), (uint64_t)luaL_checkinteger(L, 2), &e)
               ? bind_fail(L, 1, &e)
               : 0;
}

/* --- plans --- */

/* Reads the table at 2: {purpose = "forward"|"gradient"|"training", batch =, direct =, seed =, runs
 * =, precision = "f32"|"mixed"|"bf16"|"tf32", shared = whether a training batch is this rank's part
 * of a shared batch}. */
static PlanRequest check_request(lua_State *L) {
    static const char *const purposes[] = {"forward", "gradient", "training", NULL};
    static const char *const precisions[] = {"f32", "mixed", "bf16", "tf32", NULL};
    static const char *const known[] = {"purpose", "batch", "direct", "seed",      "runs",
                                        "first",   "whole", "shared", "precision", NULL};
    Fields f = fields_of(L, 2, known);
    PlanRequest r = {.purpose = (PlanPurpose)fields_choice(&f, "purpose", -1, purposes)};
    r.N = fields_integer(&f, "batch", FIELDS_NO_INTEGER, 1, INT32_MAX);
    r.seed = (uint64_t)fields_integer(&f, "seed", 0, INT64_MIN, INT64_MAX);
    r.runs = (uint64_t)fields_integer(&f, "runs", 0, 0, INT64_MAX);
    r.direct = fields_flag(&f, "direct");
    r.whole = fields_integer(&f, "whole", r.N, INT64_MIN, INT64_MAX);
    r.first = fields_integer(&f, "first", 0, INT64_MIN, INT64_MAX);
    luaL_argcheck(
        L, r.N <= r.whole && r.whole <= INT32_MAX && r.first >= 0 && r.first <= r.whole - r.N, 2,
        "the part exceeds the shared batch");
    r.precision = (PlanPrecision)fields_choice(&f, "precision", PLAN_F32, precisions);
    bool shared = fields_flag(&f, "shared") && r.purpose == PLAN_TRAINING;
    check_graph(L); /* a field's metamethod may have freed it */
    r.group = shared ? bind_group(L) : NULL;
    return r;
}

/* plan{...} -> plan. */
static int graph_plan(lua_State *L) {
    Graph *g = check_graph(L);
    Error e;
    PlanRequest r = check_request(L);
    PlanBox *b = lua_newuserdatauv(L, sizeof *b, 1);
    *b = (PlanBox){.graph = g};
    luaL_setmetatable(L, PLAN);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    if (plan_new(g, bind_device(L), &r, &b->plan, &e)) return bind_fail(L, 1, &e);
    return 1;
}

/* plan_size{...} -> the bytes of device memory that such a plan would take, and the free bytes; 0,
 * 0 if the device has no memory of its own. */
static int graph_plan_size(lua_State *L) {
    Graph *g = check_graph(L);
    Error e;
    PlanRequest r = check_request(L);
    size_t bytes, room;
    if (plan_size(g, bind_device(L), &r, &bytes, &room, &e)) return bind_fail(L, 1, &e);
    lua_pushinteger(L, (lua_Integer)bytes);
    lua_pushinteger(L, (lua_Integer)room);
    return 2;
}

static int plan_gc(lua_State *L) {
    PlanBox *b = luaL_checkudata(L, 1, PLAN);
    b->closed = true;
    if (!operation_may_free(L)) return 0;
    if (b->plan) plan_free(b->plan);
    b->plan = NULL;
    return 0;
}

static Tensor *check_shaped(lua_State *L, int arg, int ndim, const int64_t *shape,
                            const char *who) {
    char got[128], wanted[128];
    Tensor *t = bind_check_tensor_of(L, arg, DTYPE_F32, -1);
    if (t->ndim == ndim && !memcmp(t->shape, shape, (size_t)ndim * sizeof *shape)) return t;
    lua_pushfstring(L, "%s wants %s, got %s", who, shape_text(ndim, shape, wanted),
                    tensor_shape_text(t, got));
    luaL_argerror(L, arg, lua_tostring(L, -1));
    return NULL;
}

static lua_Integer next_trace(void) {
    static lua_Integer last;
    return ++last;
}

/* forward(x[, z]) -> z, and for a gradient plan the number of the trace. x [N,C,H,W], z [N,K]. */
static int bind_plan_forward(lua_State *L) {
    PlanBox *b = check_plan(L);
    Plan *p = b->plan;
    Error e;
    int64_t in[4] = {p->request.N, p->C, p->H, p->W}, out[2] = {p->request.N, p->K};
    Tensor *x = check_shaped(L, 2, 4, in, "net");
    Tensor *z = bind_output(L, 3, DTYPE_F32, 2, out);
    b->trace = 0;
    if (plan_forward(p, x->data, z->data, &e)) return bind_fail(L, 1, &e);
    if (p->request.purpose != PLAN_GRADIENT) return 1;
    b->trace = next_trace();
    lua_pushinteger(L, b->trace);
    return 2;
}

/* holds(trace) -> whether it is the last trace, which backward needs. */
static int bind_plan_holds(lua_State *L) {
    const PlanBox *b = check_plan(L);
    lua_pushboolean(L, b->trace && luaL_checkinteger(L, 2) == b->trace);
    return 1;
}

/* backward(trace, dz[, dx]) -> dx: dz [N,K], dx [N,C,H,W], at the x of that trace. It must be the
 * last trace. */
static int bind_plan_backward(lua_State *L) {
    PlanBox *b = check_plan(L);
    Plan *p = b->plan;
    Error e;
    int64_t in[4] = {p->request.N, p->C, p->H, p->W}, out[2] = {p->request.N, p->K};
    if (p->request.purpose != PLAN_GRADIENT)
        return luaL_error(L, "backward to the image needs a gradient plan");
    luaL_argcheck(L, luaL_checkinteger(L, 2) == b->trace && b->trace, 2,
                  "a later forward of this plan has replaced this trace");
    Tensor *dz = check_shaped(L, 3, 2, out, "net");
    Tensor *dx = bind_output(L, 4, DTYPE_F32, 4, in);
    return plan_backward(p, dz->data, dx->data, &e) ? bind_error(L, &e) : 1;
}

/* train_backward(dz): computes the gradients of all parameters; see gradient(). */
static int bind_plan_train_backward(lua_State *L) {
    Plan *p = check_plan(L)->plan;
    Error e;
    int64_t out[2] = {p->request.N, p->K};
    if (p->request.purpose != PLAN_TRAINING)
        return luaL_error(L, "gradients of parameters need a training plan");
    Tensor *dz = check_shaped(L, 2, 2, out, "net");
    return plan_train_backward(p, dz->data, &e) ? bind_error(L, &e) : 0;
}

/* gradient(name[, out]) -> a copy of that parameter's gradient, of its shape; nil for running
 * statistics, which have no gradient. */
static int bind_plan_gradient(lua_State *L) {
    PlanBox *b = check_plan(L);
    Error e;
    int i = param_index(L, b->graph, 2);
    Tensor value = b->graph->params[i].value;
    float *from = plan_gradient_of(b->plan, i);
    if (!from) return 0;
    Tensor *out = bind_output(L, 3, DTYPE_F32, value.ndim, value.shape);
    Device *d = b->plan->device;
    return d->copy(d, out->data, from, tensor_bytes(out), &e) ? bind_fail(L, 1, &e) : 1;
}

/* time(true) starts timing every step of the plan from zero. time() stops it and returns an array
 * of {what =, layer =, backward =, bytes =, seconds =}, the steps in order. bytes is the memory
 * that one run of the step touches; seconds is the sum over runs. */
static int bind_plan_time(lua_State *L) {
    Plan *p = check_plan(L)->plan;
    Error e;
    PlanTiming t;
    bool on = lua_toboolean(L, 2);
    if (plan_time(p, on, &e)) return bind_fail(L, 1, &e);
    if (on) return 0;
    lua_newtable(L);
    for (int i = 0; plan_timing(p, i, &t); i++) {
        lua_createtable(L, 0, 5);
        lua_pushstring(L, t.what);
        lua_setfield(L, -2, "what");
        lua_pushstring(L, t.layer);
        lua_setfield(L, -2, "layer");
        lua_pushboolean(L, t.backward);
        lua_setfield(L, -2, "backward");
        lua_pushinteger(L, t.bytes);
        lua_setfield(L, -2, "bytes");
        lua_pushnumber(L, t.seconds);
        lua_setfield(L, -2, "seconds");
        lua_seti(L, -2, i + 1);
    }
    return 1;
}

/* ascend(job, first, end) -> true after the device ran steps first .. end-1 of an attack without
 * Lua; false if the device cannot. job: {loss = name, parameters = the loss's, sign =, rule =
 * "constant"|"l2"|"linf", size =, iterations =, labels =, targets = (both i64 [N]), buffers = the
 * buffers of advrt.core.ascent by name}. */
static int plan_ascend(lua_State *L) {
    Plan *p = check_plan(L)->plan;
    Error e;
    luaL_checktype(L, 2, LUA_TTABLE);
    if (!p->device->ascend || p->request.purpose != PLAN_GRADIENT) {
        lua_pushboolean(L, false);
        return 1;
    }
    int64_t first = luaL_checkinteger(L, 3), end = luaL_checkinteger(L, 4);
    Ascent a = bind_check_ascent(L, p);
    luaL_argcheck(L, first >= 0 && first <= end && end <= a.iterations + 1, 3,
                  "wanted steps first .. end-1 within the attack");
    PlanBox *b = check_plan(L);
    b->trace = 0;
    if (loss_check(&a.loss, p->K, &e)) return bind_error(L, &e);
    if (p->device->ascend(p->device, &a, first, end, &e)) return bind_fail(L, 1, &e);
    lua_pushboolean(L, true);
    return 1;
}

static const luaL_Reg graph_methods[] = {
    {"add", graph_add_layer},
    {"layers", graph_layers},
    {"parameters", graph_parameters},
    {"set", graph_set},
    {"get", graph_get},
    {"init_golden", graph_golden},
    {"init_he", graph_he},
    {"plan", graph_plan},
    {"plan_size", graph_plan_size},
    {NULL, NULL},
};

static const luaL_Reg plan_methods[] = {
    {"forward", bind_plan_forward},   {"holds", bind_plan_holds},
    {"backward", bind_plan_backward}, {"train_backward", bind_plan_train_backward},
    {"ascend", plan_ascend},          {"gradient", bind_plan_gradient},
    {"time", bind_plan_time},         {NULL, NULL},
};

static void make_class(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction gc) {
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    operation_library(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

int luaopen_advrt_core_net(lua_State *L);
int luaopen_advrt_core_net(lua_State *L) {
    make_class(L, GRAPH, graph_methods, graph_gc);
    make_class(L, PLAN, plan_methods, plan_gc);
    lua_createtable(L, 0, 1);
    operation_push(L, graph_make, 0);
    lua_setfield(L, -2, "new");
    return 1;
}
