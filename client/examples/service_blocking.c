/* service_blocking.c: a service without an event loop.
 *
 *   example_service_blocking --cluster HOST:PORT[,HOST:PORT…]
 *
 * Two threads share one client. Each stores dossiers, reads them back, compares every byte, and
 * deletes the last one. Exit code 0: all was as it should be. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <kho/kho.h>

enum { THREADS = 2, DOSSIERS = 50 };

struct worker {
    struct kho_blocking *client;
    int number;
    int failures;
};

struct dossier {
    char key[32];
    char value[128];
};

static void dossiers_make(struct dossier *dossiers, struct kho_item *items, int worker)
{
    for (int i = 0; i < DOSSIERS; i++) {
        struct dossier *d = &dossiers[i];
        int key_len = snprintf(d->key, sizeof d->key, "blocking-%d-%04d", worker, i);
        int value_len =
            snprintf(d->value, sizeof d->value,
                     "{\"service\":\"residence\",\"worker\":%d,\"number\":%d}", worker, i);
        items[i] = (struct kho_item){.key = d->key,
                                     .key_len = (size_t)key_len,
                                     .value = d->value,
                                     .value_len = (size_t)value_len};
    }
}

static int complain(const char *what, const struct kho_item *item, int status)
{
    fprintf(stderr, "%s %.*s: %s\n", what, (int)item->key_len, (const char *)item->key,
            kho_strerror(status));
    return 1;
}

/* A write's result has three answers. In doubt is no failure: with its token, the same write is
 * handed in again, and happens once. */
static int store(struct kho_blocking *client, struct kho_item *items, size_t count)
{
    struct kho_results *results;
    int failures = 0;
    int error = kho_blocking_put(client, "dossiers", items, count, 0, &results);
    if (error != 0)
        return complain("put", &items[0], error);
    for (size_t i = 0; i < count; i++) {
        const struct kho_result *r = &results->records[i];
        if (r->outcome == KHO_IN_DOUBT) {
            struct kho_item again = items[i];
            again.token = &r->token;
            failures += store(client, &again, 1);
        } else if (r->outcome != KHO_APPLIED) {
            failures += complain("put", &items[i], r->status);
        }
    }
    kho_results_free(results);
    return failures;
}

static int compare(struct kho_blocking *client, const struct kho_item *items)
{
    struct kho_results *results;
    int failures = 0;
    int error = kho_blocking_get(client, "dossiers", items, DOSSIERS, 0, &results);
    if (error != 0)
        return complain("get", &items[0], error);
    for (size_t i = 0; i < results->count; i++) {
        const struct kho_result *r = &results->records[i];
        if (r->status != 0)
            failures += complain("get", &items[i], r->status);
        else if (r->value_len != items[i].value_len ||
                 memcmp(r->value, items[i].value, r->value_len) != 0)
            failures += complain("another value under", &items[i], 0);
    }
    kho_results_free(results);
    return failures;
}

static int delete_last(struct kho_blocking *client, const struct kho_item *item)
{
    struct kho_results *results;
    int status;
    int error = kho_blocking_del(client, "dossiers", item, 1, 0, &results);
    if (error != 0)
        return complain("del", item, error);
    status = results->records[0].status;
    kho_results_free(results);
    if (status != 0)
        return complain("del", item, status);
    error = kho_blocking_stat(client, "dossiers", item, 1, 0, &results);
    if (error != 0)
        return complain("stat", item, error);
    status = results->records[0].status;
    kho_results_free(results);
    return status == KHO_ENOTFOUND ? 0 : complain("stat after del", item, status);
}

static void *work(void *arg)
{
    struct worker *worker = arg;
    struct dossier dossiers[DOSSIERS];
    struct kho_item items[DOSSIERS];
    dossiers_make(dossiers, items, worker->number);
    worker->failures += store(worker->client, items, DOSSIERS);
    worker->failures += compare(worker->client, items);
    worker->failures += delete_last(worker->client, &items[DOSSIERS - 1]);
    return NULL;
}

static int run(struct kho_blocking *client)
{
    struct worker workers[THREADS];
    pthread_t threads[THREADS];
    int failures = 0, started = 0;
    int error = kho_blocking_collection_create(client, "dossiers", -1, 0, 0);
    if (error != 0 && error != KHO_ECOLLECTIONEXISTS) {
        fprintf(stderr, "collection dossiers: %s\n", kho_strerror(error));
        return 1;
    }
    for (; started < THREADS; started++) {
        workers[started] = (struct worker){.client = client, .number = started};
        if (pthread_create(&threads[started], NULL, work, &workers[started]) != 0) {
            failures++;
            break;
        }
    }
    for (int i = 0; i < started; i++) {
        pthread_join(threads[i], NULL);
        failures += workers[i].failures;
    }
    error = kho_blocking_flush(client, 0);
    /* A replica that is away misses no acknowledged write for good: repair brings it. */
    if (error != 0 && error != KHO_EUNAVAILABLE) {
        fprintf(stderr, "flush: %s\n", kho_strerror(error));
        failures++;
    }
    return failures;
}

int main(int argc, char **argv)
{
    struct kho_options options;
    struct kho_blocking *client;
    kho_options_init(&options);
    if (argc == 3 && strcmp(argv[1], "--cluster") == 0)
        options.cluster = argv[2];
    if (options.cluster == NULL) {
        fprintf(stderr, "usage: %s --cluster HOST:PORT[,HOST:PORT...]\n", argv[0]);
        return 2;
    }
    int error = kho_blocking_open(&options, &client);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", options.cluster, kho_strerror(error));
        return 1;
    }
    int failures = run(client);
    kho_blocking_close(client);
    if (failures == 0)
        printf("%d dossiers stored, read back and compared by %d threads\n", THREADS * DOSSIERS,
               THREADS);
    return failures == 0 ? 0 : 1;
}
