/* session.c: the life of one connection to one (node, shard).
 *
 * It owns the states of a session, its handle and the ops that connect, greet and close it. The
 * happy path: BACKOFF (with nothing to wait for at first) -> CONNECTING -> HELLO -> UP, where
 * request.c reads the answers and pack.c fills the sends.
 *
 * How it fails: whatever breaks it (the peer, silence, bytes that aren't ours, no memory) goes
 * through session_break(): what was sent is told to its owners, what waits goes on waiting, the
 * handle is closed, and after the backoff it connects again. A node that isn't the map's (another
 * incarnation or cluster, or a durable sequence that went back: R2) breaks it, too, and is asked
 * again after the backoff, since an operator may put it right. */
#include "session.h"

#include "item.h"

static void session_state_set(struct session *session, enum session_state state, struct kho_now now)
{
    session->state = (uint8_t)state;
    session->since_ns = now.mono_ns;
}

/* --- Handles ---------------------------------------------------------------------------------- */

/* The lowest free handle, so that the driver's table stays small. */
static int session_conn_open(struct client *client, struct session *session)
{
    uint32_t at = 0;
    while (at < client->conn_capacity && client->conns[at] != NULL)
        at++;
    if (at == client->conn_capacity) {
        uint32_t capacity = client->conn_capacity == 0 ? 16 : client->conn_capacity * 2;
        struct session **conns =
            (struct session **)client_allocate_zeroed(client, capacity * sizeof *conns);
        if (conns == NULL)
            return -ENOMEM;
        if (client->conn_capacity > 0)
            memcpy(conns, client->conns, client->conn_capacity * sizeof *conns);
        client_release(client, client->conns);
        client->conns = conns;
        client->conn_capacity = capacity;
    }
    client->conns[at] = session;
    session->conn = (int32_t)at;
    return 0;
}

static void session_conn_free(struct client *client, struct session *session)
{
    KHO_ASSERT(session->conn >= 0 && client->conns[session->conn] == session);
    client->conns[session->conn] = NULL;
    session->conn = -1;
}

static void session_op(struct client *client, struct session *session, struct client_op *op,
                       enum client_op_kind kind)
{
    op->kind = (uint8_t)kind;
    op->conn = session->conn;
    op->result = 0;
    op->owner = session;
    session->ops++;
    queue_push(&client->outbox, &op->link);
}

/* --- Life ------------------------------------------------------------------------------------- */

struct session *session_create(struct client *client, struct remote *remote, uint32_t shard,
                               struct kho_now now)
{
    struct session *session = (struct session *)client_allocate_zeroed(client, sizeof *session);
    if (session == NULL)
        return NULL;
    session->remote = remote;
    session->shard = shard;
    session->conn = -1;
    session->down_since_ns = now.mono_ns;
    session->backoff_ns = SESSION_BACKOFF_MIN;
    session->retry_ns = now.mono_ns;
    session->pending_deadline_ns = CLIENT_NEVER;
    memcpy(session->host, remote->address, sizeof session->host);
    queue_init(&session->pending);
    queue_init(&session->larges);
    for (int kind = 0; kind < SLOT_KINDS; kind++)
        queue_init(&session->waiting[kind]);
    for (int kind = 0; kind < SLOT_KINDS; kind++)
        queue_init(&session->unhedged[kind]);
    queue_push(&client->sessions, &session->link);
    session_state_set(session, SESSION_BACKOFF, now);
    return session;
}

static void session_free(struct client *client, struct session *session)
{
    queue_remove(&session->link);
    client_release(client, session);
}

/* What belongs to slots goes with the session; other requests are their owners'. */
static void session_request_free(struct client *client, struct request *request, bool batch)
{
    if (batch)
        client_release(client, KHO_CONTAINER_OF(request, struct batch, request));
    else if (request->end == item_large_end)
        client_release(client, KHO_CONTAINER_OF(request, struct large, request));
}

