/* Fuzz targets: every reader of files that may come from anywhere, each as a function from bytes.
 * libFuzzer runs them (main.c, `make fuzz`), and tests/c/test_corpus.c replays the kept inputs.
 *
 * A target ends the program, with the reason on the standard error, where a reader keeps memory or
 * says nothing, or something of several lines, about what it refuses.
 */
#ifndef ADVRT_TESTS_FUZZ_TARGETS_H
#define ADVRT_TESTS_FUZZ_TARGETS_H

#include <stddef.h>
#include <stdint.h>

#include "device/device.h"

typedef struct FuzzTarget {
    const char *name;
    void (*run)(const char *path, const uint8_t *bytes, size_t n);
    /* Puts checksums, lengths and offsets right again after a change, so that what lies behind
     * them is reached; NULL where the format has none. */
    void (*repair)(uint8_t *bytes, size_t n);
} FuzzTarget;

enum { FUZZ_TARGETS = 18 };
extern const FuzzTarget fuzz_targets[FUZZ_TARGETS];

/* NULL where there is none. */
const FuzzTarget *fuzz_find(const char *name);
/* Runs a target on a file of these bytes, which is in memory and has a path. */
void fuzz_run(const FuzzTarget *target, const uint8_t *bytes, size_t n);

/* For targets: the device that tensors are on; the end where `ok` does not hold. */
Device *fuzz_device(void);
void fuzz_check(int ok, const char *what, const char *detail);
/* A refusal is one line that starts with the path and says something behind it. */
void fuzz_check_message(const char *path, const char *message);

/* Tells libFuzzer of a state that its own counters do not see, in a library or in Lua: by a number
 * and a text, of which what is quoted, digits and capitals do not count. */
void fuzz_seen(const char *text, unsigned number);

/* The folder of three images beside which bytes are labels.csv: fuzz/labels.c. */
void fuzz_labels(const char *path, const uint8_t *bytes, size_t n);

/* fuzz/repair.c. */
void fuzz_repair_png(uint8_t *bytes, size_t n);
void fuzz_repair_zip(uint8_t *bytes, size_t n);
void fuzz_repair_part(uint8_t *bytes, size_t n);

#endif
