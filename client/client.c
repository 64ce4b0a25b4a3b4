/* client.c: the door of the client's core (client.h): its life, the order of work in a step, and
 * the calls that are no records: opened, flush, room, close.
 *
 * A step takes inputs, each of which moves items and requests on at once, and ends with
 * client_step_end: writes whose turn came are started, what waits is packed into sends, held-back
 * values are bounded. Nothing here fails but client_create and submissions. */
#include "item.h"
#include "session.h"

#include <kho/piece.h>

#define CLIENT_DEADLINE_MS    10000u
#define CLIENT_UNAVAILABLE_MS 2000u
#define CLIENT_HEDGE_MS       50u
#define CLIENT_BYTES_MAX      (64u << 20)

/* --- Life ------------------------------------------------------------------------------------- */

static void client_options_take(struct client *client, const struct kho_options *options)
{
    client->heap = options->heap;
    client->default_deadline_ms =
        options->deadline_ms != 0 ? options->deadline_ms : CLIENT_DEADLINE_MS;
    uint32_t unavailable =
        options->unavailable_after_ms != 0 ? options->unavailable_after_ms : CLIENT_UNAVAILABLE_MS;
    uint32_t hedge = options->hedge_ms != 0 ? options->hedge_ms : CLIENT_HEDGE_MS;
    if (options->cluster_id != NULL)
        memcpy(client->cluster.bytes, options->cluster_id, sizeof client->cluster.bytes);
    client->unavailable_after_ns = unavailable * CLIENT_MS_NS;
    client->hedge_ns = hedge == UINT32_MAX ? CLIENT_NEVER : hedge * CLIENT_MS_NS;
    hedge_init(client);
    client->inflight_bytes_max =
        options->inflight_bytes_max != 0 ? options->inflight_bytes_max : CLIENT_BYTES_MAX;
    client->holdback_bytes_max =
        options->holdback_bytes_max != 0 ? options->holdback_bytes_max : CLIENT_BYTES_MAX;
    client->compress_min = options->compress_min != 0 ? options->compress_min : CLIENT_COMPRESS_MIN;
}

int client_create(const struct kho_options *options, uint64_t seed, struct kho_now now,
                  struct client **ret_client)
{
    struct client boot = {.heap = options->heap};
    struct client *client = (struct client *)client_allocate_zeroed(&boot, sizeof *client);
    if (client == NULL)
        return -ENOMEM;
    client_options_take(client, options);
    kho_random_init(&client->random, seed);
    client->writer = (uint32_t)kho_random_next(&client->random);
    client->stamp_serial = kho_random_next(&client->random);
    client->serial = (uint32_t)kho_random_next(&client->random);
    queue_init(&client->outbox);
    queue_init(&client->sessions);
    queue_init(&client->calls);
    queue_init(&client->timers.run);
    queue_init(&client->ended);
    queue_init(&client->ready);
    queue_init(&client->held);
    queue_init(&client->flushes);
    queue_init(&client->room.link);
    queue_init(&client->closing_call.link);
    client->piece = (uint8_t *)client_allocate(client, KHO_PIECE_MAX);
    int status = client->piece != NULL ? route_open(client, options->cluster, now) : -ENOMEM;
    if (status != 0) {
        client_destroy(client);
        return status;
    }
    *ret_client = client;
    return 0;
}

/* Frees the calls of a list; records are left where they are held and were delivered. */
static void client_destroy_calls(struct client *client, struct queue *list, bool records)
{
    QUEUE_FOREACH_SAFE (link, list) {
        struct call *call = KHO_CONTAINER_OF(link, struct call, link);
        if (call->kind == NULL || (records_of(call) != NULL) != records)
            continue;
        queue_remove(link);
        if (records)
            records_destroy(client, call);
        else
            call->kind->release(client, call);
    }
}

static void client_destroy_held(struct client *client)
{
    QUEUE_FOREACH_SAFE (link, &client->held) {
        struct records *call = KHO_CONTAINER_OF(link, struct records, held_link);
        if (call->delivered)
            records_destroy(client, &call->call);
    }
}

