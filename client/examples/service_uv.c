/* service_uv.c: a service on a libuv loop.
 *
 *   example_service_uv --cluster HOST:PORT[,HOST:PORT…]
 *
 * A timer stands for the service's own traffic: at each tick some requests arrive, and each batch
 * is put, then read back and compared byte for byte; an event is appended for it and read back by
 * the key that append returned. When kho says that the bound of bytes under way is reached, the
 * service stops to take requests until there is room. Exit code 0: all was as it should be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <kho/kho.h>

enum { BATCHES = 20, BATCH = 32, TICK_MS = 5 };

struct service {
    uv_loop_t *loop;
    uv_timer_t traffic;
    struct kho *client;
    int batches_begun, batches_ended;
    int failures;
};

/* One batch of requests: its records live until the batch has been compared. */
struct batch {
    struct service *service;
    int number;
    char keys[BATCH][32];
    char values[BATCH][128];
    char event[64];
    struct kho_item items[BATCH];
};

static void fail(struct service *service, const char *what, int status)
{
    fprintf(stderr, "%s: %s\n", what, kho_strerror(status));
    service->failures++;
}

/* --- The end --------------------------------------------------------------------------------- */

static void on_flushed(struct kho *client, int status, void *arg)
{
    struct service *service = arg;
    /* A replica that is away misses no acknowledged write for good: repair brings it. */
    if (status != 0 && status != KHO_EUNAVAILABLE)
        fail(service, "flush", status);
    kho_close(client, NULL, NULL);
}

static void service_stop(struct service *service)
{
    uv_close((uv_handle_t *)&service->traffic, NULL);
    int error = kho_flush(service->client, 0, on_flushed, service);
    if (error != 0) {
        fail(service, "flush", error);
        kho_close(service->client, NULL, NULL);
    }
}

static void batch_end(struct batch *batch)
{
    struct service *service = batch->service;
    free(batch);
    if (++service->batches_ended == BATCHES)
        service_stop(service);
}

/* --- A batch --------------------------------------------------------------------------------- */

static void on_event_read(struct kho *client, const struct kho_result *results, size_t count,
                          void *arg)
{
    struct batch *batch = arg;
    (void)client;
    (void)count;
    if (results[0].status != 0)
        fail(batch->service, "get of an event", results[0].status);
    else if (results[0].value_len != strlen(batch->event) ||
             memcmp(results[0].value, batch->event, results[0].value_len) != 0)
        fail(batch->service, "an event came back with another value", 0);
    batch_end(batch);
}

static void on_event(struct kho *client, const struct kho_result *results, size_t count, void *arg)
{
    struct batch *batch = arg;
    (void)count;
    int error = results[0].status;
    if (error == 0) {
        struct kho_item item = {.key = results[0].key, .key_len = results[0].key_len};
        error = kho_get(client, "events", &item, 1, 0, on_event_read, batch, NULL);
    }
    if (error != 0) {
        fail(batch->service, "append of an event", error);
        batch_end(batch);
    }
}

static void on_read(struct kho *client, const struct kho_result *results, size_t count, void *arg)
{
    struct batch *batch = arg;
    for (size_t i = 0; i < count; i++) {
        const struct kho_item *item = &batch->items[i];
        if (results[i].status != 0)
            fail(batch->service, batch->keys[i], results[i].status);
        else if (results[i].value_len != item->value_len ||
                 memcmp(results[i].value, item->value, item->value_len) != 0)
            fail(batch->service, "a request came back with another value", 0);
    }
    int len = snprintf(batch->event, sizeof batch->event, "batch %d of %zu requests", batch->number,
                       count);
    struct kho_item event = {.value = batch->event, .value_len = (size_t)len};
    int error = kho_append(client, "events", &event, 1, 0, on_event, batch, NULL);
    if (error != 0) {
        fail(batch->service, "append of an event", error);
        batch_end(batch);
    }
}

