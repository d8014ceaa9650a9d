#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/record.h"
#include "io/record_frame.h"

enum { PIECE = 1 << 15 };

const unsigned char frame_magic[FRAME_MAGIC] = {'a', 'd', 'v', 'p'};

struct RecordPart {
    char *path;
    int fd;
    uint64_t size;
};

/* --- frames --- */

static void put32(unsigned char *to, uint32_t v) {
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get32(const unsigned char *from) {
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* Writes the header of a frame with this payload. */
static void frame_header(unsigned char header[FRAME_HEADER], const void *payload, uint32_t length) {
    memcpy(header, frame_magic, FRAME_MAGIC);
    put32(header + 4, length);
    uLong sum = crc32(0, header + 4, 4);
    put32(header + 8, (uint32_t)crc32(sum, payload, length));
}

int frame_check(int fd, uint64_t position, uint64_t size, bool *whole, uint32_t *length, Error *e) {
    unsigned char header[FRAME_HEADER], piece[PIECE];
    *whole = false;
    if (size - position < FRAME_HEADER) return 0;
    if (file_read_at(fd, header, FRAME_HEADER, position, e) != 0) return -1;
    *length = get32(header + 4);
    if (memcmp(header, frame_magic, FRAME_MAGIC) != 0 || *length > RECORD_BYTES ||
        *length > size - position - FRAME_HEADER)
        return 0;
    uLong sum = crc32(0, header + 4, 4);
    for (uint32_t at = 0; at < *length; at += PIECE) {
        uint32_t n = *length - at < PIECE ? *length - at : PIECE;
        if (file_read_at(fd, piece, n, position + FRAME_HEADER + at, e) != 0) return -1;
        sum = crc32(sum, piece, n);
    }
    *whole = (uint32_t)sum == get32(header + 8);
    return 0;
}

/* --- recovery --- */

/* A part file starts with the magic, or with as much of it as a crash left; blocks that were
 * never written read as zeros. */
static int check_start(int fd, uint64_t size, Error *e) {
    unsigned char start[FRAME_MAGIC] = {0};
    size_t n = size < FRAME_MAGIC ? (size_t)size : FRAME_MAGIC, same = 0;
    if (n == 0) return 0;
    if (file_read_at(fd, start, n, 0, e) != 0) return -1;
    while (same < n && start[same] == frame_magic[same]) same++;
    while (same < n && start[same] == 0) same++;
    if (same == n) return 0;
    return error_set(e, "is no file of unfinished records");
}

static int recover(int fd, uint64_t *end, uint64_t *frames, uint64_t *bytes, Error *e) {
    struct stat s;
    bool whole = true;
    uint32_t length;
    if (fstat(fd, &s) != 0) return error_set(e, "%s", strerror(errno));
    if (!S_ISREG(s.st_mode)) return error_set(e, "is no regular file");
    uint64_t size = (uint64_t)s.st_size;
    *end = *frames = *bytes = 0;
    if (check_start(fd, size, e) != 0) return -1;
    while (*end < size) {
        if (frame_check(fd, *end, size, &whole, &length, e) != 0) return -1;
        if (!whole) break;
        *end += FRAME_HEADER + length;
        *bytes += length;
        ++*frames;
    }
    if (*end < size && (ftruncate(fd, (off_t)*end) != 0 || fsync(fd) != 0))
        return error_set(e, "cannot be cut to its whole frames: %s", strerror(errno));
    return 0;
}

int record_recover(const char *path, uint64_t *frames, uint64_t *bytes, Error *e) {
    uint64_t end, f, b;
    int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return error_set(e, "%s: %s", path, strerror(errno));
    int failed = recover(fd, &end, &f, &b, e);
    if (failed) error_prefix(e, "%s", path);
    close(fd);
    if (!failed && frames) *frames = f;
    if (!failed && bytes) *bytes = b;
    return failed;
}

/* --- writing --- */

int record_part_open(RecordPart **out, const char *path, bool append, Error *e) {
    uint64_t frames, bytes;
    size_t n = strlen(path) + 1;
    RecordPart *p = memory_zeroed(1, sizeof *p, "a part file", e);
    *out = NULL;
    if (!p) return -1;
    p->path = memory_take(n, "a path", e);
    p->fd = p->path ? open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666) : -1;
    int failed = !p->path;
    if (!failed && p->fd < 0) failed = error_set(e, "%s: %s", path, strerror(errno));
    if (!failed && !append && ftruncate(p->fd, 0) != 0)
        failed = error_set(e, "%s: %s", path, strerror(errno));
    if (!failed && recover(p->fd, &p->size, &frames, &bytes, e) != 0)
        failed = error_prefix(e, "%s", path);
    if (failed) {
        record_part_close(p);
        return -1;
    }
    memcpy(p->path, path, n);
    *out = p;
    return 0;
}

static int write_at(int fd, const void *bytes, size_t n, uint64_t position) {
    const char *from = bytes;
    while (n > 0) {
        ssize_t wrote = pwrite(fd, from, n, (off_t)position);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return -1;
        from += wrote;
        position += (uint64_t)wrote;
        n -= (size_t)wrote;
    }
    return 0;
}

int record_part_append(RecordPart *p, const void *bytes, size_t n, Error *e) {
    unsigned char header[FRAME_HEADER];
    if (n > RECORD_BYTES)
        return error_set(e, "%s: records of %zu bytes at once, at most %d are allowed", p->path, n,
                         RECORD_BYTES);
    frame_header(header, bytes, (uint32_t)n);
    if (write_at(p->fd, header, FRAME_HEADER, p->size) != 0 ||
        write_at(p->fd, bytes, n, p->size + FRAME_HEADER) != 0 || fsync(p->fd) != 0) {
        error_set(e, "%s: %s", p->path, strerror(errno));
        /* Best effort: what stays behind is cut off when the file is opened again. */
        if (ftruncate(p->fd, (off_t)p->size) != 0) return -1;
        return -1;
    }
    p->size += FRAME_HEADER + n;
    return 0;
}

static int copy_payloads(RecordPart *p, FileWriter *w, Error *e) {
    unsigned char piece[PIECE];
    for (uint64_t at = 0; at < p->size;) {
        bool whole;
        uint32_t length;
        if (frame_check(p->fd, at, p->size, &whole, &length, e) != 0)
            return error_prefix(e, "%s", p->path);
        if (!whole)
            return error_set(e, "%s: the frame at byte %llu is damaged", p->path,
                             (unsigned long long)at);
        at += FRAME_HEADER;
        for (uint64_t end = at + length; at < end;) {
            size_t n = end - at < PIECE ? (size_t)(end - at) : PIECE;
            if (file_read_at(p->fd, piece, n, at, e) != 0) return error_prefix(e, "%s", p->path);
            if (file_writer_put(w, piece, n, e) != 0) return -1;
            at += n;
        }
    }
    return 0;
}

int record_part_finish(RecordPart *p, const char *final_path, Error *e) {
    FileWriter *w;
    if (file_writer_open(&w, final_path, e) != 0) return -1;
    int failed = copy_payloads(p, w, e);
    failed = file_writer_close(w, failed, e);
    if (!failed && unlink(p->path) != 0) failed = error_set(e, "%s: %s", p->path, strerror(errno));
    return failed;
}

void record_part_close(RecordPart *p) {
    if (!p) return;
    if (p->fd >= 0) close(p->fd);
    memory_free(p->path);
    memory_free(p);
}
