/* serve.c: the life of the serving side: connections by handle, requests in flight, the order of a
 * turn, the end.
 *
 * Happy path: a connection is accepted, its frames are carried out as they come (serve_frame.c), a
 * turn hands on what the store has finished, runs jobs, offers waiting connections their turn, and
 * sends. What may fail: there is no memory for a connection (its HELLO is refused with KHO_EFULL)
 * or for a request (its frame waits). */
#include "serve.h"

#include <kho/piece.h>

#include <errno.h>

/* While a connection waits for the store's room and nothing else happens, it is asked again. */
static const uint64_t SERVE_ROOM_POLL_NS = 5ull * 1000 * 1000;

enum { SERVE_CHUNK = 64, SERVE_ENTRIES_BYTES = KHO_FRAME_ENTRIES_MAX * sizeof(struct store_entry) };
struct request_chunk {
    struct queue link;
    struct request requests[SERVE_CHUNK];
};

/* --- Life ------------------------------------------------------------------------------------- */

int serve_init(struct serve *serve, const struct shard_options *options, struct shard_world *world)
{
    memset(serve, 0, sizeof *serve);
    serve->options = options;
    serve->world = world;
    struct queue *heads[] = {&serve->free_requests, &serve->chunks,   &serve->waiting,
                             &serve->paused,        &serve->work,     &serve->starved,
                             &serve->free_slots,    &serve->spreading};
    for (size_t i = 0; i < KHO_COUNT_OF(heads); i++)
        queue_init(heads[i]);
    serve->spread = options->shard_count > 1 ? 0 : UINT64_MAX;
    conn_host_init(&serve->host, world, NULL);
    int status = share_init(&serve->host.share, world);
    if (status < 0)
        return status;
    serve->conns_bytes = sizeof *serve->conns * options->connections_max;
    serve->conns = world_allocate(world, serve->conns_bytes, 0);
    if (serve->conns == NULL)
        return -ENOMEM;
    memset(serve->conns, 0, serve->conns_bytes);
    serve->entries = world_allocate(world, SERVE_ENTRIES_BYTES, 0);
    serve->raw = world_allocate(world, KHO_FRAME_RAW_MAX, 0);
    serve->piece = world_allocate(world, KHO_PIECE_MAX, 0);
    if (serve->entries == NULL || serve->raw == NULL || serve->piece == NULL)
        return -ENOMEM;
    return serve_jobs_init(serve);
}

void serve_attach(struct serve *serve, struct store *store)
{
    serve->store = store;
    serve->host.store = store;
}

void serve_fini(struct serve *serve)
{
    struct queue *link;
    if (serve->world == NULL)
        return;
    for (uint32_t i = 0; serve->conns != NULL && i < serve->options->connections_max; i++)
        conn_fini(&serve->conns[i]);
    serve_jobs_fini(serve);
    world_release(serve->world, serve->conns, serve->conns_bytes);
    world_release(serve->world, serve->entries, SERVE_ENTRIES_BYTES);
    world_release(serve->world, serve->raw, KHO_FRAME_RAW_MAX);
    world_release(serve->world, serve->piece, KHO_PIECE_MAX);
    while ((link = queue_pop(&serve->chunks)) != NULL) {
        struct request_chunk *chunk = KHO_CONTAINER_OF(link, struct request_chunk, link);
        for (int i = 0; i < SERVE_CHUNK; i++) {
            free(chunk->requests[i].statuses);
            free(chunk->requests[i].body);
        }
        free(chunk);
    }
    share_fini(&serve->host.share);
    serve->world = NULL;
}

/* --- Requests in flight ----------------------------------------------------------------------- */

static bool request_chunk_add(struct serve *serve)
{
    if (serve->requests_made + SERVE_CHUNK > SERVE_REQUESTS_MAX)
        return false;
    struct request_chunk *chunk = share_allocate_admitted(&serve->host.share, sizeof *chunk);
    if (chunk == NULL)
        return false;
    memset(chunk, 0, sizeof *chunk);
    queue_push(&serve->chunks, &chunk->link);
    for (int i = 0; i < SERVE_CHUNK; i++)
        queue_push(&serve->free_requests, &chunk->requests[i].link);
    serve->requests_made += SERVE_CHUNK;
    return true;
}

struct request *request_begin(struct conn *conn, const struct wire_head *head)
{
    struct serve *serve = serve_of(conn);
    if (queue_empty(&serve->free_requests) && !request_chunk_add(serve))
        return NULL;
    struct queue *link = queue_pop(&serve->free_requests);
    KHO_ASSERT(link != NULL);
    struct request *request = KHO_CONTAINER_OF(link, struct request, link);
    memset(request, 0, sizeof *request);
    queue_init(&request->link);
    queue_init(&request->window);
    request->conn = conn;
    request->id = head->request;
    request->epoch = head->epoch;
    request->charged = head->length;
    request->count = head->count;
    request->type = head->type;
    request->flags = head->flags;
    serve->requests++;
    conn_request_began(conn, request->charged);
    return request;
}

