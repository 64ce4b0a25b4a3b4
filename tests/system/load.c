/* load.c: mixed load whose every answer is known beforehand; system tests do things to the nodes
 * meanwhile.
 *
 *   system_load --cluster HOST:PORT[,HOST:PORT…] --collection NAME --seconds N [--threads N]
 *
 * Each thread owns some keys of the collection, which is empty at first, and puts, gets, stats and
 * deletes them in batches, appends and lists. It remembers what each key holds, so that a get must
 * return the very bytes of the last put. It prints one JSON line: how many operations, how many of
 * them failed or answered wrongly, and how long the slowest took. Exit code 0: none failed. */
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <kho/kho.h>

enum {
    THREADS_MAX = 16,
    KEYS = 150, /* a thread */
    BATCH = 20,
    VALUE_MAX = 1 << 20,
    COMPLAINTS = 10, /* a thread; the rest is counted only */
};

struct known {
    uint32_t generation; /* of the value; 0: never put */
    bool there;
};

struct worker {
    struct kho_blocking *client;
    const char *collection;
    int number;
    double end;
    uint64_t random;
    struct known known[KEYS];
    uint64_t operations, failures;
    double slowest;
};

struct batch {
    int keys[BATCH];
    char names[BATCH][32];
    struct kho_item items[BATCH];
    size_t count;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint32_t draw(struct worker *w, uint32_t below)
{
    w->random = w->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((w->random >> 33) % below);
}

static void complain(struct worker *w, const char *what, const char *key, int status)
{
    if (w->failures++ < COMPLAINTS)
        fprintf(stderr, "%s %s: %s\n", what, key, kho_strerror(status));
}

/* The bytes of a generation of a key; most are short, one in sixty takes several frames. */
static size_t value_len(int number, int key, uint32_t generation)
{
    uint32_t mixed =
        ((uint32_t)number * 7919u + (uint32_t)key * 104729u + generation) * 2654435761u;
    mixed >>= 8;
    return mixed % 60 == 0 ? mixed % VALUE_MAX : mixed % 2000;
}
static void value_fill(int number, int key, uint32_t generation, char *to, size_t len)
{
    char unit[64];
    size_t unit_len =
        (size_t)snprintf(unit, sizeof unit, "thread %d key %d is at %u. ", number, key, generation);
    for (size_t at = 0; at < len; at += unit_len)
        memcpy(to + at, unit, len - at < unit_len ? len - at : unit_len);
}

/* Some different keys of the thread's. */
static void batch_draw(struct worker *w, struct batch *batch)
{
    uint32_t key = draw(w, KEYS);
    batch->count = 1 + draw(w, BATCH);
    for (size_t i = 0; i < batch->count; i++) {
        batch->keys[i] = (int)((key + i * 7) % KEYS);
        int len = snprintf(batch->names[i], sizeof batch->names[i], "key-%d-%d", w->number,
                           batch->keys[i]);
        batch->items[i] = (struct kho_item){.key = batch->names[i], .key_len = (size_t)len};
    }
}

static void put(struct worker *w, struct batch *batch)
{
    struct kho_results *results;
    for (size_t i = 0; i < batch->count; i++) {
        int key = batch->keys[i];
        uint32_t generation = w->known[key].generation + 1;
        size_t len = value_len(w->number, key, generation);
        char *value = malloc(len + 1);
        if (value == NULL)
            abort();
        value_fill(w->number, key, generation, value, len);
        batch->items[i].value = value;
        batch->items[i].value_len = len;
    }
    int error = kho_blocking_put(w->client, w->collection, batch->items, batch->count, 0, &results);
    if (error != 0)
        complain(w, "put", batch->names[0], error);
    for (size_t i = 0; i < batch->count; i++) {
        struct known *known = &w->known[batch->keys[i]];
        known->generation++;
        known->there = true;
        if (error == 0 && results->records[i].status != 0)
            complain(w, "put", batch->names[i], results->records[i].status);
        free((void *)batch->items[i].value);
    }
    if (error == 0)
        kho_results_free(results);
}

static void del(struct worker *w, struct batch *batch)
{
    struct kho_results *results;
    int error = kho_blocking_del(w->client, w->collection, batch->items, batch->count, 0, &results);
    if (error != 0) {
        complain(w, "del", batch->names[0], error);
        return;
    }
    for (size_t i = 0; i < batch->count; i++) {
        w->known[batch->keys[i]].there = false;
        if (results->records[i].status != 0)
            complain(w, "del", batch->names[i], results->records[i].status);
    }
    kho_results_free(results);
}

static void judge(struct worker *w, const struct batch *batch, size_t i, const struct kho_result *r,
                  bool with_value)
{
    const struct known *known = &w->known[batch->keys[i]];
    size_t len = value_len(w->number, batch->keys[i], known->generation);
    if (r->status != (known->there ? 0 : KHO_ENOTFOUND)) {
        complain(w, with_value ? "get" : "stat", batch->names[i], r->status);
    } else if (known->there && r->value_len != len) {
        complain(w, "another length of", batch->names[i], KHO_EDAMAGED);
    } else if (known->there && with_value) {
        char *want = malloc(len + 1);
        if (want == NULL)
            abort();
        value_fill(w->number, batch->keys[i], known->generation, want, len);
        if (memcmp(want, r->value, len) != 0)
            complain(w, "another value of", batch->names[i], KHO_EDAMAGED);
        free(want);
    }
}

static void look(struct worker *w, struct batch *batch, bool with_value)
{
    struct kho_results *results;
    int error = (with_value ? kho_blocking_get : kho_blocking_stat)(
        w->client, w->collection, batch->items, batch->count, 0, &results);
    if (error != 0) {
        complain(w, with_value ? "get" : "stat", batch->names[0], error);
        return;
    }
    for (size_t i = 0; i < batch->count; i++)
        judge(w, batch, i, &results->records[i], with_value);
    kho_results_free(results);
}

static void append(struct worker *w)
{
    struct kho_results *stored = NULL, *read;
    struct kho_item item = {.value = "an event", .value_len = 8};
    int error = kho_blocking_append(w->client, w->collection, &item, 1, 0, &stored);
    if (error != 0 || stored->records[0].status != 0) {
        complain(w, "append", "", error != 0 ? error : stored->records[0].status);
    } else {
        struct kho_item key = {.key = stored->records[0].key,
                               .key_len = stored->records[0].key_len};
        error = kho_blocking_get(w->client, w->collection, &key, 1, 0, &read);
        if (error != 0 || read->records[0].status != 0)
            complain(w, "get", "what was appended", error != 0 ? error : read->records[0].status);
        if (error == 0)
            kho_results_free(read);
    }
    kho_results_free(stored);
}

static void list(struct worker *w)
{
    struct kho_results *results;
    int error = kho_blocking_list(w->client, w->collection, NULL, 50, 0, 0, &results);
    if (error != 0)
        complain(w, "list", "", error);
    else
        kho_results_free(results);
}

static void *work(void *arg)
{
    struct worker *w = arg;
    struct batch batch;
    while (now() < w->end) {
        uint32_t kind = draw(w, 100);
        double begun = now();
        batch_draw(w, &batch);
        if (kind < 40)
            put(w, &batch);
        else if (kind < 75)
            look(w, &batch, true);
        else if (kind < 83)
            look(w, &batch, false);
        else if (kind < 90)
            del(w, &batch);
        else if (kind < 97)
            append(w);
        else
            list(w);
        double took = now() - begun;
        w->slowest = took > w->slowest ? took : w->slowest;
        w->operations++;
    }
    for (int key = 0; key < KEYS; key++) { /* all of it once more */
        batch.count = 1;
        batch.keys[0] = key;
        int len = snprintf(batch.names[0], sizeof batch.names[0], "key-%d-%d", w->number, key);
        batch.items[0] = (struct kho_item){.key = batch.names[0], .key_len = (size_t)len};
        look(w, &batch, true);
    }
    return NULL;
}

int main(int argc, char **argv)
{
    static struct worker workers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    struct kho_options options;
    struct kho_blocking *client;
    const char *collection = NULL;
    double seconds = 5, slowest = 0;
    int count = 4;
    kho_options_init(&options);
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--cluster") == 0)
            options.cluster = argv[i + 1];
        else if (strcmp(argv[i], "--collection") == 0)
            collection = argv[i + 1];
        else if (strcmp(argv[i], "--seconds") == 0)
            seconds = atof(argv[i + 1]);
        else if (strcmp(argv[i], "--threads") == 0)
            count = atoi(argv[i + 1]);
    }
    if (options.cluster == NULL || collection == NULL || count < 1 || count > THREADS_MAX) {
        fprintf(stderr,
                "usage: %s --cluster HOST:PORT,… --collection NAME --seconds N [--threads N]\n",
                argv[0]);
        return 2;
    }
    int error = kho_blocking_open(&options, &client);
    if (error != 0) {
        fprintf(stderr, "open: %s\n", kho_strerror(error));
        return 1;
    }
    double end = now() + seconds;
    for (int i = 0; i < count; i++) {
        workers[i] = (struct worker){

            .client = client,
            .collection = collection,
            .number = i,
            .end = end,
            .random = 88172645463325252u + (uint64_t)i};
        if (pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            abort();
    }
    uint64_t operations = 0, failures = 0;
    for (int i = 0; i < count; i++) {
        pthread_join(threads[i], NULL);
        operations += workers[i].operations;
        failures += workers[i].failures;
        slowest = workers[i].slowest > slowest ? workers[i].slowest : slowest;
    }
    kho_blocking_close(client);
    printf("{\"operations\": %llu, \"failures\": %llu, \"slowest\": %.3f}\n",
           (unsigned long long)operations, (unsigned long long)failures, slowest);
    return failures == 0 ? 0 : 1;
}
