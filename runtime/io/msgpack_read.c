#include "io/msgpack_read.h"

#include <string.h>

#include "base/file.h"

void msgpack_start(MsgpackReader *r, int fd, uint64_t begin, uint64_t end) {
    r->fd = fd;
    r->next = begin;
    r->end = end;
    r->at = r->filled = 0;
}

uint64_t msgpack_left(const MsgpackReader *r) {
    return r->end - r->next + (r->filled - r->at);
}

int msgpack_bytes(MsgpackReader *r, void *out, size_t n, Error *e) {
    unsigned char *to = out;
    if (n > msgpack_left(r)) return error_set(e, "is cut off inside a value");
    while (n > 0) {
        if (r->at == r->filled) {
            uint64_t left = r->end - r->next;
            size_t piece = left < MSGPACK_INPUT ? (size_t)left : MSGPACK_INPUT;
            if (file_read_at(r->fd, r->input, piece, r->next, e) != 0) return -1;
            r->next += piece;
            r->at = 0;
            r->filled = piece;
        }
        size_t piece = r->filled - r->at < n ? r->filled - r->at : n;
        memcpy(to, r->input + r->at, piece);
        r->at += piece;
        to += piece;
        n -= piece;
    }
    return 0;
}

/* A big-endian number of n <= 8 bytes. */
static int number(MsgpackReader *r, int n, uint64_t *out, Error *e) {
    unsigned char bytes[8];
    if (msgpack_bytes(r, bytes, (size_t)n, e) != 0) return -1;
    *out = 0;
    for (int i = 0; i < n; i++) *out = *out << 8 | bytes[i];
    return 0;
}

static int sized(MsgpackReader *r, MsgpackKind kind, int n, MsgpackToken *out, Error *e) {
    unsigned char type;
    uint64_t size;
    if (n > 0 && number(r, n, &size, e) != 0) return -1;
    if (n > 0) out->size = size;
    out->kind = kind;
    if (kind == MSGPACK_EXTENSION && msgpack_bytes(r, &type, 1, e) != 0) return -1;
    uint64_t least = kind == MSGPACK_MAP ? 2 * out->size : out->size;
    if (least <= msgpack_left(r)) return 0;
    return error_set(e, "is cut off or damaged: a value claims %llu %s, %llu bytes are left",
                     (unsigned long long)out->size,
                     kind == MSGPACK_ARRAY || kind == MSGPACK_MAP ? "elements" : "bytes",
                     (unsigned long long)msgpack_left(r));
}

static int real(MsgpackReader *r, int n, MsgpackToken *out, Error *e) {
    uint64_t bits;
    out->kind = MSGPACK_REAL;
    if (number(r, n, &bits, e) != 0) return -1;
    if (n == 4) {
        uint32_t half = (uint32_t)bits;
        float f;
        memcpy(&f, &half, sizeof f);
        out->real = f;
    } else {
        memcpy(&out->real, &bits, sizeof out->real);
    }
    return 0;
}

static int integer(MsgpackReader *r, int n, int has_sign, MsgpackToken *out, Error *e) {
    uint64_t bits;
    out->kind = MSGPACK_INTEGER;
    if (number(r, n, &bits, e) != 0) return -1;
    if (has_sign && n < 8 && bits >> (8 * n - 1)) bits |= ~UINT64_C(0) << (8 * n);
    if (!has_sign && bits > INT64_MAX)
        return error_set(e, "holds the integer %llu, beyond 63 bits", (unsigned long long)bits);
    out->integer = (int64_t)bits;
    return 0;
}

