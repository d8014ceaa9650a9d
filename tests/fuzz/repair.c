/* Checksums, lengths and offsets of changed files, so that most changes are read and not refused at
 * the door. What a file no longer has the form for stays as it is. */
#include "targets.h"

#include <string.h>
#include <zlib.h>

static uint32_t get(const uint8_t *p, int n) {
    uint32_t v = 0;
    while (n-- > 0) v = v << 8 | p[n];
    return v;
}

static void put(uint8_t *p, uint32_t v, int n) {
    for (int i = 0; i < n; i++) p[i] = (uint8_t)(v >> (8 * i));
}

static void put_big(uint8_t *p, uint32_t v) {
    for (int i = 0; i < 4; i++) p[i] = (uint8_t)(v >> (24 - 8 * i));
}

/* Chunks of length, type, data and checksum, behind the signature. */
void fuzz_repair_png(uint8_t *bytes, size_t n) {
    for (size_t at = 8; at + 12 <= n;) {
        uint8_t *p = bytes + at;
        size_t room = n - at - 12, length = (size_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        if (length > room) put_big(p, (uint32_t)(length = room));
        put_big(p + 8 + length, (uint32_t)crc32(0, p + 4, (uInt)length + 4));
        at += 12 + length;
    }
}

/* Frames: "adv", kind, length, checksum of kind, length and payload. */
void fuzz_repair_part(uint8_t *bytes, size_t n) {
    for (size_t at = 0; at + 12 <= n;) {
        uint8_t *p = bytes + at;
        size_t room = n - at - 12, length = get(p + 4, 4);
        if (length > room) put(p + 4, (uint32_t)(length = room), 4);
        memcpy(p, "adv", 3);
        put(p + 8, (uint32_t)crc32(crc32(0, p + 3, 5), p + 12, (uInt)length), 4);
        at += 12 + length;
    }
}

/* The place of a record's signature at or behind `at`; n where there is none. */
static size_t find(const uint8_t *bytes, size_t n, size_t at, const char *signature) {
    for (; at + 4 <= n; at++)
        if (memcmp(bytes + at, signature, 4) == 0) return at;
    return n;
}

/* The entries' data lie between the local headers, and the central directory's headers are in the
 * same order. */
void fuzz_repair_zip(uint8_t *bytes, size_t n) {
    enum { LOCAL = 30, CENTRAL = 46, END = 22 };
    size_t directory = find(bytes, n, 0, "PK\1\2"), end = find(bytes, n, directory, "PK\5\6");
    size_t local = find(bytes, directory, 0, "PK\3\4"), central = directory, count = 0;
    if (end + END > n) return;
    while (local + LOCAL <= directory && central + CENTRAL <= end) {
        size_t next = find(bytes, directory, local + 4, "PK\3\4");
        size_t data = local + LOCAL + get(bytes + local + 26, 2) + get(bytes + local + 28, 2);
        if (data <= next) {
            uint32_t sum = (uint32_t)crc32(0, bytes + data, (uInt)(next - data));
            for (int i = 0; i < 2; i++) {
                uint8_t *p = i ? bytes + central + 16 : bytes + local + 14;
                put(p, sum, 4);
                put(p + 4, (uint32_t)(next - data), 4);
                put(p + 8, (uint32_t)(next - data), 4);
            }
            put(bytes + central + 42, (uint32_t)local, 4);
        }
        local = next;
        central = find(bytes, end, central + 4, "PK\1\2");
        count++;
    }
    put(bytes + end + 8, (uint32_t)count, 2);
    put(bytes + end + 10, (uint32_t)count, 2);
    put(bytes + end + 12, (uint32_t)(end - directory), 4);
    put(bytes + end + 16, (uint32_t)directory, 4);
}
