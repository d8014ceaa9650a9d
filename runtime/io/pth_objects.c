#include "io/pth_objects.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/tensors.h"

enum { OBJECT_STORAGE = 1, OBJECT_TENSOR };

/* A storage and the range of it that a tensor may use: the whole, except for views in the oldest
 * files. */
typedef struct StorageView {
    PthStorage *storage;
    int64_t first, elements;
} StorageView;

/* --- the known globals --- */

typedef enum GlobalKind {
    GLOBAL_DICT,
    GLOBAL_DEFAULT, /* a dictionary whose argument is not an item */
    GLOBAL_TENSOR,
    GLOBAL_PARAMETER,
    GLOBAL_TYPED, /* calls its first argument with its third, a tuple */
    GLOBAL_SIZE,
    GLOBAL_DTYPE,
    GLOBAL_STORAGE
} GlobalKind;

static const struct {
    const char *module, *name;
    GlobalKind kind;
    Dtype dtype;
} globals[] = {
    {"collections", "OrderedDict", GLOBAL_DICT, 0},
    {"collections", "Counter", GLOBAL_DICT, 0},
    {"collections", "defaultdict", GLOBAL_DEFAULT, 0},
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor", GLOBAL_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER, 0},
    {"torch._utils", "_rebuild_parameter_with_state", GLOBAL_PARAMETER, 0},
    {"torch._tensor", "_rebuild_from_type_v2", GLOBAL_TYPED, 0},
    {"torch", "Size", GLOBAL_SIZE, 0},
    {"torch", "FloatStorage", GLOBAL_STORAGE, DTYPE_F32},
    {"torch", "DoubleStorage", GLOBAL_STORAGE, DTYPE_F64},
    {"torch", "HalfStorage", GLOBAL_STORAGE, DTYPE_F16},
    {"torch", "BFloat16Storage", GLOBAL_STORAGE, DTYPE_BF16},
    {"torch", "LongStorage", GLOBAL_STORAGE, DTYPE_I64},
    {"torch", "IntStorage", GLOBAL_STORAGE, DTYPE_I32},
    {"torch", "ShortStorage", GLOBAL_STORAGE, DTYPE_I16},
    {"torch", "CharStorage", GLOBAL_STORAGE, DTYPE_I8},
    {"torch", "ByteStorage", GLOBAL_STORAGE, DTYPE_U8},
    {"torch", "BoolStorage", GLOBAL_STORAGE, DTYPE_BOOL},
    {"torch", "float32", GLOBAL_DTYPE, 0},
    {"torch", "float64", GLOBAL_DTYPE, 0},
    {"torch", "float16", GLOBAL_DTYPE, 0},
    {"torch", "bfloat16", GLOBAL_DTYPE, 0},
    {"torch", "int64", GLOBAL_DTYPE, 0},
    {"torch", "int32", GLOBAL_DTYPE, 0},
    {"torch", "int16", GLOBAL_DTYPE, 0},
    {"torch", "int8", GLOBAL_DTYPE, 0},
    {"torch", "uint8", GLOBAL_DTYPE, 0},
    {"torch", "bool", GLOBAL_DTYPE, 0},
};

static int64_t find_global(void *context, const char *module, const char *name) {
    (void)context;
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strcmp(name, globals[i].name) == 0 && strcmp(module, globals[i].module) == 0)
            return (int64_t)i;
    return -1;
}

/* Modules, or some of their names, that a file calls in order to run code when Python reads it.
 * Nothing runs here. But such a file is not a checkpoint, and its user should know. */
static const struct {
    const char *module, *names; /* NULL: all names */
} running[] = {
    {"os", NULL},
    {"posix", NULL},
    {"nt", NULL},
    {"subprocess", NULL},
    {"commands", NULL},
    {"pty", NULL},
    {"runpy", NULL},
    {"code", NULL},
    {"importlib", NULL},
    {"ctypes", NULL},
    {"socket", NULL},
    {"shutil", NULL},
    {"webbrowser", NULL},
    {"pickle", NULL},
    {"_pickle", NULL},
    {"marshal", NULL},
    {"builtins", " eval exec compile open input breakpoint __import__ "},
    {"__builtin__", " eval exec execfile compile open file input raw_input apply __import__ "},
    {"torch", " load "},
    {"torch.hub", NULL},
    {"torch.serialization", " load "},
};

