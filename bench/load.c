/* load.c: in a closed loop each call that ends makes room for the next one, which is sent from its
 * callback. In an open loop a timer of the kernel's, finer than the loop's milliseconds, wakes us
 * when the next call is to start; a call that finds all places taken starts when one is free, and
 * its latency counts from the moment that was meant, so that a slow answer hides nothing.
 *
 * Where the client's bound of bytes is reached, calls wait in the order in which they were drawn. A
 * call that the library refuses ends the run; a record that fails is counted. */
#include "load.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "schedule.h"

enum { DEADLINE_MS = 60000 };

struct load;

struct call {
    struct load *load;
    struct call *next; /* among those that wait for room, or are idle */
    uint64_t began_ns;
    size_t sent_bytes;
    struct work work;
};

struct load {
    struct kho *client;
    struct workload *workload;
    struct load_figures *figures;
    const struct load_plan *plan;
    size_t under_way;
    bool over;
    struct call *calls, *idle, *waiting, **waiting_end;
    /* Of all calls: a call's items are copied by the library before it returns. */
    struct kho_item *items;
    char *bytes;
    /* Open loop. */
    struct schedule schedule;
    uint64_t due_ns; /* of the next call */
    bool armed;      /* for it */
    int timer;
    uv_poll_t *timer_poll; /* closed, it frees itself */
};

void load_figures_merge(struct load_figures *sum, const struct load_figures *f)
{
    for (size_t op = 0; op < OPS; op++) {
        sum->ops[op].calls += f->ops[op].calls;
        sum->ops[op].records += f->ops[op].records;
        sum->ops[op].bytes += f->ops[op].bytes;
        histogram_merge(&sum->ops[op].latency, &f->ops[op].latency);
    }
    histogram_merge(&sum->never_begun, &f->never_begun);
    sum->delayed += f->delayed;
    sum->failed += f->failed;
    sum->missing += f->missing;
    sum->wrong += f->wrong;
    sum->read_back += f->read_back;
    if (sum->first_error == 0)
        sum->first_error = f->first_error;
    if (sum->call_error == 0)
        sum->call_error = f->call_error;
}

/* --- What comes back -------------------------------------------------------------------------- */

static void note_verdict(struct load_figures *f, enum work_verdict verdict, int status)
{
    f->missing += verdict == WORK_MISSING;
    f->wrong += verdict == WORK_WRONG;
    f->failed += verdict == WORK_FAILED;
    if (verdict == WORK_FAILED && f->first_error == 0)
        f->first_error = status;
}

static bool within(const struct load_window *window, uint64_t at_ns)
{
    return window != NULL && at_ns >= window->begin_ns && at_ns < window->end_ns;
}

/* A page of a listing counts as one record, as a scan is one operation. */
static void note_ended(struct load *load, const struct call *call, uint64_t bytes, uint64_t now_ns)
{
    const struct load_plan *plan = load->plan;
    enum work_op op = call->work.op;
    if (within(plan->window, now_ns)) {
        load->figures->ops[op].calls++;
        load->figures->ops[op].records += op == OP_SCAN ? 1 : call->work.count;
        load->figures->ops[op].bytes += bytes;
    }
    if (within(plan->window, plan->calls_per_second > 0 ? call->began_ns : now_ns))
        histogram_add(&load->figures->ops[op].latency, now_ns - call->began_ns, 1);
    load->figures->read_back += op == OP_READBACK ? call->work.count : 0;
}

static void call_again(struct call *call);
static void call_free(struct call *call, uint64_t now_ns);

static void on_records(struct kho *client, const struct kho_result *results, size_t count,
                       void *arg)
{
    struct call *call = arg;
    struct load *load = call->load;
    uint64_t now_ns = uv_hrtime(), bytes = call->sent_bytes;
    (void)client;
    load->under_way--;
    for (size_t i = 0; i < count; i++) {
        enum work_verdict verdict = workload_take(load->workload, &call->work, i, &results[i]);
        if (verdict != WORK_RIGHT)
            note_verdict(load->figures, verdict, results[i].status);
        bytes += results[i].value != NULL ? results[i].value_len : 0;
    }
    if (workload_goes_on(load->workload, &call->work)) {
        call_again(call);
        return;
    }
    note_ended(load, call, bytes, now_ns);
    call_free(call, now_ns);
}

