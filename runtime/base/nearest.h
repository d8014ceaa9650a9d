/* Finds the known name that a mistyped name probably means, for messages.
 *
 * Upper case, leading hyphens, and - for _ make no difference. A name is near in two cases. Either
 * one name is the start of the other (at least 2 letters typed, or 3 known). Or the mistakes are
 * few: one wrong, missing or extra letter per three letters of the longer name, or one swap of
 * neighbours per two. A weaker guess would mislead the reader.
 */
#ifndef ADVRT_BASE_NEAREST_H
#define ADVRT_BASE_NEAREST_H

#include <stddef.h>

/* Returns the nearest of n names, or NULL if none is near. Among equally near names, the longest
 * common start wins, then the first. */
const char *nearest(const char *given, const char *const names[], size_t n);

#endif
