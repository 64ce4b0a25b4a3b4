/* serve_write.c: WRITE: records into the store, acknowledged when their commit is durable (R1).
 *
 * Happy path: the whole frame's layout is checked first, so that nothing of a malformed one is
 * stored; each record is hashed, checked and copied into the gathering commit; the request waits
 * for the highest sequence of its entries, and its answer is a row of zeros. What may fail: there
 * is no room (the frame waits); an entry is refused (its status); the disk fails before the commit
 * (KHO_EREADONLY, R4); a higher map comes into force meanwhile (KHO_EEPOCHOLD, R5: nothing is
 * acknowledged that was accepted under a lower one). */
#include "serve.h"

/* Decodes the entry at the front of `body`: its bytes, or KHO_EMALFORMED. */
static int write_entry(const uint8_t *body, uint32_t len, bool copy, struct record *ret_record,
                       uint64_t *ret_drops)
{
    uint32_t before = copy ? WIRE_DROPS : 0;
    if (len < before)
        return KHO_EMALFORMED;
    int used = record_decode(body + before, len - before, ret_record);
    if (used < 0)
        return used;
    *ret_drops = copy ? kho_load64(body) : 0;
    return used + (int)before;
}

static int write_check(const uint8_t *body, uint32_t len, uint32_t count, bool copy)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct record record;
        uint64_t drops;
        int used = write_entry(body + at, len - at, copy, &record, &drops);
        if (used < 0)
            return used;
        at += (uint32_t)used;
    }
    return at == len ? 0 : KHO_EMALFORMED;
}

int serve_write_record(struct conn *conn, struct serve_policy *policy, const struct record *record,
                       bool copy, uint64_t drops, uint64_t *ret_sequence)
{
    struct serve *serve = serve_of(conn);
    struct key_hash hash;
    uint32_t partition;
    int status = serve_policy(conn, policy, record->collection, SERVE_VERB_WRITE);
    if (status < 0)
        return status;
    if (record->codec != KHO_CODEC_NONE)
        return KHO_EVERSION;
    status = serve_place(serve, policy, record->key, record->key_len, &hash, &partition);
    if (status < 0)
        return status;
    if (!record_value_matches(record))
        return KHO_ECHECKSUM;
    return store_write(serve->store, partition, hash, record, copy, drops, serve->host.now,
                       ret_sequence);
}

/* Stores the entries; statuses go to serve->statuses. Returns how many were refused. */
static uint32_t write_entries(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len, uint64_t *ret_sequence)
{
    struct serve *serve = serve_of(conn);
    struct serve_policy policy = {0};
    bool copy = (head->flags & KHO_FRAME_COPY) != 0;
    uint32_t at = 0, refused = 0;
    uint64_t highest = 0;
    for (uint32_t i = 0; i < head->count; i++) {
        struct record record;
        uint64_t drops, sequence = 0;
        int used = write_entry(body + at, len - at, copy, &record, &drops);
        KHO_ASSERT(used > 0);
        at += (uint32_t)used;
        int status = serve_write_record(conn, &policy, &record, copy, drops, &sequence);
        serve->statuses[i] = status;
        refused += status != 0;
        if (status == 0)
            highest = kho_max(highest, sequence);
    }
    *ret_sequence = highest;
    return refused;
}

enum serve_verdict serve_write(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len)
{
    struct serve *serve = serve_of(conn);
    bool copy = (head->flags & KHO_FRAME_COPY) != 0;
    uint64_t sequence = 0;
    if (write_check(body, len, head->count, copy) < 0)
        return SERVE_MALFORMED;
    if (!serve_room(conn, len, head->count, copy))
        return SERVE_WAIT;
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    uint32_t refused = write_entries(conn, head, body, len, &sequence);
    if (refused > 0) {
        size_t bytes = sizeof *request->statuses * head->count;
        request->statuses = share_allocate_admitted(&serve->host.share, bytes);
        if (request->statuses == NULL) {
            /* Without them nothing can be said for certain; the client finds out anew. */
            conn_abort(conn);
            request_end(request);
            return SERVE_DONE;
        }
        memcpy(request->statuses, serve->statuses, bytes);
    }
    request->sequence = sequence;
    serve_await(serve, request);
    return SERVE_DONE;
}

/* --- Acknowledging ---------------------------------------------------------------------------- */

/* Sequences rise from frame to frame, but for one whose records are covered by older commits. */
void serve_await(struct serve *serve, struct request *request)
{
    struct queue *before = serve->waiting.prev;
    while (before != &serve->waiting &&
           KHO_CONTAINER_OF(before, struct request, link)->sequence > request->sequence)
        before = before->prev;
    queue_push_front(before, &request->link);
}

/* The disk failed: what isn't durable never will be. */
static int32_t write_fail(struct request *request)
{
    struct serve *serve = serve_of(request->conn);
    if (request->type == WIRE_FLUSH)
        return KHO_EREADONLY;
    for (uint32_t i = 0; i < request->count; i++)
        serve->statuses[i] = request->statuses != NULL && request->statuses[i] != 0
                                 ? request->statuses[i]
                                 : KHO_EREADONLY;
    serve_answer_statuses(request->conn, request->type, request->id, request->count,
                          serve->statuses);
    return 0;
}

static void write_answer(struct request *request, bool durable)
{
    struct conn *conn = request->conn;
    int32_t status = 0;
    if (serve_epoch(serve_of(conn)) != request->epoch)
        status = KHO_EEPOCHOLD;
    else if (!durable)
        status = write_fail(request);
    else if (request->type != WIRE_FLUSH)
        serve_answer_statuses(conn, request->type, request->id, request->count, request->statuses);
    if (status != 0 || (durable && request->type == WIRE_FLUSH))
        request_answer(request, status);
    request_end(request);
}

void serve_write_progress(struct serve *serve)
{
    uint64_t reached = store_durable(serve->store);
    bool failed = store_failed(serve->store) != 0;
    while (!queue_empty(&serve->waiting)) {
        struct request *request = KHO_CONTAINER_OF(serve->waiting.next, struct request, link);
        bool durable = request->sequence <= reached;
        if (!durable && !failed)
            break;
        write_answer(request, durable);
    }
}