static void on_page(struct kho *client, int status, const struct kho_result *results, size_t count,
                    const struct kho_cursor *next, int done, void *arg)
{
    struct call *call = arg;
    struct load *load = call->load;
    uint64_t now_ns = uv_hrtime(), bytes = 0;
    (void)client;
    load->under_way--;
    for (size_t i = 0; i < count; i++) {
        enum work_verdict verdict = workload_take_scanned(load->workload, &results[i]);
        if (verdict != WORK_RIGHT)
            note_verdict(load->figures, verdict, results[i].status);
        bytes += results[i].key_len + results[i].value_len;
    }
    if (status == 0)
        workload_take_page(load->workload, next, done != 0);
    else
        load->figures->call_error = status;
    note_ended(load, call, bytes, now_ns);
    call_free(call, now_ns);
}

/* --- What goes out ---------------------------------------------------------------------------- */

static int call_submit(struct call *call)
{
    struct load *load = call->load;
    struct work *work = &call->work;
    const struct kho_item *items = load->items;
    call->sent_bytes = workload_make(load->workload, work, load->items, load->bytes);
    switch (work->op) {
    case OP_SCAN:
        return kho_list(load->client, LOAD_COLLECTION, &work->from, work->count,
                        KHO_LIST_WITH_VALUES, DEADLINE_MS, on_page, call, NULL);
    case OP_APPEND:
        return kho_append(load->client, LOAD_COLLECTION, items, work->count, DEADLINE_MS,
                          on_records, call, NULL);
    case OP_UPDATE:
    case OP_INSERT:
        return kho_put(load->client, LOAD_COLLECTION, items, work->count, DEADLINE_MS, on_records,
                       call, NULL);
    case OP_MODIFY:
        if (work->writing)
            return kho_put(load->client, LOAD_COLLECTION, items, work->count, DEADLINE_MS,
                           on_records, call, NULL);
        break;
    case OP_READ:
    case OP_READBACK:
    case OPS:
        break;
    }
    return kho_get(load->client, LOAD_COLLECTION, items, work->count, DEADLINE_MS, on_records, call,
                   NULL);
}

/* False: the client has no room. */
static bool call_send(struct call *call)
{
    struct load *load = call->load;
    int error = call_submit(call);
    if (error == KHO_EBUSY)
        return false;
    if (error == 0) {
        load->under_way++;
    } else {
        load->figures->call_error = error;
        load->over = true;
    }
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

/* Sends it, or has it wait behind those that wait already. */
static void call_again(struct call *call)
{
    struct load *load = call->load;
    bool first = load->waiting == NULL;
    if (first && call_send(call))
        return;
    call->next = NULL;
    *load->waiting_end = call;
    load->waiting_end = &call->next;
    if (first)
        kho_on_room(load->client, on_room, load);
}

/* --- When it goes out ------------------------------------------------------------------------- */

static bool call_begin(struct call *call, uint64_t began_ns)
{
    struct load *load = call->load;
    if (load->figures->call_error != 0 ||
        !workload_draw(load->workload, load->plan->batch, &call->work)) {
        load->over = true;
        return false;
    }
    call->began_ns = began_ns;
    call_again(call);
    return true;
}

/* Open loop, after the window: what was to start in it and didn't has waited until now at least. */
static void drop_due(struct load *load, uint64_t now_ns)
{
    for (; load->due_ns < load->plan->window->end_ns; load->due_ns = schedule_next(&load->schedule))
        histogram_add(&load->figures->never_begun, now_ns - load->due_ns, 1);
    load->over = true;
}

/* Open loop: starts what is due. */
static void start_due(struct load *load, uint64_t now_ns)
{
    while (!load->over && load->due_ns <= now_ns) {
        struct call *call = load->idle;
        if (now_ns >= load->plan->window->end_ns) {
            drop_due(load, now_ns);
        } else if (call == NULL) {
            load->figures->delayed++;
            return; /* the next call that ends takes it up */
        } else {
            load->idle = call->next;
            call_begin(call, load->due_ns);
            load->due_ns = schedule_next(&load->schedule);
            load->armed = false;
        }
    }
    if (load->over || load->armed)
        return;
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(load->due_ns / 1000000000),
                                         .tv_nsec = (long)(load->due_ns % 1000000000)}};
    timerfd_settime(load->timer, TFD_TIMER_ABSTIME, &at, NULL);
    load->armed = true;
}

