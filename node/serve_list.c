/* serve_list.c: LIST: the entries of a range of partitions, in order, with their records if asked.
 *
 * Happy path: a job walks the index from the cursor; records are read a window ahead and written in
 * order of (partition, tag) as the first of them has arrived; the page ends at its limit of entries
 * or bytes, or with the range, and its last frame says where to go on. Partitions of which this
 * node is no replica are passed over. A record that can't be read is listed without its value
 * (WIRE_VALUE_UNKNOWN): its version is known and its reader asks elsewhere. */
#include "serve.h"

enum serve_verdict serve_list(struct conn *conn, const struct wire_head *head, const uint8_t *body,
                              uint32_t len)
{
    struct wire_list_ask ask;
    struct serve_policy policy = {0};
    if (len != WIRE_LIST_ASK || body[13] > KHO_LIST_RECORDS || kho_load16(body + 14) != 0 ||
        kho_load32(body + 28) != 0)
        return SERVE_MALFORMED;
    wire_list_ask_decode(body, &ask);
    int status = serve_policy(conn, &policy, ask.collection, SERVE_VERB_LIST);
    if (status == 0 && (ask.partition_from > ask.partition_to ||
                        ask.partition_to > store_map(conn->host->store)->partitions))
        status = KHO_EMALFORMED;
    if (status < 0) {
        serve_answer(conn, head->type, head->request, status);
        return SERVE_DONE;
    }
    struct request *request = request_begin(conn, head);
    if (request == NULL)
        return serve_wait(conn, CONN_WAIT_POOL);
    request->ask = ask;
    request->replicas = policy.replicas;
    if (ask.limit == 0 || ask.limit > KHO_FRAME_ENTRIES_MAX)
        request->ask.limit = KHO_FRAME_ENTRIES_MAX;
    job_begin(request);
    return SERVE_DONE;
}

/* The place behind an entry. Behind the last tag there is nothing in this partition. */
static void list_behind(const struct wire_list_entry *entry, uint32_t *ret_partition,
                        struct key_tag *ret_tag)
{
    struct key_tag tag = entry->tag;
    uint32_t partition = entry->partition;
    tag.low++;
    if (tag.low == 0)
        tag.high++;
    if (tag.low == 0 && tag.high == 0)
        partition++;
    *ret_partition = partition;
    *ret_tag = tag;
}

static void list_head(struct request *request, const struct wire_list_head *head)
{
    uint8_t *at = conn_frame_body(request->conn, request);
    if (at == NULL)
        return;
    wire_list_head_encode(head, at);
    conn_frame_flags(request->conn, request->flags);
}

/* Writes an entry; `record` NULL: without one. */
static void list_write(struct request *request, const struct wire_list_entry *entry,
                       const struct record *record)
{
    uint32_t bytes = WIRE_LIST_ENTRY + entry->record_len;
    uint8_t *to = conn_frame(request->conn, request, WIRE_LIST, request->id, WIRE_LIST_HEAD, bytes);
    if (to == NULL)
        return;
    wire_list_entry_encode(entry, to);
    if (record != NULL)
        record_encode(record, to + WIRE_LIST_ENTRY);
    conn_frame_added(request->conn, bytes, 1);
    struct wire_list_head head = {0};
    list_behind(entry, &head.next_partition, &head.next_tag);
    list_head(request, &head);
}

/* Writes the entry of a read that has ended. */
static void list_deliver(struct read_slot *slot)
{
    const struct store_read *read = &slot->read;
    struct wire_list_entry entry = slot->entry;
    const struct record *record = NULL;
    entry.record_len = 0;
    if (slot->reading && read->status != 0) {
        entry.state = WIRE_VALUE_UNKNOWN;
    } else if (slot->reading && read->state != WIRE_ABSENT) {
        /* A newer version than the index told a moment ago is as good. */
        record = &read->record;
        entry.version = record->version;
        entry.state = read->state;
        if (record_size(record) > KHO_LIST_RECORD_MAX)
            record = NULL;
        else
            entry.record_len = (uint32_t)record_size(record);
    }
    bool vanished = slot->reading && read->status == 0 && read->state == WIRE_ABSENT;
    if (!vanished)
        list_write(slot->request, &entry, record);
    slot_end(slot);
}