static int refuse_running(void *context, const PickleOpaque *global, Error *e) {
    char word[PICKLE_NAME + 2];
    (void)context;
    snprintf(word, sizeof word, " %s ", global->name);
    for (size_t i = 0; i < sizeof running / sizeof *running; i++)
        if (strcmp(global->module, running[i].module) == 0 &&
            (!running[i].names || strstr(running[i].names, word)))
            return error_set(e, "refuses to run '%s.%s' (only tensors are read from a .pth file)",
                             global->module, global->name);
    return 0;
}

/* --- storages --- */

static int remember_storage(PthObjects *o, PthStorage *s, Error *e) {
    if (o->storage_count == o->storage_capacity) {
        size_t capacity = o->storage_capacity ? 2 * o->storage_capacity : 64;
        PthStorage **all = memory_zeroed(capacity, sizeof *all, "a list of storages", e);
        if (!all) return -1;
        if (o->storage_count) memcpy(all, o->storages, o->storage_count * sizeof *all);
        memory_free(o->storages);
        o->storages = all;
        o->storage_capacity = capacity;
    }
    o->storages[o->storage_count++] = s;
    return 0;
}

/* Bytes per element of an unsupported type. Reading a legacy file must skip such elements. 0 if
 * unknown. */
static size_t foreign_size(const char *type) {
    static const struct {
        const char *type;
        size_t size;
    } sizes[] = {{"ComplexFloatStorage", 8}, {"ComplexDoubleStorage", 16},
                 {"ComplexHalfStorage", 4},  {"QInt8Storage", 1},
                 {"QUInt8Storage", 1},       {"QInt32Storage", 4},
                 {"UntypedStorage", 1}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        if (strcmp(type, sizes[i].type) == 0) return sizes[i].size;
    return 0;
}

/* The type of a storage from its persistent id. */
static int storage_type(const PickleValue *v, PthStorage *out) {
    if (v->kind == PICKLE_GLOBAL && globals[v->integer].kind == GLOBAL_STORAGE) {
        out->dtype = globals[v->integer].dtype;
        out->type = globals[v->integer].name;
        out->size = dtype_size(out->dtype);
        return 0;
    }
    if (v->kind != PICKLE_OPAQUE || v->opaque->made || !strstr(v->opaque->name, "Storage"))
        return -1;
    out->dtype = DTYPES;
    out->type = v->opaque->name;
    out->size = foreign_size(out->type);
    return 0;
}

/* A persistent id is ('storage', type, key, location, elements). Legacy files add None or a view of
 * the storage, (key, first, elements); they also have ('module', class, ...) for the class of a
 * net. */
static int make_storage(void *context, Pickle *p, const PickleValue *id, PickleValue *out,
                        Error *e) {
    const PickleValue *v = id->kind == PICKLE_TUPLE ? id->list->items : NULL;
    size_t n = v ? id->list->count : 0;
    PthStorage made = {0};
    if (n > 1 && v[0].kind == PICKLE_TEXT && strcmp(v[0].text->bytes, "module") == 0 &&
        v[1].kind == PICKLE_OPAQUE) {
        *out = v[1];
        return 0;
    }
    if (n < 5 || n > 6 || v[0].kind != PICKLE_TEXT || strcmp(v[0].text->bytes, "storage") != 0 ||
        storage_type(&v[1], &made) != 0 || v[2].kind != PICKLE_TEXT ||
        v[4].kind != PICKLE_INTEGER || v[4].integer < 0)
        return error_set(e, "refers to something stored outside its pickle that is not a storage");
    if (v[2].text->length >= PICKLE_NAME)
        return error_set(e, "has a storage with a name longer than %d bytes", PICKLE_NAME - 1);
    made.key = v[2].text->bytes;
    made.elements = v[4].integer;
    PthStorage *s = pickle_take(p, sizeof *s, e);
    StorageView *view = pickle_take(p, sizeof *view, e);
    if (!s || !view) return -1;
    *s = made;
    *view = (StorageView){s, 0, s->elements};
    if (n == 6 && v[5].kind != PICKLE_NONE) {
        const PickleValue *w = v[5].kind == PICKLE_TUPLE ? v[5].list->items : NULL;
        if (!w || v[5].list->count != 3 || w[1].kind != PICKLE_INTEGER ||
            w[2].kind != PICKLE_INTEGER || w[1].integer < 0 || w[2].integer < 0 ||
            w[1].integer > s->elements || w[2].integer > s->elements - w[1].integer)
            return error_set(e, "storage '%s' has a view that reaches outside it", s->key);
        view->first = w[1].integer;
        view->elements = w[2].integer;
    }
    *out = (PickleValue){.kind = PICKLE_OBJECT, .type = OBJECT_STORAGE, .object = view};
    return remember_storage(context, s, e);
}

/* Many storages may share one key text, so compare the addresses first. */
static int by_key(const void *a, const void *b) {
    const char *x = (*(PthStorage *const *)a)->key, *y = (*(PthStorage *const *)b)->key;
    return x == y ? 0 : strcmp(x, y);
}

static const char *type_name(const PthStorage *s) {
    return s->dtype == DTYPES ? s->type : dtype_name(s->dtype);
}

int pth_sort_storages(PthObjects *o, Error *e) {
    size_t kept = 0;
    if (o->storage_count) qsort(o->storages, o->storage_count, sizeof *o->storages, by_key);
    for (size_t i = 0; i < o->storage_count; i++) {
        PthStorage *s = o->storages[i], *last = kept ? o->storages[kept - 1] : NULL;
        if (!last || by_key(&s, &last) != 0)
            o->storages[kept++] = s;
        else if (s->dtype != last->dtype || s->size != last->size || s->elements != last->elements)
            return error_set(e, "storage '%s' is both %s of %lld elements and %s of %lld", s->key,
                             type_name(last), (long long)last->elements, type_name(s),
                             (long long)s->elements);
    }
    o->storage_count = kept;
    return 0;
}

PthStorage *pth_find_storage(const PthObjects *o, const char *key) {
    PthStorage wanted = {.key = key}, *w = &wanted;
    if (o->storage_count == 0) return NULL;
    PthStorage **found = bsearch(&w, o->storages, o->storage_count, sizeof *o->storages, by_key);
    return found ? *found : NULL;
}

/* --- tensors --- */

/* Reads a tuple (or list) of sizes, none negative. */
static int read_sizes(const PickleValue *v, int64_t sizes[TENSOR_DIMS], int *n, Error *e) {
    if (v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST)
        return error_set(e, "holds a tensor whose shape or strides are not a tuple");
    if (v->list->count > TENSOR_DIMS)
        return error_set(e, "holds a tensor of %zu dimensions, at most %d are supported",
                         v->list->count, TENSOR_DIMS);
    *n = (int)v->list->count;
    for (int i = 0; i < *n; i++) {
        const PickleValue *size = &v->list->items[i];
        if (size->kind != PICKLE_INTEGER || size->integer < 0)
            return error_set(e, "holds a tensor whose shape or strides are not natural numbers");
        sizes[i] = size->integer;
    }
    return 0;
}

/* Fails unless the last element that a nonempty tensor reaches lies in the view. */
static int check_reach(const PthTensor *t, const StorageView *view, Error *e) {
    char text[128];
    int64_t last = t->offset, step;
    for (int i = 0; i < t->ndim; i++)
        if (__builtin_mul_overflow(t->shape[i] - 1, t->stride[i], &step) ||
            __builtin_add_overflow(last, step, &last))
            last = INT64_MAX, i = t->ndim;
    if (last < view->elements) return 0;
    return error_set(e, "a tensor %s reaches outside its storage '%s' of %lld elements",
                     shape_text(t->ndim, t->shape, text), view->storage->key,
                     (long long)view->elements);
}

/* The arguments are (storage, offset, shape, strides, ...); the others, such as hooks, are
 * ignored. */
static int make_tensor(Pickle *p, const PickleList *args, PickleValue *out, Error *e) {
    const PickleValue *v = args->items;
    int strides;
    size_t bytes;
    if (args->count && v[0].kind == PICKLE_OPAQUE) {
        *out = v[0];
        return 0;
    }
    if (args->count < 4 || v[0].kind != PICKLE_OBJECT || v[0].type != OBJECT_STORAGE ||
        v[1].kind != PICKLE_INTEGER || v[1].integer < 0)
        return error_set(e, "holds a tensor that is not made from a storage");
    const StorageView *view = v[0].object;
    if (view->storage->dtype == DTYPES)
        return pickle_opaque(p, "torch", view->storage->type, out, e);
    PthTensor *t = pickle_take(p, sizeof *t, e);
    if (!t) return -1;
    if (read_sizes(&v[2], t->shape, &t->ndim, e) != 0 ||
        read_sizes(&v[3], t->stride, &strides, e) != 0)
        return -1;
    if (strides != t->ndim)
        return error_set(e, "holds a tensor of %d dimensions with %d strides", t->ndim, strides);
    t->storage = view->storage;
    t->offset = v[1].integer;
    if (tensors_bytes_of(view->storage->dtype, t->ndim, t->shape, &bytes, e) != 0)
        return error_prefix(e, "a tensor of storage '%s'", view->storage->key);
    /* A dimension of size 1 is never stepped along, so its stride may be any number. */
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] == 1) t->stride[i] = 0;
    if (bytes > 0 && check_reach(t, view, e) != 0) return -1;
    t->offset = bytes > 0 ? t->offset + view->first : 0;
    *out = (PickleValue){.kind = PICKLE_OBJECT, .type = OBJECT_TENSOR, .object = t};
    return 0;
}

