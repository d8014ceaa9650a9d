/* Formulas, the elementwise programs of OP_MAP (device/program.h): read from text, and
 * differentiated.
 *
 *   "x * sigmoid(x)"     "max(x, 0) + y"     "select(x > 0, x, 0.1 * x)"
 *
 * Operands are x, y, z, u, v, w, p, q in this order. Operators, the loosest first: > >= < <= ==,
 * + -, * /, unary -, ^ (to the right). The functions are listed in formula.c.
 */
#ifndef ADVRT_DEVICE_FORMULA_H
#define ADVRT_DEVICE_FORMULA_H

#include "device/program.h"

/* Reads a formula of the first `operands` operands; all of them must occur. Fails with the place in
 * the text. */
int formula_read(Formula *out, const char *text, int operands, Error *e);
/* The derivative of a formula by one of its operands, times one more operand, which comes last: the
 * gradient of the result. Operands that it does not read stay, unread. At a point where a function
 * has a corner: max and min give each of two equal operands half; abs and sign are 0 at 0. */
int formula_derivative(Formula *out, const Formula *f, int operand, Error *e);
/* Whether a step reads the operand. */
bool formula_reads(const Formula *f, int operand);
/* The number of the operand that the formula is, and nothing else; -1. */
int formula_is_operand(const Formula *f);
/* Takes out an operand that no step reads; those after it move up. */
void formula_drop_operand(Formula *f, int operand);
/* Whether f is the formula that the text says (*which = FORMULA_ITSELF), or its derivative by an
 * operand without what that does not read (*which = the operand), step by step. */
enum { FORMULA_OTHER = -2, FORMULA_ITSELF = -1 };
int formula_find(const Formula *f, const char *text, int operands, int *which, Error *e);
/* How many of a, b and c a step of the code reads. */
int formula_arity(FormulaCode code);

#endif
