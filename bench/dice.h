/* dice.h: a small stream of random numbers, splitmix64 (Steele, Lea and Flood, 2014). Equal seeds
 * give equal streams on every machine. */
#ifndef KHO_BENCH_DICE_H
#define KHO_BENCH_DICE_H

#include <stdint.h>

struct dice {
    uint64_t state;
};

/* A bijection of 64 bits that leaves no trace of the order of its inputs. */
static inline uint64_t dice_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

static inline struct dice dice_of(uint64_t seed)
{
    return (struct dice){.state = dice_mix(seed + 1)};
}

static inline uint64_t dice_next(struct dice *dice)
{
    dice->state += 0x9E3779B97F4A7C15u;
    return dice_mix(dice->state);
}

/* In [0, bound); the bias is below bound / 2^64. */
static inline uint64_t dice_below(struct dice *dice, uint64_t bound)
{
    return (uint64_t)(((unsigned __int128)dice_next(dice) * bound) >> 64);
}

/* In [0, 1). */
static inline double dice_real(struct dice *dice)
{
    return (double)(dice_next(dice) >> 11) * 0x1p-53;
}

#endif