void request_end(struct request *request)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    KHO_ASSERT(request->reads == 0 && queue_empty(&request->window));
    if (conn->frame.owner == request)
        conn_frame_close(conn);
    request_body_release(request);
    share_release(&serve->host.share, request->statuses,
                  sizeof *request->statuses * request->count);
    request->statuses = NULL;
    queue_remove(&request->link);
    queue_push_front(&serve->free_requests, &request->link);
    KHO_ASSERT(serve->requests > 0);
    serve->requests--;
    conn_request_ended(conn, request->charged);
}

bool request_body_admitted(struct request *request, uint32_t size)
{
    request->body = share_allocate_admitted(&request->conn->host->share, size);
    request->body_size = size;
    return request->body != NULL;
}

bool request_body(struct request *request, uint32_t size, bool large)
{
    struct share *share = &request->conn->host->share;
    request->body = share_allocate(share, size);
    if (request->body == NULL)
        return false;
    request->body_size = size;
    request->body_large = large;
    if (large)
        share->large_used += size;
    return true;
}

void request_body_release(struct request *request)
{
    struct share *share = &request->conn->host->share;
    if (request->body != NULL && request->body_large)
        share->large_used -= request->body_size;
    share_release(share, request->body, request->body_size);
    request->body = NULL;
}

/* --- Answers ---------------------------------------------------------------------------------- */

void serve_answer(struct conn *conn, uint8_t type, uint64_t id, int32_t status)
{
    struct serve *serve = serve_of(conn);
    const struct map *map = store_map(serve->store);
    if (status < 0)
        serve->refused++;
    /* A client that doesn't take its answers isn't sent one more map for each of its requests. */
    bool with_map =
        status == KHO_EEPOCHOLD && map != NULL && conn->unsent + map->length <= CONN_UNSENT_MAX;
    uint32_t bytes = with_map ? map->length : 0;
    uint8_t *to = conn_frame(conn, NULL, type, id, 0, bytes);
    if (to == NULL)
        return;
    if (with_map)
        memcpy(to, map->bytes, bytes);
    conn_frame_added(conn, bytes, 0);
    conn_frame_end(conn, 0, status);
}

void serve_answer_statuses(struct conn *conn, uint8_t type, uint64_t id, uint32_t count,
                           const int32_t *statuses)
{
    uint32_t bytes = count * WIRE_STATUS_ANSWER;
    uint8_t *to = conn_frame(conn, NULL, type, id, 0, bytes);
    if (to == NULL)
        return;
    if (statuses == NULL) {
        memset(to, 0, bytes);
    } else {
        for (uint32_t i = 0; i < count; i++) {
            kho_store32(to + (size_t)i * WIRE_STATUS_ANSWER, (uint32_t)statuses[i]);
            kho_store32(to + (size_t)i * WIRE_STATUS_ANSWER + 4, 0);
        }
    }
    conn_frame_added(conn, bytes, count);
    conn_frame_end(conn, 0, 0);
}

/* --- Rights and places ------------------------------------------------------------------------ */

bool serve_allowed(const struct conn *conn, uint32_t collection, enum serve_verb verb)
{
    (void)conn;
    (void)collection;
    (void)verb;
    return true;
}

int serve_policy(const struct conn *conn, struct serve_policy *policy, uint32_t collection,
                 enum serve_verb verb)
{
    if (policy->collection == collection && collection != 0)
        return 0;
    const struct map *map = store_map(conn->host->store);
    int index = map_collection_by_id(map, collection);
    if (index < 0)
        return KHO_ENOCOLLECTION;
    if (!serve_allowed(conn, collection, verb))
        return KHO_EDENIED;
    const uint8_t *at = map->collections + (size_t)index * KHO_MAP_COLLECTION;
    policy->collection = collection;
    policy->replicas = at[68] != 0 ? at[68] : map->replicas;
    policy->separator = kho_load16(at + 70);
    return 0;
}

bool serve_is_replica(const struct serve *serve, uint32_t partition, uint32_t replicas)
{
    int self = store_map_self(serve->store);
    const struct map *map = store_map(serve->store);
    const struct shard_options *options = serve->options;
    /* Another shard's partition would be answered as absent here. */
    return self >= 0 && partition < map->partitions &&
           (partition % options->shard_count == options->shard || KHO_PLANTED(wrong_shard)) &&
           map_is_listed(map, partition, replicas, (uint32_t)self);
}

