/* The user's wish to stop (Ctrl-C): a signal handler notes it, and long work asks for it between
 * its pieces and gives up with an error like any other. Who turns that error into the end of the
 * work forgets the wish, so that it is granted once.
 */
#ifndef ADVRT_BASE_INTERRUPT_H
#define ADVRT_BASE_INTERRUPT_H

#include <stdbool.h>

#include "base/error.h"

/* All a signal handler needs to call; safe there. interrupt_ask also where the wish is to wait for
 * the end of work that must not be torn: waiting for another process is no such work. */
void interrupt_ask(bool asked);
bool interrupt_asked(void);
void interrupt_note(void);
void interrupt_forget(void);
bool interrupt_noted(void);

/* 0, or -1 and "interrupted" where the user wishes to stop. A few instructions. */
int interrupt_check(Error *e);

#endif
