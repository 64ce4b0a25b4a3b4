/* libkho without a cluster: options, sentences, refusals, deadlines, cancel, close, fork, and the
 * blocking layer; every call ends once, and nothing is left on the loop or the heap. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <arpa/inet.h>
#include <cmocka.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <kho/kho.h>

/* An address where nobody answers: a bound port that doesn't listen. */
static int deaf;
static char nowhere[32];

static int setup_address(void **state)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t len = sizeof address;
    (void)state;
    deaf = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(bind(deaf, (struct sockaddr *)&address, len), 0);
    assert_int_equal(getsockname(deaf, (struct sockaddr *)&address, &len), 0);
    snprintf(nowhere, sizeof nowhere, "127.0.0.1:%u", ntohs(address.sin_port));
    return 0;
}

static int teardown_address(void **state)
{
    (void)state;
    close(deaf);
    return 0;
}

/* A heap that counts, from any thread. */
static long heap_count;

static void *heap_allocate(size_t size, void *arg)
{
    __atomic_add_fetch((long *)arg, 1, __ATOMIC_RELAXED);
    return malloc(size);
}

static void heap_release(void *memory, void *arg)
{
    if (memory != NULL)
        __atomic_sub_fetch((long *)arg, 1, __ATOMIC_RELAXED);
    free(memory);
}

static struct kho_options options_of(const char *cluster, uint32_t deadline_ms)
{
    struct kho_options options;
    kho_options_init(&options);
    options.cluster = cluster;
    options.deadline_ms = deadline_ms;
    options.heap = (struct kho_heap){heap_allocate, heap_release, &heap_count};
    return options;
}

/* Every code has a sentence, known or not. */
static void sentences(void **state)
{
    (void)state;
    for (int code = -2000; code <= 10; code++)
        assert_true(strlen(kho_strerror(code)) > 0);
    assert_string_equal(kho_strerror(KHO_ENOTFOUND), "no record has this key");
    assert_string_equal(kho_strerror(-ENOMEM), strerror(ENOMEM));
    assert_non_null(kho_stat_sentence("segment_bytes"));
    assert_null(kho_stat_sentence("no such number"));
    assert_null(kho_stat_sentence(NULL));
    assert_true(strchr(kho_version_string(), '.') != NULL);
}

/* Wrong options are refused before anything is made. */
static void options_refused(void **state)
{
    static const char *const wrong[] = {"",
                                        "localhost",
                                        "localhost:",
                                        ":7701",
                                        "localhost:0",
                                        "localhost:65536",
                                        "localhost:seven",
                                        "a:1,,b:2"};
    struct kho *client = NULL;
    struct kho_blocking *blocking = NULL;
    uv_loop_t loop;
    (void)state;
    assert_int_equal(uv_loop_init(&loop), 0);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct kho_options options = options_of(wrong[i], 100);
        assert_int_equal(kho_open(&loop, &options, NULL, NULL, &client), -EINVAL);
        assert_int_equal(kho_blocking_open(&options, &blocking), -EINVAL);
    }
    struct kho_options options = options_of(NULL, 100);
    assert_int_equal(kho_open(&loop, &options, NULL, NULL, &client), -EINVAL);
    options = options_of(nowhere, 100);
    options.heap.release = NULL;
    assert_int_equal(kho_open(&loop, &options, NULL, NULL, &client), -EINVAL);
    options = options_of(nowhere, 100);
    options.struct_size = 0;
    assert_int_equal(kho_open(&loop, &options, NULL, NULL, &client), -EINVAL);
    assert_null(client);
    assert_null(blocking);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(heap_count, 0);
}

/* --- Asynchronous ---------------------------------------------------------------------------- */

static struct {
    int opened, opened_status, records, status, done, closed;
    enum kho_outcome outcome;
    bool inside; /* a call is being made: no callback may run */
} seen;

static void on_opened(struct kho *client, int status, void *arg)
{
    (void)client;
    (void)arg;
    assert_false(seen.inside);
    seen.opened++;
    seen.opened_status = status;
}

