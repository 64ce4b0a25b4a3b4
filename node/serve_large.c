/* serve_large.c: WRITE_LARGE: one record whose value comes in DATA frames.
 *
 * Happy path: the begin names head and key; a buffer for the whole record is taken from the share;
 * DATA fills it in order, and what has come is hashed (or unpacked for that), so that hardly a turn
 * is about a whole value; the frame that completes it is consumed once the store has room; then the
 * record goes the way of a WRITE of one. What may fail: the record is refused at the begin (its
 * DATA is then dropped as it comes); no buffer is free: a connection without a value under way
 * waits for one, another is told KHO_EBUSY, since holding one and waiting for a second could block
 * everybody; the value is longer or shorter than it said (malformed). */
#include "serve.h"

#include <kho/piece.h>

#include <stdalign.h>

/* Values that one connection may have under way. */
enum { LARGE_PER_CONN_MAX = 16 };

static struct request *large_find(const struct conn *conn, uint64_t id)
{
    QUEUE_FOREACH (link, &conn->assemblies) {
        struct request *request = KHO_CONTAINER_OF(link, struct request, link);
        if (request->id == id)
            return request;
    }
    return NULL;
}

static uint32_t large_under_way(const struct conn *conn)
{
    uint32_t count = 0;
    QUEUE_FOREACH (link, &conn->assemblies)
        count++;
    return count;
}

/* Head, key and value, and behind them what is known of the value so far. */
static uint32_t large_bytes(const struct record *record)
{
    return (uint32_t)(record_size(record) + alignof(struct value_check) - 1 +
                      sizeof(struct value_check));
}

static struct value_check *large_check_of(const struct request *request)
{
    uint8_t *end = request->body + request->body_len;
    size_t pad = -(uintptr_t)end & (alignof(struct value_check) - 1);
    return (struct value_check *)(void *)(end + pad);
}

/* What can be said before the value is there. */
static int large_check(struct conn *conn, const struct record *record)
{
    struct serve *serve = serve_of(conn);
    struct serve_policy policy = {0};
    struct key_hash hash;
    uint32_t partition;
    int status = serve_policy(conn, &policy, record->collection, SERVE_VERB_WRITE);
    if (status == 0)
        status = serve_place(serve, &policy, record->key, record->key_len, &hash, &partition);
    if (status == 0)
        status = store_failed(serve->store);
    if (status == 0 && large_bytes(record) > serve->host.share.large_max)
        status = KHO_EFULL;
    return status;
}

/* Takes the buffer and keeps head and key in it. */
static enum serve_verdict large_begin(struct conn *conn, const struct wire_head *head,
                                      const uint8_t *body, uint32_t len,
                                      const struct record *record)
{
    struct share *share = &conn->host->share;
    uint32_t drops_len = (head->flags & KHO_FRAME_COPY) != 0 ? WIRE_DROPS : 0;
    uint32_t size = large_bytes(record);
    bool free_now = share->large_used + size <= share->large_max && share_has(share, size, true);
    if (!free_now && !queue_empty(&conn->assemblies)) {
        int32_t busy = KHO_EBUSY;
        serve_answer_statuses(conn, head->type, head->request, 1, &busy);
        return SERVE_DONE;
    }
    if (!free_now) {
        conn->wait_bytes = size;
        return serve_wait(conn, CONN_WAIT_LARGE);
    }
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    if (!request_body(request, size, true)) {
        request_end(request);
        conn->wait_bytes = size;
        return serve_wait(conn, CONN_WAIT_LARGE);
    }
    memcpy(request->body, body + drops_len, len - drops_len);
    request->offset = len - drops_len;
    request->body_len = (uint32_t)record_size(record);
    value_check_begin(large_check_of(request));
    request->drops = drops_len > 0 ? kho_load64(body) : 0;
    queue_push(&conn->assemblies, &request->link);
    conn_owes(conn);
    return SERVE_DONE;
}

enum serve_verdict serve_large(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len)
{
    uint32_t drops_len = (head->flags & KHO_FRAME_COPY) != 0 ? WIRE_DROPS : 0;
    struct record record;
    if (head->count != 1 || len < drops_len)
        return SERVE_MALFORMED;
    int used = record_decode_head(body + drops_len, len - drops_len, &record);
    if (used < 0 || (uint32_t)used != len - drops_len || record.stored_len == 0 ||
        large_find(conn, head->request) != NULL)
        return SERVE_MALFORMED;
    int32_t status = large_check(conn, &record);
    if (status == 0 && large_under_way(conn) >= LARGE_PER_CONN_MAX)
        status = KHO_EBUSY;
    if (status != 0) {
        serve_answer_statuses(conn, head->type, head->request, 1, &status);
        return SERVE_DONE;
    }
    return large_begin(conn, head, body, len, &record);
}

/* The value is whole: from here on it is a WRITE of one. */
static void large_write(struct conn *conn, struct request *request)
{
    struct serve *serve = serve_of(conn);
    struct serve_policy policy = {0};
    struct record record;
    uint64_t sequence = 0;
    int used = record_decode(request->body, request->body_len, &record);
    KHO_ASSERT(used > 0 && (uint32_t)used == request->body_len);
    bool copy = (request->flags & KHO_FRAME_COPY) != 0;
    queue_remove(&request->link);
    int32_t status = KHO_EEPOCHOLD;
    if (serve_epoch(serve) == request->epoch) {
        bool matches = value_check_end(large_check_of(request), &record);
        status = matches
                     ? serve_write_record(conn, &policy, &record, copy, request->drops, &sequence)
                     : KHO_ECHECKSUM;
        request_body_release(request);
        if (status != 0)
            serve_answer_statuses(conn, request->type, request->id, 1, &status);
    } else {
        request_answer(request, status);
    }
    if (status != 0) {
        request_end(request);
        return;
    }
    request->sequence = sequence;
    serve_await(serve, request);
}

/* Goes on with the check of the value. */
static void large_look(struct conn *conn, const struct request *request)
{
    struct record record;
    int head = record_decode_head(request->body, request->body_len, &record);
    KHO_ASSERT(head > 0 && (uint32_t)head <= request->offset);
    record.value = request->body + head;
    value_check_go(large_check_of(request), &record, request->offset - (uint32_t)head,
                   serve_of(conn)->piece);
}

enum serve_verdict serve_data(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len)
{
    struct request *request = large_find(conn, head->request);
    /* Of a value that was refused at its begin. */
    if (request == NULL)
        return SERVE_DONE;
    uint32_t rest = request->body_len - request->offset;
    bool last = (head->flags & KHO_FRAME_MORE) == 0;
    if (len == 0 || len > rest || last != (len == rest))
        return SERVE_MALFORMED;
    bool copy = (request->flags & KHO_FRAME_COPY) != 0;
    if (last && !serve_room(conn, request->body_len, 1, copy))
        return SERVE_WAIT;
    memcpy(request->body + request->offset, body, len);
    request->offset += len;
    large_look(conn, request);
    if (last)
        large_write(conn, request);
    return SERVE_DONE;
}
