/* uv.c: kho.h over libuv: a client's core (client.h), driven by uv_net.c on the caller's loop.
 *
 * The happy path of a call: a request remembers its callback, the core takes the call, the loop's
 * next turn carries it on; when it has ended, the turn delivers it and forgets the request. A call
 * fails at once by its arguments, a full bound of bytes, want of memory, or because the client is
 * closing. A process that was forked must open a client of its own: calls on an inherited one end
 * with KHO_ECLOSED, since two processes on one connection, and with one writer id, would damage
 * each other's writes. */
#include <errno.h>

#include "client.h"
#include "uv_net.h"

enum { ITEMS_MAX = 65536, CALLBACKS_KEPT = 1024 };

struct callback {
    union {
        kho_done_cb done;
        kho_records_cb records;
        kho_list_cb list;
        kho_status_cb status;
        kho_digests_cb digests;
        kho_verify_cb verify;
        kho_repair_cb repair;
        kho_node_change_cb member;
    };
    void *arg;
    struct callback *next; /* among the free ones */
};

struct kho {
    struct net net;
    struct kho_heap heap;
    struct client *core; /* NULL once it has closed */
    unsigned forks;      /* api_forks() of the process that opened it */
    struct callback room;
    struct callback closed;
    struct callback *free_callbacks;
    unsigned free_callback_count;
    struct api_cluster cluster;
};

/* --- Callbacks, kept for reuse --------------------------------------------------------------- */

static struct callback *callback_take(struct kho *client)
{
    struct callback *cb = client->free_callbacks;
    if (cb == NULL)
        return api_allocate(&client->heap, sizeof *cb);
    client->free_callbacks = cb->next;
    client->free_callback_count--;
    return cb;
}

static void callback_give(struct kho *client, struct callback *cb)
{
    if (client->free_callback_count == CALLBACKS_KEPT) {
        api_release(&client->heap, cb);
        return;
    }
    cb->next = client->free_callbacks;
    client->free_callbacks = cb;
    client->free_callback_count++;
}

static void callbacks_free(struct kho *client)
{
    while (client->free_callbacks != NULL) {
        struct callback *cb = client->free_callbacks;
        client->free_callbacks = cb->next;
        api_release(&client->heap, cb);
    }
}

/* --- The core, as uv_net.c sees it ----------------------------------------------------------- */

static void core_completed(void *owner, struct client_op *op, struct kho_now now)
{
    client_completed(((struct kho *)owner)->core, op, now);
}

static void core_received(void *owner, int32_t conn, const uint8_t *bytes, size_t len,
                          struct kho_now now)
{
    client_received(((struct kho *)owner)->core, conn, bytes, len, now);
}

static void core_disconnected(void *owner, int32_t conn, int error, struct kho_now now)
{
    client_disconnected(((struct kho *)owner)->core, conn, error, now);
}

static void core_tick(void *owner, struct kho_now now)
{
    client_tick(((struct kho *)owner)->core, now);
}

static void core_step_end(void *owner, struct kho_now now)
{
    client_step_end(((struct kho *)owner)->core, now);
}

static uint64_t core_deadline(void *owner)
{
    return client_deadline(((struct kho *)owner)->core);
}

static struct client_op *core_next_op(void *owner)
{
    return client_next_op(((struct kho *)owner)->core);
}

/* --- Delivery -------------------------------------------------------------------------------- */

static void kho_free(struct kho *client)
{
    struct kho_heap heap = client->heap;
    client_destroy(client->core);
    callbacks_free(client);
    api_cluster_fini(&client->cluster, &heap);
    net_fini(&client->net);
    api_release(&heap, client);
}

static void on_net_closed(void *owner)
{
    struct kho *client = owner;
    if (client->closed.done != NULL)
        client->closed.done(client, 0, client->closed.arg);
    kho_free(client);
}

