/* schedule.c: sums of distances. A double holds nanoseconds of a month to better than one. */
#include "schedule.h"

#include <math.h>

void schedule_init(struct schedule *schedule, uint64_t begin_ns, double rate, bool poisson,
                   uint64_t seed)
{
    *schedule = (struct schedule){
        .at_ns = (double)begin_ns, .gap_ns = 1e9 / rate, .poisson = poisson, .dice = dice_of(seed)};
}

uint64_t schedule_next(struct schedule *schedule)
{
    double gaps = schedule->poisson ? -log(1 - dice_real(&schedule->dice)) : 1;
    schedule->at_ns += gaps * schedule->gap_ns;
    return (uint64_t)schedule->at_ns;
}
