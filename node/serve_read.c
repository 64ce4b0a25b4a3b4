/* serve_read.c: READ: records by key or by tag, answered in the order in which they arrive.
 *
 * Happy path: the asks are copied, since the frame is lent; they are issued in order, some ahead;
 * each answer is written into the open frame as its read ends; the last one seals it without
 * KHO_FRAME_MORE. A record beyond a frame is announced in a frame of its own (KHO_FRAME_LARGE) and
 * its value follows in DATA frames as the peer takes them, one such value a connection; further
 * answers of the same request wait behind it, those of others don't. What can't be read is a status
 * of its entry (R2: no vote), never "absent". */
#include "serve.h"

/* Bytes of a large value that are written ahead of the peer. */
enum { READ_AHEAD_MAX = 512 << 10 };
enum { READ_DATA_MAX = KHO_FRAME_MAX - KHO_FRAME_HEAD };

static int read_check(const uint8_t *body, uint32_t len, uint32_t count)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct wire_read_ask ask;
        int used = wire_read_ask_decode(body + at, len - at, &ask);
        if (used < 0)
            return used;
        at += (uint32_t)used;
    }
    return at == len ? 0 : KHO_EMALFORMED;
}

enum serve_verdict serve_read(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len)
{
    if (read_check(body, len, head->count) < 0)
        return SERVE_MALFORMED;
    if (head->count == 0) {
        serve_answer(conn, head->type, head->request, 0);
        return SERVE_DONE;
    }
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    if (!request_body(request, len, false)) {
        request_end(request);
        conn->wait_bytes = len;
        conn->copy_waits = false;
        return serve_wait(conn, CONN_WAIT_SHARE);
    }
    memcpy(request->body, body, len);
    request->body_len = len;
    request->left = head->count;
    job_begin(request);
    return SERVE_DONE;
}

/* --- Answers ---------------------------------------------------------------------------------- */

/* Floor and drop number are the partition's, whatever the key. */
static void read_floor(const struct serve *serve, uint32_t collection, uint32_t partition,
                       struct key_hash hash, struct wire_read_answer *answer)
{
    const struct map *map = store_map(serve->store);
    struct wire_probe_answer probe;
    if (map == NULL || partition >= map->partitions)
        return;
    store_probe(serve->store, collection, partition, hash, &probe);
    answer->floor = probe.floor;
    answer->drops = probe.drops;
}

/* Counts an entry as answered; the last one ends the request: true. */
static bool read_answered(struct request *request)
{
    KHO_ASSERT(request->left > 0);
    if (--request->left > 0)
        return false;
    if (request->conn->frame.owner == request)
        conn_frame_end(request->conn, 0, 0);
    request_end(request);
    return true;
}

/* Writes one entry; `record` NULL: none follows. */
static void read_write(struct request *request, const struct wire_read_answer *answer,
                       const struct record *record)
{
    struct conn *conn = request->conn;
    uint32_t bytes = WIRE_READ_ANSWER + answer->record_len;
    uint8_t *to = conn_frame(conn, request, WIRE_READ, request->id, 0, bytes);
    if (to == NULL)
        return;
    wire_read_answer_encode(answer, to);
    if (record != NULL) {
        size_t head = record_encode_head(record, to + WIRE_READ_ANSWER);
        size_t value = answer->record_len - head;
        if (value > 0)
            memcpy(to + WIRE_READ_ANSWER + head, record->value, value);
    }
    conn_frame_added(conn, bytes, 1);
}

static bool read_refuse(struct request *request, uint32_t index, const struct wire_read_ask *ask,
                        int32_t status)
{
    struct wire_read_answer answer = {.index = index, .status = status, .state = WIRE_UNKNOWN};
    read_floor(serve_of(request->conn), ask->collection, ask->partition, ask->hash, &answer);
    read_write(request, &answer, NULL);
    return read_answered(request);
}

static bool read_has_record(const struct read_slot *slot)
{
    const struct store_read *read = &slot->read;
    return read->status == 0 && (read->state == WIRE_PRESENT || read->state == WIRE_TOMBSTONE);
}

static bool read_is_large(const struct read_slot *slot)
{
    return read_has_record(slot) && slot->ask != KHO_READ_HEAD &&
           KHO_FRAME_HEAD + WIRE_READ_ANSWER + record_size(&slot->read.record) > KHO_FRAME_MAX;
}

