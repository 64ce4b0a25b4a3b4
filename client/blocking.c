/* blocking.c: the blocking layer of kho.h: an asynchronous client on a loop in a thread of its own.
 *
 * The happy path: a caller's thread puts a job, on its own stack, into the queue and wakes the
 * loop; the loop's thread starts the call, copies the results into one allocation when they come,
 * and signals the caller. Where the bound of bytes under way is reached, the job waits for room in
 * its loop's thread, in order, until its deadline.
 *
 * The memory for a write's results is taken before the write is sent, so that a stored record is
 * never answered with -ENOMEM; a read's is taken when its size is known. Of what is shared between
 * threads, the lock covers the queue and the fields `done`, `status` and `results` of a job; the
 * rest belongs to the loop's thread. A forked child has no such thread: its calls end with
 * KHO_ECLOSED. */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>
#include <uv.h>

#include "api.h"

typedef int (*records_call)(struct kho *client, const char *collection,
                            const struct kho_item *items, size_t count, uint32_t deadline_ms,
                            kho_records_cb cb, void *arg, kho_call_id *ret_call);

enum job_kind { JOB_OPEN = 1, JOB_RECORDS, JOB_LIST, JOB_FLUSH, JOB_CREATE, JOB_CLOSE };

struct job {
    struct queue link;
    enum job_kind kind;
    struct kho_blocking *blocking;
    records_call call;
    const char *collection;
    const struct kho_item *items;
    size_t count; /* or the limit of a page */
    const struct kho_cursor *from;
    unsigned flags;
    int separator;
    unsigned replicas;
    uint64_t deadline_ns;
    struct results *results;
    size_t room; /* bytes behind the records of `results` */
    int status;
    bool done;
    pthread_cond_t ended;
};

/* What a blocking call returns, as it was allocated: its records' bytes follow them. */
struct results {
    struct kho_heap heap;
    struct kho_results shown;
    struct kho_result records[];
};

struct kho_blocking {
    struct kho_heap heap;
    unsigned forks; /* api_forks() of the process that opened it */
    uint32_t deadline_ms;
    pthread_t thread;
    uv_loop_t loop;
    uv_async_t wake;
    uv_timer_t patience; /* the earliest deadline of `waiting` */
    struct kho *client;
    struct queue waiting; /* for room; the loop's thread alone */
    pthread_mutex_t lock;
    struct queue submitted;
    struct job opening;
};

/* --- Results --------------------------------------------------------------------------------- */

static struct results *results_allocate(const struct kho_heap *heap, size_t count, size_t bytes)
{
    size_t size = sizeof(struct results) + count * sizeof(struct kho_result) + bytes;
    struct results *r = api_allocate_zeroed(heap, size);
    if (r == NULL)
        return NULL;
    r->heap = *heap;
    r->shown.count = count;
    r->shown.records = r->records;
    return r;
}

static const void *bytes_copy(uint8_t **at, const uint8_t *end, const void *bytes, size_t len)
{
    void *copy = *at;
    if (bytes == NULL)
        return NULL;
    KHO_ASSERT(len <= (size_t)(end - *at));
    if (len > 0)
        memcpy(copy, bytes, len);
    *at += len;
    return copy;
}

/* `room` is what was allocated behind the records. */
static void results_fill(struct results *r, const struct kho_result *records, size_t count,
                         size_t room)
{
    uint8_t *at = (uint8_t *)(r->records + r->shown.count);
    const uint8_t *end = at + room;
    KHO_ASSERT(count == r->shown.count);
    for (size_t i = 0; i < count; i++) {
        struct kho_result *to = &r->records[i];
        *to = records[i];
        to->key = bytes_copy(&at, end, records[i].key, records[i].key_len);
        to->value = bytes_copy(&at, end, records[i].value, records[i].value_len);
    }
}

static size_t results_bytes(const struct kho_result *records, size_t count)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++)
        bytes += records[i].key_len + (records[i].value != NULL ? records[i].value_len : 0);
    return bytes;
}

void kho_results_free(struct kho_results *results)
{
    if (results == NULL)
        return;
    struct results *r = KHO_CONTAINER_OF(results, struct results, shown);
    struct kho_heap heap = r->heap;
    api_release(&heap, r);
}

/* --- The loop's thread ----------------------------------------------------------------------- */

/* The job is the caller's again once the lock is free: nothing may touch it after this. */
static void job_end(struct job *job, int status)
{
    struct kho_blocking *b = job->blocking;
    pthread_mutex_lock(&b->lock);
    job->status = status;
    job->done = true;
    pthread_cond_signal(&job->ended);
    pthread_mutex_unlock(&b->lock);
}

