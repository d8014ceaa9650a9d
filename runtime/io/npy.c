#include "io/npy.h"

#include <ctype.h>
#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "io/tensors.h"

enum { START = 8, LONGEST_HEADER = 1 << 16, WORD = 32 };

/* The contents of the header. */
typedef struct Header {
    char order, kind; /* of descr, such as '<' and 'f' */
    int size;         /* bytes of a value */
    bool described, ordered, shaped, fortran;
    int ndim;
    int64_t shape[TENSOR_DIMS];
} Header;

/* --- the header: a Python literal --- */

typedef struct Text {
    const char *start, *at, *end;
} Text;

static int broken(const Text *t, const char *wanted, Error *e) {
    return error_set(e, "its header is no dictionary of NumPy's (byte %td: %s expected)",
                     t->at - t->start, wanted);
}

static char peek(Text *t) {
    while (t->at < t->end && strchr(" \t\r\n", *t->at ? *t->at : 'x')) t->at++;
    return t->at < t->end ? *t->at : 0;
}

static bool take(Text *t, char c) {
    if (peek(t) != c) return false;
    t->at++;
    return true;
}

/* Reads a quoted string without escapes; truncates it to `word`. */
static int read_text(Text *t, char word[WORD], Error *e) {
    char quote = peek(t);
    size_t n = 0;
    if (quote != '\'' && quote != '"') return broken(t, "a text in quotes", e);
    for (t->at++; t->at < t->end && *t->at != quote; t->at++) {
        if (*t->at == '\\' || !isprint((unsigned char)*t->at))
            return broken(t, "a plain character", e);
        if (n < WORD - 1) word[n++] = *t->at;
    }
    word[n] = 0;
    if (t->at == t->end) return broken(t, "the end of a text", e);
    t->at++;
    return 0;
}

static int read_bool(Text *t, bool *out, Error *e) {
    static const char *const words[] = {"False", "True"};
    peek(t);
    for (int i = 0; i < 2; i++) {
        size_t n = strlen(words[i]);
        if ((size_t)(t->end - t->at) < n || memcmp(t->at, words[i], n) != 0) continue;
        t->at += n;
        *out = i;
        return 0;
    }
    return broken(t, "True or False", e);
}

/* Reads a size; Python 2 appended an L. */
static int read_size(Text *t, int64_t *out, Error *e) {
    if (!isdigit((unsigned char)peek(t))) return broken(t, "a size", e);
    int64_t n = 0;
    for (; t->at < t->end && isdigit((unsigned char)*t->at); t->at++) {
        int digit = *t->at - '0';
        if (n > (INT64_MAX - digit) / 10)
            return error_set(e, "has a size in its shape that no array can have");
        n = 10 * n + digit;
    }
    if (t->at < t->end && *t->at == 'L') t->at++;
    *out = n;
    return 0;
}

/* (), (3,), (3, 4) or (3, 4,); (3) is a number, not a tuple. */
static int read_shape(Text *t, Header *h, Error *e) {
    if (!take(t, '(')) return broken(t, "a tuple of sizes", e);
    bool comma = true;
    while (peek(t) != ')') {
        if (!comma) return broken(t, "a comma or )", e);
        if (h->ndim == TENSOR_DIMS)
            return error_set(e, "has more than %d dimensions, at most that many are supported",
                             TENSOR_DIMS);
        if (read_size(t, &h->shape[h->ndim++], e) != 0) return -1;
        comma = take(t, ',');
    }
    if (h->ndim == 1 && !comma) return broken(t, "a comma", e);
    t->at++;
    return 0;
}

/* '<f4': byte order, kind, bytes. */
static int read_descr(Text *t, Header *h, Error *e) {
    static const struct {
        char kind;
        const char *name;
    } refused[] = {
        {'O', "Python objects"}, {'c', "complex numbers"}, {'V', "records"}, {'M', "dates"},
        {'m', "times"},          {'U', "texts"},           {'S', "texts"},   {'a', "texts"}};
    char word[WORD];
    if (peek(t) == '[')
        return error_set(e, "holds records of several fields; arrays of numbers are read");
    if (read_text(t, word, e) != 0) return -1;
    bool ordered = word[0] && strchr("<>|=", word[0]);
    const char *type = word + ordered, *digits = type + (*type != 0);
    h->order = ordered ? word[0] : '=';
    h->kind = *type;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (*type == refused[i].kind)
            return error_set(e, "holds %s (dtype '%s'); arrays of numbers are read",
                             refused[i].name, word);
    h->size = strlen(digits) == 1 && isdigit((unsigned char)*digits) ? *digits - '0' : 0;
    const char *sizes = h->kind == 'f'                     ? "248"
                        : h->kind == 'i' || h->kind == 'u' ? "1248"
                        : h->kind == 'b'                   ? "1"
                                                           : "";
    if (h->size > 0 && strchr(sizes, *digits)) return 0;
    return error_set(e, "has dtype '%s'; b1, i1 to i8, u1 to u8, f2, f4 and f8 are read", word);
}

