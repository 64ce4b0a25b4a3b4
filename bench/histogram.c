/* histogram.c: buckets by the position of the highest bit and the nine bits below it. */
#include "histogram.h"

#include <math.h>
#include <string.h>

enum { HALF = 1 << (HISTOGRAM_SUB_BITS - 1) };

static unsigned bucket_of(uint64_t value)
{
    if (value < 1u << HISTOGRAM_SUB_BITS)
        return (unsigned)value;
    unsigned top = 63u - (unsigned)__builtin_clzll(value);
    unsigned shift = top - (HISTOGRAM_SUB_BITS - 1);
    return shift * HALF + (unsigned)(value >> shift);
}

/* The largest value of a bucket. */
static uint64_t bucket_end(unsigned bucket)
{
    if (bucket < 1u << HISTOGRAM_SUB_BITS)
        return bucket;
    unsigned shift = bucket / HALF - 1;
    uint64_t low = (uint64_t)(bucket - shift * HALF) << shift;
    return low + ((uint64_t)1 << shift) - 1;
}

void histogram_clear(struct histogram *h)
{
    memset(h, 0, sizeof *h);
}

void histogram_add(struct histogram *h, uint64_t value, uint64_t times)
{
    const uint64_t top = ((uint64_t)1 << HISTOGRAM_TOP_BITS) - 1;
    if (value > top)
        value = top;
    h->buckets[bucket_of(value)] += times;
    h->count += times;
    h->sum += (double)value * (double)times;
    if (value > h->max)
        h->max = value;
}

void histogram_merge(struct histogram *h, const struct histogram *from)
{
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        h->buckets[i] += from->buckets[i];
    h->count += from->count;
    h->sum += from->sum;
    if (from->max > h->max)
        h->max = from->max;
}

uint64_t histogram_percentile(const struct histogram *h, double percent)
{
    uint64_t rank = (uint64_t)ceil((double)h->count * percent / 100), seen = 0;
    if (h->count == 0)
        return 0;
    if (rank < 1)
        rank = 1;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (seen >= rank) {
            uint64_t end = bucket_end(i);
            return end < h->max ? end : h->max;
        }
    }
    return h->max;
}
