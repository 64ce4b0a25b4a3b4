/* serve_read.c: READ: records by key or by tag, answered in the order in which they arrive.
 *
 * Happy path: what is at hand (cached, absent) is answered where the frame lies, in groups whose
 * look-ups overlap, each record copied once, from its block into the open frame. The other asks are
 * copied, since the frame is lent; they are issued in order, some ahead; each answer is written as
 * its read ends; the last one seals the frame without KHO_FRAME_MORE. A record beyond a frame is
 * announced in a frame of its own (KHO_FRAME_LARGE) and its value follows in DATA frames as the
 * peer takes them, one such value a connection; further answers of the same request wait behind it,
 * those of others don't. What can't be read is a status of its entry (R2: no vote), never "absent".
 */
#include "serve.h"

/* Bytes of a large value that are written ahead of the peer. */
enum { READ_AHEAD_MAX = 512 << 10 };
enum { READ_DATA_MAX = KHO_FRAME_MAX - KHO_FRAME_HEAD };

/* --- Answers ---------------------------------------------------------------------------------- */

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

/* The answer to an ask that isn't read: no vote, but the partition's floor and drop number. */
static void read_write_refusal(struct request *request, uint32_t index,
                               const struct wire_read_ask *ask, int32_t status)
{
    struct wire_read_answer answer = {.index = index, .status = status, .state = WIRE_UNKNOWN};
    store_floor(serve_of(request->conn)->store, ask->partition, &answer.floor, &answer.drops);
    read_write(request, &answer, NULL);
}

static bool read_has_record(const struct store_read *read)
{
    return read->status == 0 && (read->state == WIRE_PRESENT || read->state == WIRE_TOMBSTONE);
}

static bool read_is_large(const struct store_read *read, uint32_t ask)
{
    return read_has_record(read) && ask != KHO_READ_HEAD &&
           KHO_FRAME_HEAD + WIRE_READ_ANSWER + record_size(&read->record) > KHO_FRAME_MAX;
}

