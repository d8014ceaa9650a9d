/* What libFuzzer calls: the target that FUZZ_TARGET names, and changes that keep its checksums. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "targets.h"

static const FuzzTarget *target;

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *bytes, size_t n, size_t room); /* libFuzzer's */

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc, (void)argv;
    const char *name = getenv("FUZZ_TARGET");
    target = name ? fuzz_find(name) : NULL;
    if (target) return 0;
    fprintf(stderr, "FUZZ_TARGET must name one of");
    for (int i = 0; i < FUZZ_TARGETS; i++) fprintf(stderr, " %s", fuzz_targets[i].name);
    fprintf(stderr, "\n");
    exit(2);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n) {
    fuzz_run(target, bytes, n);
    return 0;
}

/* Changes what a gzip stream holds; 0 where the bytes are none, or there is no room. */
static size_t mutate_packed(uint8_t *bytes, size_t n, size_t room) {
    static uint8_t plain[1 << 16];
    z_stream z = {.next_in = bytes, .avail_in = (uInt)n};
    z.next_out = plain;
    z.avail_out = sizeof plain / 2;
    if (n < 2 || bytes[0] != 0x1f || bytes[1] != 0x8b || inflateInit2(&z, 15 + 16) != Z_OK)
        return 0;
    inflate(&z, Z_FINISH);
    size_t length = sizeof plain / 2 - z.avail_out;
    inflateEnd(&z);
    length = LLVMFuzzerMutate(plain, length, sizeof plain);
    z = (z_stream){.next_in = plain, .avail_in = (uInt)length};
    z.next_out = bytes;
    z.avail_out = (uInt)room;
    if (deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK) return 0;
    int ended = deflate(&z, Z_FINISH) == Z_STREAM_END;
    deflateEnd(&z);
    return ended ? room - z.avail_out : 0;
}

/* One in eight changes is left as it is. */
size_t LLVMFuzzerCustomMutator(uint8_t *bytes, size_t n, size_t room, unsigned seed) {
    if (seed % 2 == 0 && strcmp(target->name, "idx") == 0) {
        size_t packed = mutate_packed(bytes, n, room);
        if (packed) return packed;
    }
    n = LLVMFuzzerMutate(bytes, n, room);
    if (target->repair && seed % 8) target->repair(bytes, n);
    return n;
}
