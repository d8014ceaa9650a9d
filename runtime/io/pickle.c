#include "io/pickle.h"

#include <string.h>

#include "base/memory.h"

enum { INPUT = 1 << 14, BLOCK = 1 << 16 };

typedef struct Block {
    struct Block *next;
    size_t used, size;
    _Alignas(16) unsigned char bytes[];
} Block;

struct Pickle {
    PickleHooks hooks;
    uint64_t consumed, kept; /* bytes of the stream read so far; the stored part of them */
    size_t at, filled;
    Block *blocks;
    size_t memory; /* bytes of the arena's blocks, the stack and the memo */
    PickleValue *stack;
    size_t depth, stack_capacity;
    PickleValue *memo;
    unsigned char
        *memo_set; /* which indices of the memo hold a value; stored after memo's values */
    size_t memo_used, memo_capacity;
    size_t marks[PICKLE_MARKS];
    int mark_count;
    unsigned char input[INPUT];
};

/* --- memory --- */

/* Two bytes can refer to a value again. So the memory of a pickle's values is limited in proportion
 * to its length. */
static void *counted_take(Pickle *p, size_t bytes, Error *e) {
    size_t most = PICKLE_LEAST + PICKLE_PER_BYTE * (size_t)p->kept;
    if (bytes <= (size_t)PICKLE_MEMORY - p->memory && bytes + p->memory > most) {
        error_set(e,
                  "the values of its pickle need more than %d bytes of memory for each of its "
                  "%llu bytes",
                  PICKLE_PER_BYTE, (unsigned long long)p->kept);
        return NULL;
    }
    if (bytes > (size_t)PICKLE_MEMORY - p->memory) {
        error_set(e, "its pickle needs more than the %d MiB that a list of tensors may",
                  PICKLE_MEMORY >> 20);
        return NULL;
    }
    void *memory = memory_zeroed(bytes, 1, "a pickle's values", e);
    if (memory) p->memory += bytes;
    return memory;
}

void *pickle_take(Pickle *p, size_t bytes, Error *e) {
    bytes = (bytes + 15) & ~(size_t)15;
    Block *b = p->blocks;
    if (!b || b->size - b->used < bytes) {
        size_t size = bytes > BLOCK ? bytes : BLOCK;
        b = counted_take(p, sizeof *b + size, e);
        if (!b) return NULL;
        *b = (Block){.next = p->blocks, .size = size};
        p->blocks = b;
    }
    void *memory = b->bytes + b->used;
    b->used += bytes;
    return memory;
}

PickleList *pickle_list(Pickle *p, size_t capacity, Error *e) {
    PickleList *list = pickle_take(p, sizeof *list, e);
    if (!list) return NULL;
    list->items = capacity ? pickle_take(p, capacity * sizeof *list->items, e) : NULL;
    list->capacity = capacity;
    return capacity && !list->items ? NULL : list;
}

int pickle_push(Pickle *p, PickleList *list, const PickleValue *v, Error *e) {
    if (list->count == list->capacity) {
        size_t capacity = list->capacity ? 2 * list->capacity : 4;
        PickleValue *items = pickle_take(p, capacity * sizeof *items, e);
        if (!items) return -1;
        if (list->count) memcpy(items, list->items, list->count * sizeof *items);
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->count++] = *v;
    return 0;
}

int pickle_opaque(Pickle *p, const char *module, const char *name, PickleValue *out, Error *e) {
    PickleOpaque *opaque = pickle_take(p, sizeof *opaque, e);
    if (!opaque) return -1;
    *opaque = (PickleOpaque){.module = module, .name = name, .made = true};
    *out = (PickleValue){.kind = PICKLE_OPAQUE, .opaque = opaque};
    return 0;
}

PickleList *pickle_dict(const PickleValue *v) {
    return v->kind == PICKLE_DICT ? v->list : v->kind == PICKLE_OPAQUE ? v->opaque->items : NULL;
}

const PickleValue *pickle_find(const PickleList *dict, const char *key) {
    for (size_t i = dict->count / 2; i-- > 0;) {
        const PickleValue *k = &dict->items[2 * i];
        if (k->kind == PICKLE_TEXT && strcmp(k->text->bytes, key) == 0) return k + 1;
    }
    return NULL;
}

/* --- input --- */

