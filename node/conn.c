/* conn.c: framing, reply buffers, receiving and closing of one connection.
 *
 * Happy path: bytes come in whole frames and are consumed where they lie; answers are written into
 * the gathering buffer, sealed, and sent at the end of the turn; the buffer is given back when the
 * send has ended. What doesn't fit the path: half a frame is kept until its rest is there; bytes
 * that arrive while reading pauses are kept, too; a send that fails, or memory that the heap
 * doesn't have, ends the connection, which costs the client a reconnection and nobody else
 * anything. */
#include "conn.h"

#include <errno.h>

enum { CONN_PURPOSE_SEND = 1, CONN_PURPOSE_RECEIVE, CONN_PURPOSE_CLOSE };

/* How much the kept bytes' buffer grows by at least. */
enum { CONN_INPUT_STEP = 4 << 10 };

void conn_host_init(struct conn_host *host, struct shard_world *world, struct store *store)
{
    host->world = world;
    host->store = store;
    queue_init(&host->dirty);
    queue_init(&host->gone);
    host->open = 0;
    host->sweep_at_ns = UINT64_MAX;
}

static void conn_mark_dirty(struct conn *conn)
{
    if (queue_empty(&conn->dirty))
        queue_push(&conn->host->dirty, &conn->dirty);
}

static void conn_mark_gone(struct conn *conn)
{
    if (queue_empty(&conn->gone))
        queue_push(&conn->host->gone, &conn->gone);
}

static void conn_push(struct conn *conn, struct op *op, uint8_t kind, uint8_t purpose)
{
    memset(op, 0, sizeof *op);
    queue_init(&op->link);
    op->kind = kind;
    op->owner = OP_OWNER_CONN;
    op->purpose = purpose;
    op->file = -1;
    op->conn = conn->handle;
    op->context = conn;
    conn->ops++;
    world_push(conn->host->world, op);
}

static void conn_receive_update(struct conn *conn)
{
    if (conn->receive_busy || conn->close_pushed || conn->receiving == conn->want_receiving)
        return;
    conn->receiving = conn->want_receiving;
    conn->receive_busy = true;
    conn_push(conn, &conn->receive_op, OP_RECEIVE, CONN_PURPOSE_RECEIVE);
    conn->receive_op.len = conn->receiving ? 1 : 0;
}

void conn_want_receive(struct conn *conn, bool want)
{
    conn->want_receiving = want;
    conn_receive_update(conn);
}

void conn_open(struct conn *conn, struct conn_host *host, int32_t handle,
               const struct wire_hello_node *hello)
{
    KHO_ASSERT(conn->phase == CONN_FREE);
    memset(conn, 0, sizeof *conn);
    conn->host = host;
    conn->handle = handle;
    conn->phase = CONN_OPEN;
    conn->progress_ns = host->now.mono_ns;
    struct queue *heads[] = {&conn->dirty, &conn->gone, &conn->paused,     &conn->work,
                             &conn->out,   &conn->jobs, &conn->assemblies, &conn->large_wait};
    for (size_t i = 0; i < KHO_COUNT_OF(heads); i++)
        queue_init(heads[i]);
    host->open++;
    struct reply_buffer *buffer = share_buffer(&host->share, KHO_HELLO_NODE_SIZE, false);
    if (buffer == NULL) {
        conn_abort(conn);
        return;
    }
    wire_hello_node_encode(hello, buffer->data);
    buffer->len = KHO_HELLO_NODE_SIZE;
    conn->unsent = buffer->len;
    queue_push(&conn->out, &buffer->link);
    conn_mark_dirty(conn);
    if (hello->status != 0)
        conn_drain(conn);
    else
        conn_want_receive(conn, true);
}

static void conn_input_release(struct conn *conn)
{
    share_release(&conn->host->share, conn->input, conn->input_size);
    conn->input = NULL;
    conn->input_from = conn->input_len = conn->input_size = 0;
}

static void conn_out_release(struct conn *conn)
{
    struct queue *link;
    memset(&conn->frame, 0, sizeof conn->frame);
    while ((link = queue_pop(&conn->out)) != NULL) {
        struct reply_buffer *buffer = KHO_CONTAINER_OF(link, struct reply_buffer, link);
        share_buffer_release(&conn->host->share, buffer);
    }
    conn->unsent = conn->sending != NULL ? conn->sending->len : 0;
}