static void deliver_records(struct kho *client, const struct client_done *d, struct callback cb)
{
    if (d->verb == CLIENT_LIST) {
        if (cb.list != NULL)
            cb.list(client, d->status, d->records.results, d->records.count, &d->records.next,
                    d->records.done, cb.arg);
    } else if (cb.records != NULL) {
        cb.records(client, d->records.results, d->records.count, cb.arg);
    }
}

static void deliver_admin(struct kho *client, const struct client_done *d, struct callback cb)
{
    if (cb.done == NULL)
        return;
    switch (d->verb) {
    case CLIENT_STATUS:
        cb.status(client, d->status, d->node_status.nodes, d->node_status.count, cb.arg);
        break;
    case CLIENT_DIGESTS:
        cb.digests(client, d->status, d->digests.digests, d->digests.count, cb.arg);
        break;
    case CLIENT_VERIFY:
        cb.verify(client, d->status, d->verify.results, d->verify.count, cb.arg);
        break;
    case CLIENT_REPAIR:
        cb.repair(client, d->status, &d->repair, d->last, cb.arg);
        break;
    case CLIENT_MEMBER:
        cb.member(client, d->status, &d->member, cb.arg);
        break;
    default:
        cb.done(client, d->status, cb.arg);
        break;
    }
}

static void deliver_one(struct kho *client, const struct client_done *d)
{
    struct callback cb;
    if (d->verb == CLIENT_CLOSED)
        return;
    if (d->verb == CLIENT_ROOM) {
        cb = client->room;
        client->room = (struct callback){0};
    } else {
        cb = *(struct callback *)d->context;
        if (d->last)
            callback_give(client, d->context);
    }
    if (d->verb >= CLIENT_PUT && d->verb <= CLIENT_LIST)
        deliver_records(client, d, cb);
    else
        deliver_admin(client, d, cb);
}

static void core_deliver(void *owner)
{
    struct kho *client = owner;
    struct client_done d;
    bool closed = false;
    while (!closed && client_next_done(client->core, &d)) {
        closed = d.verb == CLIENT_CLOSED;
        deliver_one(client, &d);
    }
    if (closed) {
        client_destroy(client->core);
        client->core = NULL;
        net_close(&client->net, on_net_closed);
    }
}

static const struct net_core kho_core = {.completed = core_completed,
                                         .received = core_received,
                                         .disconnected = core_disconnected,
                                         .tick = core_tick,
                                         .step_end = core_step_end,
                                         .deadline = core_deadline,
                                         .next_op = core_next_op,
                                         .deliver = core_deliver};

/* --- Opening and closing --------------------------------------------------------------------- */

/* In the process that opened it, and before its core has gone. */
static bool usable(const struct kho *client)
{
    return client->core != NULL && client->forks == api_forks();
}

/* A request for the core to hand back, or NULL. */
static struct callback *request(struct kho *client, struct callback cb)
{
    struct callback *r = callback_take(client);
    if (r != NULL)
        *r = cb;
    return r;
}

/* What the core said to a call: the request is its own from now on, or freed. */
static int requested(struct kho *client, struct callback *r, int error, kho_call_id call,
                     kho_call_id *ret_call)
{
    if (error < 0) {
        if (r != NULL)
            callback_give(client, r);
        return error;
    }
    net_touch(&client->net);
    if (ret_call != NULL)
        *ret_call = call;
    return 0;
}

