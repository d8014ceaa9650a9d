#include "io/idx.h"

#include <stdbool.h>
#include <unistd.h>

#include <zlib.h>

#include "base/file.h"
#include "base/memory.h"

enum { PIECE = 1 << 15, UNSIGNED_BYTES = 8 };

/* A file read from start to end, decompressed if needed. */
typedef struct Stream {
    int fd;
    uint64_t size, next; /* size of the file; offset of the next piece */
    bool packed, ended;  /* ended: the compressed data is complete, its checksum right */
    z_stream z;
    Error *error;
    uint8_t piece[PIECE];
} Stream;

static void *take(void *stream, unsigned count, unsigned size) {
    Stream *s = stream;
    return memory_take((size_t)count * size, "gzip", s->error);
}

static void give(void *stream, void *block) {
    (void)stream;
    memory_free(block);
}

static int stream_open(Stream *s, const char *path, Error *e) {
    uint8_t magic[2];
    if (file_open_read(path, &s->fd, &s->size, e) != 0) return -1;
    s->error = e;
    if (s->size == 0) return error_set(e, "%s: is empty", path);
    if (s->size < sizeof magic) return 0;
    if (file_read_at(s->fd, magic, sizeof magic, 0, e) != 0) return error_prefix(e, "%s", path);
    if (magic[0] != 0x1f || magic[1] != 0x8b) return 0;
    s->z.zalloc = take;
    s->z.zfree = give;
    s->z.opaque = s;
    s->packed = inflateInit2(&s->z, 15 + 16) == Z_OK;
    return s->packed ? 0 : error_prefix(e, "%s", path);
}

static void stream_close(Stream *s) {
    if (s->packed) inflateEnd(&s->z);
    if (s->fd >= 0) close(s->fd);
}

/* Decompresses up to n bytes; returns fewer only at the end. */
static int unpack(Stream *s, uint8_t *out, size_t n, size_t *got, Error *e) {
    *got = 0;
    while (*got < n && !s->ended) {
        if (s->z.avail_in == 0) {
            uint64_t left = s->size - s->next;
            size_t m = left < PIECE ? (size_t)left : PIECE;
            if (m == 0) return error_set(e, "is truncated: the compressed data has no end");
            if (file_read_at(s->fd, s->piece, m, s->next, e) != 0) return -1;
            s->next += m;
            s->z.next_in = s->piece;
            s->z.avail_in = (unsigned)m;
        }
        size_t want = n - *got < PIECE ? n - *got : PIECE;
        s->z.next_out = out + *got;
        s->z.avail_out = (unsigned)want;
        int status = inflate(&s->z, Z_NO_FLUSH);
        *got += want - s->z.avail_out;
        s->ended = status == Z_STREAM_END;
        if (status == Z_MEM_ERROR) return -1;
        if (status != Z_OK && status != Z_STREAM_END && status != Z_BUF_ERROR)
            return error_set(e, "damaged compressed data (%s)", s->z.msg ? s->z.msg : "no reason");
    }
    return 0;
}

static int read_some(Stream *s, uint8_t *out, size_t n, size_t *got, Error *e) {
    if (s->packed) return unpack(s, out, n, got, e);
    uint64_t left = s->size - s->next;
    *got = left < n ? (size_t)left : n;
    s->next += *got;
    return file_read_at(s->fd, out, *got, s->next - *got, e);
}

static const char *type_name(uint8_t type) {
    static const char *const names[] = {[0x08] = "u8",  [0x09] = "i8",  [0x0b] = "i16",
                                        [0x0c] = "i32", [0x0d] = "f32", [0x0e] = "f64"};
    return type < sizeof names / sizeof *names ? names[type] : NULL;
}

static int read_header(Stream *s, IdxArray *a, Error *e) {
    uint8_t head[4], sizes[4 * IDX_DIMS];
    size_t got;
    if (read_some(s, head, 4, &got, e) != 0) return -1;
    if (got < 4 || head[0] || head[1]) return error_set(e, "not an IDX file");
    if (!type_name(head[2])) return error_set(e, "not an IDX file");
    if (head[2] != UNSIGNED_BYTES)
        return error_set(e, "holds elements of type %s (0x%02x); u8 (0x08) is read",
                         type_name(head[2]), head[2]);
    if (head[3] < 1 || head[3] > IDX_DIMS)
        return error_set(e, "has %d dimensions, 1 .. %d are read", head[3], IDX_DIMS);
    a->ndim = head[3];
    size_t n = 4 * (size_t)a->ndim;
    if (read_some(s, sizes, n, &got, e) != 0) return -1;
    if (got < n) return error_set(e, "is truncated in its header");
    bool fits = true;
    a->count = 1;
    for (int i = 0; i < a->ndim; i++) {
        const uint8_t *p = sizes + 4 * i;
        a->shape[i] = (int64_t)p[0] << 24 | p[1] << 16 | p[2] << 8 | p[3];
        fits = size_mul(a->count, (size_t)a->shape[i], &a->count) == 0 && fits;
    }
    if (!fits || a->count > IDX_MOST)
        return error_set(e, "promises more than the %d bytes that are read", IDX_MOST);
    /* Deflate packs at most 258 bytes into 2 bits. */
    uint64_t most = s->packed ? s->size * 1032 : s->size - s->next;
    if (a->count > most)
        return error_set(e, "is truncated: its header promises %zu elements", a->count);
    return 0;
}

static int read_array(Stream *s, IdxArray *a, Error *e) {
    size_t got;
    uint8_t more;
    if (read_header(s, a, e) != 0) return -1;
    a->data = memory_take(a->count, "an IDX array", e);
    if (!a->data || read_some(s, a->data, a->count, &got, e) != 0) return -1;
    if (got < a->count)
        return error_set(e, "is truncated: wanted %zu elements, found %zu", a->count, got);
    /* Asking for one more byte also brings compressed data to its end and checksum. */
    if (read_some(s, &more, 1, &got, e) != 0) return -1;
    if (got > 0 || (s->packed && (s->z.avail_in > 0 || s->next < s->size)))
        return error_set(e, "has more bytes than the %zu elements of its header", a->count);
    return 0;
}

int idx_load(const char *path, IdxArray *out, Error *e) {
    *out = (IdxArray){0};
    Stream *s = memory_zeroed(1, sizeof *s, "a file's buffer", e);
    if (!s) return error_prefix(e, "%s", path);
    s->fd = -1;
    int failed = stream_open(s, path, e);
    if (!failed && read_array(s, out, e) != 0) failed = error_prefix(e, "%s", path);
    stream_close(s);
    memory_free(s);
    if (failed) idx_free(out);
    return failed;
}

void idx_free(IdxArray *a) {
    memory_free(a->data);
    *a = (IdxArray){0};
}