static void read_answer_of(struct read_slot *slot, struct wire_read_answer *ret)
{
    const struct store_read *read = &slot->read;
    struct wire_read_answer answer = {
        .index = slot->index, .status = read->status, .state = read->state};
    if (read_has_record(slot)) {
        const struct record *record = &read->record;
        bool head_only = slot->ask == KHO_READ_HEAD;
        size_t bytes = head_only ? (size_t)KHO_RECORD_HEAD + record->key_len : record_size(record);
        answer.record_len = (uint32_t)bytes;
    }
    read_floor(serve_of(slot->request->conn), read->collection, read->partition, read->hash,
               &answer);
    *ret = answer;
}

/* --- Large values ----------------------------------------------------------------------------- */

static void read_large_begin(struct conn *conn, struct read_slot *slot)
{
    struct request *request = slot->request;
    const struct record *record = &slot->read.record;
    struct wire_read_answer answer;
    uint32_t bytes = WIRE_READ_ANSWER + KHO_RECORD_HEAD + record->key_len;
    conn->large = slot;
    conn->large_sent = 0;
    read_answer_of(slot, &answer);
    conn_frame_close(conn);
    uint8_t *to = conn_frame(conn, NULL, WIRE_READ, request->id, 0, bytes);
    if (to == NULL)
        return;
    wire_read_answer_encode(&answer, to);
    record_encode_head(record, to + WIRE_READ_ANSWER);
    conn_frame_added(conn, bytes, 1);
    conn_frame_end(conn, KHO_FRAME_LARGE | KHO_FRAME_MORE, 0);
    serve_ready(conn);
}

/* Writes the answer of a read that has ended, or queues its large value. True: the request ended
 * with it. */
static bool read_deliver(struct read_slot *slot)
{
    struct request *request = slot->request;
    struct conn *conn = request->conn;
    bool open = conn->phase == CONN_OPEN || conn->phase == CONN_DRAINING;
    if (open && read_is_large(slot)) {
        request->large = slot;
        if (conn->large != NULL)
            queue_push(&conn->large_wait, &slot->link);
        else
            read_large_begin(conn, slot);
        return false;
    }
    if (open) {
        struct wire_read_answer answer;
        read_answer_of(slot, &answer);
        read_write(request, &answer, read_has_record(slot) ? &slot->read.record : NULL);
    }
    slot_end(slot);
    return read_answered(request);
}

/* The large value is out, or nobody takes it any more: what waited behind it follows. */
static void read_large_end(struct read_slot *slot)
{
    struct request *request = slot->request;
    struct conn *conn = request->conn;
    KHO_ASSERT(request->large == slot);
    request->large = NULL;
    if (conn->large == slot)
        conn->large = NULL;
    slot_end(slot);
    if (request->refused != 0) {
        job_settle(request);
        return;
    }
    bool ended = read_answered(request);
    while (!ended && request->large == NULL && !queue_empty(&request->window)) {
        struct queue *link = queue_pop(&request->window);
        ended = read_deliver(KHO_CONTAINER_OF(link, struct read_slot, link));
    }
}

bool serve_read_pump(struct conn *conn)
{
    while (conn->large != NULL && conn->unsent < READ_AHEAD_MAX) {
        if (!serve_may_write(serve_of(conn), SHARE_BUFFER_LARGE))
            return false;
        struct read_slot *slot = conn->large;
        struct request *request = slot->request;
        const struct record *record = &slot->read.record;
        uint32_t rest = record->stored_len - conn->large_sent;
        uint32_t bytes = rest < READ_DATA_MAX ? rest : READ_DATA_MAX;
        uint8_t *to = conn_frame(conn, NULL, WIRE_DATA, request->id, 0, bytes);
        if (to == NULL)
            return true;
        memcpy(to, record->value + conn->large_sent, bytes);
        conn_frame_added(conn, bytes, 0);
        bool more = bytes < rest || request->left > 1 || request->refused != 0;
        conn_frame_end(
            conn,
            (uint8_t)((bytes == rest ? KHO_FRAME_LAST_DATA : 0) | (more ? KHO_FRAME_MORE : 0)), 0);
        conn->large_sent += bytes;
        if (bytes < rest)
            continue;
        read_large_end(slot);
        struct queue *next = conn->large == NULL ? queue_pop(&conn->large_wait) : NULL;
        if (next != NULL)
            read_large_begin(conn, KHO_CONTAINER_OF(next, struct read_slot, link));
    }
    return true;
}