int kho_open(struct uv_loop_s *loop, const struct kho_options *options, kho_done_cb opened,
             void *arg, struct kho **ret_client)
{
    struct kho_options taken;
    struct kho_now now = api_now();
    struct callback *r;
    kho_call_id call = 0;
    int error = api_options_take(options, &taken);
    if (loop == NULL || ret_client == NULL || error != 0)
        return -EINVAL;
    struct kho *client = api_allocate_zeroed(&taken.heap, sizeof *client);
    if (client == NULL)
        return -ENOMEM;
    client->heap = taken.heap;
    client->forks = api_forks();
    error = api_forks_watch();
    if (error == 0)
        error = net_init(&client->net, loop, &taken.heap, &kho_core, client);
    if (error != 0)
        goto out;
    error = client_create(&taken, api_seed(), now, &client->core);
    if (error != 0)
        goto out;
    r = request(client, (struct callback){.done = opened, .arg = arg});
    error = r == NULL ? -ENOMEM : client_opened(client->core, r, now, &call);
    error = requested(client, r, error, call, NULL);
    if (error != 0)
        goto out;
    net_start(&client->net);
    *ret_client = client;
    return 0;
out:
    kho_free(client);
    return error;
}

void kho_close(struct kho *client, kho_done_cb closed, void *arg)
{
    if (client == NULL || !usable(client))
        return;
    client->closed = (struct callback){.done = closed, .arg = arg};
    client_close(client->core, NULL, api_now());
    net_touch(&client->net);
}

void kho_cancel(struct kho *client, kho_call_id call)
{
    if (!usable(client))
        return;
    client_cancel(client->core, call, api_now());
    net_touch(&client->net);
}

/* --- Records --------------------------------------------------------------------------------- */