static int read_entry(Text *t, Header *h, Error *e) {
    char key[WORD];
    const char *from = t->at;
    if (read_text(t, key, e) != 0) return -1;
    bool *seen = strcmp(key, "descr") == 0           ? &h->described
                 : strcmp(key, "fortran_order") == 0 ? &h->ordered
                 : strcmp(key, "shape") == 0         ? &h->shaped
                                                     : NULL;
    if (!seen || *seen) {
        t->at = from;
        peek(t);
        return broken(t, "descr, fortran_order and shape, each once,", e);
    }
    *seen = true;
    if (!take(t, ':')) return broken(t, "a colon", e);
    return seen == &h->described ? read_descr(t, h, e)
           : seen == &h->ordered ? read_bool(t, &h->fortran, e)
                                 : read_shape(t, h, e);
}

static int read_dictionary(Text *t, Header *h, Error *e) {
    if (!take(t, '{')) return broken(t, "{", e);
    while (peek(t) != '}') {
        if (read_entry(t, h, e) != 0) return -1;
        if (!take(t, ',') && peek(t) != '}') return broken(t, "a comma or }", e);
    }
    t->at++;
    if (!h->described || !h->ordered || !h->shaped)
        return error_set(e, "its header has no '%s'",
                         !h->described ? "descr"
                         : !h->ordered ? "fortran_order"
                                       : "shape");
    if (peek(t) != 0 || t->at < t->end) return broken(t, "the end of the header", e);
    return 0;
}

/* --- the file --- */

/* Reads everything before the values; *left: bytes after the header. */
static int read_header(const NpySource *s, Header *h, uint64_t *left, Error *e) {
    unsigned char start[START], length[4] = {0};
    *h = (Header){0};
    if (s->size < START) return error_set(e, "is no array of NumPy's (.npy): it is too short");
    if (s->read(s->context, start, START, e) != 0) return -1;
    if (memcmp(start, "\x93NUMPY", 6) != 0)
        return error_set(e, "is no array of NumPy's (.npy): it does not begin with \\x93NUMPY");
    int major = start[6];
    if (major < 1 || major > 3)
        return error_set(e, "has version %d of the .npy format; 1, 2 and 3 are read", major);
    size_t wide = major == 1 ? 2 : 4;
    if (s->size - START < wide) return error_set(e, "is truncated in its header");
    if (s->read(s->context, length, wide, e) != 0) return -1;
    uint64_t n = (uint64_t)length[0] | (uint64_t)length[1] << 8 | (uint64_t)length[2] << 16 |
                 (uint64_t)length[3] << 24;
    if (n > s->size - START - wide)
        return error_set(
            e, "is truncated: its header promises %" PRIu64 " bytes, %" PRIu64 " are left", n,
            s->size - START - wide);
    if (n > LONGEST_HEADER)
        return error_set(e, "has a header of %" PRIu64 " bytes, at most %d are read", n,
                         LONGEST_HEADER);
    char *text = memory_take((size_t)n, "a header", e);
    if (!text) return -1;
    int failed = n ? s->read(s->context, text, (size_t)n, e) : 0;
    Text t = {text, text, text + n};
    if (!failed) failed = read_dictionary(&t, h, e);
    memory_free(text);
    *left = s->size - START - wide - n;
    return failed;
}

