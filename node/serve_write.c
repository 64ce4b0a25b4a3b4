/* serve_write.c: WRITE: records into the store, acknowledged when their commit is durable (R1).
 *
 * Happy path: the whole frame's layout is checked first, so that nothing of a malformed one is
 * stored; each record is hashed, checked and copied into the gathering commit; the request waits
 * for the highest sequence of its entries, and its answer is a row of zeros. What may fail: there
 * is no room (the frame waits); an entry is refused (its status); the disk fails before the commit
 * (KHO_EREADONLY, R4); a higher map comes into force meanwhile (KHO_EEPOCHOLD, R5: nothing is
 * acknowledged that was accepted under a lower one). */
#include "serve.h"

enum { WRITE_AHEAD = 16 };

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

/* An entry on its way into the store. */
struct write {
    struct record record;
    uint64_t drops;
    struct key_hash hash;
    uint32_t partition;
    int status;
};

/* Whether the record may be stored here, and where it belongs. */
static int write_admit(struct conn *conn, struct serve_policy *policy, struct write *write)
{
    const struct record *record = &write->record;
    int status = serve_policy(conn, policy, record->collection, SERVE_VERB_WRITE);
    if (status < 0)
        return status;
    if (record->codec != KHO_CODEC_NONE)
        return KHO_EVERSION;
    return serve_place(serve_of(conn), policy, record->key, record->key_len, &write->hash,
                       &write->partition);
}

static int write_store(struct serve *serve, const struct write *write, bool copy,
                       uint64_t *ret_sequence)
{
    if (!record_value_matches(&write->record))
        return KHO_ECHECKSUM;
    return store_write(serve->store, write->partition, write->hash, &write->record, copy,
                       write->drops, serve->host.now, ret_sequence);
}

int serve_write_record(struct conn *conn, struct serve_policy *policy, const struct record *record,
                       bool copy, uint64_t drops, uint64_t *ret_sequence)
{
    struct write write = {.record = *record, .drops = drops};
    int status = write_admit(conn, policy, &write);
    return status < 0 ? status : write_store(serve_of(conn), &write, copy, ret_sequence);
}

/* Decodes and admits `count` entries at the front of `body`, and fetches what their look-ups will
 * touch, so that the cache misses of a group overlap. Returns the bytes of the entries. */
static uint32_t write_group(struct conn *conn, struct serve_policy *policy, const uint8_t *body,
                            uint32_t len, bool copy, struct write *writes, uint32_t count)
{
    const struct store *store = serve_of(conn)->store;
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct write *write = &writes[i];
        int used = write_entry(body + at, len - at, copy, &write->record, &write->drops);
        KHO_ASSERT(used > 0);
        at += (uint32_t)used;
        write->status = write_admit(conn, policy, write);
        if (write->status == 0)
            store_prefetch(store, write->record.collection, write->partition, write->hash, 0);
    }
    for (uint32_t i = 0; i < count; i++)
        if (writes[i].status == 0)
            store_prefetch(store, writes[i].record.collection, writes[i].partition, writes[i].hash,
                           1);
    return at;
}

/* Stores the entries; statuses go to serve->statuses. Returns how many were refused. */
static uint32_t write_entries(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len, uint64_t *ret_sequence)
{
    struct serve *serve = serve_of(conn);
    struct serve_policy policy = {0};
    struct write writes[WRITE_AHEAD];
    bool copy = (head->flags & KHO_FRAME_COPY) != 0;
    uint32_t at = 0, refused = 0;
    uint64_t highest = 0;
    for (uint32_t from = 0; from < head->count; from += WRITE_AHEAD) {
        uint32_t group = (uint32_t)kho_min(WRITE_AHEAD, head->count - from);
        at += write_group(conn, &policy, body + at, len - at, copy, writes, group);
        for (uint32_t i = 0; i < group; i++) {
            uint64_t sequence = 0;
            int status = writes[i].status;
            if (status == 0)
                status = write_store(serve, &writes[i], copy, &sequence);
            serve->statuses[from + i] = status;
            refused += status != 0;
            if (status == 0)
                highest = kho_max(highest, sequence);
        }
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
