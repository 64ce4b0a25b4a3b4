/* load.h: drives one client of the library through a workload: keeps so many calls under way,
 * notes what came back and when. */
#ifndef KHO_BENCH_LOAD_H
#define KHO_BENCH_LOAD_H

#include <stdint.h>
#include <uv.h>

#include <kho/kho.h>

#include "histogram.h"
#include "workload.h"

#define LOAD_COLLECTION "bench"

/* What a client found out while it was measured; plain, so that it may lie in shared memory. */
struct load_figures {
    struct {
        uint64_t calls, records, bytes; /* that ended in the window; bytes of keys and values */
        struct histogram latency;       /* ns of each of these calls */
    } ops[OPS];
    /* Records, of all phases and times. */
    uint64_t failed, missing, wrong, read_back;
    int first_error; /* of a record that failed */
    int call_error;  /* why no more calls were made */
};

/* Between these times, of uv_hrtime, is measured; after the end no call begins. */
struct load_window {
    uint64_t begin_ns, end_ns;
};

/* Runs the workload's phase until it is done, or the window is over, and all calls have ended.
 * `window` NULL: nothing is measured, and only failures are noted. 0, or -ENOMEM. */
int load_run(struct kho *client, uv_loop_t *loop, struct workload *workload, size_t batch,
             size_t inflight, const struct load_window *window, struct load_figures *figures);

#endif