void client_destroy(struct client *client)
{
    if (client == NULL)
        return;
    if (client->lent != NULL)
        queue_push(&client->ended, &client->lent->link);
    client_destroy_calls(client, &client->calls, false);
    client_destroy_calls(client, &client->ended, false);
    route_destroy(client);
    client_destroy_held(client);
    client_destroy_calls(client, &client->calls, true);
    client_destroy_calls(client, &client->ended, true);
    records_pool_free(client);
    while (client->blocks.free_blocks != NULL) {
        struct send_block *block = client->blocks.free_blocks;
        client->blocks.free_blocks = block->next;
        client_release(client, block);
    }
    client_release(client, client->piece);
    client_release(client, client->lines.buckets);
    client_release(client, client->timers.heap);
    client_release(client, client->table.slots);
    client_release(client, client->table.serials);
    client_release(client, client->table.free_slots);
    struct client boot = {.heap = client->heap};
    client_release(&boot, client);
}

/* --- Inputs ----------------------------------------------------------------------------------- */

static struct session *client_session(const struct client *client, int32_t conn)
{
    if (conn < 0 || (uint32_t)conn >= client->conn_capacity)
        return NULL;
    return client->conns[conn];
}

void client_completed(struct client *client, struct client_op *op, struct kho_now now)
{
    session_completed(client, (struct session *)op->owner, op, now);
}

void client_received(struct client *client, int32_t conn, const uint8_t *bytes, size_t len,
                     struct kho_now now)
{
    struct session *session = client_session(client, conn);
    if (session != NULL)
        session_received(client, session, bytes, len, now);
}

void client_disconnected(struct client *client, int32_t conn, int error, struct kho_now now)
{
    struct session *session = client_session(client, conn);
    if (session != NULL)
        session_break(client, session, error != 0 ? error : -ECONNRESET, now);
}

void client_tick(struct client *client, struct kho_now now)
{
    call_timers_run(client, now);
    QUEUE_FOREACH (link, &client->sessions) {
        session_tick(client, KHO_CONTAINER_OF(link, struct session, link), now);
    }
}

static void flushes_end(struct client *client);

static void client_room_check(struct client *client)
{
    if (!client->room_wanted || client->inflight_bytes > client->inflight_bytes_max / 2)
        return;
    client->room_wanted = false;
    queue_push(&client->ended, &client->room.link);
}

static void client_close_check(struct client *client, struct kho_now now)
{
    if (!client->closing || client->closed)
        return;
    if (!client->drained && queue_empty(&client->calls) && queue_empty(&client->held)) {
        client->drained = true;
        route_close(client, now);
    }
    session_sweep(client);
    if (!client->drained || !queue_empty(&client->sessions))
        return;
    client->closed = true;
    queue_push(&client->ended, &client->closing_call.link);
}

void client_step_end(struct client *client, struct kho_now now)
{
    if (client->refresh_waited && client->refreshing == 0)
        records_refreshed(client, now);
    do {
        items_run_ready(client, now);
        records_bound_held(client);
        QUEUE_FOREACH (link, &client->sessions) {
            session_flush(client, KHO_CONTAINER_OF(link, struct session, link), now);
        }
    } while (!queue_empty(&client->ready));
    readers_rotate(client);
    flushes_end(client);
    client_room_check(client);
    client_close_check(client, now);
    session_sweep(client);
}

uint64_t client_deadline(const struct client *client)
{
    uint64_t at = call_timers_next(client);
    QUEUE_FOREACH (link, &client->sessions) {
        const struct session *session = KHO_CONTAINER_OF(link, struct session, link);
        at = kho_min(at, session_deadline(client, session));
    }
    return at;
}

struct client_op *client_next_op(struct client *client)
{
    struct queue *link = queue_pop(&client->outbox);
    return link == NULL ? NULL : KHO_CONTAINER_OF(link, struct client_op, link);
}

uint64_t client_inflight_bytes(const struct client *client)
{
    return client->inflight_bytes;
}

const struct map *client_map(const struct client *client)
{
    return client_has_map(client) ? &client->map : NULL;
}

/* --- What ended ------------------------------------------------------------------------------- */

static void client_return_lent(struct client *client)
{
    struct call *call = client->lent;
    client->lent = NULL;
    if (call == NULL || call->kind == NULL)
        return;
    if (!call->lasting)
        call_forget(client, call);
    call->kind->release(client, call);
}

bool client_next_done(struct client *client, struct client_done *ret_done)
{
    client_return_lent(client);
    struct queue *link = queue_pop(&client->ended);
    if (link == NULL)
        return false;
    client->lent = KHO_CONTAINER_OF(link, struct call, link);
    *ret_done = client->lent->done;
    return true;
}

/* --- opened ----------------------------------------------------------------------------------- */

static void opened_timer(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    call_end(client, call, client->map_error != 0 ? client->map_error : KHO_EDEADLINE);
}

