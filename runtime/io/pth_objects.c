#include "io/pth_objects.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/tensors.h"

enum { OBJECT_STORAGE = 1, OBJECT_TENSOR };

/* A storage and the part of it that a tensor may use: all but for views of the oldest files. */
typedef struct StorageView {
    PthStorage *storage;
    int64_t first, elements;
} StorageView;

/* --- the names that are known --- */

typedef enum GlobalKind {
    GLOBAL_DICT,
    GLOBAL_TENSOR,
    GLOBAL_PARAMETER,
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
    {"torch._utils", "_rebuild_tensor_v2", GLOBAL_TENSOR, 0},
    {"torch._utils", "_rebuild_tensor", GLOBAL_TENSOR, 0},
    {"torch._utils", "_rebuild_parameter", GLOBAL_PARAMETER, 0},
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

static int ends_with(const char *text, const char *end) {
    size_t n = strlen(text), m = strlen(end);
    return n >= m && strcmp(text + n - m, end) == 0;
}

static int find_global(void *context, const char *module, const char *name, int64_t *number,
                       Error *e) {
    (void)context;
    int torch = strcmp(module, "torch") == 0;
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strcmp(name, globals[i].name) == 0 && strcmp(module, globals[i].module) == 0) {
            *number = (int64_t)i;
            return 0;
        }
    if (torch && ends_with(name, "Storage"))
        return error_set(e, "holds a tensor of type '%s.%s', which is not supported", module, name);
    return error_set(e, "refuses to run '%s.%s' (only tensors are read from a .pth file)", module,
                     name);
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

/* ('storage', type, key, place, elements) and, in legacy files, None or a view's (key, first,
 * elements) of it. */
static int make_storage(void *context, Pickle *p, const PickleValue *id, PickleValue *out,
                        Error *e) {
    const PickleValue *v = id->kind == PICKLE_TUPLE ? id->list->items : NULL;
    size_t n = v ? id->list->count : 0;
    if (n < 5 || n > 6 || v[0].kind != PICKLE_TEXT || strcmp(v[0].text->bytes, "storage") != 0 ||
        v[1].kind != PICKLE_GLOBAL || globals[v[1].integer].kind != GLOBAL_STORAGE ||
        v[2].kind != PICKLE_TEXT || v[4].kind != PICKLE_INTEGER || v[4].integer < 0)
        return error_set(e, "refers to something stored outside its pickle that is no storage");
    PthStorage *s = pickle_take(p, sizeof *s, e);
    StorageView *view = pickle_take(p, sizeof *view, e);
    if (!s || !view) return -1;
    *s = (PthStorage){v[2].text->bytes, globals[v[1].integer].dtype, v[4].integer, 0};
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

static int by_key(const void *a, const void *b) {
    return strcmp((*(PthStorage *const *)a)->key, (*(PthStorage *const *)b)->key);
}

int pth_sort_storages(PthObjects *o, Error *e) {
    size_t kept = 0;
    if (o->storage_count) qsort(o->storages, o->storage_count, sizeof *o->storages, by_key);
    for (size_t i = 0; i < o->storage_count; i++) {
        PthStorage *s = o->storages[i], *last = kept ? o->storages[kept - 1] : NULL;
        if (!last || strcmp(s->key, last->key) != 0)
            o->storages[kept++] = s;
        else if (s->dtype != last->dtype || s->elements != last->elements)
            return error_set(e, "storage '%s' is both %s of %lld elements and %s of %lld", s->key,
                             dtype_name(last->dtype), (long long)last->elements,
                             dtype_name(s->dtype), (long long)s->elements);
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

/* A tuple (or list) of n sizes, none negative. */
static int read_sizes(const PickleValue *v, int64_t sizes[TENSOR_DIMS], int *n, Error *e) {
    if (v->kind != PICKLE_TUPLE && v->kind != PICKLE_LIST)
        return error_set(e, "holds a tensor whose shape or strides are no tuple");
    if (v->list->count > TENSOR_DIMS)
        return error_set(e, "holds a tensor of %zu dimensions, at most %d are supported",
                         v->list->count, TENSOR_DIMS);
    *n = (int)v->list->count;
    for (int i = 0; i < *n; i++) {
        const PickleValue *size = &v->list->items[i];
        if (size->kind != PICKLE_INTEGER || size->integer < 0)
            return error_set(e, "holds a tensor whose shape or strides are no natural numbers");
        sizes[i] = size->integer;
    }
    return 0;
}

/* The last element that a tensor with elements reaches must be one of the view's. */
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

/* (storage, offset, shape, strides, ...): what follows, such as hooks, is passed over. */
static int make_tensor(Pickle *p, const PickleList *args, PickleValue *out, Error *e) {
    const PickleValue *v = args->items;
    int strides;
    size_t bytes;
    if (args->count < 4 || v[0].kind != PICKLE_OBJECT || v[0].type != OBJECT_STORAGE ||
        v[1].kind != PICKLE_INTEGER || v[1].integer < 0)
        return error_set(e, "holds a tensor that is not made from a storage");
    const StorageView *view = v[0].object;
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
    /* Nothing steps along a dimension of one, whose stride may be any number. */
    for (int i = 0; i < t->ndim; i++)
        if (t->shape[i] == 1) t->stride[i] = 0;
    if (bytes > 0 && check_reach(t, view, e) != 0) return -1;
    t->offset = bytes > 0 ? t->offset + view->first : 0;
    *out = (PickleValue){.kind = PICKLE_OBJECT, .type = OBJECT_TENSOR, .object = t};
    return 0;
}

/* A dictionary from nothing, from a dictionary, or, as Python 2 wrote it, from a list of pairs. */
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
    if (from->kind != PICKLE_LIST) return error_set(e, "holds a dictionary made of no pairs");
    for (size_t i = 0; i < from->list->count; i++) {
        const PickleValue *pair = &from->list->items[i];
        if ((pair->kind != PICKLE_LIST && pair->kind != PICKLE_TUPLE) || pair->list->count != 2)
            return error_set(e, "holds a dictionary made of no pairs");
        if (pickle_push(p, dict, &pair->list->items[0], e) != 0 ||
            pickle_push(p, dict, &pair->list->items[1], e) != 0)
            return -1;
    }
    return 0;
}

static int call_global(void *context, Pickle *p, int64_t number, const PickleList *args,
                       PickleValue *out, Error *e) {
    (void)context;
    const PickleValue *first = args->count ? &args->items[0] : NULL;
    switch (globals[number].kind) {
    case GLOBAL_DICT: return make_dict(p, args, out, e);
    case GLOBAL_TENSOR: return make_tensor(p, args, out, e);
    case GLOBAL_PARAMETER:
        if (!first || first->kind != PICKLE_OBJECT || first->type != OBJECT_TENSOR)
            return error_set(e, "holds a parameter that is no tensor");
        *out = *first;
        return 0;
    case GLOBAL_SIZE:
        if (!first || (first->kind != PICKLE_TUPLE && first->kind != PICKLE_LIST))
            return error_set(e, "holds a torch.Size of no sizes");
        *out = *first;
        return 0;
    default:
        return error_set(e, "refuses to run '%s.%s' (only tensors are read from a .pth file)",
                         globals[number].module, globals[number].name);
    }
}

PickleHooks pth_hooks(void) {
    return (PickleHooks){.global = find_global, .call = call_global, .persistent = make_storage};
}

/* --- the state dictionary --- */

static const PthTensor *tensor_of(const PickleValue *v) {
    return v->kind == PICKLE_OBJECT && v->type == OBJECT_TENSOR ? v->object : NULL;
}

static size_t count_tensors(const PickleValue *v) {
    size_t n = 0;
    if (!v || v->kind != PICKLE_DICT) return 0;
    for (size_t i = 0; i + 1 < v->list->count; i += 2)
        n += v->list->items[i].kind == PICKLE_TEXT && tensor_of(&v->list->items[i + 1]) != NULL;
    return n;
}

/* torch.nn.DataParallel and torch.compile each put a prefix before every name. */
static void strip_prefixes(PthObjects *o) {
    static const char *const prefixes[] = {"module.", "_orig_mod."};
    for (size_t k = 0, stripped = 0; k < 2; k = stripped ? 0 : k + 1) {
        size_t n = strlen(prefixes[k]);
        stripped = o->entry_count > 0;
        for (size_t i = 0; i < o->entry_count && stripped; i++)
            stripped = strncmp(o->entries[i].name, prefixes[k], n) == 0;
        for (size_t i = 0; i < o->entry_count && stripped; i++) o->entries[i].name += n;
    }
}

int pth_find_entries(PthObjects *o, const PickleValue *root, Error *e) {
    static const char *const keys[] = {"state_dict", "model_state_dict", "model"};
    if (root->kind != PICKLE_DICT)
        return error_set(e, "holds %s, not a dictionary of named tensors (save the state_dict)",
                         tensor_of(root) ? "one tensor" : "no dictionary");
    const PickleValue *state = root;
    for (int i = 2; i >= 0; i--) {
        const PickleValue *inner = pickle_find(root->list, keys[i]);
        if (count_tensors(inner)) state = inner;
    }
    size_t n = count_tensors(state);
    if (n == 0)
        return error_set(e, "holds no named tensors, neither itself nor under 'state_dict', "
                            "'model_state_dict' or 'model'");
    o->entries = memory_zeroed(n, sizeof *o->entries, "a list of tensors", e);
    if (!o->entries) return -1;
    for (size_t i = 0; i + 1 < state->list->count; i += 2) {
        const PickleValue *name = &state->list->items[i];
        const PthTensor *t = tensor_of(name + 1);
        if (name->kind != PICKLE_TEXT || !t) continue;
        if (strlen(name->text->bytes) != name->text->length)
            return error_set(e, "a tensor's name holds a NUL byte");
        o->entries[o->entry_count++] = (PthEntry){name->text->bytes, t};
    }
    strip_prefixes(o);
    return 0;
}

void pth_objects_free(PthObjects *o) {
    memory_free(o->storages);
    memory_free(o->entries);
    *o = (PthObjects){0};
}
