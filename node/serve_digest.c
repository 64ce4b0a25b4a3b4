/* serve_digest.c: DIGEST: count, bytes and sum of each (collection, partition) of a range.
 *
 * Happy path: a job walks the partitions of which this node is a replica and writes an entry for
 * each table that has records. An open episode is told in the entries of its partition, or, where
 * the partition has none, in one of no collection (KHO_ALL). */
#include "serve.h"

/* The collections to look at are written down at the begin: a change of the map ends the job. */
static bool digest_collections(struct request *request)
{
    struct serve *serve = serve_of(request->conn);
    uint32_t ids[KHO_MAP_COLLECTIONS_MAX];
    uint32_t count = 1;
    ids[0] = request->ask.collection;
    if (request->ask.collection == KHO_ALL)
        count = store_collections(serve->store, ids, KHO_MAP_COLLECTIONS_MAX);
    if (count > KHO_MAP_COLLECTIONS_MAX)
        count = KHO_MAP_COLLECTIONS_MAX;
    if (!request_body(request, count * (uint32_t)sizeof *ids, false))
        return false;
    request->body_len = count;
    for (uint32_t i = 0; i < count; i++)
        kho_store32(request->body + (size_t)i * 4, ids[i]);
    return true;
}

enum serve_verdict serve_digest(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len)
{
    struct serve_policy policy = {0};
    int status = 0;
    if (len != WIRE_DIGEST_ASK || kho_load32(body + 12) != 0)
        return SERVE_MALFORMED;
    uint32_t collection = kho_load32(body), from = kho_load32(body + 4), to = kho_load32(body + 8);
    if (collection != KHO_ALL)
        status = serve_policy(conn, &policy, collection, SERVE_VERB_LIST);
    else if (!serve_allowed(conn, KHO_ALL, SERVE_VERB_LIST))
        status = KHO_EDENIED;
    if (status == 0 && (from > to || to > store_map(conn->host->store)->partitions))
        status = KHO_EMALFORMED;
    if (status < 0) {
        serve_answer(conn, head->type, head->request, status);
        return SERVE_DONE;
    }
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    request->ask.collection = collection;
    request->ask.partition_from = from;
    request->ask.partition_to = to;
    if (!digest_collections(request)) {
        request_end(request);
        conn->wait_bytes = KHO_MAP_COLLECTIONS_MAX * sizeof(uint32_t);
        conn->copy_waits = true;
        return serve_wait(conn, CONN_WAIT_SHARE);
    }
    job_begin(request);
    return SERVE_DONE;
}

static void digest_write(struct request *request, const struct wire_digest_entry *entry)
{
    uint8_t *to =
        conn_frame(request->conn, request, WIRE_DIGEST, request->id, 0, WIRE_DIGEST_ENTRY);
    if (to == NULL)
        return;
    wire_digest_entry_encode(entry, to);
    conn_frame_added(request->conn, WIRE_DIGEST_ENTRY, 1);
}

static void digest_partition(struct request *request, uint32_t partition)
{
    struct serve *serve = serve_of(request->conn);
    struct wire_digest_entry entry = {0};
    const struct map *map = store_map(serve->store);
    bool told = false;
    for (uint32_t i = 0; i < request->body_len; i++) {
        struct serve_policy policy = {0};
        uint32_t collection = kho_load32(request->body + (size_t)i * 4);
        if (serve_policy(request->conn, &policy, collection, SERVE_VERB_LIST) < 0 ||
            !serve_is_replica(serve, partition, policy.replicas) ||
            !store_digest(serve->store, collection, partition, &entry))
            continue;
        entry.collection = collection;
        entry.partition = partition;
        digest_write(request, &entry);
        told = true;
    }
    if (told || !serve_is_replica(serve, partition, map->width))
        return;
    (void)store_digest(serve->store, KHO_ALL, partition, &entry);
    if (entry.episode == 0)
        return;
    entry.collection = KHO_ALL;
    entry.partition = partition;
    digest_write(request, &entry);
}

enum job_result serve_digest_step(struct request *request)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    uint32_t cost = request->body_len > 0 ? request->body_len : 1;
    while (request->ask.partition_from < request->ask.partition_to) {
        if (conn->unsent >= CONN_UNSENT_MAX)
            return JOB_BLOCKED;
        if (!serve_may_write(serve, SHARE_BUFFER_MIDDLE))
            return JOB_STARVED;
        if (serve->units == 0)
            return JOB_UNITS;
        serve->units -= (uint32_t)kho_min(cost, serve->units);
        digest_partition(request, request->ask.partition_from++);
    }
    if (conn_frame(conn, request, WIRE_DIGEST, request->id, 0, 0) != NULL)
        conn_frame_end(conn, 0, 0);
    request_end(request);
    return JOB_DONE;
}
