/* schedule.h: when the calls of an open loop are to start, however long the ones before them take.
 */
#ifndef KHO_BENCH_SCHEDULE_H
#define KHO_BENCH_SCHEDULE_H

#include <stdbool.h>
#include <stdint.h>

#include "dice.h"

struct schedule {
    double at_ns, gap_ns; /* the last start; the mean distance */
    bool poisson;
    struct dice dice;
};

/* `rate` calls a second from begin_ns on: at equal distances, or, `poisson`, as independent users
 * would make them, at exponentially distributed ones. */
void schedule_init(struct schedule *schedule, uint64_t begin_ns, double rate, bool poisson,
                   uint64_t seed);
/* The next start, never before the last one. */
uint64_t schedule_next(struct schedule *schedule);

#endif