/* A dictionary from no argument, from a dictionary, or from a list of pairs (Python 2). */
static int make_dict(Pickle *p, const PickleList *args, PickleValue *out, Error *e) {
    const PickleValue *from = args->count ? &args->items[0] : NULL;
    PickleList *dict = pickle_list(p, 0, e);
    if (!dict) return -1;
    *out = (PickleValue){.kind = PICKLE_DICT, .list = dict};
    if (!from) return 0;
    if (from->kind == PICKLE_DICT) {
        for (size_t i = 0; i < from->list->count; i++)
            if (pickle_push(p, dict, &from->list->items[i], e) != 0) return -1;
        return 0;
    }
    if (from->kind != PICKLE_LIST)
        return error_set(e, "holds a dictionary that is not made of pairs");
    for (size_t i = 0; i < from->list->count; i++) {
        const PickleValue *pair = &from->list->items[i];
        if ((pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) || pair->list->count != 2)
            return error_set(e, "holds a dictionary that is not made of pairs");
        if (pickle_push(p, dict, &pair->list->items[0], e) != 0 ||
            pickle_push(p, dict, &pair->list->items[1], e) != 0)
            return -1;
    }
    return 0;
}

static int call_global(void *context, Pickle *p, int64_t number, const PickleList *args,
                       PickleValue *out, Error *e) {
    const PickleValue *first = args->count ? &args->items[0] : NULL;
    static const PickleList nothing;
    switch (globals[number].kind) {
    case GLOBAL_DICT: return make_dict(p, args, out, e);
    case GLOBAL_DEFAULT: return make_dict(p, &nothing, out, e);
    case GLOBAL_TENSOR: return make_tensor(p, args, out, e);
    case GLOBAL_TYPED:
        if (args->count < 3 || first->kind != PICKLE_GLOBAL ||
            args->items[2].kind != PICKLE_TUPLE || globals[first->integer].kind != GLOBAL_TENSOR)
            return pickle_opaque(p, globals[number].module, globals[number].name, out, e);
        return call_global(context, p, first->integer, args->items[2].list, out, e);
    case GLOBAL_PARAMETER:
        if (first && first->kind == PICKLE_OPAQUE) {
            *out = *first;
            return 0;
        }
        if (!first || first->kind != PICKLE_OBJECT || first->type != OBJECT_TENSOR)
            return error_set(e, "holds a parameter that is not a tensor");
        *out = *first;
        return 0;
    case GLOBAL_SIZE:
        if (!first || (first->kind != PICKLE_TUPLE && first->kind != PICKLE_LIST))
            return error_set(e, "holds a torch.Size that is not made of sizes");
        *out = *first;
        return 0;
    default:
        return error_set(e, "refuses to run '%s.%s' (only tensors are read from a .pth file)",
                         globals[number].module, globals[number].name);
    }
}

