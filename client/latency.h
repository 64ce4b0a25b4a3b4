/* latency.h: how long a kind of request takes at one shard of one node, as heard of late.
 *
 * A histogram of answers in buckets a quarter of an octave wide, from 16 us to 17 s, of which only
 * the late count: at 1,024 answers all counts are halved, and an answer after 5 s without one
 * begins anew, so that a node that was slow is judged by what it does now. What is asked of it is
 * the time that 99 of 100 answers took at most: asking elsewhere, too, after that time is worth its
 * price (Dean and Barroso, The Tail at Scale, CACM 56(2), 2013). */
#ifndef KHO_CLIENT_LATENCY_H
#define KHO_CLIENT_LATENCY_H

#include <kho/base.h>

#define LATENCY_BUCKETS    81u
#define LATENCY_FIRST_BITS 14u   /* the first bucket ends at 2^14 ns */
#define LATENCY_HALVED_AT  1024u /* answers */
#define LATENCY_LOOK       16u   /* answers between two looks at the histogram, and the fewest */
#define LATENCY_STALE_NS   UINT64_C(5000000000)

/* Zeroed: nothing is known. */
struct latency {
    uint16_t counts[LATENCY_BUCKETS];
    uint32_t total;
    uint32_t fresh; /* answers since the last look */
    uint64_t last_ns;
    uint64_t high_ns; /* at the last look */
};

/* An answer came after so long. True: latency_high may say something new. */
bool latency_add(struct latency *latency, uint64_t took_ns, uint64_t now_ns);
/* The upper bound of the bucket up to which 99 of 100 answers lie; 0: not known. */
uint64_t latency_high(const struct latency *latency);

#endif
