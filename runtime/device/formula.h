/* Formulas, the elementwise programs of OP_MAP (device/program.h): reads them from text and
 * differentiates them.
 *
 *   "x * sigmoid(x)"     "max(x, 0) + y"     "select(x > 0, x, 0.1 * x)"
 *
 * The operands are x, y, z, u, v, w, p, q, in this order. The operators, from the loosest: > >= <
 * <= ==, + -, * /, unary -, ^ (right-associative). formula.c lists the functions.
 */
#ifndef ADVRT_DEVICE_FORMULA_H
#define ADVRT_DEVICE_FORMULA_H

#include "device/program.h"

/* Reads a formula of the first `operands` operands; each of them must occur. An error names the
 * position in the text. */
int formula_read(Formula *out, const char *text, int operands, Error *e);
/* Multiplies the derivative of a formula by one operand with a new last operand, the gradient of
 * the result. Operands that the derivative does not read stay in the numbering. At a kink: max and
 * min give each of two equal operands half; the derivative of abs and sign is 0 at 0. */
int formula_derivative(Formula *out, const Formula *f, int operand, Error *e);
/* Whether a step reads the operand. */
bool formula_reads(const Formula *f, int operand);
/* If the formula is just one operand, returns the number of that operand; else -1. */
int formula_is_operand(const Formula *f);
/* Removes an operand that no step reads. The numbers of later operands fall by one. */
void formula_drop_operand(Formula *f, int operand);
/* Whether f equals, step by step, the formula `text` or one of its derivatives. *which is
 * FORMULA_ITSELF, or the operand of the derivative. Operands that the derivative does not read are
 * removed before the comparison. */
enum { FORMULA_OTHER = -2, FORMULA_ITSELF = -1 };
int formula_find(const Formula *f, const char *text, int operands, int *which, Error *e);
/* How many of a, b and c a step of the code reads. */
int formula_arity(FormulaCode code);

#endif
