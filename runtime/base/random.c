#include "base/random.h"

#include <math.h>

uint64_t random_hash(uint64_t hash, const void *bytes, size_t n) {
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) hash = (hash ^ p[i]) * UINT64_C(0x100000001B3);
    return hash;
}

uint64_t random_bits(uint64_t key, uint64_t i) {
    uint64_t z = key + i + UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ (z >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94D049BB133111EB);
    return z ^ (z >> 31);
}

double random_uniform(uint64_t key, uint64_t i) {
    return (double)(random_bits(key, i) >> 40) / (double)(1 << 24);
}

double random_normal(uint64_t key, uint64_t i, double deviation) {
    static const double turn = 6.283185307179586;
    double u = random_uniform(key, i * 2), v = random_uniform(key, i * 2 + 1);
    return deviation * sqrt(-2 * log(1 - u)) *
           cos(turn * v); /* 1 - u > 0: the logarithm is finite */
}