void session_destroy(struct client *client, struct session *session)
{
    for (uint32_t i = 0; i < SESSION_WAYS; i++)
        if (session->ways[i].request != NULL)
            session_request_free(client, session->ways[i].request, session->ways[i].batch);
    struct queue *link;
    while ((link = queue_pop(&session->larges)) != NULL)
        session_request_free(client, KHO_CONTAINER_OF(link, struct request, link), false);
    for (uint32_t i = 0; i < SESSION_SENDS_MAX; i++)
        if (session->flying[i] != NULL)
            send_block_give(client, session->flying[i]);
    if (session->partial != NULL)
        send_block_give(client, session->partial);
    session_free(client, session);
}

void session_retire(struct client *client, struct session *session, struct kho_now now)
{
    session->remote = NULL;
    session_break(client, session, KHO_EUNAVAILABLE, now);
    request_end_pending(client, session, KHO_EUNAVAILABLE, now);
    for (int kind = 0; kind < SLOT_KINDS; kind++)
        KHO_ASSERT(queue_empty(&session->waiting[kind]));
}

void session_sweep(struct client *client)
{
    QUEUE_FOREACH_SAFE (link, &client->sessions) {
        struct session *session = KHO_CONTAINER_OF(link, struct session, link);
        if (session->remote != NULL || session->state != SESSION_BACKOFF)
            continue;
        KHO_ASSERT(session->ops == 0);
        session_free(client, session);
    }
}

static void session_backoff(struct client *client, struct session *session, struct kho_now now)
{
    /* Half of it fixed, half random, so that the clients of a node that comes back don't all knock
     * at once. */
    uint64_t half = session->backoff_ns / 2;
    session->retry_ns = now.mono_ns + half + kho_random_below(&client->random, half + 1);
    session->backoff_ns = kho_min(session->backoff_ns * 2, SESSION_BACKOFF_MAX);
    session_state_set(session, SESSION_BACKOFF, now);
}

static void session_connect(struct client *client, struct session *session, struct kho_now now)
{
    if (session_conn_open(client, session) != 0) {
        session->error = -ENOMEM;
        session_backoff(client, session, now);
        return;
    }
    session->connect_op.host = session->host;
    session->connect_op.port = session->remote->port;
    session_op(client, session, &session->connect_op, CLIENT_OP_CONNECT);
    session_state_set(session, SESSION_CONNECTING, now);
}

/* One that was up is lost, so the others count for more: those that wait out a long backoff,
 * perhaps for a node that is back since, try again soon. */
static void session_hurry_others(struct client *client, struct kho_now now)
{
    QUEUE_FOREACH (link, &client->sessions) {
        struct session *session = KHO_CONTAINER_OF(link, struct session, link);
        if (session->state != SESSION_BACKOFF || session->backoff_ns == SESSION_BACKOFF_MIN)
            continue;
        session->backoff_ns = SESSION_BACKOFF_MIN;
        session->retry_ns =
            kho_min(session->retry_ns,
                    now.mono_ns + kho_random_below(&client->random, SESSION_BACKOFF_MIN));
    }
}

void session_break(struct client *client, struct session *session, int error, struct kho_now now)
{
    if (session->state == SESSION_BACKOFF || session->state == SESSION_CLOSING)
        return;
    if (session->state == SESSION_UP && !session->foreign) {
        session_hurry_others(client, now);
        uint64_t since = session_out_since(session);
        session->down_since_ns = since == CLIENT_NEVER ? now.mono_ns : since;
    }
    session->error = error;
    if (session->remote != NULL && session->remote->seed && !session->remote->visit && error != 0)
        client->map_error = error;
    session->foreign = false;
    session->behind_since_ns = 0;
    session->hold_until_ns = 0;
    if (session->partial != NULL)
        send_block_give(client, session->partial);
    session->partial = NULL;
    session->streaming = false;
    session_op(client, session, &session->close_op, CLIENT_OP_CLOSE);
    session_state_set(session, SESSION_CLOSING, now);
    request_end_sent(client, session, KHO_EUNAVAILABLE, now);
    hedge_session_broke(client, session, now);
}

static void session_closed(struct client *client, struct session *session, struct kho_now now)
{
    KHO_ASSERT(session->ops == 0 && session->state == SESSION_CLOSING);
    KHO_ASSERT(session->sends == 0);
    session_conn_free(client, session);
    session_backoff(client, session, now);
}

