#include "base/interrupt.h"

#include <signal.h>

static volatile sig_atomic_t asked_for, noted;

void interrupt_ask(bool asked) {
    asked_for = asked;
}

bool interrupt_asked(void) {
    return asked_for != 0;
}

void interrupt_note(void) {
    noted = 1;
}

void interrupt_forget(void) {
    noted = 0;
}

bool interrupt_noted(void) {
    return noted != 0;
}

int interrupt_check(Error *e) {
    return noted ? error_set(e, "interrupted") : 0;
}