void serve_read_drop(struct conn *conn)
{
    if (conn->large != NULL)
        read_large_end(conn->large);
    struct queue *link;
    while ((link = queue_pop(&conn->large_wait)) != NULL)
        read_large_end(KHO_CONTAINER_OF(link, struct read_slot, link));
}

/* --- Steps ------------------------------------------------------------------------------------ */

bool serve_read_done(struct read_slot *slot)
{
    struct request *request = slot->request;
    bool stale = serve_epoch(serve_of(request->conn)) != request->epoch;
    slot_arrived(slot);
    if (request->refused != 0 || stale) {
        slot_end(slot);
        if (request->refused != 0)
            job_settle(request);
        else
            job_stop(request, KHO_EEPOCHOLD);
        return true;
    }
    if (request->large != NULL) {
        queue_push(&request->window, &slot->link);
        return false;
    }
    return read_deliver(slot);
}

/* Where the entry is to be read: hash and partition are the key's where there is one, else what
 * the ask says. */
static int read_place(struct request *request, struct serve_policy *policy,
                      struct wire_read_ask *ask)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    int status = serve_policy(conn, policy, ask->collection, SERVE_VERB_READ);
    if (status < 0)
        return status;
    if (ask->key_len > 0)
        return serve_place(serve, policy, ask->key, ask->key_len, &ask->hash, &ask->partition);
    if (ask->partition >= store_map(serve->store)->partitions)
        return KHO_EMALFORMED;
    return serve_is_replica(serve, ask->partition, policy->replicas) ? 0 : KHO_ENOTREPLICA;
}

/* The size of what is there now, from the index; a write may change it before it is read. */
static uint32_t read_size(const struct serve *serve, const struct wire_read_ask *ask)
{
    struct wire_list_entry entry;
    struct key_tag tag = key_tag(ask->hash);
    if (!store_next(serve->store, ask->collection, ask->partition, tag, &entry) ||
        key_tag_compare(entry.tag, tag) != 0)
        return 0;
    return entry.record_len + KHO_KEY_MAX;
}

/* Issues one entry. NULL with *ret_why: not now. */
static struct read_slot *read_issue(struct request *request, const struct wire_read_ask *ask,
                                    enum job_result *ret_why)
{
    struct conn *conn = request->conn;
    uint32_t size = read_size(serve_of(conn), ask);
    bool large = size > READ_DATA_MAX && ask->ask != KHO_READ_HEAD;
    bool large_busy = conn->large != NULL || !queue_empty(&conn->large_wait);
    if (large && (large_busy || request->reads > 0)) {
        *ret_why = JOB_BLOCKED;
        return NULL;
    }
    uint32_t expected = ask->ask == KHO_READ_HEAD ? KHO_RECORD_HEAD + KHO_KEY_MAX
                        : large                   ? KHO_FRAME_MAX
                                                  : size;
    struct read_slot *slot = slot_begin(request, size, expected, ret_why);
    if (slot == NULL)
        return NULL;
    slot->index = request->index;
    slot->ask = ask->ask;
    slot->read.collection = ask->collection;
    slot->read.partition = ask->partition;
    slot->read.hash = ask->hash;
    slot->read.key = ask->key_len > 0 ? ask->key : NULL;
    slot->read.key_len = ask->key_len;
    return slot;
}

enum job_result serve_read_step(struct request *request)
{
    struct serve *serve = serve_of(request->conn);
    struct serve_policy policy = {0};
    while (request->index < request->count) {
        struct wire_read_ask ask;
        enum job_result why = JOB_BLOCKED;
        if (request->large != NULL)
            return JOB_BLOCKED;
        if (serve->units == 0)
            return JOB_UNITS;
        int used = wire_read_ask_decode(request->body + request->offset,
                                        request->body_len - request->offset, &ask);
        KHO_ASSERT(used > 0);
        int status = read_place(request, &policy, &ask);
        struct read_slot *slot = status == 0 ? read_issue(request, &ask, &why) : NULL;
        if (status == 0 && slot == NULL)
            return why;
        serve->units--;
        request->offset += (uint32_t)used;
        bool ended = false;
        if (slot == NULL) {
            ended = read_refuse(request, request->index++, &ask, status);
        } else {
            request->index++;
            slot->reading = true;
            if (store_read(serve->store, &slot->read, serve->host.now))
                ended = serve_read_done(slot);
        }
        if (ended)
            return JOB_DONE;
    }
    queue_remove(&request->link);
    return JOB_DONE;
}