static void session_hello_send(struct client *client, struct session *session, struct kho_now now)
{
    struct wire_hello_client hello = {
        .protocol_min = KHO_PROTOCOL, .protocol_max = KHO_PROTOCOL, .shard = session->shard};
    if (!session->remote->visit)
        hello.cluster = client->cluster;
    if (client_has_map(client) && !session->remote->seed) {
        hello.cluster = client->map.cluster;
        hello.epoch = client->map.epoch;
    }
    wire_hello_client_encode(&hello, session->hello_bytes);
    session->hello_op.data = session->hello_bytes;
    session->hello_op.len = KHO_HELLO_CLIENT_SIZE;
    session_op(client, session, &session->hello_op, CLIENT_OP_SEND);
    session_state_set(session, SESSION_HELLO, now);
}

static void session_sent(struct client *client, struct session *session, struct client_op *op,
                         int result, struct kho_now now)
{
    struct send_block *block = KHO_CONTAINER_OF(op, struct send_block, op);
    for (uint32_t i = 0; i < SESSION_SENDS_MAX; i++)
        if (session->flying[i] == block)
            session->flying[i] = NULL;
    /* A silence begins when the node was asked, not with the step that asked, which may have been
     * long. Later sends don't make it begin anew. */
    if (block->serial == session->asking_send)
        session->asked_ns = kho_max(session->asked_ns, now.mono_ns);
    hedge_sent(session, block->serial, now);
    send_block_give(client, block);
    KHO_ASSERT(session->sends > 0);
    session->sends--;
    if (result < 0)
        session_break(client, session, result, now);
}

void session_completed(struct client *client, struct session *session, struct client_op *op,
                       struct kho_now now)
{
    int result = op->result;
    KHO_ASSERT(session->ops > 0);
    session->ops--;
    if (op == &session->close_op) {
        session_closed(client, session, now);
    } else if (op == &session->connect_op) {
        if (session->state != SESSION_CONNECTING)
            return;
        if (result < 0)
            session_break(client, session, result, now);
        else
            session_hello_send(client, session, now);
    } else if (op == &session->hello_op) {
        if (result < 0)
            session_break(client, session, result, now);
    } else {
        session_sent(client, session, op, result, now);
    }
}

/* --- HELLO ------------------------------------------------------------------------------------ */

/* Who answered, against the map. 0, or why it can't be used. */
static int session_hello_check(const struct client *client, const struct session *session,
                               const struct wire_hello_node *hello)
{
    const struct remote *remote = session->remote;
    if (hello->status != 0)
        return hello->status;
    if (remote->visit)
        return 0; /* whoever it is */
    if (remote->seed && kho_id_is_zero(&hello->cluster))
        return KHO_ENOMAP;
    if (remote->seed)
        return kho_id_is_zero(&client->cluster) || kho_id_equal(&hello->cluster, &client->cluster)
                   ? 0
                   : KHO_ECLUSTER;
    /* A node without a map has no cluster yet: it is behind, and may be brought the map. */
    if (!kho_id_is_zero(&hello->cluster) && !kho_id_equal(&hello->cluster, &client->map.cluster))
        return KHO_ECLUSTER;
    if (!kho_id_equal(&hello->incarnation, &remote->incarnation))
        return KHO_EINCARNATION;
    if (hello->shard_count != remote->shards)
        return KHO_ESHARD;
    if (hello->durable < session->durable && (hello->flags & KHO_HELLO_EPISODE) == 0)
        return KHO_EROLLEDBACK;
    return 0;
}

static void session_up(struct client *client, struct session *session, struct kho_now now)
{
    session_state_set(session, SESSION_UP, now);
    session->asked_ns = now.mono_ns;
    if (session->remote->visit)
        return;
    if (session->remote->seed || session->foreign) {
        session_fetch_map(client, session, now);
        return;
    }
    session->error = 0;
    session->given_up = false;
    session->down_since_ns = now.mono_ns;
    session->durable = session->hello.durable;
    session->wall_ms = session->hello.wall_ms;
    session->wall_heard_ns = now.mono_ns;
    if (session->hello.epoch > client->map.epoch)
        session_fetch_map(client, session, now);
}