/* Reads the next n bytes, or skips them if `to` is NULL. */
static int advance(Pickle *p, unsigned char *to, uint64_t n, Error *e) {
    while (n > 0) {
        if (p->at == p->filled) {
            size_t got = 0;
            if (p->hooks.read(p->hooks.context, p->input, INPUT, &got, e) != 0) return -1;
            if (got == 0) return error_set(e, "is cut off: it ends inside its pickle");
            p->at = 0;
            p->filled = got;
        }
        size_t piece = p->filled - p->at < n ? p->filled - p->at : (size_t)n;
        if (to) memcpy(to, p->input + p->at, piece);
        if (to) to += piece;
        p->at += piece;
        p->consumed += piece;
        n -= piece;
    }
    return 0;
}

static int count(Pickle *p, size_t n, Error *e) {
    p->kept += n;
    if (p->kept <= PICKLE_BYTES) return 0;
    return error_set(e, "its pickle is longer than the %d MiB that a list of tensors may be",
                     PICKLE_BYTES >> 20);
}

static int fetch(Pickle *p, void *out, size_t n, Error *e) {
    return count(p, n, e) != 0 ? -1 : advance(p, out, n, e);
}

/* An unsigned little-endian operand of n <= 8 bytes. */
static int fetch_number(Pickle *p, int n, uint64_t *out, Error *e) {
    unsigned char bytes[8];
    if (fetch(p, bytes, (size_t)n, e) != 0) return -1;
    *out = 0;
    for (int i = n; i-- > 0;) *out = *out << 8 | bytes[i];
    return 0;
}

static int fetch_line(Pickle *p, char line[PICKLE_NAME], Error *e) {
    for (size_t i = 0; i < PICKLE_NAME; i++) {
        if (fetch(p, line + i, 1, e) != 0) return -1;
        if (line[i] == '\n') {
            line[i] = 0;
            return 0;
        }
    }
    return error_set(e, "its pickle has a name longer than %d bytes", PICKLE_NAME - 1);
}

static int fetch_text(Pickle *p, uint64_t length, const PickleText **out, Error *e) {
    if (count(p, (size_t)length, e) != 0) return -1;
    PickleText *text = pickle_take(p, sizeof *text + (size_t)length + 1, e);
    if (!text) return -1;
    text->length = (size_t)length;
    *out = text;
    return advance(p, (unsigned char *)text->bytes, length, e);
}

/* --- stack and memo --- */

static int damaged(const Pickle *p, const char *what, Error *e) {
    error_set(e, "its pickle is damaged near byte %llu: %s", (unsigned long long)p->consumed, what);
    return -1;
}

static int push(Pickle *p, PickleValue v, Error *e) {
    if (p->depth == p->stack_capacity) {
        size_t capacity = p->depth ? 2 * p->depth : 256;
        if (capacity > PICKLE_STACK)
            return damaged(p, "more values at once than a list of tensors may have", e);
        PickleValue *stack = counted_take(p, capacity * sizeof *stack, e);
        if (!stack) return -1;
        if (p->depth) memcpy(stack, p->stack, p->depth * sizeof *stack);
        p->memory -= p->stack_capacity * sizeof *stack;
        memory_free(p->stack);
        p->stack = stack;
        p->stack_capacity = capacity;
    }
    p->stack[p->depth++] = v;
    return 0;
}

static int push_integer(Pickle *p, PickleKind kind, int64_t i, Error *e) {
    return push(p, (PickleValue){.kind = kind, .integer = i}, e);
}

/* The number of values above the last mark. */
static size_t above_mark(const Pickle *p) {
    return p->depth - (p->mark_count ? p->marks[p->mark_count - 1] : 0);
}

static int pop(Pickle *p, PickleValue *out, Error *e) {
    if (above_mark(p) == 0) return damaged(p, "it takes a value where there is none", e);
    *out = p->stack[--p->depth];
    return 0;
}

/* Removes the last mark. The *count values above it stay in place for the caller. */
static int pop_mark(Pickle *p, PickleValue **values, size_t *count, Error *e) {
    if (p->mark_count == 0) return damaged(p, "it ends a list that was never begun", e);
    *count = above_mark(p);
    p->depth = p->marks[--p->mark_count];
    *values = p->stack ? p->stack + p->depth : NULL;
    return 0;
}

/* The container below the value just taken. An opaque value stores what a dictionary would; for
 * other containers *out is NULL. */