PickleHooks pth_hooks(void) {
    return (PickleHooks){.global = find_global,
                         .opaque = refuse_running,
                         .call = call_global,
                         .persistent = make_storage};
}

/* --- the state dictionaries --- */

enum { DEEPEST = 3 }; /* the most keys that lead to a dictionary */

static const PthTensor *tensor_of(const PickleValue *v) {
    return v->kind == PICKLE_OBJECT && v->type == OBJECT_TENSOR ? v->object : NULL;
}

/* A walk over containers, with one round per depth, so that it finds groups nearest to the root
 * first. Each round visits a container once, even if the file refers to it often. */
typedef struct Walk {
    PthObjects *objects;
    const char *keys[DEEPEST];
    size_t indices[DEEPEST]; /* used where the key is NULL */
    int depth;               /* of the present round */
    const PickleOpaque *opaque;
    const char *opaque_key; /* key of the first opaque value, for the message */
} Walk;

static bool usable_key(const PickleValue *v) {
    return v->kind == PICKLE_TEXT && v->text->length < PICKLE_NAME &&
           strlen(v->text->bytes) == v->text->length;
}

/* Writes the path of the walk's position; false if it is too long. */
static bool write_key(const Walk *w, char key[PICKLE_NAME]) {
    size_t n = 0;
    key[0] = 0;
    for (int i = 0; i < w->depth; i++) {
        const char *dot = i ? "." : "";
        int length = w->keys[i] ? snprintf(key + n, PICKLE_NAME - n, "%s%s", dot, w->keys[i])
                                : snprintf(key + n, PICKLE_NAME - n, "%s%zu", dot, w->indices[i]);
        if (length < 0 || (n += (size_t)length) >= PICKLE_NAME) return false;
    }
    return true;
}

