/* latency.c: a decaying histogram of answers and its 99th percentile. Nothing here fails. */
#include "latency.h"

/* The bucket of 2^14 to 2^14.25 ns is 1; what is faster goes to 0, what is slower than the last to
 * the last. */
static uint32_t latency_bucket(uint64_t ns)
{
    if (ns < (UINT64_C(1) << LATENCY_FIRST_BITS))
        return 0;
    uint32_t bits = 63u - (uint32_t)__builtin_clzll(ns);
    uint32_t quarter = (uint32_t)(ns >> (bits - 2)) & 3;
    return (uint32_t)kho_min((bits - LATENCY_FIRST_BITS) * 4 + quarter + 1, LATENCY_BUCKETS - 1);
}

static uint64_t latency_bucket_end(uint32_t bucket)
{
    return (UINT64_C(4) + bucket % 4) << (LATENCY_FIRST_BITS - 2 + bucket / 4);
}

static void latency_halve(struct latency *latency)
{
    latency->total = 0;
    for (uint32_t i = 0; i < LATENCY_BUCKETS; i++) {
        latency->counts[i] /= 2;
        latency->total += latency->counts[i];
    }
}

static uint64_t latency_look(const struct latency *latency)
{
    uint32_t above = latency->total / 100, seen = 0;
    uint32_t at = LATENCY_BUCKETS - 1;
    while (at > 0 && seen + latency->counts[at] <= above)
        seen += latency->counts[at--];
    return latency_bucket_end(at);
}

bool latency_add(struct latency *latency, uint64_t took_ns, uint64_t now_ns)
{
    if (latency->total > 0 && now_ns - latency->last_ns >= LATENCY_STALE_NS)
        *latency = (struct latency){0};
    latency->last_ns = now_ns;
    latency->counts[latency_bucket(took_ns)]++;
    latency->total++;
    if (++latency->fresh < LATENCY_LOOK)
        return false;
    latency->fresh = 0;
    latency->high_ns = latency_look(latency);
    if (latency->total >= LATENCY_HALVED_AT)
        latency_halve(latency);
    return true;
}

uint64_t latency_high(const struct latency *latency)
{
    return latency->high_ns;
}