static void on_records(struct kho *client, const struct kho_result *results, size_t count,
                       void *arg)
{
    (void)client;
    (void)arg;
    assert_false(seen.inside);
    assert_int_equal(count, 1);
    seen.records++;
    seen.status = results[0].status;
    seen.outcome = results[0].outcome;
}

static void on_done(struct kho *client, int status, void *arg)
{
    (void)client;
    (void)arg;
    assert_false(seen.inside);
    assert_true(status < 0);
    seen.done++;
}

static void on_closed(struct kho *client, int status, void *arg)
{
    (void)client;
    (void)status;
    (void)arg;
    seen.closed++;
}

static const struct kho_item item = {.key = "key", .key_len = 3, .value = "value", .value_len = 5};

static struct kho *open_nowhere(uv_loop_t *loop, uint32_t deadline_ms)
{
    struct kho_options options = options_of(nowhere, deadline_ms);
    struct kho *client = NULL;
    memset(&seen, 0, sizeof seen);
    assert_int_equal(uv_loop_init(loop), 0);
    seen.inside = true;
    assert_int_equal(kho_open(loop, &options, on_opened, NULL, &client), 0);
    seen.inside = false;
    return client;
}

static void close_all(uv_loop_t *loop, struct kho *client)
{
    kho_close(client, on_closed, NULL);
    uv_run(loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.closed, 1);
    assert_int_equal(uv_loop_close(loop), 0);
    assert_int_equal(heap_count, 0);
}

/* Calls on a cluster that isn't there end by their deadlines, once each, not applied. */
static void deadlines_kept(void **state)
{
    struct kho_cluster_info info;
    uv_loop_t loop;
    struct kho *client = open_nowhere(&loop, 200);
    uint64_t began = uv_hrtime();
    (void)state;
    seen.inside = true;
    assert_int_equal(kho_cluster(client, &info), KHO_ENOMAP);
    assert_int_equal(kho_put(client, "c", &item, 1, 0, on_records, NULL, NULL), 0);
    assert_int_equal(kho_get(client, "c", &item, 1, 150, on_records, NULL, NULL), 0);
    assert_true(kho_inflight_bytes(client) > 0);
    seen.inside = false;
    while (seen.records < 2 || seen.opened < 1)
        uv_run(&loop, UV_RUN_ONCE);
    assert_in_range((uv_hrtime() - began) / 1000000, 100, 5000);
    assert_true(seen.status < 0);
    assert_int_equal(seen.outcome, KHO_NOT_APPLIED);
    assert_true(seen.opened_status < 0);
    assert_int_equal(kho_inflight_bytes(client), 0);
    close_all(&loop, client);
    assert_int_equal(seen.records, 2);
    assert_int_equal(seen.opened, 1);
}

/* A wrong call is refused at once, and its callback stays silent. */
static void calls_refused(void **state)
{
    uv_loop_t loop;
    struct kho *client = open_nowhere(&loop, 100);
    static char long_key[1025];
    struct kho_item wrong = {.key = long_key, .key_len = sizeof long_key};
    (void)state;
    assert_int_equal(kho_put(client, "c", &wrong, 1, 0, on_records, NULL, NULL), KHO_EKEYSIZE);
    wrong.key_len = 0;
    assert_int_equal(kho_get(client, "c", &wrong, 1, 0, on_records, NULL, NULL), KHO_EKEYSIZE);
    wrong = item;
    wrong.value_len = (16u << 20) + 1;
    assert_int_equal(kho_put(client, "c", &wrong, 1, 0, on_records, NULL, NULL), KHO_EVALUESIZE);
    assert_int_equal(kho_put(client, "C", &item, 1, 0, on_records, NULL, NULL),
                     KHO_ECOLLECTIONNAME);
    assert_int_equal(kho_put(client, NULL, &item, 1, 0, on_records, NULL, NULL), -EINVAL);
    assert_int_equal(kho_put(client, "c", NULL, 1, 0, on_records, NULL, NULL), -EINVAL);
    assert_int_equal(kho_put(client, "c", &item, 0, 0, on_records, NULL, NULL), -EINVAL);
    assert_int_equal(kho_put(client, "c", &item, 65537, 0, on_records, NULL, NULL), -EINVAL);
    assert_int_equal(kho_list(client, "c", NULL, 0, 0, 0, NULL, NULL, NULL), -EINVAL);
    close_all(&loop, client);
    assert_int_equal(seen.records, 0);
}