static void count_entries(Walk *w, const PickleList *dict, PthGroup *out) {
    for (size_t i = 0; i + 1 < dict->count; i += 2) {
        const PickleValue *key = &dict->items[i], *v = key + 1;
        if (key->kind != PICKLE_TEXT) continue;
        out->tensors += tensor_of(v) != NULL;
        out->opaque += v->kind == PICKLE_OPAQUE;
        if (v->kind == PICKLE_OPAQUE && !w->opaque) {
            w->opaque = v->opaque;
            w->opaque_key = key->text->bytes;
        }
    }
}

static void note_group(Walk *w, PickleList *dict) {
    PthObjects *o = w->objects;
    if (dict->found || o->group_count == PTH_GROUPS) return;
    PthGroup *g = &o->groups[o->group_count];
    *g = (PthGroup){.dict = dict};
    dict->found = 1;
    count_entries(w, dict, g);
    o->group_count += g->tensors > 0 && write_key(w, g->key);
}

static void walk(Walk *w, const PickleValue *v, int depth) {
    bool row = v->kind == PICKLE_LIST || v->kind == PICKLE_TUPLE;
    PickleList *list = row ? v->list : pickle_dict(v);
    if (!list || list->round == w->depth + 1) return;
    list->round = (unsigned char)(w->depth + 1);
    if (depth == w->depth) {
        if (!row) note_group(w, list);
        return;
    }
    for (size_t i = 0; i < list->count; i += row ? 1 : 2) {
        const PickleValue *key = &list->items[i];
        if (!row && (i + 1 == list->count || !usable_key(key))) continue;
        w->keys[depth] = row ? NULL : key->text->bytes;
        w->indices[depth] = i;
        walk(w, row ? key : key + 1, depth + 1);
    }
}

#define WAY_OUT                                                                                    \
    "in PyTorch, save the weights by torch.save({\"state_dict\": model.state_dict()}, FILE)"

static int refuse_root(const PickleValue *root, const Walk *w, Error *e) {
    if (root->kind == PICKLE_OPAQUE && strstr(root->opaque->name, "Storage"))
        return error_set(e, "holds a tensor of type '%s.%s', which is not supported",
                         root->opaque->module, root->opaque->name);
    if (root->kind == PICKLE_OPAQUE && refuse_running(NULL, root->opaque, e) != 0) return -1;
    if (root->kind == PICKLE_OPAQUE)
        return error_set(e, "holds an object of '%s.%s' instead of named tensors;  " WAY_OUT,
                         root->opaque->module, root->opaque->name);
    if (w->opaque)
        return error_set(
            e, "holds no named tensors: '%s' is made by '%s.%s', which is never run; " WAY_OUT,
            w->opaque_key, w->opaque->module, w->opaque->name);
    if (tensor_of(root)) return error_set(e, "holds one tensor without a name; " WAY_OUT);
    return error_set(e, "holds no named tensors; " WAY_OUT);
}

