/* serve_admin.c: what tools ask of a node: STATUS, MAP, MAP_PUSH, FLUSH, EPISODES, EPISODE_CLOSE,
 * FORGET.
 *
 * Happy path: numbers and map are answered at once; closed episodes are answered when the store has
 * persisted them, a pushed map when the node's other shards have, too. What may fail: a change of
 * the map is decided at its home node only, by compare-and-swap (R5); a map that isn't newer, isn't
 * valid or doesn't name this folder is refused; an episode is closed only under an epoch above the
 * one in which it opened (R2). */
#include "serve.h"

#include <errno.h>

enum serve_verdict serve_status(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len)
{
    uint64_t stats[STAT_COUNT] = {0};
    (void)body;
    if (len != 0)
        return SERVE_MALFORMED;
    if (!serve_allowed(conn, KHO_ALL, SERVE_VERB_ADMIN)) {
        serve_answer(conn, head->type, head->request, KHO_EDENIED);
        return SERVE_DONE;
    }
    serve_stats(serve_of(conn), stats);
    uint32_t bytes = STAT_COUNT * WIRE_STAT_VALUE;
    uint8_t *to = conn_frame(conn, NULL, head->type, head->request, 0, bytes);
    if (to == NULL)
        return SERVE_DONE;
    for (uint32_t i = 0; i < STAT_COUNT; i++)
        kho_store64(to + (size_t)i * WIRE_STAT_VALUE, stats[i]);
    conn_frame_added(conn, bytes, STAT_COUNT);
    conn_frame_end(conn, 0, 0);
    return SERVE_DONE;
}

/* --- The map ---------------------------------------------------------------------------------- */

enum serve_verdict serve_map(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                             uint32_t len)
{
    const struct map *map = store_map(conn->host->store);
    (void)body;
    if (len != 0)
        return SERVE_MALFORMED;
    uint32_t bytes = map != NULL ? map->length : 0;
    uint8_t *to = conn_frame(conn, NULL, head->type, head->request, 0, bytes);
    if (to == NULL)
        return SERVE_DONE;
    if (map != NULL)
        memcpy(to, map->bytes, bytes);
    conn_frame_added(conn, bytes, map != NULL);
    conn_frame_end(conn, 0, 0);
    return SERVE_DONE;
}

/* Whether a decided change may take the place of what is in force: 0, or why not. The same map
 * again is a repeated request whose answer was lost. */
static int map_decide(const struct serve *serve, uint64_t expected_epoch, uint64_t expected_hash,
                      const struct map *next)
{
    const struct map *map = store_map(serve->store);
    const struct shard_options *options = serve->options;
    if (map != NULL && !kho_id_equal(&map->cluster, &next->cluster))
        return KHO_ECLUSTER;
    const struct map *decider = map != NULL ? map : next;
    if (map_node_by_incarnation(decider, &options->incarnation) != (int)decider->home)
        return map_node_by_incarnation(next, &options->incarnation) < 0 ? KHO_EINCARNATION
                                                                        : KHO_ENOTHOME;
    uint64_t epoch = map != NULL ? map->epoch : 0, hash = map != NULL ? map->hash : 0;
    if (map != NULL && next->epoch == epoch && next->hash == hash)
        return 0;
    bool expected = expected_epoch == epoch && expected_hash == hash;
    return expected && next->epoch == epoch + 1 ? 0 : KHO_EEPOCHOLD;
}

static int map_push(struct conn *conn, const uint8_t *body, uint32_t len, struct request *request,
                    bool *ret_done)
{
    struct serve *serve = serve_of(conn);
    const uint8_t *bytes = body + WIRE_MAP_PUSH_HEAD;
    size_t length = len - WIRE_MAP_PUSH_HEAD;
    struct map next;
    if (!serve_allowed(conn, KHO_ALL, SERVE_VERB_ADMIN))
        return KHO_EDENIED;
    int status = map_decode(bytes, length, &next);
    if (status < 0)
        return status;
    if (body[16] == 1)
        status = map_decide(serve, kho_load64(body), kho_load64(body + 8), &next);
    if (status < 0)
        return status;
    return store_map_set(serve->store, bytes, length, request, 0, serve->host.now, ret_done);
}

/* The answer says that the node holds the map: all its shards, as far as they are waited for. */
static void map_push_end(struct request *request, int status)
{
    struct serve *serve = serve_of(request->conn);
    if (status == 0 && serve_epoch(serve) > serve->spread) {
        queue_push(&serve->spreading, &request->link);
        return;
    }
    request_answer(request, status);
    request_end(request);
}

void serve_map_spread(struct serve *serve, uint64_t epoch)
{
    serve->spread = kho_max(serve->spread, epoch);
    while (!queue_empty(&serve->spreading) && serve_epoch(serve) <= epoch)
        map_push_end(KHO_CONTAINER_OF(serve->spreading.next, struct request, link), 0);
}

enum serve_verdict serve_map_push(struct conn *conn, const struct wire_head *head,
                                  const uint8_t *body, uint32_t len)
{
    static const uint8_t reserved[7];
    bool done = false;
    if (len < WIRE_MAP_PUSH_HEAD || body[16] > 1 || memcmp(body + 17, reserved, 7) != 0)
        return SERVE_MALFORMED;
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    int status = map_push(conn, body, len, request, &done);
    if (status < 0 || done)
        map_push_end(request, status);
    return SERVE_DONE;
}

/* --- Flush ------------------------------------------------------------------------------------ */

