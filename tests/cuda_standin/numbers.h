/* What the libraries' stand-ins do to numbers: types to and from float, and tf32. */
#ifndef STANDIN_NUMBERS_H
#define STANDIN_NUMBERS_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#include <vector>

namespace standin {

static inline uint32_t bits_of(float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return bits;
}

static inline float float_of(uint32_t bits) {
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* f32 rounded to nearest even at the last `dropped` bits: 13 gives tf32, 16 bf16. */
static inline float rounded(float v, int dropped) {
    uint32_t bits = bits_of(v);
    if (!isfinite(v)) return v;
    bits += (UINT32_C(1) << (dropped - 1)) - 1 + (bits >> dropped & 1);
    return float_of(bits >> dropped << dropped);
}

/* n elements of f32 or bf16 as floats, rounded to tf32 where that is asked for. */
static inline std::vector<float> to_floats(const void *from, size_t n, bool bf16, bool tf32) {
    std::vector<float> out(n);
    for (size_t i = 0; i < n; i++) {
        float v =
            bf16 ? float_of((uint32_t)((const uint16_t *)from)[i] << 16) : ((const float *)from)[i];
        out[i] = tf32 && !bf16 ? rounded(v, 13) : v;
    }
    return out;
}

/* to = values + beta * to. */
static inline void from_floats(const std::vector<float> &values, float beta, void *to, bool bf16) {
    for (size_t i = 0; i < values.size(); i++) {
        uint16_t *half = (uint16_t *)to + i;
        float *whole = (float *)to + i;
        float v = values[i];
        if (beta != 0) v += beta * (bf16 ? float_of((uint32_t)*half << 16) : *whole);
        if (bf16)
            *half = (uint16_t)(bits_of(rounded(v, 16)) >> 16);
        else
            *whole = v;
    }
}

} // namespace standin

#endif