int pth_find_groups(PthObjects *o, const PickleValue *root, Error *e) {
    Walk w = {.objects = o};
    o->groups = memory_zeroed(PTH_GROUPS, sizeof *o->groups, "a list of dictionaries", e);
    if (!o->groups) return -1;
    for (w.depth = 0; w.depth <= DEEPEST; w.depth++) walk(&w, root, 0);
    return o->group_count ? 0 : refuse_root(root, &w, e);
}

const PthGroup *pth_group(const PthObjects *o, const char *key) {
    static const char *const usual[] = {"state_dict", "model_state_dict", "model"};
    const PthGroup *best = NULL;
    if (key) {
        for (size_t i = o->group_count; i-- > 0;)
            if (strcmp(o->groups[i].key, key) == 0) return &o->groups[i];
        return NULL;
    }
    for (int k = 0; k < 3; k++)
        if ((best = pth_group(o, usual[k]))) return best;
    for (size_t i = 0; i < o->group_count; i++)
        if (!best || o->groups[i].tensors > best->tensors) best = &o->groups[i];
    return best;
}

static int by_name(const void *a, const void *b) {
    const char *x = ((const PthEntry *)a)->name, *y = ((const PthEntry *)b)->name;
    return x == y ? 0 : strcmp(x, y);
}

/* torch.nn.DataParallel and torch.compile each put a prefix before every name. */
static void strip_prefixes(PthEntries *all) {
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    size_t count = all->tensors, length = 0;
    for (size_t k = 0, stripped = 0; k < 2; k = stripped ? 0 : k + 1) {
        size_t n = strlen(prefixes[k]);
        stripped = count > 0 && length + n < sizeof all->prefix;
        for (size_t i = 0; i < count && stripped; i++)
            stripped = strncmp(all->items[i].name, prefixes[k], n) == 0;
        if (!stripped) continue;
        for (size_t i = 0; i < count + all->opaque; i++)
            if (strncmp(all->items[i].name, prefixes[k], n) == 0) all->items[i].name += n;
        strcpy(all->prefix + length, prefixes[k]);
        length += n;
    }
}

static int list_entry(PthEntries *out, const PickleValue *key, size_t *at, Error *e) {
    const PthTensor *t = tensor_of(key + 1);
    if (key->text->length >= PTH_NAME)
        return error_set(e, "a tensor's name has %zu bytes, at most %d are allowed",
                         key->text->length, PTH_NAME - 1);
    if (strlen(key->text->bytes) != key->text->length)
        return error_set(e, "a tensor's name holds a NUL byte");
    out->items[(*at)++] = (PthEntry){key->text->bytes, t, t ? NULL : key[1].opaque};
    return 0;
}

int pth_entries(const PthGroup *g, PthEntries *out, Error *e) {
    *out = (PthEntries){.tensors = g->tensors, .opaque = g->opaque};
    out->items = memory_zeroed(g->tensors + g->opaque, sizeof *out->items, "a list of tensors", e);
    if (!out->items) return -1;
    size_t tensors = 0, opaque = g->tensors;
    for (size_t i = 0; i + 1 < g->dict->count; i += 2) {
        const PickleValue *key = &g->dict->items[i];
        bool tensor = tensor_of(key + 1) != NULL;
        if (key->kind != PICKLE_TEXT || (!tensor && key[1].kind != PICKLE_OPAQUE)) continue;
        if (list_entry(out, key, tensor ? &tensors : &opaque, e) != 0) return -1;
    }
    qsort(out->items, out->tensors, sizeof *out->items, by_name);
    for (size_t i = 1; i < out->tensors; i++)
        if (by_name(&out->items[i - 1], &out->items[i]) == 0)
            return error_set(e, "holds a tensor '%s' twice", out->items[i].name);
    strip_prefixes(out);
    return 0;
}

void pth_objects_free(PthObjects *o) {
    memory_free(o->storages);
    memory_free(o->groups);
    *o = (PthObjects){0};
}
