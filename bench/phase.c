/* phase.c: keeps `inflight` batches under way: each is made into one buffer of its own, sent, taken
 * when it has ended, made anew. When the client's bound of bytes is reached, the batch waits for
 * room. A call that is refused ends the phase; a record that fails is counted. On a terminal a line
 * shows how far it is. */
#include "phase.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "report.h"

enum { PROGRESS_NS = 200000000, DEADLINE_MS = 60000, FAILURES_SHOWN = 5 };

struct run;

struct batch {
    struct run *run;
    struct batch *next; /* among those that wait for room */
    uint64_t first, began_ns;
    size_t count;
    struct kho_item *items;
    char *bytes;
};

struct run {
    struct kho *client;
    const struct phase_plan *plan;
    struct phase_figures *figures;
    const volatile int *interrupted;
    uint64_t next, began_ns, shown_ns;
    size_t under_way;
    struct batch *batches, *waiting;
    bool terminal;
};

static void progress(struct run *run, uint64_t now_ns)
{
    char done[32], total[32], rate[32];
    const struct phase_figures *f = run->figures;
    double seconds = (double)(now_ns - run->began_ns) / 1e9;
    if (!run->terminal || now_ns - run->shown_ns < PROGRESS_NS)
        return;
    run->shown_ns = now_ns;
    fprintf(stderr, "\r%-18s %s of %s records, %s/s, %.1f MB/s\033[K", f->name,
            report_thousands(done, (double)f->records),
            report_thousands(total, (double)run->plan->total),
            report_thousands(rate, (double)f->records / seconds), (double)f->bytes / 1e6 / seconds);
}

static void record_failed(struct run *run, uint64_t i, const struct kho_result *result)
{
    if (run->figures->failed++ < FAILURES_SHOWN)
        fprintf(stderr, "%s%s: record %llu: %s\n", run->terminal ? "\r\033[K" : "",
                run->figures->name, (unsigned long long)i,
                result->status != 0 ? kho_strerror(result->status) : "not as generated");
}

static void batch_begin(struct batch *batch);

static void on_records(struct kho *client, const struct kho_result *results, size_t count,
                       void *arg)
{
    struct batch *batch = arg;
    struct run *run = batch->run;
    struct phase_figures *f = run->figures;
    uint64_t now_ns = uv_hrtime();
    (void)client;
    histogram_add(&f->latency, now_ns - batch->began_ns, count);
    for (size_t i = 0; i < count; i++) {
        const struct kho_item *item = &batch->items[i];
        f->bytes += item->value != NULL ? item->key_len + item->value_len
                                        : results[i].key_len + results[i].value_len;
        if (!run->plan->take(run->plan->owner, batch->first + i, &results[i]))
            record_failed(run, batch->first + i, &results[i]);
    }
    f->records += count;
    run->under_way--;
    progress(run, now_ns);
    batch_begin(batch);
}

static void batch_send(struct batch *batch);

static void on_room(struct kho *client, int status, void *arg)
{
    struct run *run = arg;
    struct batch *waiting = run->waiting;
    (void)client;
    (void)status;
    run->waiting = NULL;
    while (waiting != NULL) {
        struct batch *next = waiting->next;
        batch_send(waiting);
        waiting = next;
    }
}

static void batch_send(struct batch *batch)
{
    struct run *run = batch->run;
    const struct phase_plan *plan = run->plan;
    batch->began_ns = uv_hrtime();
    int error = plan->call(run->client, plan->collection, batch->items, batch->count, DEADLINE_MS,
                           on_records, batch, NULL);
    if (error == 0) {
        run->under_way++;
    } else if (error == KHO_EBUSY) {
        batch->next = run->waiting;
        run->waiting = batch;
        kho_on_room(run->client, on_room, run);
    } else {
        run->figures->call_error = error;
    }
}

static void batch_begin(struct batch *batch)
{
    struct run *run = batch->run;
    const struct phase_plan *plan = run->plan;
    char *at = batch->bytes;
    uint64_t left = plan->total - run->next;
    if (left == 0 || run->figures->call_error != 0 || *run->interrupted)
        return;
    batch->first = run->next;
    batch->count = left < plan->batch ? (size_t)left : plan->batch;
    run->next += batch->count;
    for (size_t i = 0; i < batch->count; i++) {
        batch->items[i] = (struct kho_item){.key = NULL};
        plan->make(plan->owner, batch->first + i, &batch->items[i], &at);
    }
    batch_send(batch);
}

static int batches_make(struct run *run)
{
    const struct phase_plan *plan = run->plan;
    run->batches = calloc(plan->inflight, sizeof *run->batches);
    if (run->batches == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < plan->inflight; i++) {
        struct batch *batch = &run->batches[i];
        batch->run = run;
        batch->items = calloc(plan->batch, sizeof *batch->items);
        batch->bytes = malloc(plan->batch * plan->record_max);
        if (batch->items == NULL || batch->bytes == NULL)
            return -ENOMEM;
    }
    return 0;
}

static void batches_free(struct run *run)
{
    for (size_t i = 0; run->batches != NULL && i < run->plan->inflight; i++) {
        free(run->batches[i].items);
        free(run->batches[i].bytes);
    }
    free(run->batches);
}

int phase_run(struct kho *client, uv_loop_t *loop, const struct phase_plan *plan,
              const volatile int *interrupted, struct phase_figures *ret_figures)
{
    struct run run = {.client = client,
                      .plan = plan,
                      .figures = ret_figures,
                      .interrupted = interrupted,
                      .terminal = isatty(STDERR_FILENO) == 1};
    *ret_figures = (struct phase_figures){.name = plan->name};
    int error = batches_make(&run);
    if (error == 0) {
        run.began_ns = run.shown_ns = uv_hrtime();
        for (size_t i = 0; i < plan->inflight; i++)
            batch_begin(&run.batches[i]);
        while (run.under_way > 0 || run.waiting != NULL)
            uv_run(loop, UV_RUN_ONCE);
        ret_figures->seconds = (double)(uv_hrtime() - run.began_ns) / 1e9;
        if (run.terminal)
            fprintf(stderr, "\r\033[K");
    }
    batches_free(&run);
    return error;
}
