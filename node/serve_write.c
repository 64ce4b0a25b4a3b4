/* serve_write.c: WRITE: records into the store, acknowledged when their commit is durable (R1).
 *
 * Happy path: the whole frame's layout is checked first, so that nothing of a malformed one is
 * stored; each record's value is hashed, unpacked for it where the writer compressed it, and the
 * record is copied as it came into the gathering commit; the request waits for the highest sequence
 * of its entries, and its answer is a row of zeros. What may fail: there
 * is no room (the frame waits); an entry is refused (its status); the disk fails before the commit
 * (KHO_EREADONLY, R4); a higher map comes into force meanwhile (KHO_EEPOCHOLD, R5: nothing is
 * acknowledged that was accepted under a lower one). */
#include "serve.h"

#include <kho/piece.h>

enum { WRITE_AHEAD = 32 };

/* Decodes all of a frame's entries into serve->entries. 0, or KHO_EMALFORMED. */
static int write_decode(struct serve *serve, const uint8_t *body, uint32_t len, uint32_t count,
                        bool copy)
{
    uint32_t at = 0, before = copy ? WIRE_DROPS : 0, values = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct store_entry *e = &serve->entries[i];
        if (len - at < before)
            return KHO_EMALFORMED;
        int used = record_decode(body + at + before, len - at - before, &e->record);
        if (used < 0)
            return used;
        if (e->record.raw_len > KHO_FRAME_VALUES_MAX - values)
            return KHO_EMALFORMED; /* all of it would be unpacked for its hash */
        values += e->record.raw_len;
        e->drops = copy ? kho_load64(body + at) : 0;
        at += before + (uint32_t)used;
    }
    return at == len ? 0 : KHO_EMALFORMED;
}

/* Whether the record may be stored here, and where it belongs. */
static int write_admit(struct conn *conn, struct serve_policy *policy, struct store_entry *entry)
{
    const struct record *record = &entry->record;
    int status = serve_policy(conn, policy, record->collection, SERVE_VERB_WRITE);
    if (status < 0)
        return status;
    return serve_place(serve_of(conn), policy, record->key, record->key_len, &entry->hash,
                       &entry->partition);
}

static int write_store(struct serve *serve, const struct store_entry *entry, bool copy,
                       uint64_t *ret_sequence)
{
    return store_write(serve->store, entry->partition, entry->hash, &entry->record, copy,
                       entry->drops, serve->host.now, ret_sequence);
}

int serve_write_record(struct conn *conn, struct serve_policy *policy, const struct record *record,
                       bool copy, uint64_t drops, uint64_t *ret_sequence)
{
    struct store_entry entry = {.record = *record, .drops = drops};
    int status = write_admit(conn, policy, &entry);
    return status < 0 ? status : write_store(serve_of(conn), &entry, copy, ret_sequence);
}

/* Admits decoded entries, and fetches what their look-ups will touch, so that the cache misses of a
 * group overlap. Returns how many were refused. */
static uint32_t write_admit_all(struct conn *conn, struct serve_policy *policy,
                                struct store_entry *entries, uint32_t count)
{
    const struct store *store = serve_of(conn)->store;
    uint32_t refused = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct store_entry *e = &entries[i];
        e->status = write_admit(conn, policy, e);
        refused += e->status != 0;
    }
    for (uint32_t step = 0; step < STORE_PREFETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++) {
            const struct store_entry *e = &entries[i];
            if (e->status == 0)
                store_prefetch_write(store, e->record.collection, e->partition, e->hash, step);
        }
    return refused;
}

/* True: all entries are taken, as the block that they came in. */
static bool write_block(struct serve *serve, const struct serve_block *block,
                        struct store_entry *entries, uint64_t *ret_sequence)
{
    for (uint32_t i = 0; i < block->records; i++)
        if (!value_matches(&entries[i].record, serve->piece))
            return false;
    return store_write_block(serve->store, entries, block->records, block->stored,
                             block->stored_len, block->raw_len, serve->host.now, ret_sequence);
}

uint32_t serve_write_entries(struct conn *conn, struct serve_policy *policy, uint32_t first,
                             uint32_t count, bool copy, const struct serve_block *block,
                             uint64_t *highest)
{
    struct serve *serve = serve_of(conn);
    struct store_entry *entries = serve->entries + first;
    int32_t *statuses = serve->statuses + first;
    uint64_t sequence = 0;
    uint32_t refused = write_admit_all(conn, policy, entries, count);
    if (refused == 0 && block != NULL && write_block(serve, block, entries, &sequence)) {
        *highest = kho_max(*highest, sequence);
        memset(statuses, 0, count * sizeof *statuses);
        return 0;
    }
    for (uint32_t i = 0; i < count; i++) {
        int status = entries[i].status;
        if (status == 0) {
            status = value_matches(&entries[i].record, serve->piece)
                         ? write_store(serve, &entries[i], copy, &sequence)
                         : KHO_ECHECKSUM;
            refused += status != 0;
        }
        statuses[i] = status;
        if (status == 0)
            *highest = kho_max(*highest, sequence);
    }
    return refused;
}

void serve_write_await(struct request *request, uint64_t sequence, uint32_t refused)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    if (refused > 0) {
        size_t bytes = sizeof *request->statuses * request->count;
        request->statuses = share_allocate_admitted(&serve->host.share, bytes);
        if (request->statuses == NULL) {
            /* Without them nothing can be said for certain; the client finds out anew. */
            conn_abort(conn);
            request_end(request);
            return;
        }
        memcpy(request->statuses, serve->statuses, bytes);
    }
    request->sequence = sequence;
    serve_await(serve, request);
}

enum serve_verdict serve_write(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                               uint32_t len)
{
    struct serve *serve = serve_of(conn);
    struct serve_policy policy = {0};
    bool copy = (head->flags & KHO_FRAME_COPY) != 0;
    uint64_t sequence = 0;
    uint32_t refused = 0;
    if (write_decode(serve, body, len, head->count, copy) < 0)
        return SERVE_MALFORMED;
    if (!serve_room(conn, len, head->count, copy))
        return SERVE_WAIT;
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    for (uint32_t from = 0; from < head->count; from += WRITE_AHEAD) {
        uint32_t group = (uint32_t)kho_min(WRITE_AHEAD, head->count - from);
        refused += serve_write_entries(conn, &policy, from, group, copy, NULL, &sequence);
    }
    serve_write_await(request, sequence, refused);
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
    if (KHO_PLANTED(ack_before_durable))
        reached = store_sequence_taken(serve->store);
    bool failed = store_failed(serve->store) != 0;
    while (!queue_empty(&serve->waiting)) {
        struct request *request = KHO_CONTAINER_OF(serve->waiting.next, struct request, link);
        bool durable = request->sequence <= reached;
        if (!durable && !failed)
            break;
        write_answer(request, durable);
    }
}
