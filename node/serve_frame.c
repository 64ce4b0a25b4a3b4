/* serve_frame.c: from bytes to dispatch: frames are taken from a connection, checked, carried out;
 * a connection whose frame has to wait is offered its turn when what it waits for may be there.
 *
 * Happy path: a frame lies whole in the received bytes, names our cluster and epoch, and is carried
 * out by its kind where it lies. What may fail: the bytes are no frame (an answer where the request
 * can be named, a log line, and the connection ends); cluster or epoch differ (a status, with our
 * map where the client is behind); there is no room (the frame is kept, and the socket isn't read).
 */
#include "serve.h"

/* What user writes leave to copies and to deletes when room is scarce. */
enum { SERVE_ROOM_RESERVE_BYTES = 256 << 10, SERVE_ROOM_RESERVE_RECORDS = 256 };

/* --- Waiting ---------------------------------------------------------------------------------- */

enum serve_verdict serve_wait(struct conn *conn, enum conn_wait why)
{
    conn->waiting = (uint8_t)why;
    if (why == CONN_WAIT_ROOM)
        serve_of(conn)->room_waiters++;
    return SERVE_WAIT;
}

/* User writes leave the reserve free, unless the store has nothing under way: then waiting would
 * not give them more. */
static bool serve_room_now(const struct serve *serve, uint64_t bytes, uint32_t records, bool copy)
{
    const struct store *store = serve->store;
    if (store_failed(store) != 0)
        return true;
    bool idle = store_durable(store) == store_sequence_taken(store);
    if (!copy && !idle) {
        bytes += SERVE_ROOM_RESERVE_BYTES;
        records += SERVE_ROOM_RESERVE_RECORDS;
    }
    return store_room(store, bytes, records);
}

bool serve_room(struct conn *conn, uint64_t bytes, uint32_t records, bool copy)
{
    struct serve *serve = serve_of(conn);
    bool behind_others = !copy && !serve->resuming && serve->room_waiters > 0;
    if (!behind_others && serve_room_now(serve, bytes, records, copy))
        return true;
    conn->wait_bytes = bytes;
    conn->wait_records = records;
    conn->copy_waits = copy;
    serve_wait(conn, CONN_WAIT_ROOM);
    return false;
}

static bool conn_over(const struct conn *conn, uint32_t part)
{
    return conn->frames >= CONN_FRAMES_MAX / part || conn->frame_bytes >= CONN_BYTES_MAX / part ||
           conn->unsent >= CONN_UNSENT_MAX / part;
}

/* True if what the connection waited for may be there. */
static bool serve_may_resume(struct serve *serve, const struct conn *conn, bool *room_denied)
{
    const struct share *share = &serve->host.share;
    bool may = true;
    switch ((enum conn_wait)conn->waiting) {
    case CONN_WAIT_NOTHING:
        break;
    case CONN_WAIT_ITSELF:
        may = !conn_over(conn, 2);
        break;
    case CONN_WAIT_ROOM:
        may = (conn->copy_waits || !*room_denied) &&
              serve_room_now(serve, conn->wait_bytes, conn->wait_records, conn->copy_waits);
        *room_denied = *room_denied || !may;
        break;
    case CONN_WAIT_SHARE:
        may = share_has(share, conn->wait_bytes, conn->copy_waits);
        break;
    case CONN_WAIT_LARGE:
        may = share->large_used + conn->wait_bytes <= share->large_max &&
              share_has(share, conn->wait_bytes, true);
        break;
    case CONN_WAIT_POOL:
        may = !queue_empty(&serve->free_requests) || serve->requests_made < SERVE_REQUESTS_MAX;
        break;
    }
    return may;
}

void serve_resume(struct serve *serve)
{
    struct queue waiting, *link;
    bool room_denied = false;
    queue_init(&waiting);
    queue_append_all(&waiting, &serve->paused);
    serve->room_waiters = 0;
    serve->resuming = true;
    while ((link = queue_pop(&waiting)) != NULL) {
        struct conn *conn = KHO_CONTAINER_OF(link, struct conn, paused);
        if (!serve_may_resume(serve, conn, &room_denied)) {
            queue_push(&serve->paused, &conn->paused);
            serve->room_waiters += conn->waiting == CONN_WAIT_ROOM;
            continue;
        }
        conn->waiting = CONN_WAIT_NOTHING;
        conn->progress_ns = serve->host.now.mono_ns;
        serve_consume(serve, conn, NULL, 0);
        room_denied = room_denied || conn->waiting == CONN_WAIT_ROOM;
        if (conn->phase == CONN_OPEN && conn->waiting == CONN_WAIT_NOTHING && !serve->stopping)
            conn_want_receive(conn, true);
    }
    serve->resuming = false;
}

