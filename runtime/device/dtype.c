/* Every conversion goes through a wide form, int64_t for integers or double for floating point, one
 * block at a time. So each type needs one load and one store, and no pair of types needs its own
 * code. */
#include "device/dtype.h"

#include <math.h>
#include <string.h>

static const struct {
    const char *name;
    size_t size;
} facts[DTYPES] = {
    [DTYPE_F32] = {"f32", 4},   [DTYPE_F64] = {"f64", 8}, [DTYPE_F16] = {"f16", 2},
    [DTYPE_BF16] = {"bf16", 2}, [DTYPE_I64] = {"i64", 8}, [DTYPE_I32] = {"i32", 4},
    [DTYPE_I16] = {"i16", 2},   [DTYPE_I8] = {"i8", 1},   [DTYPE_U8] = {"u8", 1},
    [DTYPE_BOOL] = {"bool", 1},
};

size_t dtype_size(Dtype t) {
    return facts[t].size;
}

const char *dtype_name(Dtype t) {
    return facts[t].name;
}

int dtype_of(const char *name, Dtype *out) {
    for (int t = 0; t < DTYPES; t++)
        if (strcmp(name, facts[t].name) == 0) {
            *out = (Dtype)t;
            return 0;
        }
    return -1;
}

/* A binary format narrower than double: the stored mantissa bits, and the exponents of its least
 * and greatest normal numbers. */
typedef struct Format {
    int mantissa, least, greatest;
} Format;

static const Format f16 = {10, -14, 15}, bf16 = {7, -126, 127};

static uint16_t format_bits(Format f, double v) {
    uint16_t sign = signbit(v) ? 0x8000 : 0;
    uint16_t infinite = (uint16_t)((f.greatest - f.least + 2) << f.mantissa);
    if (isnan(v)) return (uint16_t)(sign | infinite | 1 << (f.mantissa - 1));
    if (v == 0) return sign;
    int e = isinf(v) ? f.greatest + 1 : ilogb(v);
    if (e > f.greatest) return sign | infinite;
    if (e < f.least) e = f.least;
    /* The number in units of the last place. A hidden bit lies just above the mantissa. When
     * rounding reaches the next power of two, adding it to the exponent field carries; the least
     * normal number and infinity come out right too. Scaling by a power of two is exact. */
    double units = nearbyint(scalbn(fabs(v), f.mantissa - e));
    return (uint16_t)(sign | (uint16_t)(((e - f.least) << f.mantissa) + (int)units));
}

static double format_value(Format f, uint16_t bits) {
    int exponent = (bits & 0x7fff) >> f.mantissa, mantissa = bits & ((1 << f.mantissa) - 1);
    double v;
    if (exponent == f.greatest - f.least + 2)
        v = mantissa ? NAN : INFINITY;
    else if (exponent == 0)
        v = scalbn(mantissa, f.least - f.mantissa);
    else
        v = scalbn(mantissa + (1 << f.mantissa), exponent - 1 + f.least - f.mantissa);
    return bits & 0x8000 ? -v : v;
}

static bool is_float(Dtype t) {
    return t == DTYPE_F32 || t == DTYPE_F64 || t == DTYPE_F16 || t == DTYPE_BF16;
}

enum { BLOCK = 256 };

#define EACH(expression)                                                                           \
    for (int i = 0; i < n; i++) {                                                                  \
        expression;                                                                                \
    }                                                                                              \
    break

static void load_float(double out[BLOCK], Dtype t, const void *in, int n) {
    const float *f = in;
    const double *d = in;
    const uint16_t *h = in;
    switch (t) {
    case DTYPE_F32: EACH(out[i] = f[i]);
    case DTYPE_F64: EACH(out[i] = d[i]);
    case DTYPE_F16: EACH(out[i] = format_value(f16, h[i]));
    case DTYPE_BF16: EACH(out[i] = format_value(bf16, h[i]));
    default: break;
    }
}