/* A cancelled call ends with its code; closing lets the others end, and refuses new ones. */
static void cancel_and_close(void **state)
{
    uv_loop_t loop;
    struct kho *client = open_nowhere(&loop, 200);
    kho_call_id call = 0;
    (void)state;
    assert_int_equal(kho_get(client, "c", &item, 1, 60000, on_records, NULL, &call), 0);
    assert_true(call != 0);
    seen.inside = true;
    kho_cancel(client, call);
    seen.inside = false;
    while (seen.records < 1)
        uv_run(&loop, UV_RUN_ONCE);
    assert_int_equal(seen.status, KHO_ECANCELED);
    kho_cancel(client, call);
    assert_int_equal(kho_status(client, 100, NULL, NULL), 0);
    assert_int_equal(kho_collection_create(client, "c", -1, 0, 100, on_done, NULL), 0);
    kho_close(client, on_closed, NULL);
    assert_int_equal(kho_put(client, "c", &item, 1, 0, on_records, NULL, NULL), KHO_ECLOSED);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(seen.closed, 1);
    assert_int_equal(seen.done, 1);
    assert_int_equal(seen.records, 1);
    assert_int_equal(uv_loop_close(&loop), 0);
    assert_int_equal(heap_count, 0);
}

/* A forked child can't use its parent's client. */
static void fork_refused(void **state)
{
    uv_loop_t loop;
    struct kho *client = open_nowhere(&loop, 100);
    int status = 0;
    (void)state;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        int error = kho_put(client, "c", &item, 1, 0, on_records, NULL, NULL);
        kho_close(client, NULL, NULL);
        _exit(error == KHO_ECLOSED ? 0 : 1);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close_all(&loop, client);
}

/* --- A new cluster --------------------------------------------------------------------------- */

static int init_status;

static void on_init(int status, const char *message, const void *map, size_t map_len, void *arg)
{
    (void)map;
    (void)map_len;
    (void)arg;
    assert_true(message != NULL && strlen(message) > 0);
    init_status = status;
}

/* Nodes that can't be reached make no cluster, and the message says which. */
static void init_fails(void **state)
{
    struct kho_cluster_plan plan = {.struct_size = sizeof plan, .addresses = nowhere};
    uv_loop_t loop;
    (void)state;
    init_status = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    assert_int_equal(kho_cluster_init(&loop, &plan, 300, on_init, NULL), 0);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_true(init_status < 0);
    plan.addresses = NULL;
    assert_int_equal(kho_cluster_init(&loop, &plan, 300, on_init, NULL), -EINVAL);
    assert_int_equal(uv_loop_close(&loop), 0);
}

/* --- Blocking -------------------------------------------------------------------------------- */

static void *open_blocking(void *arg)
{
    struct kho_options options = options_of(nowhere, 200);
    struct kho_blocking *client = NULL;
    int error = kho_blocking_open(&options, &client);
    (void)arg;
    return error < 0 && client == NULL ? NULL : &heap_count;
}

/* Without a cluster, opening ends by its deadline with an error, in as many threads as one likes.
 */
static void blocking_open_fails(void **state)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    void *wrong = NULL;
    uint64_t began = uv_hrtime();
    (void)state;
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, open_blocking, NULL), 0);
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], &wrong);
        assert_null(wrong);
    }
    assert_in_range((uv_hrtime() - began) / 1000000, 0, 5000);
    assert_int_equal(heap_count, 0);
    kho_blocking_close(NULL);
    kho_results_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sentences),        cmocka_unit_test(options_refused),
        cmocka_unit_test(deadlines_kept),   cmocka_unit_test(calls_refused),
        cmocka_unit_test(cancel_and_close), cmocka_unit_test(fork_refused),
        cmocka_unit_test(init_fails),       cmocka_unit_test(blocking_open_fails),
    };
    return cmocka_run_group_tests(tests, setup_address, teardown_address);
}
