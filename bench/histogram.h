/* histogram.h: latencies in log-linear buckets: within a factor of two all of one width, a 512th of
 * the lower end or less, so that a percentile is off by less than 0.2 %. Fixed memory, no loss. */
#ifndef KHO_BENCH_HISTOGRAM_H
#define KHO_BENCH_HISTOGRAM_H

#include <stdint.h>
#include <stdio.h>

enum {
    HISTOGRAM_SUB_BITS = 10, /* values below 2^10 are exact */
    HISTOGRAM_TOP_BITS = 44, /* the largest value: some five hours in ns; larger ones count as it */
    HISTOGRAM_BUCKETS = (1 << HISTOGRAM_SUB_BITS) +
                        (HISTOGRAM_TOP_BITS - HISTOGRAM_SUB_BITS) * (1 << (HISTOGRAM_SUB_BITS - 1))
};

struct histogram {
    uint64_t count, max;
    double sum;
    uint64_t buckets[HISTOGRAM_BUCKETS];
};

void histogram_clear(struct histogram *h);
/* Counts `value` `times` times. */
void histogram_add(struct histogram *h, uint64_t value, uint64_t times);
/* Adds what `from` counted. */
void histogram_merge(struct histogram *h, const struct histogram *from);
/* The smallest value that at least `percent` % of those counted don't exceed, rounded up to its
 * bucket's end; 0 where there is none. */
uint64_t histogram_percentile(const struct histogram *h, double percent);

/* Writes the distribution as HdrHistogram's tools have it (.hgrm), values divided by `unit`. 0, or
 * -1 where the file takes no more. */
int histogram_write(const struct histogram *h, double unit, FILE *file);

#endif