static void on_done(struct kho *client, int status, void *arg)
{
    (void)client;
    job_end(arg, status);
}

static int job_take_results(struct job *job, const struct kho_result *records, size_t count)
{
    if (job->results == NULL) {
        job->room = results_bytes(records, count);
        job->results = results_allocate(&job->blocking->heap, count, job->room);
    }
    if (job->results == NULL)
        return -ENOMEM;
    results_fill(job->results, records, count, job->room);
    return 0;
}

static void on_records(struct kho *client, const struct kho_result *records, size_t count,
                       void *arg)
{
    struct job *job = arg;
    (void)client;
    job_end(job, job_take_results(job, records, count));
}

static void on_list(struct kho *client, int status, const struct kho_result *records, size_t count,
                    const struct kho_cursor *next, int done, void *arg)
{
    struct job *job = arg;
    (void)client;
    if (status == 0)
        status = job_take_results(job, records, count);
    if (status == 0) {
        job->results->shown.next = *next;
        job->results->shown.done = done;
    }
    job_end(job, status);
}

static void on_patience(uv_timer_t *timer);

static void blocking_shut(struct kho_blocking *b)
{
    kho_close(b->client, NULL, NULL);
    uv_close((uv_handle_t *)&b->wake, NULL);
    uv_close((uv_handle_t *)&b->patience, NULL);
}

static int job_start(struct job *job)
{
    struct kho_blocking *b = job->blocking;
    uint64_t now_ns = api_now().mono_ns;
    if (job->kind != JOB_CLOSE && now_ns >= job->deadline_ns)
        return KHO_EDEADLINE;
    uint32_t left_ms = (uint32_t)((job->deadline_ns - now_ns + 999999) / 1000000);
    switch (job->kind) {
    case JOB_RECORDS:
        return job->call(b->client, job->collection, job->items, job->count, left_ms, on_records,
                         job, NULL);
    case JOB_LIST:
        return kho_list(b->client, job->collection, job->from, job->count, job->flags, left_ms,
                        on_list, job, NULL);
    case JOB_FLUSH:
        return kho_flush(b->client, left_ms, on_done, job);
    case JOB_CREATE:
        return kho_collection_create(b->client, job->collection, job->separator, job->replicas,
                                     left_ms, on_done, job);
    default:
        blocking_shut(b);
        job_end(job, 0);
        return 0;
    }
}

static void on_room(struct kho *client, int status, void *arg);

/* Waits for the first of the deadlines, and for room. */
static void blocking_wait(struct kho_blocking *b)
{
    uint64_t first = UINT64_MAX, now_ns = api_now().mono_ns;
    if (queue_empty(&b->waiting)) {
        uv_timer_stop(&b->patience);
        return;
    }
    QUEUE_FOREACH (link, &b->waiting)
        first = kho_min(first, KHO_CONTAINER_OF(link, struct job, link)->deadline_ns);
    uv_timer_start(&b->patience, on_patience, first > now_ns ? (first - now_ns) / 1000000 + 1 : 0,
                   0);
    kho_on_room(b->client, on_room, b);
}

/* Starts what waits, in order, as far as there is room. */
static void blocking_go_on(struct kho_blocking *b)
{
    struct queue *link;
    while ((link = queue_pop(&b->waiting)) != NULL) {
        struct job *job = KHO_CONTAINER_OF(link, struct job, link);
        int error = job_start(job);
        if (error == KHO_EBUSY) {
            queue_push_front(&b->waiting, link);
            break;
        }
        if (error != 0)
            job_end(job, error);
    }
    blocking_wait(b);
}

static void on_room(struct kho *client, int status, void *arg)
{
    (void)client;
    (void)status;
    blocking_go_on(arg);
}

static void on_patience(uv_timer_t *timer)
{
    struct kho_blocking *b = timer->data;
    uint64_t now_ns = api_now().mono_ns;
    QUEUE_FOREACH_SAFE (link, &b->waiting) {
        struct job *job = KHO_CONTAINER_OF(link, struct job, link);
        if (now_ns < job->deadline_ns)
            continue;
        queue_remove(link);
        job_end(job, KHO_EDEADLINE);
    }
    blocking_go_on(b);
}