static void opened_cancel(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    call_end(client, call, KHO_ECANCELED);
}

static void opened_map_changed(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    call_end(client, call, 0);
}

static void opened_release(struct client *client, struct call *call)
{
    client_release(client, call);
}

static const struct call_kind opened_kind = {
    .timer = opened_timer,
    .cancel = opened_cancel,
    .map_changed = opened_map_changed,
    .release = opened_release,
};

int client_opened(struct client *client, void *context, struct kho_now now, kho_call_id *ret_call)
{
    struct call *call = (struct call *)client_allocate_zeroed(client, sizeof *call);
    if (call == NULL)
        return -ENOMEM;
    int status = call_begin(client, call, &opened_kind, CLIENT_OPENED, 0, context, now);
    if (status != 0) {
        client_release(client, call);
        return status;
    }
    *ret_call = call->done.call;
    if (client_has_map(client))
        call_end(client, call, 0);
    return 0;
}

/* --- flush ------------------------------------------------------------------------------------ */

struct flush {
    struct call call; /* first */
    struct queue link;
    uint64_t serial;    /* of the last write before it */
    uint64_t remaining; /* writes up to it that haven't settled */
};

static void flush_end(struct client *client, struct flush *flush, int status)
{
    queue_remove(&flush->link);
    call_end(client, &flush->call, status);
}

static void flush_done(struct client *client, struct flush *flush)
{
    flush_end(client, flush, client->given_up > 0 ? KHO_EUNAVAILABLE : 0);
    client->given_up = 0;
}

static void flush_timer(struct client *client, struct call *call, struct kho_now now)
{
    struct flush *flush = KHO_CONTAINER_OF(call, struct flush, call);
    (void)now;
    if (flush->remaining == 0)
        flush_done(client, flush);
    else
        flush_end(client, flush, KHO_EDEADLINE);
}

static void flush_cancel(struct client *client, struct call *call, struct kho_now now)
{
    (void)now;
    flush_end(client, KHO_CONTAINER_OF(call, struct flush, call), KHO_ECANCELED);
}

static void flush_release(struct client *client, struct call *call)
{
    client_release(client, KHO_CONTAINER_OF(call, struct flush, call));
}

static const struct call_kind flush_kind = {
    .timer = flush_timer,
    .cancel = flush_cancel,
    .release = flush_release,
};

void flush_settled(struct client *client, uint64_t serial)
{
    QUEUE_FOREACH (link, &client->flushes) {
        struct flush *flush = KHO_CONTAINER_OF(link, struct flush, link);
        if (serial <= flush->serial && --flush->remaining == 0)
            client->flush_due = true;
    }
}

/* At the end of a step: whoever goes through the calls, and ends writes on the way, must find the
 * next one where it was. */
static void flushes_end(struct client *client)
{
    if (!client->flush_due)
        return;
    client->flush_due = false;
    QUEUE_FOREACH_SAFE (link, &client->flushes) {
        struct flush *flush = KHO_CONTAINER_OF(link, struct flush, link);
        if (flush->remaining == 0)
            flush_done(client, flush);
    }
}

int client_flush(struct client *client, uint32_t deadline_ms, void *context, struct kho_now now,
                 kho_call_id *ret_call)
{
    struct flush *flush = (struct flush *)client_allocate_zeroed(client, sizeof *flush);
    if (flush == NULL)
        return -ENOMEM;
    int status =
        call_begin(client, &flush->call, &flush_kind, CLIENT_FLUSH, deadline_ms, context, now);
    if (status != 0) {
        client_release(client, flush);
        return status;
    }
    *ret_call = flush->call.done.call;
    flush->serial = client->write_serial;
    flush->remaining = client->unsettled;
    queue_push(&client->flushes, &flush->link);
    if (flush->remaining == 0)
        flush_done(client, flush);
    return 0;
}

/* --- room and close --------------------------------------------------------------------------- */

void client_on_room(struct client *client, void *context)
{
    struct call *room = &client->room;
    room->done = (struct client_done){.verb = CLIENT_ROOM, .context = context, .last = true};
    /* One that waits to be delivered is replaced, too. */
    client->room_wanted = client->lent == room || queue_empty(&room->link);
}

void client_close(struct client *client, void *context, struct kho_now now)
{
    (void)now;
    struct call *call = &client->closing_call;
    call->done = (struct client_done){.verb = CLIENT_CLOSED, .context = context, .last = true};
    client->closing = true;
}

bool client_closed(const struct client *client)
{
    return client->closed;
}
