/* What tests ask of the stand-in. */
#ifndef STANDIN_H
#define STANDIN_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The n-th call from now (1 is the next) of the API function `name`, or of any where it is NULL or
 * "any", fails; 0 turns it off. The environment says the same as STANDIN_FAIL=name@n. */
void standin_fail(const char *name, int n);
/* True where a failure that was asked for has happened. */
int standin_failed(void);
/* Prints what was made and not destroyed, and returns how many. */
int standin_leaks(void);
/* Device memory in all, free and taken; STANDIN_MEMORY in the environment. */
void standin_memory(size_t bytes);
/* Forgets sticky errors, as a new process would. */
void standin_reset_error(void);
/* The seed of every order that is shuffled; STANDIN_SEED in the environment. */
uint64_t standin_seed(void);
/* Operations that have run, and those of them from graphs. */
uint64_t standin_operations(void);
uint64_t standin_graph_launches(void);

#ifdef __cplusplus
}
#endif

#endif
