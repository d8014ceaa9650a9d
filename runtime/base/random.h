/* The project's random stream: a counter formula. A number depends only on its name and index,
 * never on order, threads or sharding.
 *     u(name, i) = (splitmix64(fnv1a64(name) + i) >> 40) / 2^24    in [0, 1)
 */
#ifndef ADVRT_BASE_RANDOM_H
#define ADVRT_BASE_RANDOM_H

#include <stddef.h>
#include <stdint.h>

/* fnv1a64 of n bytes, continued from `hash`; start with RANDOM_EMPTY. Hashing the parts of a name
 * one after another equals hashing the whole name. */
#define RANDOM_EMPTY UINT64_C(0xCBF29CE484222325)
uint64_t random_hash(uint64_t hash, const void *bytes, size_t n);
/* 64 random bits at index i of the stream `key` (the hash of its name). */
uint64_t random_bits(uint64_t key, uint64_t i);
/* u(name, i): a multiple of 2^-24 in [0, 1), exact in float. */
double random_uniform(uint64_t key, uint64_t i);
/* A standard normal number at index i, by Box-Muller from u(name, 2i) and u(name, 2i + 1). */
double random_normal(uint64_t key, uint64_t i, double deviation);

#endif