static void read_answer_of(const struct serve *serve, const struct store_read *read, uint32_t index,
                           uint32_t ask, struct wire_read_answer *ret)
{
    struct wire_read_answer answer = {.index = index, .status = read->status, .state = read->state};
    if (read_has_record(read)) {
        const struct record *record = &read->record;
        bool head_only = ask == KHO_READ_HEAD;
        size_t bytes = head_only ? (size_t)KHO_RECORD_HEAD + record->key_len : record_size(record);
        answer.record_len = (uint32_t)bytes;
    }
    store_floor(serve->store, read->partition, &answer.floor, &answer.drops);
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
    read_answer_of(serve_of(conn), &slot->read, slot->index, slot->ask, &answer);
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
    if (open && read_is_large(&slot->read, slot->ask)) {
        request->large = slot;
        if (conn->large != NULL)
            queue_push(&conn->large_wait, &slot->link);
        else
            read_large_begin(conn, slot);
        return false;
    }
    if (open) {
        struct wire_read_answer answer;
        const struct store_read *read = &slot->read;
        read_answer_of(serve_of(conn), read, slot->index, slot->ask, &answer);
        read_write(request, &answer, read_has_record(read) ? &read->record : NULL);
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
static int read_place(struct conn *conn, struct serve_policy *policy, struct wire_read_ask *ask)
{
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

static void read_fill(struct store_read *read, const struct wire_read_ask *ask)
{
    read->collection = ask->collection;
    read->partition = ask->partition;
    read->hash = ask->hash;
    read->key = ask->key_len > 0 ? ask->key : NULL;
    read->key_len = ask->key_len;
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
    slot->ask = ask->ask;
    read_fill(&slot->read, ask);
    return slot;
}

/* An entry that was left for later: the number that its answer gives, then the ask. */
enum { READ_LEFT = 4 };

enum job_result serve_read_step(struct request *request)
{
    struct serve *serve = serve_of(request->conn);
    struct serve_policy policy = {0};
    while (request->offset < request->body_len) {
        const uint8_t *entry = request->body + request->offset;
        struct wire_read_ask ask;
        enum job_result why = JOB_BLOCKED;
        if (request->large != NULL)
            return JOB_BLOCKED;
        if (serve->units == 0)
            return JOB_UNITS;
        int used = wire_read_ask_decode(entry + READ_LEFT,
                                        request->body_len - request->offset - READ_LEFT, &ask);
        KHO_ASSERT(used > 0);
        int status = read_place(request->conn, &policy, &ask);
        struct read_slot *slot = status == 0 ? read_issue(request, &ask, &why) : NULL;
        if (status == 0 && slot == NULL)
            return why;
        serve->units--;
        request->offset += READ_LEFT + (uint32_t)used;
        bool ended = false;
        if (slot == NULL) {
            read_write_refusal(request, kho_load32(entry), &ask, status);
            ended = read_answered(request);
        } else {
            slot->index = kho_load32(entry);
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

/* --- At once ---------------------------------------------------------------------------------- */

/* Entries that follow one another in a frame, and their reads. */
struct read_group {
    struct wire_read_ask asks[STORE_READS_CACHED];
    struct store_read reads[STORE_READS_CACHED];
    uint32_t index[STORE_READS_CACHED];
    uint32_t count;
};

/* True if so many bytes more may be written now. */
static bool read_room(const struct serve *serve, const struct conn *conn, uint32_t bytes)
{
    uint64_t coming = conn->unsent + conn->frame.len + conn->expected;
    return serve_may_write(serve, bytes) && (coming == 0 || coming + bytes <= CONN_UNSENT_MAX);
}

/* Writes the answers to those of the group that can be given at once. Bit i of the answer: the i-th
 * is left. */
static uint32_t read_group_answer(struct request *request, struct read_group *group)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    uint32_t done = store_read_cached(serve->store, group->reads, group->count);
    uint32_t left = 0;
    for (uint32_t i = 0; i < group->count; i++) {
        struct store_read *read = &group->reads[i];
        struct wire_read_answer answer;
        if ((done >> i & 1) == 0) {
            left |= 1u << i;
            continue;
        }
        read_answer_of(serve, read, group->index[i], group->asks[i].ask, &answer);
        if (read_is_large(read, group->asks[i].ask) ||
            !read_room(serve, conn, WIRE_READ_ANSWER + answer.record_len))
            left |= 1u << i;
        else
            read_write(request, &answer, read_has_record(read) ? &read->record : NULL);
        store_read_end(serve->store, read);
    }
    return left;
}

/* Keeps the entries that are left of a group. False: the heap has no memory. */
static bool read_keep(struct request *request, const struct read_group *group, uint32_t left,
                      uint32_t room)
{
    if (left != 0 && request->body == NULL && !request_body_admitted(request, room))
        return false;
    for (; left != 0; left &= left - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(left);
        uint8_t *to = request->body + request->body_len;
        kho_store32(to, group->index[i]);
        wire_read_ask_encode(&group->asks[i], to + READ_LEFT);
        request->body_len += READ_LEFT + WIRE_READ_ASK + group->asks[i].key_len;
        request->left++;
    }
    return true;
}

/* Answers what can be answered at once and keeps the rest, with its hashes and partitions. False:
 * the heap has no memory for that. */
static bool read_at_once(struct request *request, const uint8_t *body, uint32_t len)
{
    struct conn *conn = request->conn;
    struct serve *serve = serve_of(conn);
    struct serve_policy policy = {0};
    struct read_group group;
    uint32_t at = 0, index = 0;
    while (at < len) {
        group.count = 0;
        for (; at < len && group.count < STORE_READS_CACHED; index++) {
            struct wire_read_ask *ask = &group.asks[group.count];
            int used = wire_read_ask_decode(body + at, len - at, ask);
            KHO_ASSERT(used > 0);
            at += (uint32_t)used;
            int status = read_place(conn, &policy, ask);
            if (status != 0) {
                read_write_refusal(request, index, ask, status);
                continue;
            }
            group.index[group.count] = index;
            group.reads[group.count] = (struct store_read){0};
            read_fill(&group.reads[group.count], ask);
            group.count++;
        }
        uint32_t left = group.count == 0 ? 0 : UINT32_MAX >> (32 - group.count);
        if (serve->units >= group.count && read_room(serve, conn, WIRE_READ_ANSWER)) {
            serve->units -= group.count;
            left = read_group_answer(request, &group);
        }
        if (!read_keep(request, &group, left, len + READ_LEFT * request->count))
            return false;
    }
    return true;
}

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
    if (!read_at_once(request, body, len)) {
        /* The client finds out anew. */
        conn_abort(conn);
        request->left = 0;
    }
    if (request->left > 0) {
        job_begin(request);
        return SERVE_DONE;
    }
    if (conn->frame.owner == request)
        conn_frame_end(conn, 0, 0);
    request_end(request);
    return SERVE_DONE;
}