/* --- Frames ----------------------------------------------------------------------------------- */

static void serve_malformed(struct serve *serve, struct conn *conn, const uint8_t *bytes,
                            size_t len, int code)
{
    uint64_t second = serve->host.now.mono_ns / 1000000000u;
    if (second != serve->malformed_second) {
        serve->malformed_second = second;
        serve->malformed_events = 0;
    }
    if (serve->malformed_events < SERVE_MALFORMED_EVENTS) {
        serve->malformed_events++;
        world_event(serve->world, EVENT_WARNING,
                    "connection %d: closed after a message that can't be read: %s (%s); %llu "
                    "others since the last such line",
                    (int)conn->handle, kho_error_sentence(code), kho_error_name(code),
                    (unsigned long long)serve->malformed_silent);
        serve->malformed_silent = 0;
    } else {
        serve->malformed_silent++;
    }
    if (len >= KHO_FRAME_HEAD) {
        uint8_t type = bytes[4] >= WIRE_PROBE && bytes[4] < WIRE_TYPE_END ? bytes[4] : WIRE_STATUS;
        serve_answer(conn, type, kho_load64(bytes + 16), code);
    } else {
        serve->refused++;
    }
    conn_drain(conn);
}

/* Flags that a request of the type may have. */
static uint8_t serve_flags(uint8_t type)
{
    switch (type) {
    case WIRE_WRITE:
        return KHO_FRAME_COPY;
    case WIRE_WRITE_LARGE:
        return KHO_FRAME_COPY | KHO_FRAME_MORE;
    case WIRE_DATA:
        return KHO_FRAME_MORE | KHO_FRAME_LAST_DATA;
    default:
        return 0;
    }
}

/* The checks of R5, in their order; MAP, MAP_PUSH and DATA (checked with the value's end) aside. */
static int serve_check(const struct serve *serve, const struct wire_head *head)
{
    if (head->type == WIRE_MAP || head->type == WIRE_MAP_PUSH)
        return 0;
    const struct map *map = store_map(serve->store);
    if (map == NULL)
        return KHO_ENOMAP;
    if (!kho_id_equal(&head->cluster, &map->cluster))
        return KHO_ECLUSTER;
    if (head->type == WIRE_STATUS)
        return 0;
    if (head->epoch != map->epoch)
        return head->epoch < map->epoch ? KHO_EEPOCHOLD : KHO_EBEHIND;
    return head->map_hash == map->hash ? 0 : KHO_EMAP;
}

/* Copies and an admin's requests use the reserve; what they need for the answer is there then. */
static bool serve_admits(struct serve *serve, struct conn *conn, const struct wire_head *head)
{
    if (conn_over(conn, 1)) {
        serve_wait(conn, CONN_WAIT_ITSELF);
        return false;
    }
    uint64_t bytes = SHARE_BUFFER_SMALL;
    if (head->type == WIRE_PROBE)
        bytes += (uint64_t)head->count * WIRE_PROBE_ANSWER;
    else if (head->type == WIRE_READ)
        bytes += head->length;
    bool reserved = head->type > WIRE_READ || (head->flags & KHO_FRAME_COPY) != 0;
    if (!share_has(&serve->host.share, bytes, reserved)) {
        conn->wait_bytes = bytes;
        conn->copy_waits = reserved;
        serve_wait(conn, CONN_WAIT_SHARE);
        return false;
    }
    return true;
}

static enum serve_verdict serve_dispatch(struct conn *conn, const struct wire_head *head,
                                         const uint8_t *body, uint32_t len)
{
    switch ((enum wire_type)head->type) {
    case WIRE_PROBE:
        return serve_probe(conn, head, body, len);
    case WIRE_WRITE:
        return serve_write(conn, head, body, len);
    case WIRE_WRITE_LARGE:
        return serve_large(conn, head, body, len);
    case WIRE_WRITE_BLOCKS:
        return serve_blocks(conn, head, body, len);
    case WIRE_DATA:
        return serve_data(conn, head, body, len);
    case WIRE_READ:
        return serve_read(conn, head, body, len);
    case WIRE_LIST:
        return serve_list(conn, head, body, len);
    case WIRE_DIGEST:
        return serve_digest(conn, head, body, len);
    case WIRE_EPISODES:
        return serve_episodes(conn, head, body, len);
    case WIRE_EPISODE_CLOSE:
        return serve_episode_close(conn, head, body, len);
    case WIRE_FORGET:
        return serve_forget(conn, head, body, len);
    case WIRE_STATUS:
        return serve_status(conn, head, body, len);
    case WIRE_MAP:
        return serve_map(conn, head, body, len);
    case WIRE_MAP_PUSH:
        return serve_map_push(conn, head, body, len);
    case WIRE_FLUSH:
        return serve_flush_request(conn, head, body, len);
    case WIRE_TYPE_END:
        break;
    }
    return SERVE_MALFORMED;
}