static void on_wake(uv_async_t *wake)
{
    struct kho_blocking *b = wake->data;
    bool idle = queue_empty(&b->waiting);
    pthread_mutex_lock(&b->lock);
    queue_append_all(&b->waiting, &b->submitted);
    pthread_mutex_unlock(&b->lock);
    /* While others wait for room, a new job waits behind them. */
    if (idle && !queue_empty(&b->waiting))
        blocking_go_on(b);
    else
        blocking_wait(b);
}

static void *blocking_run(void *arg)
{
    struct kho_blocking *b = arg;
    uv_run(&b->loop, UV_RUN_DEFAULT);
    return NULL;
}

/* --- The callers' threads -------------------------------------------------------------------- */

static int job_wait(struct job *job)
{
    struct kho_blocking *b = job->blocking;
    pthread_mutex_lock(&b->lock);
    while (!job->done)
        pthread_cond_wait(&job->ended, &b->lock);
    int status = job->status;
    pthread_mutex_unlock(&b->lock);
    return status;
}

/* Hands a job to the loop and waits for its end. The wake-up is sent under the lock: the loop may
 * close what it is sent through as soon as it has seen the last job. */
static int job_run(struct job *job, uint32_t deadline_ms)
{
    struct kho_blocking *b = job->blocking;
    if (deadline_ms == 0)
        deadline_ms = b->deadline_ms;
    job->deadline_ns = api_now().mono_ns + (uint64_t)deadline_ms * 1000000u;
    int error = pthread_cond_init(&job->ended, NULL);
    if (error != 0)
        return -error;
    pthread_mutex_lock(&b->lock);
    queue_push(&b->submitted, &job->link);
    uv_async_send(&b->wake);
    pthread_mutex_unlock(&b->lock);
    int status = job_wait(job);
    pthread_cond_destroy(&job->ended);
    return status;
}

static bool usable(const struct kho_blocking *b)
{
    return b != NULL && b->forks == api_forks();
}

/* The thread takes no signals but those that its own faults raise: the program's handlers run in
 * the program's threads. */
static int blocking_thread(struct kho_blocking *b)
{
    sigset_t all, before;
    sigfillset(&all);
    sigdelset(&all, SIGSEGV);
    sigdelset(&all, SIGBUS);
    sigdelset(&all, SIGILL);
    sigdelset(&all, SIGFPE);
    sigdelset(&all, SIGABRT);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&b->thread, NULL, blocking_run, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return -error;
}

static void blocking_free(struct kho_blocking *b)
{
    struct kho_heap heap = b->heap;
    pthread_cond_destroy(&b->opening.ended);
    pthread_mutex_destroy(&b->lock);
    api_release(&heap, b);
}

/* Before there is a thread: what the loop holds is closed here. */
static void blocking_undo(struct kho_blocking *b)
{
    blocking_shut(b);
    uv_run(&b->loop, UV_RUN_DEFAULT);
    uv_loop_close(&b->loop);
    blocking_free(b);
}

static int blocking_start(struct kho_blocking *b, const struct kho_options *options)
{
    int error = uv_loop_init(&b->loop);
    if (error != 0) {
        blocking_free(b);
        return error;
    }
    error = uv_async_init(&b->loop, &b->wake, on_wake);
    if (error != 0) {
        uv_loop_close(&b->loop);
        blocking_free(b);
        return error;
    }
    uv_timer_init(&b->loop, &b->patience);
    b->wake.data = b->patience.data = b;
    error = kho_open(&b->loop, options, on_done, &b->opening, &b->client);
    if (error == 0)
        error = blocking_thread(b);
    if (error != 0)
        blocking_undo(b);
    return error;
}

int kho_blocking_open(const struct kho_options *options, struct kho_blocking **ret_client)
{
    struct kho_options taken;
    int error = api_options_take(options, &taken);
    if (ret_client == NULL || error != 0)
        return -EINVAL;
    struct kho_blocking *b = api_allocate_zeroed(&taken.heap, sizeof *b);
    if (b == NULL)
        return -ENOMEM;
    b->heap = taken.heap;
    b->forks = api_forks();
    b->deadline_ms = taken.deadline_ms;
    b->opening = (struct job){.kind = JOB_OPEN, .blocking = b};
    queue_init(&b->waiting);
    queue_init(&b->submitted);
    pthread_mutex_init(&b->lock, NULL);
    pthread_cond_init(&b->opening.ended, NULL);
    error = blocking_start(b, &taken);
    if (error != 0)
        return error;
    error = job_wait(&b->opening);
    if (error != 0) {
        kho_blocking_close(b);
        return error;
    }
    *ret_client = b;
    return 0;
}