static void list_deliver_arrived(struct request *request)
{
    while (!queue_empty(&request->window)) {
        struct read_slot *slot = KHO_CONTAINER_OF(request->window.next, struct read_slot, link);
        if (!slot->arrived)
            return;
        queue_remove(&slot->link);
        list_deliver(slot);
    }
}

static enum job_result list_finish(struct request *request)
{
    struct conn *conn = request->conn;
    struct wire_list_head head = {.next_partition = request->ask.partition_from,
                                  .next_tag = request->ask.tag,
                                  .done = request->ask.partition_from >= request->ask.partition_to};
    if (conn_frame(conn, request, WIRE_LIST, request->id, WIRE_LIST_HEAD, 0) != NULL) {
        list_head(request, &head);
        conn_frame_end(conn, 0, 0);
    }
    request_end(request);
    return JOB_DONE;
}

/* The next entry at the cursor. False: the cursor has moved on, to be asked again. */
static bool list_next(struct request *request, struct wire_list_entry *ret_entry)
{
    struct serve *serve = serve_of(request->conn);
    struct wire_list_ask *ask = &request->ask;
    bool replica = serve_is_replica(serve, ask->partition_from, request->replicas);
    if (replica && store_episode_of(serve->store, ask->partition_from) != 0)
        request->flags |= KHO_FRAME_EPISODE;
    if (replica &&
        store_next(serve->store, ask->collection, ask->partition_from, ask->tag, ret_entry))
        return true;
    ask->partition_from++;
    ask->tag = (struct key_tag){0};
    return false;
}

/* Issues the read of an entry, or queues the entry alone. False: not now. */
static bool list_issue(struct request *request, const struct wire_list_entry *entry,
                       enum job_result *ret_why)
{
    struct serve *serve = serve_of(request->conn);
    bool readable = entry->state == WIRE_PRESENT || entry->state == WIRE_TOMBSTONE;
    bool wanted = request->ask.ask == KHO_LIST_RECORDS && readable &&
                  entry->record_len <= KHO_LIST_RECORD_MAX;
    if (!wanted && queue_empty(&request->window)) {
        struct wire_list_entry bare = *entry;
        bare.record_len = 0;
        list_write(request, &bare, NULL);
        return true;
    }
    uint32_t bytes = wanted ? entry->record_len + KHO_KEY_MAX : 0;
    struct read_slot *slot = slot_begin(request, bytes, bytes, ret_why);
    if (slot == NULL)
        return false;
    slot->entry = *entry;
    slot->read.collection = request->ask.collection;
    slot->read.partition = entry->partition;
    slot->read.hash.high = entry->tag.high;
    slot->read.hash.low = (uint64_t)entry->tag.low << 56;
    queue_push(&request->window, &slot->link);
    request->page_bytes += wanted ? entry->record_len : 0;
    slot->reading = wanted;
    if (!wanted || store_read(serve->store, &slot->read, serve->host.now))
        slot_arrived(slot);
    return true;
}

static bool list_page_full(const struct request *request)
{
    return request->ask.partition_from >= request->ask.partition_to ||
           request->page_entries >= request->ask.limit ||
           request->page_bytes >= SERVE_LIST_BYTES_MAX;
}

enum job_result serve_list_step(struct request *request)
{
    struct serve *serve = serve_of(request->conn);
    struct conn *conn = request->conn;
    list_deliver_arrived(request);
    while (!list_page_full(request)) {
        struct wire_list_entry entry;
        enum job_result why = JOB_BLOCKED;
        if (conn->unsent >= CONN_UNSENT_MAX)
            return JOB_BLOCKED;
        if (!serve_may_write(serve, SHARE_BUFFER_MIDDLE))
            return JOB_STARVED;
        if (serve->units == 0)
            return JOB_UNITS;
        serve->units--;
        if (!list_next(request, &entry))
            continue;
        if (!list_issue(request, &entry, &why))
            return why;
        request->page_entries++;
        list_behind(&entry, &request->ask.partition_from, &request->ask.tag);
        list_deliver_arrived(request);
    }
    return queue_empty(&request->window) ? list_finish(request) : JOB_BLOCKED;
}

void serve_list_done(struct read_slot *slot)
{
    struct request *request = slot->request;
    slot_arrived(slot);
    if (request->refused == 0)
        return;
    slot_end(slot);
    job_settle(request);
}
