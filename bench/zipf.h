/* zipf.h: Zipfian ranks, as YCSB draws them: the generator of Gray et al., "Quickly generating
 * billion-record synthetic databases" (SIGMOD 1994), with the constant of Cooper et al.,
 * "Benchmarking cloud serving systems with YCSB" (SoCC 2010). Rank 0 comes most often: rank r with
 * a probability in proportion to 1 / (r + 1)^0.99. */
#ifndef KHO_BENCH_ZIPF_H
#define KHO_BENCH_ZIPF_H

#include <stdint.h>

#include "dice.h"

struct zipf {
    uint64_t count; /* of ranks */
    double sum;     /* of 1 / i^theta up to count */
    double alpha, eta;
};

/* `count` at least 2; it takes a time in proportion. */
void zipf_init(struct zipf *zipf, uint64_t count);
/* More ranks than before; it takes a time in proportion to how many more. */
void zipf_grow(struct zipf *zipf, uint64_t count);
uint64_t zipf_draw(const struct zipf *zipf, struct dice *dice);

/* The scrambled variant: the frequent ones lie anywhere in [0, count). As in YCSB a rank among ten
 * billion is hashed, so that the choice of the frequent ones doesn't depend on `count`. */
void zipf_init_scrambled(struct zipf *zipf);
uint64_t zipf_draw_scrambled(const struct zipf *zipf, struct dice *dice, uint64_t count);

#endif
