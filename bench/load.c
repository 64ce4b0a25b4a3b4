/* load.c: a closed loop: each call that ends makes room for the next one, which is sent from its
 * callback. Where the client's bound of bytes is reached, calls wait in the order in which they
 * were drawn. A call that the library refuses ends the run; a record that fails is counted. */
#include "load.h"

#include <errno.h>
#include <stdlib.h>

enum { DEADLINE_MS = 60000 };

typedef int (*records_call)(struct kho *client, const char *collection,
                            const struct kho_item *items, size_t count, uint32_t deadline_ms,
                            kho_records_cb cb, void *arg, kho_call_id *ret_call);

static const records_call calls_of[OPS] = {[OP_READ] = kho_get,
                                           [OP_UPDATE] = kho_put,
                                           [OP_INSERT] = kho_put,
                                           [OP_APPEND] = kho_append,
                                           [OP_READBACK] = kho_get};

struct load;

struct call {
    struct load *load;
    struct call *next; /* among those that wait for room */
    uint64_t began_ns;
    size_t sent_bytes;
    struct work work;
};

struct load {
    struct kho *client;
    struct workload *workload;
    struct load_figures *figures;
    const struct load_window *window;
    size_t batch, inflight, under_way;
    struct call *calls, *waiting, **waiting_end;
    /* Of all calls: a call's items are copied by the library before it returns. */
    struct kho_item *items;
    char *bytes;
};

static void note_failure(struct load_figures *f, enum work_verdict verdict, int status)
{
    f->missing += verdict == WORK_MISSING;
    f->wrong += verdict == WORK_WRONG;
    f->failed += verdict == WORK_FAILED;
    if (verdict == WORK_FAILED && f->first_error == 0)
        f->first_error = status;
}

static bool within(const struct load_window *window, uint64_t now_ns)
{
    return window != NULL && now_ns >= window->begin_ns && now_ns < window->end_ns;
}

static void call_begin(struct call *call, uint64_t now_ns);

static void on_records(struct kho *client, const struct kho_result *results, size_t count,
                       void *arg)
{
    struct call *call = arg;
    struct load *load = call->load;
    struct load_figures *f = load->figures;
    uint64_t now_ns = uv_hrtime(), bytes = call->sent_bytes;
    enum work_op op = call->work.op;
    (void)client;
    for (size_t i = 0; i < count; i++) {
        enum work_verdict verdict = workload_take(load->workload, &call->work, i, &results[i]);
        if (verdict != WORK_RIGHT)
            note_failure(f, verdict, results[i].status);
        bytes += results[i].value != NULL ? results[i].value_len : 0;
    }
    f->read_back += op == OP_READBACK ? count : 0;
    if (within(load->window, now_ns)) {
        f->ops[op].calls++;
        f->ops[op].records += count;
        f->ops[op].bytes += bytes;
        histogram_add(&f->ops[op].latency, now_ns - call->began_ns, 1);
    }
    load->under_way--;
    call_begin(call, now_ns);
}

/* True: under way, or never to be. False: the client has no room. */
static bool call_send(struct call *call)
{
    struct load *load = call->load;
    call->sent_bytes = workload_make(load->workload, &call->work, load->items, load->bytes);
    int error = calls_of[call->work.op](load->client, LOAD_COLLECTION, load->items,
                                        call->work.count, DEADLINE_MS, on_records, call, NULL);
    if (error == KHO_EBUSY)
        return false;
    if (error == 0)
        load->under_way++;
    else
        load->figures->call_error = error;
    return true;
}

static void on_room(struct kho *client, int status, void *arg)
{
    struct load *load = arg;
    (void)client;
    (void)status;
    while (load->waiting != NULL) {
        struct call *call = load->waiting;
        if (!call_send(call)) {
            kho_on_room(load->client, on_room, load);
            return;
        }
        load->waiting = call->next;
    }
    load->waiting_end = &load->waiting;
}

static void wait_for_room(struct load *load, struct call *call)
{
    if (load->waiting == NULL)
        kho_on_room(load->client, on_room, load);
    call->next = NULL;
    *load->waiting_end = call;
    load->waiting_end = &call->next;
}

static void call_begin(struct call *call, uint64_t now_ns)
{
    struct load *load = call->load;
    if (load->figures->call_error != 0 ||
        (load->window != NULL && now_ns >= load->window->end_ns) ||
        !workload_draw(load->workload, load->batch, &call->work))
        return;
    call->began_ns = now_ns;
    if (load->waiting != NULL || !call_send(call))
        wait_for_room(load, call);
}

static int load_init(struct load *load)
{
    load->waiting_end = &load->waiting;
    load->calls = calloc(load->inflight, sizeof *load->calls);
    load->items = calloc(load->batch, sizeof *load->items);
    load->bytes = malloc(workload_room(load->workload, load->batch));
    if (load->calls == NULL || load->items == NULL || load->bytes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < load->inflight; i++) {
        struct call *call = &load->calls[i];
        call->load = load;
        call->work.numbers = calloc(load->batch, sizeof *call->work.numbers);
        call->work.revisions = calloc(load->batch, sizeof *call->work.revisions);
        if (call->work.numbers == NULL || call->work.revisions == NULL)
            return -ENOMEM;
    }
    return 0;
}

static void load_fini(struct load *load)
{
    for (size_t i = 0; load->calls != NULL && i < load->inflight; i++) {
        free(load->calls[i].work.numbers);
        free(load->calls[i].work.revisions);
    }
    free(load->calls);
    free(load->items);
    free(load->bytes);
}

int load_run(struct kho *client, uv_loop_t *loop, struct workload *workload, size_t batch,
             size_t inflight, const struct load_window *window, struct load_figures *figures)
{
    struct load load = {.client = client,
                        .workload = workload,
                        .figures = figures,
                        .window = window,
                        .batch = batch,
                        .inflight = inflight};
    int error = load_init(&load);
    if (error == 0) {
        for (size_t i = 0; i < inflight; i++)
            call_begin(&load.calls[i], uv_hrtime());
        while (load.under_way > 0 || load.waiting != NULL)
            uv_run(loop, UV_RUN_ONCE);
    }
    load_fini(&load);
    return error;
}
