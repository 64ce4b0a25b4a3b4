/* load.h: drives one client of the library through a workload: keeps so many calls under way, or
 * starts them at set moments, and notes what came back and when. */
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
        /* ns, of the calls that ended in the window; open loop: that were to start in it, from that
         * moment on, whenever they ended. */
        struct histogram latency;
    } ops[OPS];
    /* Open loop: calls that found too many under way at their moment; and those of them that
     * hadn't begun when the window ended, by how long they had waited then. */
    uint64_t delayed;
    struct histogram never_begun;
    /* Records, of all phases and times. */
    uint64_t failed, missing, wrong, read_back;
    int first_error; /* of a record that failed */
    int call_error;  /* why no more calls were made */
};

void load_figures_merge(struct load_figures *sum, const struct load_figures *figures);

/* Between these times, of uv_hrtime, is measured; after the end no call begins. */
struct load_window {
    uint64_t begin_ns, end_ns;
};

struct load_plan {
    size_t batch, inflight;
    const struct load_window *window; /* NULL: until the phase is done; only failures are noted */
    double calls_per_second;          /* 0: closed loop; else there is a window */
    bool fixed;                       /* open loop, at equal distances */
    uint64_t seed;                    /* of the moments */
};

/* Runs the workload's phase until it is done, or the window is over, and all calls have ended. 0,
 * or -errno where it can't begin. */
int load_run(struct kho *client, uv_loop_t *loop, struct workload *workload,
             const struct load_plan *plan, struct load_figures *figures);

#endif