static void load_integer(int64_t out[BLOCK], Dtype t, const void *in, int n) {
    const int64_t *i64 = in;
    const int32_t *i32 = in;
    const int16_t *i16 = in;
    const int8_t *i8 = in;
    const uint8_t *u8 = in;
    switch (t) {
    case DTYPE_I64: EACH(out[i] = i64[i]);
    case DTYPE_I32: EACH(out[i] = i32[i]);
    case DTYPE_I16: EACH(out[i] = i16[i]);
    case DTYPE_I8: EACH(out[i] = i8[i]);
    case DTYPE_U8: EACH(out[i] = u8[i]);
    case DTYPE_BOOL: EACH(out[i] = u8[i] != 0);
    default: break;
    }
}

static void store_float(Dtype t, void *out, const double in[BLOCK], int n) {
    float *f = out;
    double *d = out;
    uint16_t *h = out;
    switch (t) {
    case DTYPE_F32: EACH(f[i] = (float)in[i]);
    case DTYPE_F64: EACH(d[i] = in[i]);
    case DTYPE_F16: EACH(h[i] = format_bits(f16, in[i]));
    case DTYPE_BF16: EACH(h[i] = format_bits(bf16, in[i]));
    default: break;
    }
}

static int64_t limited(int64_t v, int64_t low, int64_t high) {
    return v < low ? low : v > high ? high : v;
}

static void store_integer(Dtype t, void *out, const int64_t in[BLOCK], int n) {
    int64_t *i64 = out;
    int32_t *i32 = out;
    int16_t *i16 = out;
    int8_t *i8 = out;
    uint8_t *u8 = out;
    switch (t) {
    case DTYPE_I64: EACH(i64[i] = in[i]);
    case DTYPE_I32: EACH(i32[i] = (int32_t)limited(in[i], INT32_MIN, INT32_MAX));
    case DTYPE_I16: EACH(i16[i] = (int16_t)limited(in[i], INT16_MIN, INT16_MAX));
    case DTYPE_I8: EACH(i8[i] = (int8_t)limited(in[i], INT8_MIN, INT8_MAX));
    case DTYPE_U8: EACH(u8[i] = (uint8_t)limited(in[i], 0, UINT8_MAX));
    case DTYPE_BOOL: EACH(u8[i] = in[i] != 0);
    default: break;
    }
}

static int64_t truncated(double v) {
    if (isnan(v)) return 0;
    if (v >= 0x1p63) return INT64_MAX;
    if (v < -0x1p63) return INT64_MIN;
    return (int64_t)v;
}

/* An integer as a double that rounds to any narrower format as the integer itself does. The bits
 * that do not fit are combined into the last bit that fits (rounding to odd). So rounding twice
 * equals rounding once. */
static double odd_double(int64_t v) {
    uint64_t m = v < 0 ? -(uint64_t)v : (uint64_t)v;
    if (m >> 53) m = (m & ~UINT64_C(0x7ff)) | (uint64_t)((m & 0x7ff) != 0) << 11;
    return v < 0 ? -(double)m : (double)m;
}

static void convert_block(Dtype to, void *out, Dtype from, const void *in, int n) {
    double wide[BLOCK];
    int64_t whole[BLOCK];
    if (is_float(from)) {
        load_float(wide, from, in, n);
        if (is_float(to)) {
            store_float(to, out, wide, n);
            return;
        }
        for (int i = 0; i < n; i++) whole[i] = to == DTYPE_BOOL ? wide[i] != 0 : truncated(wide[i]);
        store_integer(to, out, whole, n);
    } else {
        load_integer(whole, from, in, n);
        if (!is_float(to)) {
            store_integer(to, out, whole, n);
            return;
        }
        for (int i = 0; i < n; i++)
            wide[i] = to == DTYPE_F64 ? (double)whole[i] : odd_double(whole[i]);
        store_float(to, out, wide, n);
    }
}

void dtype_convert(Dtype to, void *out, Dtype from, const void *in, int64_t n) {
    if (to == from) {
        if (n > 0) memmove(out, in, (size_t)n * facts[to].size);
        return;
    }
    for (int64_t i = 0; i < n; i += BLOCK) {
        int m = n - i < BLOCK ? (int)(n - i) : BLOCK;
        convert_block(to, (char *)out + (size_t)i * facts[to].size, from,
                      (const char *)in + (size_t)i * facts[from].size, m);
    }
}