static void session_hello_received(struct client *client, struct session *session,
                                   const uint8_t *bytes, struct kho_now now)
{
    struct wire_hello_node hello;
    int status = wire_hello_node_decode(bytes, &hello);
    if (status != 0) {
        session_break(client, session, status, now);
        return;
    }
    session->hello = hello;
    session->hello_known = true;
    status = session_hello_check(client, session, &hello);
    if (session->remote->seed && !session->remote->visit && status != 0)
        client->map_error = status;
    /* Another incarnation under a higher epoch: perhaps it was readmitted, and its map says so. */
    session->foreign = status == KHO_EINCARNATION && hello.epoch > client->map.epoch &&
                       kho_id_equal(&hello.cluster, &client->map.cluster);
    if (status != 0)
        session->error = status;
    if (status == 0 || session->foreign)
        session_up(client, session, now);
    else
        session_break(client, session, status, now);
}

/* --- The node's map --------------------------------------------------------------------------- */

static void session_map_frame(struct client *client, struct request *request,
                              const struct wire_head *head, const uint8_t *body, size_t len,
                              struct kho_now now)
{
    struct session *session = request->session;
    int status = head->count == 0 ? KHO_ENOMAP : route_map_install(client, body, len, now);
    if (status < 0 && !client_has_map(client))
        client->map_error = status;
    if (status < 0 && session->remote != NULL)
        session->error = status;
}

static void session_map_end(struct client *client, struct request *request, int status,
                            struct kho_now now)
{
    struct session *session = KHO_CONTAINER_OF(request, struct session, map_request);
    client->refreshing -= session->refresh;
    session->refresh = false;
    if (session->remote == NULL)
        return;
    if (status != 0 && session->remote->seed)
        client->map_error = status;
    /* A seed has said what it knows; a foreign node's map didn't name it. */
    if (session->remote->seed || session->foreign)
        session_break(client, session, session->error, now);
}

void session_fetch_map(struct client *client, struct session *session, struct kho_now now)
{
    struct request *request = &session->map_request;
    if (request->session != NULL)
        return;
    memset(request, 0, sizeof *request);
    request->type = WIRE_MAP;
    request->deadline_ns = CLIENT_NEVER;
    request->frame = session_map_frame;
    request->end = session_map_end;
    request_send_on(client, request, session, now);
}

/* --- Reach ------------------------------------------------------------------------------------ */

uint64_t session_out_since(const struct session *session)
{
    if (session->state != SESSION_UP || session->foreign)
        return session->down_since_ns;
    uint64_t since = CLIENT_NEVER;
    if (session->way_count > 0)
        since = session->asked_ns;
    if (session->behind_since_ns != 0)
        since = kho_min(since, session->behind_since_ns);
    return since;
}

/* Not the map's node: waiting won't help until somebody acts. */
static bool session_refused(const struct session *session)
{
    if (session->state == SESSION_UP && !session->foreign)
        return false;
    int error = session->error;
    return error == KHO_EINCARNATION || error == KHO_EROLLEDBACK || error == KHO_ECLUSTER ||
           error == KHO_EVERSION || error == KHO_ESHARD;
}

int session_cause(const struct session *session)
{
    return session_refused(session) ? session->error : KHO_EUNAVAILABLE;
}

bool session_unavailable(const struct client *client, const struct session *session,
                         struct kho_now now)
{
    uint64_t since = session_out_since(session);
    if (session_refused(session))
        return true;
    return since != CLIENT_NEVER && now.mono_ns >= since &&
           now.mono_ns - since >= client->unavailable_after_ns;
}

/* --- Input ------------------------------------------------------------------------------------ */

/* How many bytes the message at the front has; 0: too few are here to say; or an error. */
static int session_message_length(const struct session *session, const uint8_t *bytes, size_t len)
{
    if (session->state == SESSION_HELLO)
        return KHO_HELLO_NODE_SIZE;
    return wire_frame_length(bytes, len);
}

static void session_message(struct client *client, struct session *session, const uint8_t *bytes,
                            struct kho_now now)
{
    if (session->state == SESSION_HELLO)
        session_hello_received(client, session, bytes, now);
    else
        request_answered(client, session, bytes, now);
}

/* Moves bytes into the partial block until it holds a message (then returns true) or they are used
 * up. `*bytes` and `*len` move on. */