void conn_drain(struct conn *conn)
{
    if (conn->phase != CONN_OPEN)
        return;
    conn_frame_close(conn);
    conn->phase = CONN_DRAINING;
    conn->progress_ns = conn->host->now.mono_ns;
    conn->waiting = CONN_WAIT_NOTHING;
    queue_remove(&conn->paused);
    conn_input_release(conn);
    conn_want_receive(conn, false);
    conn_owes(conn);
    conn_mark_gone(conn);
    conn_mark_dirty(conn);
}

void conn_abort(struct conn *conn)
{
    if (conn->phase != CONN_OPEN && conn->phase != CONN_DRAINING)
        return;
    conn->phase = CONN_CLOSING;
    conn->waiting = CONN_WAIT_NOTHING;
    queue_remove(&conn->paused);
    conn_input_release(conn);
    conn_out_release(conn);
    conn_want_receive(conn, false);
    conn_mark_gone(conn);
    conn_mark_dirty(conn);
}

/* OP_CLOSE ends the ops under way, too, so only requests are waited for: their answers would go to
 * a slot that may belong to the next client. */
void conn_settle(struct conn *conn)
{
    if (conn->phase == CONN_DRAINING && conn->frames == 0 && conn->unsent == 0)
        conn_abort(conn);
    if (conn->phase != CONN_CLOSING || conn->close_pushed || conn->frames > 0)
        return;
    conn->close_pushed = true;
    conn_push(conn, &conn->close_op, OP_CLOSE, CONN_PURPOSE_CLOSE);
}

void conn_request_began(struct conn *conn, uint32_t bytes)
{
    conn->frames++;
    conn->frame_bytes += bytes;
}

void conn_request_ended(struct conn *conn, uint32_t bytes)
{
    KHO_ASSERT(conn->frames > 0 && conn->frame_bytes >= bytes);
    conn->frames--;
    conn->frame_bytes -= bytes;
    if (conn->frames == 0)
        conn_mark_dirty(conn);
}

static void conn_free(struct conn *conn)
{
    KHO_ASSERT(conn->frames == 0 && conn->sending == NULL);
    struct queue *links[] = {&conn->dirty, &conn->gone, &conn->paused, &conn->work};
    for (size_t i = 0; i < KHO_COUNT_OF(links); i++)
        queue_remove(links[i]);
    conn->phase = CONN_FREE;
    conn->host->open--;
}

static void conn_sent(struct conn *conn, int32_t result)
{
    KHO_ASSERT(conn->sending != NULL && conn->unsent >= conn->sending->len);
    conn->unsent -= conn->sending->len;
    share_buffer_release(&conn->host->share, conn->sending);
    conn->sending = NULL;
    conn->send_busy = false;
    conn->progress_ns = conn->host->now.mono_ns;
    if (result < 0)
        conn_abort(conn);
    conn_mark_dirty(conn);
}

void conn_completed(struct conn *conn, struct op *op)
{
    KHO_ASSERT(conn->ops > 0);
    conn->ops--;
    if (op->purpose == CONN_PURPOSE_SEND) {
        conn_sent(conn, op->result);
    } else if (op->purpose == CONN_PURPOSE_RECEIVE) {
        conn->receive_busy = false;
        if (op->result < 0)
            conn_abort(conn);
        conn_receive_update(conn);
    } else {
        KHO_ASSERT(op->purpose == CONN_PURPOSE_CLOSE);
        conn->phase = CONN_CLOSING;
    }
    /* The driver ends the close last, but the core doesn't count on it. */
    if (conn->close_pushed && conn->ops == 0)
        conn_free(conn);
}

void conn_flush(struct conn *conn)
{
    conn_frame_close(conn);
    bool can_send = conn->phase == CONN_OPEN || conn->phase == CONN_DRAINING;
    if (can_send && !conn->send_busy && !queue_empty(&conn->out)) {
        struct queue *link = queue_pop(&conn->out);
        conn->sending = KHO_CONTAINER_OF(link, struct reply_buffer, link);
        conn->send_busy = true;
        conn_push(conn, &conn->send_op, OP_SEND, CONN_PURPOSE_SEND);
        conn->send_op.data = conn->sending->data;
        conn->send_op.len = conn->sending->len;
        conn_owes(conn);
    }
    conn_settle(conn);
}

void conn_fini(struct conn *conn)
{
    if (conn->phase == CONN_FREE)
        return;
    conn_input_release(conn);
    conn_out_release(conn);
    share_buffer_release(&conn->host->share, conn->sending);
    conn->sending = NULL;
    conn->phase = CONN_FREE;
}

