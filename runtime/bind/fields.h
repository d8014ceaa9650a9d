/* Reading a table of options: one getter for each type of field.
 *
 *     static const char *const known[] = {"rate", "nesterov", NULL};
 *     Fields f = fields_of(L, 4, known);
 *     double rate = fields_number(&f, "rate", FIELDS_NONE, 0, HUGE_VAL);
 *
 * A field that is not known is refused, with the known name that is near. A getter that is given
 * another value than it wants raises an error of the argument; the error names the field, what is
 * wanted and the value met. Reading a field may run a script's metamethod: what that could close is
 * checked after the last field.
 */
#ifndef ADVRT_BIND_FIELDS_H
#define ADVRT_BIND_FIELDS_H

#include <stdbool.h>
#include <stdint.h>

#include "bind/bind.h"

typedef struct Fields {
    lua_State *L;
    int arg;   /* the argument that errors name */
    int table; /* where the table is on the stack */
} Fields;

/* As a getter's default: the field must be there. */
#define FIELDS_NONE NAN
#define FIELDS_NO_INTEGER INT64_MIN

/* The table at argument `arg`. known: the names of all of its fields, NULL-ended; NULL itself where
 * the table may hold other fields. */
Fields fields_of(lua_State *L, int arg, const char *const known[]);

/* Raises the error of a field, whose value is on top of the stack: "'NAME' must be WANTED,
 * got ...".
 */
int fields_refuse(const Fields *f, const char *name, const char *wanted);

/* A number in [least, most], never NaN; `usual` where the field is nil. */
double fields_number(const Fields *f, const char *name, double usual, double least, double most);
int64_t fields_integer(const Fields *f, const char *name, int64_t usual, int64_t least,
                       int64_t most);
/* false and nil are false, all else is true. */
bool fields_flag(const Fields *f, const char *name);
/* The index of the text among the NULL-ended names; usual (an index, -1: none) where it is nil. */
int fields_choice(const Fields *f, const char *name, int usual, const char *const names[]);
/* Text, or NULL where the field is nil and `needed` is false. It stays on the stack, which keeps
 * it.
 */
const char *fields_text(const Fields *f, const char *name, bool needed, size_t *length);
/* Up to n integers of an array into out; returns how many, 0 where the field is nil. */
int fields_integers(const Fields *f, const char *name, int n, int64_t *out);
/* n numbers of an array, in a userdata that stays on the stack. */
double *fields_numbers(const Fields *f, const char *name, int64_t n);
/* A tensor of the type with n elements (n < 0: any number). It stays on the stack. */
Tensor *fields_tensor(const Fields *f, const char *name, Dtype t, int64_t n);

#endif