static int top_of_kind(Pickle *p, PickleKind kind, PickleList **out, Error *e) {
    if (above_mark(p) == 0) return damaged(p, "it fills a container where there is none", e);
    PickleValue *top = &p->stack[p->depth - 1];
    *out = NULL;
    if (top->kind == kind) {
        *out = top->list;
    } else if (top->kind != PICKLE_OPAQUE) {
        return damaged(p, "it fills a value that is not a container of that kind", e);
    } else if (kind == PICKLE_DICT) {
        if (!top->opaque->items) top->opaque->items = pickle_list(p, 0, e);
        *out = top->opaque->items;
        return *out ? 0 : -1;
    }
    return 0;
}

static int memo_put(Pickle *p, uint64_t at, Error *e) {
    if (above_mark(p) == 0) return damaged(p, "it remembers a value where there is none", e);
    /* Writers number the memo in order. Allow only slightly more, so that a false index costs
     * little memory. */
    if (at >= PICKLE_STACK || at > 2 * (uint64_t)p->memo_used + 256)
        return damaged(p, "it numbers its memory out of order", e);
    if (at >= p->memo_capacity) {
        size_t capacity = p->memo_capacity ? p->memo_capacity : 256;
        while (capacity <= at) capacity *= 2;
        PickleValue *memo = counted_take(p, capacity * (sizeof *memo + 1), e);
        if (!memo) return -1;
        unsigned char *set = (unsigned char *)(memo + capacity);
        if (p->memo) {
            memcpy(memo, p->memo, p->memo_capacity * sizeof *memo);
            memcpy(set, p->memo_set, p->memo_capacity);
        }
        p->memory -= p->memo_capacity * (sizeof *memo + 1);
        memory_free(p->memo);
        p->memo = memo;
        p->memo_set = set;
        p->memo_capacity = capacity;
    }
    p->memo_used += !p->memo_set[at];
    p->memo_set[at] = 1;
    p->memo[at] = p->stack[p->depth - 1];
    return 0;
}

static int memo_get(Pickle *p, uint64_t at, Error *e) {
    if (at >= p->memo_capacity || !p->memo_set[at])
        return damaged(p, "it recalls a value that it never stored", e);
    return push(p, p->memo[at], e);
}

/* --- opcodes: each function gets its opcode --- */

static int op_proto(Pickle *p, int code, Error *e) {
    uint64_t version;
    (void)code;
    if (fetch_number(p, 1, &version, e) != 0) return -1;
    if (version < 2 || version > 5)
        return error_set(e, "its pickle has protocol %d, 2 to 5 are supported", (int)version);
    return 0;
}

static int op_frame(Pickle *p, int code, Error *e) {
    uint64_t length;
    (void)code;
    return fetch_number(p, 8, &length, e);
}

static int op_mark(Pickle *p, int code, Error *e) {
    (void)code;
    if (p->mark_count == PICKLE_MARKS)
        return damaged(p, "containers are nested more deeply than a list of tensors is", e);
    p->marks[p->mark_count++] = p->depth;
    return 0;
}

static int op_pop(Pickle *p, int code, Error *e) {
    PickleValue v, *values;
    size_t n;
    return code == '0' ? pop(p, &v, e) : pop_mark(p, &values, &n, e);
}

static int op_dup(Pickle *p, int code, Error *e) {
    (void)code;
    if (above_mark(p) == 0) return damaged(p, "it doubles a value where there is none", e);
    return push(p, p->stack[p->depth - 1], e);
}

static int op_constant(Pickle *p, int code, Error *e) {
    if (code == 'N') return push_integer(p, PICKLE_NONE, 0, e);
    return push_integer(p, PICKLE_BOOLEAN, code == 0x88, e);
}

static int op_integer(Pickle *p, int code, Error *e) {
    uint64_t i;
    if (fetch_number(p, code == 'K' ? 1 : code == 'M' ? 2 : 4, &i, e) != 0) return -1;
    return push_integer(p, PICKLE_INTEGER, code == 'J' ? (int64_t)(int32_t)(uint32_t)i : (int64_t)i,
                        e);
}