static enum serve_verdict serve_frame(struct serve *serve, struct conn *conn, const uint8_t *frame,
                                      int *ret_code)
{
    struct wire_head head;
    int status = wire_frame_decode(frame, &head);
    if (status == 0 && ((head.flags & ~serve_flags(head.type)) != 0 || head.status != 0))
        status = KHO_EMALFORMED;
    if (status < 0) {
        *ret_code = status;
        return SERVE_MALFORMED;
    }
    *ret_code = KHO_EMALFORMED;
    if (head.type != WIRE_DATA) {
        if (!serve->stopping && !serve_admits(serve, conn, &head))
            return SERVE_WAIT;
        status = serve->stopping ? KHO_ESTOPPING : serve_check(serve, &head);
        if (status < 0) {
            serve_answer(conn, head.type, head.request, status);
            return SERVE_DONE;
        }
    }
    return serve_dispatch(conn, &head, frame + KHO_FRAME_HEAD, head.length - KHO_FRAME_HEAD);
}

/* Takes the whole frames at the front of the bytes. Returns the bytes consumed; stops where the
 * connection has to wait, ends, or a frame isn't whole. */
static size_t serve_frames(struct serve *serve, struct conn *conn, const uint8_t *bytes, size_t len)
{
    size_t used = 0;
    while (used < len && conn->phase == CONN_OPEN) {
        int code = wire_frame_length(bytes + used, len - used);
        if (code == 0 || (code > 0 && (size_t)code > len - used))
            break;
        size_t frame_len = code > 0 ? (size_t)code : len - used;
        enum serve_verdict verdict = SERVE_MALFORMED;
        if (code > 0)
            verdict = serve_frame(serve, conn, bytes + used, &code);
        if (verdict == SERVE_WAIT) {
            queue_push(&serve->paused, &conn->paused);
            conn_want_receive(conn, false);
            break;
        }
        if (verdict == SERVE_MALFORMED) {
            serve_malformed(serve, conn, bytes + used, len - used, code);
            break;
        }
        used += frame_len;
    }
    return used;
}

static void serve_hold(struct conn *conn, const uint8_t *bytes, size_t len)
{
    if (len == 0 || conn->phase != CONN_OPEN || conn_hold(conn, bytes, len))
        return;
    world_event(conn->host->world, EVENT_WARNING,
                "connection %d: closed, there is no memory for %zu bytes of a message that isn't "
                "whole yet; raise the node's memory or lower the number of clients",
                (int)conn->handle, len + conn->input_len);
    conn_abort(conn);
}

/* A held partial frame is made whole first; the rest is taken where it lies. */
void serve_consume(struct serve *serve, struct conn *conn, const uint8_t *bytes, size_t len)
{
    while (conn->input_len > 0 && conn->phase == CONN_OPEN && conn->waiting == CONN_WAIT_NOTHING) {
        int frame = wire_frame_length(conn_held(conn), conn->input_len);
        size_t wanted = frame > 0 ? (size_t)frame : KHO_FRAME_HEAD;
        if (frame >= 0 && wanted > conn->input_len) {
            size_t more = kho_min(wanted - conn->input_len, len);
            if (more == 0)
                return;
            serve_hold(conn, bytes, more);
            bytes += more;
            len -= more;
            continue;
        }
        size_t used = serve_frames(serve, conn, conn_held(conn), conn->input_len);
        if (conn->phase != CONN_OPEN)
            return;
        conn_held_consume(conn, used);
    }
    size_t used = 0;
    if (len > 0 && conn->phase == CONN_OPEN && conn->waiting == CONN_WAIT_NOTHING)
        used = serve_frames(serve, conn, bytes, len);
    if (len > used)
        serve_hold(conn, bytes + used, len - used);
}