enum serve_verdict serve_flush_request(struct conn *conn, const struct wire_head *head,
                                       const uint8_t *body, uint32_t len)
{
    struct serve *serve = serve_of(conn);
    (void)body;
    if (len != 0)
        return SERVE_MALFORMED;
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    request->sequence = store_sequence_taken(serve->store);
    serve_await(serve, request);
    return SERVE_DONE;
}

/* --- Episodes --------------------------------------------------------------------------------- */

enum serve_verdict serve_episodes(struct conn *conn, const struct wire_head *head,
                                  const uint8_t *body, uint32_t len)
{
    struct serve *serve = serve_of(conn);
    (void)body;
    if (len != 0)
        return SERVE_MALFORMED;
    uint32_t count = store_episodes(serve->store, NULL, 0);
    if (count > KHO_FRAME_ENTRIES_MAX)
        count = KHO_FRAME_ENTRIES_MAX;
    struct wire_episode *episodes = malloc(sizeof *episodes * (count > 0 ? count : 1));
    if (episodes == NULL) {
        serve_answer(conn, head->type, head->request, -ENOMEM);
        return SERVE_DONE;
    }
    store_episodes(serve->store, episodes, count);
    uint32_t bytes = count * WIRE_EPISODE_ENTRY;
    uint8_t *to = conn_frame(conn, NULL, head->type, head->request, 0, bytes);
    if (to != NULL) {
        for (uint32_t i = 0; i < count; i++)
            wire_episode_encode(&episodes[i], to + (size_t)i * WIRE_EPISODE_ENTRY);
        conn_frame_added(conn, bytes, count);
        conn_frame_end(conn, 0, 0);
    }
    free(episodes);
    return SERVE_DONE;
}

static bool episode_close_check(const uint8_t *body, uint32_t len, uint32_t count)
{
    if (len != count * WIRE_EPISODE_CLOSE_ASK)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (kho_load32(body + (size_t)i * WIRE_EPISODE_CLOSE_ASK + 12) != 0)
            return false;
    return true;
}

static void episode_close_settle(struct request *request)
{
    if (request->left > 0)
        return;
    serve_answer_statuses(request->conn, request->type, request->id, request->count,
                          request->statuses);
    request_end(request);
}

enum serve_verdict serve_episode_close(struct conn *conn, const struct wire_head *head,
                                       const uint8_t *body, uint32_t len)
{
    struct serve *serve = serve_of(conn);
    if (!episode_close_check(body, len, head->count))
        return SERVE_MALFORMED;
    if (!serve_allowed(conn, KHO_ALL, SERVE_VERB_ADMIN)) {
        serve_answer(conn, head->type, head->request, KHO_EDENIED);
        return SERVE_DONE;
    }
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    size_t bytes = sizeof *request->statuses * head->count;
    request->statuses = share_allocate_admitted(&serve->host.share, bytes);
    if (request->statuses == NULL) {
        request_answer(request, -ENOMEM);
        request_end(request);
        return SERVE_DONE;
    }
    for (uint32_t i = 0; i < head->count; i++) {
        const uint8_t *at = body + (size_t)i * WIRE_EPISODE_CLOSE_ASK;
        request->statuses[i] =
            store_episode_close(serve->store, kho_load64(at), kho_load32(at + 8), request, i);
        request->left += request->statuses[i] == 0;
    }
    episode_close_settle(request);
    return SERVE_DONE;
}

static bool forget_check(const uint8_t *body, uint32_t len, uint32_t count)
{
    struct wire_forget_ask ask;
    if (len != count * WIRE_FORGET_ASK)
        return false;
    for (uint32_t i = 0; i < count; i++)
        if (!wire_forget_ask_decode(body + (size_t)i * WIRE_FORGET_ASK, &ask))
            return false;
    return true;
}

enum serve_verdict serve_forget(struct conn *conn, const struct wire_head *head,
                                const uint8_t *body, uint32_t len)
{
    struct serve *serve = serve_of(conn);
    if (!forget_check(body, len, head->count))
        return SERVE_MALFORMED;
    if (!serve_allowed(conn, KHO_ALL, SERVE_VERB_ADMIN)) {
        serve_answer(conn, head->type, head->request, KHO_EDENIED);
        return SERVE_DONE;
    }
    uint32_t bytes = (uint32_t)head->count * WIRE_STATUS_ANSWER;
    uint8_t *to = conn_frame(conn, NULL, head->type, head->request, 0, bytes);
    if (to == NULL)
        return SERVE_DONE;
    for (uint32_t i = 0; i < head->count; i++) {
        struct wire_forget_ask ask;
        wire_forget_ask_decode(body + (size_t)i * WIRE_FORGET_ASK, &ask);
        int status = store_forget(serve->store, ask.collection, ask.partition, ask.hash,
                                  ask.version, serve->host.now);
        kho_store32(to + (size_t)i * WIRE_STATUS_ANSWER, (uint32_t)status);
        kho_store32(to + (size_t)i * WIRE_STATUS_ANSWER + 4, 0);
    }
    conn_frame_added(conn, bytes, head->count);
    conn_frame_end(conn, 0, 0);
    return SERVE_DONE;
}

void serve_admin_done(struct serve *serve, const struct store_done *done)
{
    struct request *request = done->owner;
    (void)serve;
    if (request == NULL)
        return; /* a map that another shard of the node brought: it asks again if need be */
    if (done->kind == STORE_DONE_MAP) {
        map_push_end(request, done->status);
        return;
    }
    KHO_ASSERT(done->context < request->count && request->left > 0);
    request->statuses[done->context] = done->status;
    request->left--;
    episode_close_settle(request);
}