static int op_long(Pickle *p, int code, Error *e) {
    uint64_t n;
    const PickleText *text;
    if (fetch_number(p, code == 0x8a ? 1 : 4, &n, e) != 0) return -1;
    if (n > PICKLE_STRING) return advance(p, NULL, n, e) ? -1 : push_integer(p, PICKLE_RAW, 0, e);
    if (fetch_text(p, n, &text, e) != 0) return -1;
    if (n > 8) return push(p, (PickleValue){.kind = PICKLE_LONG, .text = text}, e);
    uint64_t i = 0;
    for (size_t k = 0; k < n; k++) i |= (uint64_t)(unsigned char)text->bytes[k] << (8 * k);
    if (n > 0 && n < 8 && text->bytes[n - 1] & 0x80) i |= ~UINT64_C(0) << (8 * n);
    return push_integer(p, PICKLE_INTEGER, (int64_t)i, e);
}

/* Big-endian, unlike all other numbers of the language. */
static int op_real(Pickle *p, int code, Error *e) {
    uint64_t little;
    double real;
    (void)code;
    if (fetch_number(p, 8, &little, e) != 0) return -1;
    little = __builtin_bswap64(little);
    memcpy(&real, &little, sizeof real);
    return push(p, (PickleValue){.kind = PICKLE_REAL, .real = real}, e);
}

/* Strings: X 0x8c 0x8d are UTF-8, T U are Python 2's, B C 0x8e 0x96 are bytes. Bytes are not
 * stored, and neither are texts too long to be a name: an array of numbers beside the tensors may
 * hold many. */
static int op_text(Pickle *p, int code, Error *e) {
    int narrow = code == 0x8c || code == 'U' || code == 'C';
    int wide = code == 0x8d || code == 0x8e || code == 0x96;
    int raw = code == 'B' || code == 'C' || code == 0x8e || code == 0x96;
    uint64_t n;
    const PickleText *text;
    if (fetch_number(p, narrow ? 1 : wide ? 8 : 4, &n, e) != 0) return -1;
    if (raw || n > PICKLE_STRING)
        return advance(p, NULL, n, e) ? -1 : push_integer(p, PICKLE_RAW, 0, e);
    if (fetch_text(p, n, &text, e) != 0) return -1;
    return push(p, (PickleValue){.kind = PICKLE_TEXT, .text = text}, e);
}

static int make_list(Pickle *p, PickleKind kind, const PickleValue *values, size_t n, Error *e) {
    PickleList *list = pickle_list(p, n, e);
    if (!list) return -1;
    if (n) memcpy(list->items, values, n * sizeof *values);
    list->count = n;
    return push(p, (PickleValue){.kind = kind, .list = list}, e);
}

static int op_empty(Pickle *p, int code, Error *e) {
    PickleKind kind = code == ')'   ? PICKLE_TUPLE
                      : code == ']' ? PICKLE_LIST
                      : code == '}' ? PICKLE_DICT
                                    : PICKLE_SET;
    return make_list(p, kind, NULL, 0, e);
}

/* t l d and FROZENSET: collect all values above the mark. */
static int op_collect(Pickle *p, int code, Error *e) {
    PickleKind kind = code == 't'   ? PICKLE_TUPLE
                      : code == 'l' ? PICKLE_LIST
                      : code == 'd' ? PICKLE_DICT
                                    : PICKLE_SET;
    PickleValue *values;
    size_t n;
    if (pop_mark(p, &values, &n, e) != 0) return -1;
    if (kind == PICKLE_DICT && n % 2) return damaged(p, "a key has no value", e);
    return make_list(p, kind, values, n, e);
}

static int op_short_tuple(Pickle *p, int code, Error *e) {
    size_t n = (size_t)(code - 0x84);
    if (above_mark(p) < n) return damaged(p, "a tuple needs more values than there are", e);
    p->depth -= n;
    return make_list(p, PICKLE_TUPLE, p->stack + p->depth, n, e);
}

/* a s: add one value or pair to the container below; e u ADDITEMS: add all above the mark. */
static int op_fill(Pickle *p, int code, Error *e) {
    PickleKind kind = code == 'a' || code == 'e'   ? PICKLE_LIST
                      : code == 's' || code == 'u' ? PICKLE_DICT
                                                   : PICKLE_SET;
    PickleValue *values;
    PickleList *list;
    size_t n = code == 'a' ? 1 : 2;
    if (code == 'a' || code == 's') {
        if (above_mark(p) < n) return damaged(p, "it fills a container with nothing", e);
        p->depth -= n;
        values = p->stack + p->depth;
    } else if (pop_mark(p, &values, &n, e) != 0) {
        return -1;
    }
    if (top_of_kind(p, kind, &list, e) != 0) return -1;
    if (kind == PICKLE_DICT && n % 2) return damaged(p, "a key has no value", e);
    for (size_t i = 0; i < n && list; i++)
        if (pickle_push(p, list, &values[i], e) != 0) return -1;
    return 0;
}