static bool session_gather(struct session *session, const uint8_t **bytes, size_t *len,
                           int *ret_error)
{
    struct send_block *block = session->partial;
    for (;;) {
        int need = session_message_length(session, block->bytes, block->len);
        if (need < 0) {
            *ret_error = need;
            return false;
        }
        size_t target = need == 0 ? 4 : (size_t)need;
        if (need > 0 && block->len == target)
            return true;
        size_t take = (size_t)kho_min(target - block->len, *len);
        if (take == 0)
            return false;
        memcpy(block->bytes + block->len, *bytes, take);
        block->len += (uint32_t)take;
        *bytes += take;
        *len -= take;
    }
}

static bool session_listens(const struct session *session)
{
    return session->state == SESSION_HELLO || session->state == SESSION_UP;
}

void session_received(struct client *client, struct session *session, const uint8_t *bytes,
                      size_t len, struct kho_now now)
{
    session->asked_ns = now.mono_ns;
    while (len > 0 && session_listens(session)) {
        int error = 0;
        if (session->partial == NULL) {
            int need = session_message_length(session, bytes, len);
            if (need > 0 && (size_t)need <= len) {
                session_message(client, session, bytes, now);
                bytes += need;
                len -= (size_t)need;
                continue;
            }
            session->partial = need < 0 ? NULL : send_block_take(client);
            if (session->partial == NULL) {
                session_break(client, session, need < 0 ? need : -ENOMEM, now);
                return;
            }
        }
        if (session_gather(session, &bytes, &len, &error)) {
            struct send_block *block = session->partial;
            session->partial = NULL;
            session_message(client, session, block->bytes, now);
            send_block_give(client, block);
        } else if (error != 0) {
            session_break(client, session, error, now);
        }
    }
}

/* --- Time ------------------------------------------------------------------------------------- */

/* How long a node may say nothing to what it is asked. Once it counts as unavailable nothing more
 * is sent to it, so that only a new connection finds out that it is back. */
static uint64_t session_silence_ns(const struct client *client)
{
    return kho_min(kho_max(client->unavailable_after_ns, SESSION_SILENCE_MIN), SESSION_SILENCE_MAX);
}

void session_tick(struct client *client, struct session *session, struct kho_now now)
{
    bool greeting = session->state == SESSION_CONNECTING || session->state == SESSION_HELLO;
    bool asking = session->state == SESSION_UP && session->way_count > 0;
    if (session->state == SESSION_BACKOFF && session->remote != NULL &&
        now.mono_ns >= session->retry_ns && !client->drained)
        session_connect(client, session, now);
    else if ((greeting && now.mono_ns - session->since_ns >= SESSION_HELLO_NS) ||
             (asking && now.mono_ns - session->asked_ns >= session_silence_ns(client)))
        session_break(client, session, -ETIMEDOUT, now);
    if (session->remote == NULL || (session->remote->seed && !session->remote->visit))
        return;
    if (now.mono_ns >= session->pending_deadline_ns)
        request_expire(client, session, now);
    bool unavailable = session_unavailable(client, session, now);
    if (unavailable && !session->given_up) {
        session->given_up = true;
        items_session_given_up(client, session, now);
    }
    session->given_up = unavailable;
    if (unavailable && !session->foreign)
        request_end_pending(client, session, session_cause(session), now);
    hedge_session(client, session, now);
}

uint64_t session_deadline(const struct client *client, const struct session *session)
{
    uint64_t at = session->pending_deadline_ns;
    if (session->state == SESSION_BACKOFF)
        at = kho_min(at,
                     session->remote == NULL || client->drained ? CLIENT_NEVER : session->retry_ns);
    else if (session->state == SESSION_CONNECTING || session->state == SESSION_HELLO)
        at = kho_min(at, session->since_ns + SESSION_HELLO_NS);
    else if (session->state == SESSION_UP && session->way_count > 0)
        at = kho_min(at, session->asked_ns + session_silence_ns(client));
    if (session->remote == NULL || (session->remote->seed && !session->remote->visit))
        return at;
    if (session->hold_until_ns != 0)
        at = kho_min(at, session->hold_until_ns);
    uint64_t out = session_out_since(session);
    if (out != CLIENT_NEVER && !session->given_up)
        at = kho_min(at, out + client->unavailable_after_ns);
    return kho_min(at, hedge_deadline(client, session));
}