/* The element type of the tensor. */
static Dtype dtype_of_header(const Header *h) {
    static const Dtype floats[] = {[2] = DTYPE_F16, [4] = DTYPE_F32, [8] = DTYPE_F64};
    static const Dtype integers[] = {
        [1] = DTYPE_I8, [2] = DTYPE_I16, [4] = DTYPE_I32, [8] = DTYPE_I64};
    static const Dtype naturals[] = {
        [1] = DTYPE_U8, [2] = DTYPE_I32, [4] = DTYPE_I64, [8] = DTYPE_I64};
    return h->kind == 'b'   ? DTYPE_BOOL
           : h->kind == 'f' ? floats[h->size]
           : h->kind == 'i' ? integers[h->size]
                            : naturals[h->size];
}

static void swap(unsigned char *bytes, size_t count, size_t size) {
    for (size_t i = 0; i < count; i++, bytes += size)
        for (size_t k = 0; k < size / 2; k++) {
            unsigned char kept = bytes[k];
            bytes[k] = bytes[size - 1 - k];
            bytes[size - 1 - k] = kept;
        }
}

/* Unsigned integers of 2, 4 and 8 bytes as i32 or i64 values. */
static int widen(const unsigned char *in, size_t count, int size, void *out, Error *e) {
    for (size_t i = 0; i < count; i++, in += size) {
        uint64_t v = 0;
        memcpy(&v, in, (size_t)size); /* hosts are little-endian */
        if (v > INT64_MAX)
            return error_set(e, "holds %" PRIu64 ", which is too large for 64 bits with a sign", v);
        if (size == 2)
            ((int32_t *)out)[i] = (int32_t)v;
        else
            ((int64_t *)out)[i] = (int64_t)v;
    }
    return 0;
}

/* Converts a piece of the values to the tensor's type; overwrites `raw`, may use `wide`. */
static int convert(const Header *h, unsigned char *raw, size_t count, void *wide, void **out,
                   Error *e) {
    *out = raw;
    if (h->order == '>') swap(raw, count, (size_t)h->size);
    if (h->kind != 'u' || h->size == 1) return 0;
    *out = wide;
    return widen(raw, count, h->size, wide, e);
}

static int read_pieces(const NpySource *s, const Header *h, const Tensor *t, Error *e) {
    size_t size = (size_t)h->size, each = dtype_size(t->dtype), at = 0;
    size_t count = (size_t)tensor_count(t), most = TENSORS_PIECE / each;
    unsigned char *raw = memory_take(2 * TENSORS_PIECE, "a piece of a file", e);
    int failed = raw ? 0 : -1;
    while (at < count && !failed) {
        size_t n = count - at < most ? count - at : most;
        void *piece;
        failed = s->read(s->context, raw, n * size, e) ||
                 convert(h, raw, n, raw + TENSORS_PIECE, &piece, e) ||
                 tensors_put(t, at * each, piece, n * each, e);
        at += n;
    }
    memory_free(raw);
    return failed ? -1 : 0;
}

/* Fortran order is C order of the reversed dimensions. */
static int turn_round(const Header *h, Tensor *t, Error *e) {
    Tensor turned;
    int perm[TENSOR_DIMS];
    for (int i = 0; i < h->ndim; i++) perm[i] = h->ndim - 1 - i;
    if (tensor_permute(&turned, t, perm, e) != 0) return -1;
    tensor_free(t);
    *t = turned;
    return 0;
}

int npy_read(const NpySource *s, Device *d, Tensor *out, Error *e) {
    Header h;
    uint64_t left = 0;
    size_t values, bytes;
    char text[128];
    *out = (Tensor){0};
    if (read_header(s, &h, &left, e) != 0) return -1;
    Dtype type = dtype_of_header(&h);
    if (tensors_bytes_of(type, h.ndim, h.shape, &bytes, e) != 0) return -1;
    values = bytes / dtype_size(type) * (size_t)h.size;
    if (values != left)
        return error_set(e, "%s: %c%d %s takes %zu bytes, but has %" PRIu64,
                         values > left ? "is truncated" : "has bytes behind its values", h.kind,
                         h.size, shape_text(h.ndim, h.shape, text), values, left);
    int64_t shape[TENSOR_DIMS];
    bool turned = h.fortran && h.ndim > 1;
    for (int i = 0; i < h.ndim; i++) shape[i] = h.shape[turned ? h.ndim - 1 - i : i];
    int failed = tensor_new(out, d, type, h.ndim, shape, e);
    if (!failed) failed = read_pieces(s, &h, out, e);
    if (!failed && turned) failed = turn_round(&h, out, e);
    if (failed) tensor_free(out);
    return failed ? -1 : 0;
}