static int op_put(Pickle *p, int code, Error *e) {
    uint64_t at = p->memo_used;
    if (code != 0x94 && fetch_number(p, code == 'q' ? 1 : 4, &at, e) != 0) return -1;
    return memo_put(p, at, e);
}

static int op_get(Pickle *p, int code, Error *e) {
    uint64_t at;
    if (fetch_number(p, code == 'h' ? 1 : 4, &at, e) != 0) return -1;
    return memo_get(p, at, e);
}

/* The names must outlive the pickle. */
static int push_global(Pickle *p, const char *module, const char *name, Error *e) {
    PickleValue v;
    int64_t number = p->hooks.global(p->hooks.context, module, name);
    if (number >= 0) return push_integer(p, PICKLE_GLOBAL, number, e);
    if (pickle_opaque(p, module, name, &v, e) != 0) return -1;
    v.opaque->made = false;
    return push(p, v, e);
}

static const char *keep_line(Pickle *p, Error *e) {
    char line[PICKLE_NAME];
    if (fetch_line(p, line, e) != 0) return NULL;
    char *kept = pickle_take(p, strlen(line) + 1, e);
    return kept ? strcpy(kept, line) : NULL;
}

static int read_global(Pickle *p, Error *e) {
    const char *module = keep_line(p, e), *name = module ? keep_line(p, e) : NULL;
    return name ? push_global(p, module, name, e) : -1;
}

static int op_global(Pickle *p, int code, Error *e) {
    (void)code;
    return read_global(p, e);
}

static int op_stack_global(Pickle *p, int code, Error *e) {
    PickleValue name, module;
    (void)code;
    if (pop(p, &name, e) != 0 || pop(p, &module, e) != 0) return -1;
    if (name.kind != PICKLE_TEXT || module.kind != PICKLE_TEXT)
        return damaged(p, "the name of a global is not text", e);
    if (name.text->length >= PICKLE_NAME || module.text->length >= PICKLE_NAME)
        return error_set(e, "its pickle has a name longer than %d bytes", PICKLE_NAME - 1);
    return push_global(p, module.text->bytes, name.text->bytes, e);
}

/* Pushes the result of calling a value. Calling an opaque value runs nothing and gives an opaque
 * value. */
static int push_call(Pickle *p, const PickleValue *callee, const PickleValue *args, Error *e) {
    PickleValue made = {.kind = PICKLE_NONE};
    if (callee->kind == PICKLE_OPAQUE) {
        const PickleOpaque *o = callee->opaque;
        if (!o->made && p->hooks.opaque(p->hooks.context, o, e) != 0) return -1;
        if (pickle_opaque(p, o->module, o->name, &made, e) != 0) return -1;
    } else if (callee->kind != PICKLE_GLOBAL || args->kind != PICKLE_TUPLE) {
        return damaged(p, "it calls a value that is not a function", e);
    } else if (p->hooks.call(p->hooks.context, p, callee->integer, args->list, &made, e) != 0) {
        return -1;
    }
    return push(p, made, e);
}

/* R 0x81 0x92: a function or class and a tuple of arguments; for 0x92 also keyword arguments. */
static int op_call(Pickle *p, int code, Error *e) {
    PickleValue named, args, callee;
    if ((code == 0x92 && pop(p, &named, e) != 0) || pop(p, &args, e) != 0 ||
        pop(p, &callee, e) != 0)
        return -1;
    return push_call(p, &callee, &args, e);
}

/* i o: an object of a class and its arguments; the class is named after the opcode or lies first
 * above the mark. Python 2 wrote these. */
static int op_instance(Pickle *p, int code, Error *e) {
    PickleValue *values, callee, args = {.kind = PICKLE_TUPLE};
    size_t n;
    if (pop_mark(p, &values, &n, e) != 0) return -1;
    if (code == 'o' && n == 0) return damaged(p, "it calls a value that is not a function", e);
    args.list = pickle_list(p, n, e);
    if (!args.list) return -1;
    args.list->count = code == 'o' ? n - 1 : n;
    if (args.list->count)
        memcpy(args.list->items, values + (code == 'o'), args.list->count * sizeof *values);
    if (code == 'o') {
        callee = values[0];
    } else if (read_global(p, e) != 0 || pop(p, &callee, e) != 0) {
        return -1;
    }
    return push_call(p, &callee, &args, e);
}