/* The codes 0xc0 .. 0xdf, each with its kind and the bytes of its number. */
static int coded(MsgpackReader *r, int code, MsgpackToken *out, Error *e) {
    switch (code) {
    case 0xc0: out->kind = MSGPACK_NIL; return 0;
    case 0xc2:
    case 0xc3:
        out->kind = MSGPACK_BOOLEAN;
        out->integer = code & 1;
        return 0;
    case 0xc4:
    case 0xc5:
    case 0xc6: return sized(r, MSGPACK_BINARY, 1 << (code - 0xc4), out, e);
    case 0xc7:
    case 0xc8:
    case 0xc9: return sized(r, MSGPACK_EXTENSION, 1 << (code - 0xc7), out, e);
    case 0xca: return real(r, 4, out, e);
    case 0xcb: return real(r, 8, out, e);
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: return integer(r, 1 << (code - 0xcc), 0, out, e);
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: return integer(r, 1 << (code - 0xd0), 1, out, e);
    case 0xd4:
    case 0xd5:
    case 0xd6:
    case 0xd7:
    case 0xd8: out->size = 1u << (code - 0xd4); return sized(r, MSGPACK_EXTENSION, 0, out, e);
    case 0xd9:
    case 0xda:
    case 0xdb: return sized(r, MSGPACK_TEXT, 1 << (code - 0xd9), out, e);
    case 0xdc:
    case 0xdd: return sized(r, MSGPACK_ARRAY, 2 << (code - 0xdc), out, e);
    case 0xde:
    case 0xdf: return sized(r, MSGPACK_MAP, 2 << (code - 0xde), out, e);
    default: return error_set(e, "holds the byte 0x%02x, which is not msgpack", code);
    }
}

int msgpack_token(MsgpackReader *r, MsgpackToken *out, Error *e) {
    unsigned char code;
    *out = (MsgpackToken){.kind = MSGPACK_NIL};
    if (msgpack_bytes(r, &code, 1, e) != 0) return -1;
    if (code < 0x80 || code >= 0xe0) {
        out->kind = MSGPACK_INTEGER;
        out->integer = (signed char)code;
        return 0;
    }
    if (code >= 0xc0) return coded(r, code, out, e);
    out->size = code < 0xa0 ? code & 0x0f : code & 0x1f;
    return sized(r,
                 code < 0x90   ? MSGPACK_MAP
                 : code < 0xa0 ? MSGPACK_ARRAY
                               : MSGPACK_TEXT,
                 0, out, e);
}

int msgpack_expect(MsgpackReader *r, MsgpackKind kind, const char *what, MsgpackToken *out,
                   Error *e) {
    static const char *const kinds[] = {"nil",      "a boolean", "an integer",
                                        "a real",   "a text",    "binary",
                                        "an array", "a map",     "an extension"};
    if (msgpack_token(r, out, e) != 0) return -1;
    if (out->kind == kind) return 0;
    return error_set(e, "%s is %s, wants %s", what, kinds[out->kind], kinds[kind]);
}

int msgpack_text(MsgpackReader *r, const char *what, char *out, size_t room, Error *e) {
    MsgpackToken t;
    if (msgpack_expect(r, MSGPACK_TEXT, what, &t, e) != 0) return -1;
    if (t.size >= room)
        return error_set(e, "%s has %llu bytes, at most %zu are allowed", what,
                         (unsigned long long)t.size, room - 1);
    if (msgpack_bytes(r, out, (size_t)t.size, e) != 0) return -1;
    out[t.size] = 0;
    return memchr(out, 0, (size_t)t.size) ? error_set(e, "%s holds a NUL byte", what) : 0;
}

int msgpack_skip(MsgpackReader *r, Error *e) {
    /* Each value still to come takes a byte of the file, so the count cannot overflow. */
    for (uint64_t values = 1; values > 0; values--) {
        MsgpackToken t;
        if (msgpack_token(r, &t, e) != 0) return -1;
        if (t.kind == MSGPACK_ARRAY) values += t.size;
        if (t.kind == MSGPACK_MAP) values += 2 * t.size;
        if (values > msgpack_left(r) + 1) return error_set(e, "is cut off inside a value");
        if (t.kind != MSGPACK_TEXT && t.kind != MSGPACK_BINARY && t.kind != MSGPACK_EXTENSION)
            continue;
        for (uint64_t left = t.size; left > 0;) {
            unsigned char waste[4096];
            size_t n = left < sizeof waste ? (size_t)left : sizeof waste;
            if (msgpack_bytes(r, waste, n, e) != 0) return -1;
            left -= n;
        }
    }
    return 0;
}