static void on_timer(uv_poll_t *poll, int status, int events)
{
    struct load *load = poll->data;
    uint64_t expirations;
    (void)status;
    (void)events;
    if (read(load->timer, &expirations, sizeof expirations) > 0)
        load->armed = false;
    start_due(load, uv_hrtime());
}

/* The call has ended. */
static void call_free(struct call *call, uint64_t now_ns)
{
    struct load *load = call->load;
    const struct load_window *window = load->plan->window;
    if (window != NULL && now_ns >= window->end_ns && load->plan->calls_per_second == 0)
        load->over = true;
    if (load->over)
        return;
    if (load->plan->calls_per_second == 0) {
        call_begin(call, now_ns);
        return;
    }
    call->next = load->idle;
    load->idle = call;
    if (load->due_ns <= now_ns)
        start_due(load, now_ns);
}

/* --- The run ---------------------------------------------------------------------------------- */

static int calls_init(struct load *load)
{
    const struct load_plan *plan = load->plan;
    load->waiting_end = &load->waiting;
    load->calls = calloc(plan->inflight, sizeof *load->calls);
    load->items = calloc(plan->batch, sizeof *load->items);
    load->bytes = malloc(workload_room(load->workload, plan->batch));
    if (load->calls == NULL || load->items == NULL || load->bytes == NULL)
        return -ENOMEM;
    for (size_t i = 0; i < plan->inflight; i++) {
        struct call *call = &load->calls[i];
        call->load = load;
        call->work.numbers = calloc(plan->batch, sizeof *call->work.numbers);
        call->work.revisions = calloc(plan->batch, sizeof *call->work.revisions);
        if (call->work.numbers == NULL || call->work.revisions == NULL)
            return -ENOMEM;
        call->next = load->idle;
        load->idle = call;
    }
    return 0;
}

static void calls_fini(struct load *load)
{
    for (size_t i = 0; load->calls != NULL && i < load->plan->inflight; i++) {
        free(load->calls[i].work.numbers);
        free(load->calls[i].work.revisions);
    }
    free(load->calls);
    free(load->items);
    free(load->bytes);
}

static void timer_closed(uv_handle_t *handle)
{
    free(handle);
}

static int open_loop_begin(struct load *load, uv_loop_t *loop)
{
    const struct load_plan *plan = load->plan;
    schedule_init(&load->schedule, uv_hrtime(), plan->calls_per_second, !plan->fixed, plan->seed);
    load->due_ns = schedule_next(&load->schedule);
    load->timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (load->timer < 0)
        return -errno;
    load->timer_poll = calloc(1, sizeof *load->timer_poll);
    int error =
        load->timer_poll != NULL ? uv_poll_init(loop, load->timer_poll, load->timer) : -ENOMEM;
    if (error != 0) {
        free(load->timer_poll);
        load->timer_poll = NULL;
        close(load->timer);
        return error;
    }
    load->timer_poll->data = load;
    uv_poll_start(load->timer_poll, UV_READABLE, on_timer);
    start_due(load, uv_hrtime());
    return 0;
}

static void open_loop_end(struct load *load)
{
    if (load->timer_poll == NULL)
        return;
    uv_close((uv_handle_t *)load->timer_poll, timer_closed);
    close(load->timer);
}

int load_run(struct kho *client, uv_loop_t *loop, struct workload *workload,
             const struct load_plan *plan, struct load_figures *figures)
{
    struct load load = {.client = client, .workload = workload, .figures = figures, .plan = plan};
    int error = calls_init(&load);
    if (error == 0 && plan->calls_per_second > 0)
        error = open_loop_begin(&load, loop);
    for (size_t i = 0; error == 0 && plan->calls_per_second == 0 && i < plan->inflight; i++)
        if (!call_begin(&load.calls[i], uv_hrtime()))
            break;
    while (error == 0 && (!load.over || load.under_way > 0 || load.waiting != NULL))
        uv_run(loop, UV_RUN_ONCE);
    open_loop_end(&load);
    calls_fini(&load);
    return error;
}
