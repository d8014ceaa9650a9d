#define _GNU_SOURCE /* for TEMP_FAILURE_RETRY: a handled signal interrupts system calls */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"
#include "io/record.h"
#include "io/record_frame.h"

enum { PIECE = 1 << 15 };
/* A killed process may need a moment to end and release its lock. */
enum { LOCK_ATTEMPTS = 40, LOCK_PAUSE = 50000000 /* ns */ };

const unsigned char frame_magic[FRAME_MAGIC] = {'a', 'd', 'v'};

struct RecordPart {
    char *path;
    int fd;
    uint64_t size;
    Buffer frames; /* array of Frame */
};

static const Frame *frame_at(const RecordPart *p, size_t i) {
    return (const Frame *)(const void *)p->frames.bytes + i;
}

size_t record_part_frames(const RecordPart *p) {
    return p->frames.size / sizeof(Frame);
}

RecordFrame record_part_kind(const RecordPart *p, size_t frame) {
    return frame_at(p, frame)->kind;
}

/* --- frames --- */

static void put32(unsigned char *to, uint32_t v) {
    for (int i = 0; i < 4; i++) to[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get32(const unsigned char *from) {
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

/* The first part of the checksum: over the kind and the length. */
static uLong header_sum(const unsigned char header[FRAME_HEADER]) {
    return crc32(0, header + FRAME_MAGIC, 5);
}

static void frame_header(unsigned char header[FRAME_HEADER], RecordFrame kind, const void *payload,
                         uint32_t length) {
    memcpy(header, frame_magic, FRAME_MAGIC);
    header[FRAME_MAGIC] = (unsigned char)kind;
    put32(header + 4, length);
    put32(header + 8, (uint32_t)crc32(header_sum(header), payload, length));
}

static bool is_kind(unsigned char kind) {
    return kind == FRAME_RECORDS || kind == FRAME_NOTE || kind == FRAME_BYTES;
}

int frame_check(int fd, uint64_t position, uint64_t size, bool *whole, Frame *frame, Error *e) {
    unsigned char header[FRAME_HEADER], piece[PIECE];
    *whole = false;
    if (size - position < FRAME_HEADER) return 0;
    if (file_read_at(fd, header, FRAME_HEADER, position, e) != 0) return -1;
    uint32_t length = get32(header + 4);
    if (memcmp(header, frame_magic, FRAME_MAGIC) != 0 || !is_kind(header[FRAME_MAGIC]) ||
        length > RECORD_BYTES || length > size - position - FRAME_HEADER)
        return 0;
    uLong sum = header_sum(header);
    for (uint32_t at = 0; at < length; at += PIECE) {
        uint32_t n = length - at < PIECE ? length - at : PIECE;
        if (file_read_at(fd, piece, n, position + FRAME_HEADER + at, e) != 0) return -1;
        sum = crc32(sum, piece, n);
    }
    *whole = (uint32_t)sum == get32(header + 8);
    *frame = (Frame){position, length, header[FRAME_MAGIC]};
    return 0;
}

/* --- recovery --- */

/* A part file starts with the magic bytes, or with the part of them that a crash left. Blocks that
 * were never written read as zeros. */
static int check_start(int fd, uint64_t size, Error *e) {
    unsigned char start[FRAME_MAGIC] = {0};
    size_t n = size < FRAME_MAGIC ? (size_t)size : FRAME_MAGIC, same = 0;
    if (n == 0) return 0;
    if (file_read_at(fd, start, n, 0, e) != 0) return -1;
    while (same < n && start[same] == frame_magic[same]) same++;
    while (same < n && start[same] == 0) same++;
    if (same == n) return 0;
    return error_set(e, "is not a file of unfinished records");
}

/* Cuts the file after its complete frames, and lists these in `frames`. */
static int recover(int fd, uint64_t *end, Buffer *frames, Error *e) {
    struct stat s;
    bool whole = true;
    if (fstat(fd, &s) != 0) return error_set(e, "%s", strerror(errno));
    if (!S_ISREG(s.st_mode)) return error_set(e, "is no regular file");
    uint64_t size = (uint64_t)s.st_size;
    *end = 0;
    if (check_start(fd, size, e) != 0) return -1;
    while (*end < size) {
        Frame frame;
        if (frame_check(fd, *end, size, &whole, &frame, e) != 0) return -1;
        if (!whole) break;
        if (buffer_append(frames, &frame, sizeof frame, e) != 0) return -1;
        *end += FRAME_HEADER + frame.length;
    }
    if (*end < size &&
        (TEMP_FAILURE_RETRY(ftruncate(fd, (off_t)*end)) != 0 || TEMP_FAILURE_RETRY(fsync(fd)) != 0))
        return error_set(e, "cannot be cut to its whole frames: %s", strerror(errno));
    return 0;
}

int record_recover(const char *path, uint64_t *frames, uint64_t *bytes, Error *e) {
    RecordPart *p;
    struct stat s;
    if (stat(path, &s) != 0) return error_set(e, "%s: %s", path, strerror(errno));
    if (record_part_open(&p, path, true, e) != 0) return -1;
    if (frames) *frames = record_part_frames(p);
    if (bytes) *bytes = p->size - record_part_frames(p) * FRAME_HEADER;
    record_part_close(p);
    return 0;
}

/* --- opening --- */

/* Whether the open file still has this name. Between opening and locking, another process may have
 * finished and removed it. */
static bool is_named(int fd, const char *path) {
    struct stat here, there;
    return fstat(fd, &here) == 0 && stat(path, &there) == 0 && here.st_dev == there.st_dev &&
           here.st_ino == there.st_ino;
}

static int open_locked(const char *path, int *fd, Error *e) {
    const struct timespec pause = {0, LOCK_PAUSE};
    int why = EWOULDBLOCK;
    for (int i = 0; i < LOCK_ATTEMPTS; i++) {
        if (i > 0) nanosleep(&pause, NULL);
        *fd = TEMP_FAILURE_RETRY(open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0666));
        if (*fd < 0) return error_set(e, "%s: %s", path, strerror(errno));
        bool locked = flock(*fd, LOCK_EX | LOCK_NB) == 0;
        why = locked ? EWOULDBLOCK : errno;
        if (locked && is_named(*fd, path)) return 0;
        close(*fd);
        *fd = -1;
    }
    const char *reason = why == EWOULDBLOCK ? "another process is using it" : strerror(why);
    return error_set(e, "%s: %s", path, reason);
}

int record_part_open(RecordPart **out, const char *path, bool append, Error *e) {
    size_t n = strlen(path) + 1;
    RecordPart *p = memory_zeroed(1, sizeof *p, "a part file", e);
    *out = NULL;
    if (!p) return -1;
    p->fd = -1;
    p->path = memory_take(n, "a path", e);
    int failed = !p->path;
    if (!failed) memcpy(p->path, path, n);
    if (!failed) failed = open_locked(path, &p->fd, e);
    if (!failed && !append && TEMP_FAILURE_RETRY(ftruncate(p->fd, 0)) != 0)
        failed = error_set(e, "%s: %s", path, strerror(errno));
    if (!failed && recover(p->fd, &p->size, &p->frames, e) != 0)
        failed = error_prefix(e, "%s", path);
    if (failed) {
        record_part_close(p);
        return -1;
    }
    *out = p;
    return 0;
}

void record_part_close(RecordPart *p) {
    if (!p) return;
    if (p->fd >= 0) close(p->fd);
    buffer_free(&p->frames);
    memory_free(p->path);
    memory_free(p);
}

/* --- writing --- */

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

/* Best effort: reopening the file cuts off the remainder. */
static int cut_back(RecordPart *p, Error *e) {
    error_set(e, "%s: %s", p->path, strerror(errno));
    (void)!TEMP_FAILURE_RETRY(ftruncate(p->fd, (off_t)p->size));
    return -1;
}

int record_part_add(RecordPart *p, RecordFrame kind, const void *bytes, size_t n, Error *e) {
    unsigned char header[FRAME_HEADER];
    if (n > RECORD_BYTES)
        return error_set(e, "%s: a frame of %zu bytes, at most %d are allowed", p->path, n,
                         RECORD_BYTES);
    Frame frame = {p->size, (uint32_t)n, kind};
    if (buffer_reserve(&p->frames, sizeof frame, e) != 0) return -1;
    frame_header(header, kind, bytes, (uint32_t)n);
    if (write_at(p->fd, header, FRAME_HEADER, p->size) != 0 ||
        write_at(p->fd, bytes, n, p->size + FRAME_HEADER) != 0)
        return cut_back(p, e);
    p->size += FRAME_HEADER + n;
    return buffer_append(&p->frames, &frame, sizeof frame, e);
}

int record_part_sync(RecordPart *p, Error *e) {
    if (TEMP_FAILURE_RETRY(fsync(p->fd)) == 0) return 0;
    return error_set(e, "%s: %s", p->path, strerror(errno));
}

int record_part_append(RecordPart *p, const void *bytes, size_t n, Error *e) {
    if (record_part_add(p, FRAME_RECORDS, bytes, n, e) != 0) return -1;
    if (record_part_sync(p, e) == 0) return 0;
    Error ignored;
    record_part_cut(p, record_part_frames(p) - 1, &ignored);
    return -1;
}

int record_part_cut(RecordPart *p, size_t frames, Error *e) {
    if (frames >= record_part_frames(p)) return 0;
    uint64_t size = frame_at(p, frames)->position;
    if (TEMP_FAILURE_RETRY(ftruncate(p->fd, (off_t)size)) != 0)
        return error_set(e, "%s: %s", p->path, strerror(errno));
    p->size = size;
    p->frames.size = frames * sizeof(Frame);
    return record_part_sync(p, e);
}

/* --- reading --- */

/* Fails if the frame has changed since it was opened or written. */
static int check_again(const RecordPart *p, const Frame *f, Error *e) {
    bool whole;
    Frame again;
    if (frame_check(p->fd, f->position, p->size, &whole, &again, e) != 0)
        return error_prefix(e, "%s", p->path);
    if (whole && again.length == f->length && again.kind == f->kind) return 0;
    return error_set(e, "%s: the frame at byte %llu is damaged", p->path,
                     (unsigned long long)f->position);
}

int record_part_read(const RecordPart *p, size_t frame, Buffer *out, Error *e) {
    const Frame *f = frame_at(p, frame);
    if (check_again(p, f, e) != 0) return -1;
    if (f->length == 0) return 0;
    if (buffer_reserve(out, f->length, e) != 0) return -1;
    int failed =
        file_read_at(p->fd, out->bytes + out->size, f->length, f->position + FRAME_HEADER, e);
    out->size += failed ? 0 : f->length;
    return failed ? error_prefix(e, "%s", p->path) : 0;
}

int record_part_reader(const RecordPart *p, size_t frame, RecordReader **out, Error *e) {
    *out = NULL;
    if (check_again(p, frame_at(p, frame), e) != 0) return -1;
    return frame_open(out, p->path, frame_at(p, frame), false, e);
}

int record_part_head(const RecordPart *p, size_t frame, RecordReader **out, Error *e) {
    return frame_open(out, p->path, frame_at(p, frame), true, e);
}

static int copy_frame(const RecordPart *p, const Frame *f, FileWriter *w, Error *e) {
    unsigned char piece[PIECE];
    if (check_again(p, f, e) != 0) return -1;
    uint64_t at = f->position + FRAME_HEADER;
    for (uint64_t end = at + f->length; at < end;) {
        size_t n = end - at < PIECE ? (size_t)(end - at) : PIECE;
        if (file_read_at(p->fd, piece, n, at, e) != 0) return error_prefix(e, "%s", p->path);
        if (file_writer_put(w, piece, n, e) != 0) return -1;
        at += n;
    }
    return 0;
}

int record_part_write(const RecordPart *p, const size_t *order, size_t n, const char *final_path,
                      Error *e) {
    FileWriter *w;
    int failed = 0;
    if (file_writer_open(&w, final_path, e) != 0) return -1;
    if (!order) n = record_part_frames(p);
    for (size_t i = 0; i < n && !failed; i++) {
        const Frame *f = frame_at(p, order ? order[i] : i);
        if (order || f->kind == FRAME_RECORDS) failed = copy_frame(p, f, w, e);
    }
    return file_writer_close(w, failed, e);
}

int record_part_finish(RecordPart *p, const char *final_path, Error *e) {
    if (record_part_write(p, NULL, 0, final_path, e) != 0) return -1;
    if (unlink(p->path) == 0) return 0;
    return error_set(e, "%s: %s", p->path, strerror(errno));
}
