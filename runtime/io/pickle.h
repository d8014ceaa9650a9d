/* An interpreter of the part of Python's pickle language that data needs. It
 * builds values and runs nothing: a global is a name that the caller's hooks know
 * or call opaque, and calling a known one asks the hooks to make a value. What an
 * opaque global would have made is an opaque value: nobody knows what is in it.
 *
 * Nothing here is trusted. Opcodes outside the list, a stack or memo used out of
 * order, and more than the stated bytes, memory or nesting are refused. Containers
 * may hold themselves, as in Python: whoever walks them goes a fixed depth.
 *
 * Values live in an arena until pickle_close. Several pickles one after the other
 * in one stream are read by calling pickle_next again.
 */
#ifndef ADVRT_IO_PICKLE_H
#define ADVRT_IO_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

enum {
    PICKLE_BYTES = 64 << 20,   /* of a stream, without the strings that are passed over */
    PICKLE_MEMORY = 128 << 20, /* of its values */
    PICKLE_PER_BYTE = 128,     /* memory of the values for each byte of the stream, .. */
    PICKLE_LEAST = 1 << 20,    /* .. and what is allowed before the first */
    PICKLE_STRING = 1 << 16,   /* of one string; a longer one is passed over, not kept */
    PICKLE_NAME = 256,         /* of a module's or a global's name */
    PICKLE_MARKS = 256,        /* containers being built inside one another */
    PICKLE_STACK = 1 << 20     /* values on the stack, and in the memo */
};

typedef enum PickleKind {
    PICKLE_NONE,
    PICKLE_BOOLEAN, /* integer: 0 or 1 */
    PICKLE_INTEGER, /* integer */
    PICKLE_LONG,    /* text: little-endian two's complement, for what int64_t cannot hold */
    PICKLE_REAL,    /* real */
    PICKLE_TEXT,    /* text */
    PICKLE_RAW,     /* nothing: bytes, or a string too long to keep */
    PICKLE_TUPLE,   /* list */
    PICKLE_LIST,    /* list */
    PICKLE_SET,     /* list */
    PICKLE_DICT,    /* list: key, value, key, value, ... in order; the last of a key counts */
    PICKLE_GLOBAL,  /* integer: the hooks' number for it */
    PICKLE_OBJECT,  /* object: made by the hooks, of a type that `type` tells */
    PICKLE_OPAQUE   /* opaque: a global that the hooks do not know, or what calling it gives */
} PickleKind;

typedef struct PickleText {
    size_t length;
    char bytes[]; /* and a NUL */
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
    unsigned char round, found; /* for whoever walks the values; zero at first */
};

struct PickleOpaque {
    const char *module, *name;
    bool made;         /* by a call; else it is the global itself */
    PickleList *items; /* as of a dictionary, where the pickle sets some; else NULL */
};

typedef struct Pickle Pickle;

typedef struct PickleHooks {
    void *context;
    /* Reads up to n > 0 bytes of the stream; *got 0 is its end. */
    int (*read)(void *context, void *out, size_t n, size_t *got, Error *e);
    /* The number of the global module.name; -1 where it is unknown, and so opaque. */
    int64_t (*global)(void *context, const char *module, const char *name);
    /* Refuses an opaque global that is about to be called, or returns 0: nothing calls it. */
    int (*opaque)(void *context, const PickleOpaque *global, Error *e);
    /* What calling a known global with a tuple of arguments gives. */
    int (*call)(void *context, Pickle *p, int64_t number, const PickleList *args, PickleValue *out,
                Error *e);
    /* What a persistent id stands for. */
    int (*persistent)(void *context, Pickle *p, const PickleValue *id, PickleValue *out, Error *e);
} PickleHooks;

int pickle_open(Pickle **out, const PickleHooks *hooks, Error *e);
/* Reads one pickle to its end. After a failure the stream is of no further use. */
int pickle_next(Pickle *p, PickleValue *out, Error *e);
/* Bytes of the stream that the pickles so far took. */
uint64_t pickle_position(const Pickle *p);
void pickle_close(Pickle *p);

/* For hooks: zeroed memory of the arena; a list with room for `capacity` values; one more value. */
void *pickle_take(Pickle *p, size_t bytes, Error *e);
PickleList *pickle_list(Pickle *p, size_t capacity, Error *e);
int pickle_push(Pickle *p, PickleList *list, const PickleValue *v, Error *e);
/* An opaque value made by module.name; the texts must outlive the pickle. */
int pickle_opaque(Pickle *p, const char *module, const char *name, PickleValue *out, Error *e);
/* The items of a dictionary, of a known class or not; NULL of what is none. */
PickleList *pickle_dict(const PickleValue *v);
/* The value of a text key in a dictionary, NULL where there is none. */
const PickleValue *pickle_find(const PickleList *dict, const char *key);

#endif
