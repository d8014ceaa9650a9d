/* The user's request to stop (Ctrl-C). A signal handler sets a flag; long work checks the flag
 * between its parts and fails with an ordinary error. The code that handles this error clears the
 * flag, so that one request stops one piece of work.
 */
#ifndef ADVRT_BASE_INTERRUPT_H
#define ADVRT_BASE_INTERRUPT_H

#include <stdbool.h>

#include "base/error.h"

/* The only function that a signal handler must call; async-signal-safe. Call interrupt_ask instead
 * where a request must wait until work that must not be interrupted ends. Waiting for another
 * process is not such work. */
void interrupt_ask(bool asked);
bool interrupt_asked(void);
void interrupt_note(void);
void interrupt_forget(void);
bool interrupt_noted(void);

/* Returns 0, or -1 with "interrupted" after a request to stop. Costs a few instructions. */
int interrupt_check(Error *e);

#endif
