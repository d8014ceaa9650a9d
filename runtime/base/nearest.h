/* The known name that a mistyped one was meant to be, for messages.
 *
 * Capitals, leading hyphens and - for _ make no difference. A name is near where one is the start
 * of the other (of at least 2 letters typed, or 3 known), or where the mistakes are few for its
 * length: one letter wrong, missing or too many for each three letters of the longer name, or one
 * swap of neighbours for each two. Any other guess would send the reader astray.
 */
#ifndef ADVRT_BASE_NEAREST_H
#define ADVRT_BASE_NEAREST_H

#include <stddef.h>

/* The nearest of n names, or NULL where none is near; of several that are equally near the first of
 * those that begin most alike. */
const char *nearest(const char *given, const char *const names[], size_t n);

#endif
