/* Interprets the part of Python's pickle language that data needs. It builds values and runs
 * nothing. A global is a name that the caller's hooks know, or an opaque value. Calling a known
 * global asks the hooks to make a value. Calling an opaque one gives an opaque value with unknown
 * contents.
 *
 * Nothing is trusted. It rejects opcodes outside the list, wrong use of the stack or memo, and more
 * than the stated bytes, memory or nesting. Containers may contain themselves, as in Python, so
 * code that walks them must limit its depth.
 *
 * Values live in an arena until pickle_close. To read several pickles from one stream, call
 * pickle_next again.
 */
#ifndef ADVRT_IO_PICKLE_H
#define ADVRT_IO_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    PICKLE_BYTES = 64 << 20,   /* of a stream, without skipped strings */
    PICKLE_MEMORY = 128 << 20, /* of its values */
    PICKLE_PER_BYTE = 128,     /* memory of values per byte of the stream, .. */
    PICKLE_LEAST = 1 << 20,    /* .. plus this much */
    PICKLE_STRING = 1 << 16,   /* of one string; a longer one is skipped */
    PICKLE_NAME = 256,         /* of the name of a module or global */
    PICKLE_MARKS = 256,        /* nested containers in progress */
    PICKLE_STACK = 1 << 20     /* values on the stack; values in the memo */
};

typedef enum PickleKind {
    PICKLE_NONE,
    PICKLE_BOOLEAN, /* integer: 0 or 1 */
    PICKLE_INTEGER, /* integer */
    PICKLE_LONG,    /* text: little-endian two's complement, for integers beyond int64_t */
    PICKLE_REAL,    /* real */
    PICKLE_TEXT,    /* text */
    PICKLE_RAW,     /* no data: bytes, or a string too long to store */
    PICKLE_TUPLE,   /* list */
    PICKLE_LIST,    /* list */
    PICKLE_SET,     /* list */
    PICKLE_DICT,   /* list: key, value, key, value, ... in order; for equal keys the last one counts
                    */
    PICKLE_GLOBAL, /* integer: the number that the hooks gave it */
    PICKLE_OBJECT, /* object: made by the hooks; `type` is its type */
    PICKLE_OPAQUE  /* opaque: a global unknown to the hooks, or the result of calling one */
} PickleKind;

typedef struct PickleText {
    size_t length;
    char bytes[]; /* followed by a NUL */
} PickleText;

typedef struct PickleList PickleList;
typedef struct PickleOpaque PickleOpaque;

typedef struct PickleValue {
    PickleKind kind;
    int type;
    union {
        int64_t integer;
        double real;
        const PickleText *text;
        PickleList *list;
        PickleOpaque *opaque;
        void *object;
    };
} PickleValue;

struct PickleList {
    size_t count, capacity;
    PickleValue *items;
    unsigned char round, found; /* for code that walks the values; zero at first */
};

struct PickleOpaque {
    const char *module, *name;
    bool made;         /* the result of a call; else the global itself */
    PickleList *items; /* items, as of a dictionary, if the pickle sets some; else NULL */
};

typedef struct Pickle Pickle;

typedef struct PickleHooks {
    void *context;
    /* Reads up to n > 0 bytes of the stream; *got 0 means the end. */
    int (*read)(void *context, void *out, size_t n, size_t *got, Error *e);
    /* The number of the global module.name; -1 if it is unknown, and so opaque. */
    int64_t (*global)(void *context, const char *module, const char *name);
    /* Called before an opaque global would be called. Returns -1 with an error to reject the file,
     * or 0 to continue; the global is never called. */
    int (*opaque)(void *context, const PickleOpaque *global, Error *e);
    /* Makes the result of calling a known global with a tuple of arguments. */
    int (*call)(void *context, Pickle *p, int64_t number, const PickleList *args, PickleValue *out,
                Error *e);
    /* Makes the value of a persistent id. */
    int (*persistent)(void *context, Pickle *p, const PickleValue *id, PickleValue *out, Error *e);
} PickleHooks;

int pickle_open(Pickle **out, const PickleHooks *hooks, Error *e);
/* Reads one complete pickle. After a failure the stream cannot be used further. */
int pickle_next(Pickle *p, PickleValue *out, Error *e);
/* Bytes of the stream that the pickles took so far. */
uint64_t pickle_position(const Pickle *p);
void pickle_close(Pickle *p);

/* For hooks: zeroed memory of the arena; a list with room for `capacity` values; appending a
 * value. */
void *pickle_take(Pickle *p, size_t bytes, Error *e);
PickleList *pickle_list(Pickle *p, size_t capacity, Error *e);
int pickle_push(Pickle *p, PickleList *list, const PickleValue *v, Error *e);
/* An opaque value made by module.name; the texts must outlive the pickle. */
int pickle_opaque(Pickle *p, const char *module, const char *name, PickleValue *out, Error *e);
/* The items of a dictionary, of a known class or an opaque one; NULL for any other value. */
PickleList *pickle_dict(const PickleValue *v);
/* The value of a text key in a dictionary; NULL if there is none. */
const PickleValue *pickle_find(const PickleList *dict, const char *key);

#endif