static int call_records(struct kho *client, enum client_verb verb, const char *collection,
                        const struct kho_item *items, size_t count, uint32_t deadline_ms,
                        kho_records_cb cb, void *arg, kho_call_id *ret_call)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    if (collection == NULL || items == NULL || count < 1 || count > ITEMS_MAX)
        return -EINVAL;
    struct callback *r = request(client, (struct callback){.records = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_records(client->core, verb, collection, items, count, deadline_ms, r,
                               api_now(), &call);
    return requested(client, r, error, call, ret_call);
}

int kho_put(struct kho *client, const char *collection, const struct kho_item *items, size_t count,
            uint32_t deadline_ms, kho_records_cb cb, void *arg, kho_call_id *ret_call)
{
    return call_records(client, CLIENT_PUT, collection, items, count, deadline_ms, cb, arg,
                        ret_call);
}

int kho_del(struct kho *client, const char *collection, const struct kho_item *items, size_t count,
            uint32_t deadline_ms, kho_records_cb cb, void *arg, kho_call_id *ret_call)
{
    return call_records(client, CLIENT_DEL, collection, items, count, deadline_ms, cb, arg,
                        ret_call);
}

int kho_append(struct kho *client, const char *collection, const struct kho_item *items,
               size_t count, uint32_t deadline_ms, kho_records_cb cb, void *arg,
               kho_call_id *ret_call)
{
    return call_records(client, CLIENT_APPEND, collection, items, count, deadline_ms, cb, arg,
                        ret_call);
}

int kho_get(struct kho *client, const char *collection, const struct kho_item *items, size_t count,
            uint32_t deadline_ms, kho_records_cb cb, void *arg, kho_call_id *ret_call)
{
    return call_records(client, CLIENT_GET, collection, items, count, deadline_ms, cb, arg,
                        ret_call);
}

int kho_stat(struct kho *client, const char *collection, const struct kho_item *items, size_t count,
             uint32_t deadline_ms, kho_records_cb cb, void *arg, kho_call_id *ret_call)
{
    return call_records(client, CLIENT_STAT, collection, items, count, deadline_ms, cb, arg,
                        ret_call);
}

uint64_t kho_inflight_bytes(const struct kho *client)
{
    return usable(client) ? client_inflight_bytes(client->core) : 0;
}

void kho_on_room(struct kho *client, kho_done_cb cb, void *arg)
{
    if (!usable(client))
        return;
    client->room = (struct callback){.done = cb, .arg = arg};
    client_on_room(client->core, NULL);
    net_touch(&client->net);
}

int kho_flush(struct kho *client, uint32_t deadline_ms, kho_done_cb cb, void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    struct callback *r = request(client, (struct callback){.done = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_flush(client->core, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_list(struct kho *client, const char *collection, const struct kho_cursor *from,
             size_t limit, unsigned flags, uint32_t deadline_ms, kho_list_cb cb, void *arg,
             kho_call_id *ret_call)
{
    static const struct kho_cursor start = {{0}};
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    if (collection == NULL || limit < 1 || limit > ITEMS_MAX || flags > KHO_LIST_WITH_VALUES)
        return -EINVAL;
    struct callback *r = request(client, (struct callback){.list = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_list(client->core, collection, from != NULL ? from : &start, limit, flags,
                            deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, ret_call);
}

/* --- The cluster ----------------------------------------------------------------------------- */

int kho_cluster(struct kho *client, struct kho_cluster_info *ret_info)
{
    if (!usable(client))
        return KHO_ECLOSED;
    const struct map *map = client_map(client->core);
    if (map == NULL)
        return KHO_ENOMAP;
    int error = api_cluster_update(&client->cluster, map, &client->heap);
    if (error != 0)
        return error;
    *ret_info = (struct kho_cluster_info){.epoch = map->epoch,
                                          .map_hash = map->hash,
                                          .partitions = map->partitions,
                                          .replicas = map->replicas,
                                          .write_quorum = map->write_quorum,
                                          .read_quorum = map->read_quorum,
                                          .home = client->cluster.home,
                                          .node_count = map->node_count,
                                          .collection_count = client->cluster.collection_count,
                                          .collections = client->cluster.collections};
    memcpy(ret_info->cluster, map->cluster.bytes, sizeof ret_info->cluster);
    return 0;
}

int kho_status(struct kho *client, uint32_t deadline_ms, kho_status_cb cb, void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    struct callback *r = request(client, (struct callback){.status = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_status(client->core, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_digests(struct kho *client, const char *collection, uint32_t deadline_ms, kho_digests_cb cb,
                void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    struct callback *r = request(client, (struct callback){.digests = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error =
        client_compare(client->core, CLIENT_DIGESTS, collection, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_verify(struct kho *client, const char *collection, uint32_t deadline_ms, kho_verify_cb cb,
               void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    struct callback *r = request(client, (struct callback){.verify = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error =
        client_compare(client->core, CLIENT_VERIFY, collection, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_repair(struct kho *client, const char *collection, kho_repair_cb cb, void *arg,
               kho_call_id *ret_call)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    struct callback *r = request(client, (struct callback){.repair = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_repair(client->core, collection, r, api_now(), &call);
    return requested(client, r, error, call, ret_call);
}

int kho_collection_create(struct kho *client, const char *name, int separator, unsigned replicas,
                          uint32_t deadline_ms, kho_done_cb cb, void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    if (name == NULL || separator < -1 || separator > 255)
        return -EINVAL;
    struct callback *r = request(client, (struct callback){.done = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_collection_create(client->core, name, separator, replicas, deadline_ms, r,
                                         api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_map_push(struct kho *client, uint32_t deadline_ms, kho_done_cb cb, void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    struct callback *r = request(client, (struct callback){.done = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_map_push(client->core, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_node_readmit(struct kho *client, const char *name, uint32_t deadline_ms, kho_done_cb cb,
                     void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    if (name == NULL)
        return -EINVAL;
    struct callback *r = request(client, (struct callback){.done = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_readmit(client->core, name, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}

int kho_node_change(struct kho *client, const struct kho_node_change *change, uint32_t deadline_ms,
                    kho_node_change_cb cb, void *arg)
{
    kho_call_id call = 0;
    if (!usable(client))
        return KHO_ECLOSED;
    if (change == NULL || change->struct_size != sizeof *change)
        return -EINVAL;
    struct callback *r = request(client, (struct callback){.member = cb, .arg = arg});
    if (r == NULL)
        return -ENOMEM;
    int error = client_member(client->core, change, deadline_ms, r, api_now(), &call);
    return requested(client, r, error, call, NULL);
}