static void on_stored(struct kho *client, const struct kho_result *results, size_t count, void *arg)
{
    struct batch *batch = arg;
    for (size_t i = 0; i < count; i++)
        if (results[i].outcome != KHO_APPLIED)
            fail(batch->service, batch->keys[i], results[i].status);
    int error = kho_get(client, "requests", batch->items, count, 0, on_read, batch, NULL);
    if (error != 0) {
        fail(batch->service, "get", error);
        batch_end(batch);
    }
}

static struct batch *batch_make(struct service *service)
{
    struct batch *batch = calloc(1, sizeof *batch);
    if (batch == NULL)
        abort();
    batch->service = service;
    batch->number = service->batches_begun;
    for (int i = 0; i < BATCH; i++) {
        int key_len =
            snprintf(batch->keys[i], sizeof batch->keys[i], "uv-%05d", batch->number * BATCH + i);
        int value_len = snprintf(batch->values[i], sizeof batch->values[i],
                                 "{\"procedure\":\"birth registration\",\"batch\":%d,\"line\":%d}",
                                 batch->number, i);
        batch->items[i] = (struct kho_item){.key = batch->keys[i],
                                            .key_len = (size_t)key_len,
                                            .value = batch->values[i],
                                            .value_len = (size_t)value_len};
    }
    return batch;
}

/* --- Traffic --------------------------------------------------------------------------------- */

static void on_traffic(uv_timer_t *timer);

static void on_room(struct kho *client, int status, void *arg)
{
    struct service *service = arg;
    (void)client;
    (void)status;
    uv_timer_start(&service->traffic, on_traffic, 0, TICK_MS);
}

static void on_traffic(uv_timer_t *timer)
{
    struct service *service = timer->data;
    struct batch *batch = batch_make(service);
    int error =
        kho_put(service->client, "requests", batch->items, BATCH, 0, on_stored, batch, NULL);
    if (error == KHO_EBUSY) {
        free(batch);
        uv_timer_stop(timer);
        kho_on_room(service->client, on_room, service);
        return;
    }
    if (++service->batches_begun == BATCHES)
        uv_timer_stop(timer);
    if (error != 0) {
        fail(service, "put", error);
        batch_end(batch);
    }
}

/* --- The beginning --------------------------------------------------------------------------- */

static void on_events_made(struct kho *client, int status, void *arg)
{
    struct service *service = arg;
    (void)client;
    if (status != 0 && status != KHO_ECOLLECTIONEXISTS) {
        fail(service, "collection events", status);
        service_stop(service);
        return;
    }
    uv_timer_start(&service->traffic, on_traffic, 0, TICK_MS);
}

static void on_requests_made(struct kho *client, int status, void *arg)
{
    struct service *service = arg;
    int error = status;
    if (status == 0 || status == KHO_ECOLLECTIONEXISTS)
        error = kho_collection_create(client, "events", -1, 0, 0, on_events_made, service);
    if (error != 0) {
        fail(service, "collections", error);
        service_stop(service);
    }
}

static void on_opened(struct kho *client, int status, void *arg)
{
    struct service *service = arg;
    int error = status;
    if (status == 0)
        error = kho_collection_create(client, "requests", -1, 0, 0, on_requests_made, service);
    if (error != 0) {
        fail(service, "open", error);
        service_stop(service);
    }
}

int main(int argc, char **argv)
{
    struct service service = {.loop = uv_default_loop()};
    struct kho_options options;
    kho_options_init(&options);
    if (argc == 3 && strcmp(argv[1], "--cluster") == 0)
        options.cluster = argv[2];
    if (options.cluster == NULL) {
        fprintf(stderr, "usage: %s --cluster HOST:PORT[,HOST:PORT...]\n", argv[0]);
        return 2;
    }
    uv_timer_init(service.loop, &service.traffic);
    service.traffic.data = &service;
    int error = kho_open(service.loop, &options, on_opened, &service, &service.client);
    if (error != 0) {
        fprintf(stderr, "%s: %s\n", options.cluster, kho_strerror(error));
        return 1;
    }
    uv_run(service.loop, UV_RUN_DEFAULT);
    uv_loop_close(service.loop);
    if (service.failures == 0)
        printf("%d requests stored, read back and compared, an event for each of %d batches\n",
               BATCHES * BATCH, BATCHES);
    return service.failures == 0 ? 0 : 1;
}
