/* process.h: what processes have used, from the clocks and /proc. */
#ifndef KHO_BENCH_PROCESS_H
#define KHO_BENCH_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

struct process_usage {
    double cpu_seconds; /* user and system, of all threads, io_uring's workers included */
    uint64_t rss_bytes;
};

/* 0, or -errno (-ESRCH, when it has ended). */
int process_usage(pid_t pid, struct process_usage *ret_usage);

#endif
