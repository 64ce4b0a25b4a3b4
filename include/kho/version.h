/* version.h: the order of writes.
 *
 * A version is (counter, writer), in that order of weight, and total (DESIGN section 2). The
 * counter holds milliseconds since 1970 times 2^20 plus 20 random bits, or one more than what was
 * there before; a counter above KHO_COUNTER_MAX is refused everywhere, so the index may use the top
 * bit. The writer is 32 random bits of one client instance. Version zero is "nothing". */
#ifndef KHO_VERSION_H
#define KHO_VERSION_H

#include <kho/base.h>

#define KHO_COUNTER_MAX       ((uint64_t)INT64_MAX)
#define KHO_COUNTER_TIME_BITS 20
/* R6: a first-hand counter further than this above the node's time, index and floor is refused. */
#define KHO_COUNTER_AHEAD_MS (UINT64_C(24) * 60 * 60 * 1000)

struct version {
    uint64_t counter;
    uint32_t writer;
};

static inline int version_compare(struct version a, struct version b)
{
    if (a.counter != b.counter)
        return a.counter < b.counter ? -1 : 1;
    if (a.writer != b.writer)
        return a.writer < b.writer ? -1 : 1;
    return 0;
}
static inline bool version_is_zero(struct version v)
{
    return v.counter == 0 && v.writer == 0;
}
static inline struct version version_max(struct version a, struct version b)
{
    return version_compare(a, b) < 0 ? b : a;
}

/* The smallest counter of a millisecond. A wall time beyond the year 280,000 saturates. */
static inline uint64_t version_counter_at(uint64_t wall_ms)
{
    uint64_t limit = KHO_COUNTER_MAX >> KHO_COUNTER_TIME_BITS;
    return (wall_ms > limit ? limit : wall_ms) << KHO_COUNTER_TIME_BITS;
}

/* The counter of a put (DESIGN section 3): above everything the majority has, above the floor, and
 * not below the lowest node time heard; `random` supplies the 20 low bits. Returns 0 when the
 * counters are used up (a record at KHO_COUNTER_MAX), which no clock of this era reaches. */
static inline uint64_t version_stamp(uint64_t highest, uint64_t floor, uint64_t lowest_wall_ms,
                                     uint64_t random)
{
    uint64_t low_bits = random & ((1u << KHO_COUNTER_TIME_BITS) - 1);
    uint64_t counter = version_counter_at(lowest_wall_ms) | low_bits;
    if (highest >= KHO_COUNTER_MAX || floor >= KHO_COUNTER_MAX)
        return 0;
    if (counter <= highest)
        counter = highest + !KHO_PLANTED(stamp_not_above);
    if (counter <= floor)
        counter = floor + 1;
    return counter;
}

#endif