/* --- Bytes kept ------------------------------------------------------------------------------- */

/* The frame whose first bytes are kept tells how much it needs; but a peer that only says so gets
 * no more than twice what it has sent. More than a frame comes only while reading pauses. */
static uint32_t conn_input_wanted(const struct conn *conn, const uint8_t *bytes, size_t len)
{
    uint32_t total = conn->input_len + (uint32_t)len;
    const uint8_t *first = conn->input_len > 0 ? conn_held(conn) : bytes;
    int frame = wire_frame_length(first, conn->input_len > 0 ? conn->input_len : len);
    uint32_t wanted = total;
    if (frame > 0 && (uint32_t)frame > total)
        wanted = (uint32_t)kho_min((uint32_t)frame, (uint64_t)total * 2);
    return (uint32_t)kho_round_up(wanted, CONN_INPUT_STEP);
}

bool conn_hold(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (len == 0)
        return true;
    if (conn->input_len + len > CONN_HELD_MAX)
        return false;
    if (conn->input_from + conn->input_len + len > conn->input_size) {
        uint32_t wanted = conn_input_wanted(conn, bytes, len);
        uint8_t *larger = share_allocate(&conn->host->share, wanted);
        if (larger == NULL)
            return false;
        uint32_t kept = conn->input_len;
        if (kept > 0)
            memcpy(larger, conn_held(conn), kept);
        conn_input_release(conn);
        conn->input = larger;
        conn->input_size = wanted;
        conn->input_len = kept;
    }
    memcpy(conn->input + conn->input_from + conn->input_len, bytes, len);
    conn->input_len += (uint32_t)len;
    conn_owes(conn);
    return true;
}

void conn_held_consume(struct conn *conn, size_t len)
{
    KHO_ASSERT(len <= conn->input_len);
    conn->input_from += (uint32_t)len;
    conn->input_len -= (uint32_t)len;
    if (conn->input_len == 0)
        conn_input_release(conn);
}

/* --- Answers ---------------------------------------------------------------------------------- */

static void conn_frame_seal(struct conn *conn, uint8_t flags, int32_t status)
{
    struct conn_host *host = conn->host;
    const struct map *map = store_map(host->store);
    struct wire_head head = {
        .length = conn->frame.len,
        .type = conn->frame.type,
        .flags = conn->frame.flags | flags,
        .count = conn->frame.count,
        .request = conn->frame.request,
        .epoch = map != NULL ? map->epoch : 0,
        .map_hash = map != NULL ? map->hash : 0,
        .wall_ms = host->now.wall_ms,
        .durable = store_durable(host->store),
        .status = status,
    };
    if (store_suspect(host->store))
        head.flags |= KHO_FRAME_SUSPECT;
    wire_frame_seal(conn->frame.buffer->data + conn->frame.at, &head, true);
    conn->frame.buffer->len = conn->frame.at + conn->frame.len;
    conn->unsent += conn->frame.len;
    memset(&conn->frame, 0, sizeof conn->frame);
    conn_mark_dirty(conn);
}

void conn_frame_close(struct conn *conn)
{
    if (conn->frame.buffer != NULL)
        conn_frame_seal(conn, KHO_FRAME_MORE, 0);
}

void conn_frame_end(struct conn *conn, uint8_t flags, int32_t status)
{
    if (conn->frame.buffer != NULL)
        conn_frame_seal(conn, flags, status);
}

static struct reply_buffer *conn_buffer(struct conn *conn, uint32_t bytes)
{
    if (!queue_empty(&conn->out)) {
        struct reply_buffer *last = KHO_CONTAINER_OF(conn->out.prev, struct reply_buffer, link);
        if (last->size - last->len >= bytes)
            return last;
    }
    struct reply_buffer *fresh = share_buffer(&conn->host->share, bytes, !queue_empty(&conn->out));
    if (fresh != NULL)
        queue_push(&conn->out, &fresh->link);
    return fresh;
}