/* Drops an object's state other than its items, and an ordered dictionary's attributes; a
 * state_dict keeps its versions there. */
static int op_build(Pickle *p, int code, Error *e) {
    PickleValue state;
    PickleList *dict;
    (void)code;
    if (pop(p, &state, e) != 0) return -1;
    if (above_mark(p) > 0 && p->stack[p->depth - 1].kind == PICKLE_OBJECT) return 0;
    if (above_mark(p) > 0 && p->stack[p->depth - 1].kind == PICKLE_OPAQUE) return 0;
    return top_of_kind(p, PICKLE_DICT, &dict, e);
}

static int op_persistent(Pickle *p, int code, Error *e) {
    PickleValue id, made = {.kind = PICKLE_NONE};
    (void)code;
    if (pop(p, &id, e) != 0) return -1;
    if (p->hooks.persistent(p->hooks.context, p, &id, &made, e) != 0) return -1;
    return push(p, made, e);
}

typedef int Operation(Pickle *p, int code, Error *e);

static Operation *const operations[256] = {
    [0x80] = op_proto,       [0x95] = op_frame,        ['('] = op_mark,
    ['0'] = op_pop,          ['1'] = op_pop,           ['2'] = op_dup,
    ['N'] = op_constant,     [0x88] = op_constant,     [0x89] = op_constant,
    ['J'] = op_integer,      ['K'] = op_integer,       ['M'] = op_integer,
    [0x8a] = op_long,        [0x8b] = op_long,         ['G'] = op_real,
    ['X'] = op_text,         [0x8c] = op_text,         [0x8d] = op_text,
    ['T'] = op_text,         ['U'] = op_text,          ['B'] = op_text,
    ['C'] = op_text,         [0x8e] = op_text,         [0x96] = op_text,
    [')'] = op_empty,        [']'] = op_empty,         ['}'] = op_empty,
    [0x8f] = op_empty,       ['t'] = op_collect,       ['l'] = op_collect,
    ['d'] = op_collect,      [0x91] = op_collect,      [0x85] = op_short_tuple,
    [0x86] = op_short_tuple, [0x87] = op_short_tuple,  ['a'] = op_fill,
    ['e'] = op_fill,         ['s'] = op_fill,          ['u'] = op_fill,
    [0x90] = op_fill,        ['q'] = op_put,           ['r'] = op_put,
    [0x94] = op_put,         ['h'] = op_get,           ['j'] = op_get,
    ['c'] = op_global,       [0x93] = op_stack_global, ['R'] = op_call,
    [0x81] = op_call,        [0x92] = op_call,         ['i'] = op_instance,
    ['o'] = op_instance,     ['b'] = op_build,         ['Q'] = op_persistent,
};

/* --- the interface --- */

int pickle_open(Pickle **out, const PickleHooks *hooks, Error *e) {
    *out = memory_zeroed(1, sizeof **out, "a pickle", e);
    if (!*out) return -1;
    (*out)->hooks = *hooks;
    return 0;
}

int pickle_next(Pickle *p, PickleValue *out, Error *e) {
    p->depth = 0;
    p->mark_count = 0;
    p->memo_used = 0;
    if (p->memo_set) memset(p->memo_set, 0, p->memo_capacity);
    for (;;) {
        unsigned char code;
        if (fetch(p, &code, 1, e) != 0) return -1;
        if (code == '.') return pop(p, out, e);
        if (!operations[code])
            return error_set(e, "its pickle has opcode 0x%02x at byte %llu, which no tensor needs",
                             code, (unsigned long long)p->consumed - 1);
        if (operations[code](p, code, e) != 0) return -1;
    }
}

uint64_t pickle_position(const Pickle *p) {
    return p->consumed;
}

void pickle_close(Pickle *p) {
    if (!p) return;
    for (Block *b = p->blocks, *next; b; b = next) {
        next = b->next;
        memory_free(b);
    }
    memory_free(p->stack);
    memory_free(p->memo);
    memory_free(p);
}
