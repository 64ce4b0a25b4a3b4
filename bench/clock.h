/* clock.h: the clocks that benches measure by. */
#ifndef KHO_BENCH_CLOCK_H
#define KHO_BENCH_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_read(clockid_t clock)
{
    struct timespec t;
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
static inline uint64_t clock_ns(void)
{
    return clock_read(CLOCK_MONOTONIC);
}
static inline uint64_t clock_wall_ms(void)
{
    return clock_read(CLOCK_REALTIME) / 1000000u;
}
/* Of all threads of this process, io_uring's workers included. */
static inline uint64_t clock_cpu_ns(void)
{
    return clock_read(CLOCK_PROCESS_CPUTIME_ID);
}

#endif