void kho_blocking_close(struct kho_blocking *client)
{
    if (!usable(client))
        return;
    struct job job = {.kind = JOB_CLOSE, .blocking = client};
    job_run(&job, 0);
    pthread_join(client->thread, NULL);
    uv_loop_close(&client->loop);
    blocking_free(client);
}

enum { KEY_NEW = 16 }; /* what append makes up */

/* What the results of a write or a stat need behind them: their keys. */
static size_t items_room(const struct kho_item *items, size_t count)
{
    size_t room = 0;
    for (size_t i = 0; i < count; i++)
        room += kho_max(items[i].key_len, KEY_NEW);
    return room;
}

static int blocking_records(struct kho_blocking *client, records_call call, const char *collection,
                            const struct kho_item *items, size_t count, uint32_t deadline_ms,
                            struct kho_results **ret_results)
{
    if (!usable(client))
        return KHO_ECLOSED;
    if (collection == NULL || items == NULL || ret_results == NULL || count < 1 || count > 65536)
        return -EINVAL;
    struct job job = {.kind = JOB_RECORDS,
                      .blocking = client,
                      .call = call,
                      .collection = collection,
                      .items = items,
                      .count = count};
    if (call != kho_get) {
        for (size_t i = 0; i < count; i++)
            if (items[i].key_len > 1024)
                return KHO_EKEYSIZE;
        job.room = items_room(items, count);
        job.results = results_allocate(&client->heap, count, job.room);
        if (job.results == NULL)
            return -ENOMEM;
    }
    int error = job_run(&job, deadline_ms);
    if (error != 0) {
        api_release(&client->heap, job.results);
        return error;
    }
    *ret_results = &job.results->shown;
    return 0;
}

int kho_blocking_put(struct kho_blocking *client, const char *collection,
                     const struct kho_item *items, size_t count, uint32_t deadline_ms,
                     struct kho_results **ret_results)
{
    return blocking_records(client, kho_put, collection, items, count, deadline_ms, ret_results);
}

int kho_blocking_del(struct kho_blocking *client, const char *collection,
                     const struct kho_item *items, size_t count, uint32_t deadline_ms,
                     struct kho_results **ret_results)
{
    return blocking_records(client, kho_del, collection, items, count, deadline_ms, ret_results);
}

int kho_blocking_append(struct kho_blocking *client, const char *collection,
                        const struct kho_item *items, size_t count, uint32_t deadline_ms,
                        struct kho_results **ret_results)
{
    return blocking_records(client, kho_append, collection, items, count, deadline_ms, ret_results);
}

int kho_blocking_get(struct kho_blocking *client, const char *collection,
                     const struct kho_item *items, size_t count, uint32_t deadline_ms,
                     struct kho_results **ret_results)
{
    return blocking_records(client, kho_get, collection, items, count, deadline_ms, ret_results);
}

int kho_blocking_stat(struct kho_blocking *client, const char *collection,
                      const struct kho_item *items, size_t count, uint32_t deadline_ms,
                      struct kho_results **ret_results)
{
    return blocking_records(client, kho_stat, collection, items, count, deadline_ms, ret_results);
}

int kho_blocking_list(struct kho_blocking *client, const char *collection,
                      const struct kho_cursor *from, size_t limit, unsigned flags,
                      uint32_t deadline_ms, struct kho_results **ret_results)
{
    if (!usable(client))
        return KHO_ECLOSED;
    if (collection == NULL || ret_results == NULL)
        return -EINVAL;
    struct job job = {.kind = JOB_LIST,
                      .blocking = client,
                      .collection = collection,
                      .from = from,
                      .count = limit,
                      .flags = flags};
    int error = job_run(&job, deadline_ms);
    if (error != 0) {
        api_release(&client->heap, job.results);
        return error;
    }
    *ret_results = &job.results->shown;
    return 0;
}

int kho_blocking_flush(struct kho_blocking *client, uint32_t deadline_ms)
{
    if (!usable(client))
        return KHO_ECLOSED;
    struct job job = {.kind = JOB_FLUSH, .blocking = client};
    return job_run(&job, deadline_ms);
}

int kho_blocking_collection_create(struct kho_blocking *client, const char *name, int separator,
                                   unsigned replicas, uint32_t deadline_ms)
{
    if (!usable(client))
        return KHO_ECLOSED;
    struct job job = {.kind = JOB_CREATE,
                      .blocking = client,
                      .collection = name,
                      .separator = separator,
                      .replicas = replicas};
    return job_run(&job, deadline_ms);
}
