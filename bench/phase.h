/* phase.h: one phase of a bench: so many records of one collection through one kind of call, in
 * batches, a few of them under way at once. */
#ifndef KHO_BENCH_PHASE_H
#define KHO_BENCH_PHASE_H

#include <stdbool.h>

#include <kho/kho.h>
#include <uv.h>

#include "histogram.h"

typedef int (*records_call)(struct kho *client, const char *collection,
                            const struct kho_item *items, size_t count, uint32_t deadline_ms,
                            kho_records_cb cb, void *arg, kho_call_id *ret_call);

struct phase_plan {
    const char *name, *collection;
    records_call call;
    uint64_t total;
    /* Makes record i: key and value go to `*at`, which moves on behind them; at most record_max
     * bytes. */
    void (*make)(void *owner, uint64_t i, struct kho_item *item, char **at);
    /* Takes the result of record i. True: as it should be. */
    bool (*take)(void *owner, uint64_t i, const struct kho_result *result);
    void *owner;
    size_t record_max;
    size_t batch, inflight;
};

/* What a phase took. */
struct phase_figures {
    const char *name;
    uint64_t records, failed, bytes;
    int call_error;                        /* why no more calls were made, or 0 */
    double seconds, cpu_nodes, cpu_client; /* CPU in seconds, by the caller's clocks */
    struct histogram latency;              /* ns, of the call that a record was in */
};

/* Runs `plan` on the client's loop until all its calls have ended. *interrupted ends it early.
 * -ENOMEM, or 0 with the figures but the CPU's. */
int phase_run(struct kho *client, uv_loop_t *loop, const struct phase_plan *plan,
              const volatile int *interrupted, struct phase_figures *ret_figures);

#endif
