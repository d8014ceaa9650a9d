/* Reads a table of options: one getter per type of field.
 *
 *     static const char *const known[] = {"rate", "nesterov", NULL};
 *     Fields f = fields_of(L, 4, known);
 *     double rate = fields_number(&f, "rate", FIELDS_NONE, 0, HUGE_VAL);
 *
 * An unknown field is an error that suggests the nearest known name. A wrong value is an error of
 * the argument that names the field, the wanted value and the value met. Reading a field may run a
 * script's metamethod. So check anything that a script could close after the last field.
 */
#ifndef ADVRT_BIND_FIELDS_H
#define ADVRT_BIND_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "bind/bind.h"

typedef struct Fields {
    lua_State *L;
    int arg;   /* the argument that errors name */
    int table; /* the table's index on the stack */
} Fields;

/* As a getter's default: the field is required. */
#define FIELDS_NONE NAN
#define FIELDS_NO_INTEGER INT64_MIN

/* The table at argument `arg`. known: the names of all fields, NULL-ended; NULL allows any
 * field. */
Fields fields_of(lua_State *L, int arg, const char *const known[]);

/* Raises the error for a field whose value is on top of the stack: "'NAME' must be WANTED, got
 * ...". */
int fields_refuse(const Fields *f, const char *name, const char *wanted);

/* A number in [least, most], never NaN; `usual` if the field is nil. */
double fields_number(const Fields *f, const char *name, double usual, double least, double most);
int64_t fields_integer(const Fields *f, const char *name, int64_t usual, int64_t least,
                       int64_t most);
/* false and nil give false, any other value gives true. */
bool fields_flag(const Fields *f, const char *name);
/* The index of the text among the NULL-ended names; usual (an index, -1: none) if the field is
 * nil. */
int fields_choice(const Fields *f, const char *name, int usual, const char *const names[]);
/* A text; NULL if the field is nil and `needed` is false. It stays on the Lua stack, which keeps
 * it. */
const char *fields_text(const Fields *f, const char *name, bool needed, size_t *length);
/* Reads up to n integers from an array into out; returns their number, 0 if the field is nil. */
int fields_integers(const Fields *f, const char *name, int n, int64_t *out);
/* Reads n numbers from an array into a userdata that stays on the stack. */
double *fields_numbers(const Fields *f, const char *name, int64_t n);
/* A tensor of the type with n elements (n < 0: any number). It stays on the stack. */
Tensor *fields_tensor(const Fields *f, const char *name, Dtype t, int64_t n);

#endif