int serve_place(const struct serve *serve, const struct serve_policy *policy, const uint8_t *key,
                size_t key_len, struct key_hash *ret_hash, uint32_t *ret_partition)
{
    const struct map *map = store_map(serve->store);
    struct key_hash hash = key_hash(policy->collection, key, key_len, map->seed);
    uint32_t partition = key_partition(policy->collection, key, key_len, map->seed,
                                       policy->separator, map->partitions, hash);
    if (!serve_is_replica(serve, partition, policy->replicas))
        return KHO_ENOTREPLICA;
    *ret_hash = hash;
    *ret_partition = partition;
    return 0;
}

/* --- Inputs ----------------------------------------------------------------------------------- */

static struct conn *serve_conn(struct serve *serve, int32_t handle)
{
    KHO_ASSERT(handle >= 0 && (uint32_t)handle < serve->options->connections_max);
    return &serve->conns[handle];
}

void serve_hello(const struct serve *serve, struct wire_hello_node *ret_hello)
{
    const struct shard_options *options = serve->options;
    const struct store *store = serve->store;
    const struct map *map = store_map(store);
    struct wire_hello_node hello = {
        .protocol = KHO_PROTOCOL,
        .shard_count = options->shard_count,
        .incarnation = options->incarnation,
        .boot = options->boot,
        .durable = store_durable(store),
        .wall_ms = serve->host.now.wall_ms,
    };
    if (map != NULL) {
        hello.cluster = map->cluster;
        hello.epoch = map->epoch;
        hello.map_hash = map->hash;
    }
    if (store_suspect(store))
        hello.flags |= KHO_HELLO_SUSPECT;
    if (store_failed(store) != 0)
        hello.flags |= KHO_HELLO_READONLY;
    if (store_suspect(store) || store_episodes(store, NULL, 0) > 0)
        hello.flags |= KHO_HELLO_EPISODE;
    *ret_hello = hello;
}

/* How many connections are too many for newcomers to find a place at once. */
static uint32_t serve_crowd(const struct serve *serve)
{
    uint32_t most = serve->options->connections_max;
    uint32_t comfortable = most - kho_max(most / 8, 1u);
    return serve->host.open > comfortable ? serve->host.open - comfortable : 0;
}

/* A client whose connection goes while it asks nothing makes another when it needs one; so those
 * who only hold places can't keep the others out. */
static void serve_make_places(struct serve *serve)
{
    uint32_t wanted = serve_crowd(serve), made = 0, open = serve->host.open;
    for (uint32_t i = 0; i < serve->options->connections_max && made < wanted; i++) {
        if (!conn_idle(&serve->conns[i]))
            continue;
        conn_abort(&serve->conns[i]);
        made++;
    }
    if (made > 0)
        world_event(serve->world, EVENT_WARNING,
                    "%u of %u connections were in use (--connections): %u were closed that had "
                    "asked nothing for %u s",
                    open, serve->options->connections_max, made,
                    (unsigned)(CONN_IDLE_NS / 1000000000u));
}

void serve_accepted(struct serve *serve, int32_t handle, const struct wire_hello_client *hello,
                    int refusal)
{
    struct wire_hello_node answer;
    struct conn *conn = serve_conn(serve, handle);
    serve_hello(serve, &answer);
    answer.status = refusal;
    if (answer.status == 0 && hello->shard != serve->options->shard)
        answer.status = KHO_ESHARD;
    if (answer.status == 0 && !kho_id_is_zero(&hello->cluster) &&
        !kho_id_is_zero(&answer.cluster) && !kho_id_equal(&hello->cluster, &answer.cluster))
        answer.status = KHO_ECLUSTER;
    if (answer.status == 0 && !share_has(&serve->host.share, SHARE_BUFFER_SMALL, false))
        answer.status = KHO_EFULL;
    if (answer.status != 0)
        serve->refused++;
    conn_open(conn, &serve->host, handle, &answer);
    if (serve_crowd(serve) > 0)
        conn_owes(conn);
}

void serve_received(struct serve *serve, int32_t handle, const uint8_t *bytes, size_t len)
{
    struct conn *conn = serve_conn(serve, handle);
    if (conn->phase != CONN_OPEN)
        return;
    conn->progress_ns = serve->host.now.mono_ns;
    serve_consume(serve, conn, bytes, len);
}

void serve_disconnected(struct serve *serve, int32_t handle, int error)
{
    struct conn *conn = serve_conn(serve, handle);
    /* An end in order may come behind requests whose answers nobody waits for any more. */
    (void)error;
    if (conn->phase != CONN_FREE)
        conn_abort(conn);
}

void serve_completed(struct serve *serve, struct op *op)
{
    struct conn *conn = op->context;
    (void)serve;
    conn_completed(conn, op);
    if (conn->phase == CONN_OPEN || conn->phase == CONN_DRAINING)
        serve_ready(conn);
}

/* --- The turn --------------------------------------------------------------------------------- */