uint8_t *conn_frame(struct conn *conn, const void *owner, uint8_t type, uint64_t request,
                    uint32_t head_bytes, uint32_t bytes)
{
    if (conn->phase != CONN_OPEN && conn->phase != CONN_DRAINING)
        return NULL;
    KHO_ASSERT(KHO_FRAME_HEAD + head_bytes + bytes <= KHO_FRAME_MAX);
    struct reply_buffer *buffer = conn->frame.buffer;
    uint8_t flags = 0;
    if (buffer != NULL && owner != NULL && conn->frame.owner == owner) {
        if (buffer->size - conn->frame.at - conn->frame.len >= bytes &&
            conn->frame.count < KHO_FRAME_ENTRIES_MAX)
            return buffer->data + conn->frame.at + conn->frame.len;
        flags = conn->frame.flags;
    }
    conn_frame_close(conn);
    buffer = conn_buffer(conn, KHO_FRAME_HEAD + head_bytes + bytes);
    if (buffer == NULL) {
        conn_abort(conn);
        return NULL;
    }
    conn->frame.owner = owner;
    conn->frame.buffer = buffer;
    conn->frame.request = request;
    conn->frame.at = buffer->len;
    conn->frame.len = KHO_FRAME_HEAD + head_bytes;
    conn->frame.type = type;
    conn->frame.flags = flags;
    memset(buffer->data + buffer->len + KHO_FRAME_HEAD, 0, head_bytes);
    conn_mark_dirty(conn);
    return buffer->data + conn->frame.at + conn->frame.len;
}

void conn_frame_added(struct conn *conn, uint32_t bytes, uint32_t entries)
{
    KHO_ASSERT(conn->frame.buffer != NULL);
    KHO_ASSERT(conn->frame.at + conn->frame.len + bytes <= conn->frame.buffer->size);
    conn->frame.len += bytes;
    conn->frame.count = (uint16_t)(conn->frame.count + entries);
}

void conn_frame_flags(struct conn *conn, uint8_t flags)
{
    if (conn->frame.buffer != NULL)
        conn->frame.flags |= flags;
}

uint8_t *conn_frame_body(struct conn *conn, const void *owner)
{
    if (conn->frame.buffer == NULL || conn->frame.owner != owner)
        return NULL;
    return conn->frame.buffer->data + conn->frame.at + KHO_FRAME_HEAD;
}

/* --- Stalled peers ---------------------------------------------------------------------------- */

void conn_owes(struct conn *conn)
{
    struct conn_host *host = conn->host;
    if (host->sweep_at_ns == UINT64_MAX)
        host->sweep_at_ns = host->now.mono_ns + CONN_SWEEP_NS;
}

/* What the peer is waited for, as a person reads it; NULL: nothing, or only for ourselves. */
static const char *conn_owed(const struct conn *conn)
{
    bool partial = conn->input_len > 0 || !queue_empty(&conn->assemblies);
    if (conn->unsent > 0)
        return "answers waited for it";
    if (conn->waiting == CONN_WAIT_NOTHING && partial)
        return "a message of its was incomplete";
    /* Its own incomplete value may be part of what is used up. */
    if (conn->waiting == CONN_WAIT_SHARE)
        return "there was no memory for its next message";
    return NULL;
}

bool conn_sweep(struct conn *conn, bool large_wanted)
{
    if (conn->phase != CONN_OPEN && conn->phase != CONN_DRAINING)
        return false;
    /* Too little is left for the next frame of a user: what stalls is what keeps others out. */
    bool pressed = !share_has(&conn->host->share, SHARE_BUFFER_LARGE, false);
    const char *owed = conn_owed(conn);
    uint64_t patience_ns = pressed || (large_wanted && !queue_empty(&conn->assemblies))
                               ? CONN_STALL_PRESSED_NS
                               : CONN_STALL_NS;
    /* It waits for us, but what it has sent until now is in everybody's way. */
    if (owed == NULL && pressed && conn->waiting == CONN_WAIT_LARGE)
        owed = "there was no memory for its large value";
    if (owed == NULL)
        return conn->phase == CONN_DRAINING || conn->waiting != CONN_WAIT_NOTHING;
    if (conn->host->now.mono_ns - conn->progress_ns <= patience_ns)
        return true;
    world_event(conn->host->world, EVENT_WARNING,
                "connection %d: closed, its client has moved nothing for %u s while %s",
                (int)conn->handle, (unsigned)(patience_ns / 1000000000u), owed);
    conn_abort(conn);
    return false;
}

bool conn_idle(const struct conn *conn)
{
    return conn->phase == CONN_OPEN && conn->frames == 0 && conn->unsent == 0 &&
           conn->input_len == 0 && queue_empty(&conn->assemblies) &&
           conn->waiting == CONN_WAIT_NOTHING &&
           conn->host->now.mono_ns - conn->progress_ns > CONN_IDLE_NS;
}
