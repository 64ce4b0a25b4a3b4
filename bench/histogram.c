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

/* The middle of a bucket's values. */
static double bucket_middle(unsigned bucket)
{
    uint64_t below = bucket > 0 ? bucket_end(bucket - 1) + 1 : 0;
    return (double)(below + bucket_end(bucket)) / 2;
}

static double deviation(const struct histogram *h)
{
    double mean = h->sum / (double)h->count, sum = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum += (double)h->buckets[i] * (bucket_middle(i) - mean) * (bucket_middle(i) - mean);
    return sqrt(sum / (double)h->count);
}

/* Five steps each time that the distance to 100 % is halved. */
int histogram_write(const struct histogram *h, double unit, FILE *file)
{
    enum { STEPS = 5 };
    fprintf(file, "%12s %14s %10s %14s\n\n", "Value", "Percentile", "TotalCount",
            "1/(1-Percentile)");
    double share = 0, step = 1.0 / STEPS / 2, half = 0.5;
    uint64_t seen = 0;
    for (unsigned i = 0; h->count > 0 && i < HISTOGRAM_BUCKETS && seen < h->count; i++) {
        seen += h->buckets[i];
        if ((double)seen < share * (double)h->count || h->buckets[i] == 0)
            continue;
        double reached = (double)seen / (double)h->count;
        uint64_t end = bucket_end(i) < h->max ? bucket_end(i) : h->max;
        if (seen < h->count)
            fprintf(file, "%12.3f %2.12f %10llu %14.2f\n", (double)end / unit, reached,
                    (unsigned long long)seen, 1 / (1 - reached));
        else
            fprintf(file, "%12.3f %2.12f %10llu\n", (double)end / unit, 1.0,
                    (unsigned long long)seen);
        while (share <= reached && seen < h->count) {
            share += step;
            if (share >= 1 - half + step / 2) {
                half /= 2;
                step /= 2;
            }
        }
    }
    fprintf(file, "#[Mean    = %12.3f, StdDeviation   = %12.3f]\n",
            h->count > 0 ? h->sum / (double)h->count / unit : 0,
            h->count > 0 ? deviation(h) / unit : 0);
    fprintf(file, "#[Max     = %12.3f, Total count    = %12llu]\n", (double)h->max / unit,
            (unsigned long long)h->count);
    fprintf(file, "#[Buckets = %12d, SubBuckets     = %12d]\n",
            HISTOGRAM_TOP_BITS - HISTOGRAM_SUB_BITS, 1 << HISTOGRAM_SUB_BITS);
    return ferror(file) == 0 ? 0 : -1;
}