/* What a closed connection can't finish. */
static void serve_gone(struct serve *serve)
{
    struct queue *link;
    while ((link = queue_pop(&serve->host.gone)) != NULL) {
        struct conn *conn = KHO_CONTAINER_OF(link, struct conn, gone);
        while (!queue_empty(&conn->assemblies))
            request_end(KHO_CONTAINER_OF(conn->assemblies.next, struct request, link));
        if (conn->phase != CONN_CLOSING)
            continue;
        serve_read_drop(conn);
        while (!queue_empty(&conn->jobs))
            job_stop(KHO_CONTAINER_OF(conn->jobs.next, struct request, link), KHO_ECLOSED);
    }
}

static void serve_store_done(struct serve *serve)
{
    struct store_done done;
    while (store_next_done(serve->store, &done)) {
        if (done.kind != STORE_DONE_READ) {
            serve_admin_done(serve, &done);
            continue;
        }
        struct read_slot *slot = done.read->owner;
        if (slot->request->type == WIRE_LIST)
            serve_list_done(slot);
        else
            serve_read_done(slot);
    }
}

void serve_turn(struct serve *serve)
{
    serve->units = SERVE_WORK_UNITS;
    serve->more_work = false;
    serve_gone(serve);
    serve_store_done(serve);
    serve_write_progress(serve);
    serve_resume(serve);
    serve_work(serve);
    /* What the store could do without the disk. */
    serve_store_done(serve);
    bool starved_may_go_on = serve->slot_ended && !queue_empty(&serve->starved);
    if (!queue_empty(&serve->work) || starved_may_go_on)
        serve->more_work = true;
}

void serve_flush(struct serve *serve)
{
    struct queue dirty, *link;
    serve_gone(serve);
    queue_init(&dirty);
    queue_append_all(&dirty, &serve->host.dirty);
    while ((link = queue_pop(&dirty)) != NULL)
        conn_flush(KHO_CONTAINER_OF(link, struct conn, dirty));
    serve_gone(serve);
}

void serve_tick(struct serve *serve)
{
    if (serve->host.now.mono_ns < serve->host.sweep_at_ns)
        return;
    bool owed = false, large_wanted = false;
    for (uint32_t i = 0; i < serve->options->connections_max; i++)
        large_wanted = large_wanted || (serve->conns[i].phase == CONN_OPEN &&
                                        serve->conns[i].waiting == CONN_WAIT_LARGE);
    for (uint32_t i = 0; i < serve->options->connections_max; i++)
        if (conn_sweep(&serve->conns[i], large_wanted))
            owed = true;
    serve_make_places(serve);
    owed = owed || serve_crowd(serve) > 0;
    serve->host.sweep_at_ns = owed ? serve->host.now.mono_ns + CONN_SWEEP_NS : UINT64_MAX;
}

uint64_t serve_deadline(const struct serve *serve)
{
    uint64_t deadline = serve->host.sweep_at_ns;
    if (serve->more_work)
        return serve->host.now.mono_ns;
    if (serve->room_waiters > 0)
        deadline = kho_min(deadline, serve->host.now.mono_ns + SERVE_ROOM_POLL_NS);
    return deadline;
}

/* --- The end ---------------------------------------------------------------------------------- */

void serve_stop(struct serve *serve)
{
    serve->stopping = true;
    for (uint32_t i = 0; i < serve->options->connections_max; i++) {
        struct conn *conn = &serve->conns[i];
        if (conn->phase != CONN_OPEN)
            continue;
        /* What is held is answered: the client then knows that it wasn't done. */
        queue_remove(&conn->paused);
        conn->waiting = CONN_WAIT_NOTHING;
        serve_consume(serve, conn, NULL, 0);
        conn_drain(conn);
    }
    serve->room_waiters = 0;
    serve_map_spread(serve, UINT64_MAX);
}

bool serve_stopped(struct serve *serve)
{
    return serve->requests == 0 && serve->host.open == 0;
}

void serve_abort(struct serve *serve)
{
    for (uint32_t i = 0; i < serve->options->connections_max; i++)
        conn_abort(&serve->conns[i]);
}

void serve_stats(const struct serve *serve, uint64_t *stats)
{
    const struct map *map = store_map(serve->store);
    const struct share *share = &serve->host.share;
    store_stats(serve->store, stats);
    /* Of the share, what is in use. */
    stats[STAT_memory_bytes] = serve->world->memory_bytes - share->max + share->used;
    stats[STAT_memory_max] = serve->world->memory_max;
    stats[STAT_connections] = serve->host.open;
    stats[STAT_suspect] = store_suspect(serve->store);
    stats[STAT_readonly] = store_failed(serve->store) != 0;
    stats[STAT_durable] = store_durable(serve->store);
    stats[STAT_epoch] = map != NULL ? map->epoch : 0;
    stats[STAT_refused] = serve->refused;
}
