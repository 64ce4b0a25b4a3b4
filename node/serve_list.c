/* serve_list.c: LIST: the entries of a range of partitions, in order, with their records if asked.
 *
 * Happy path: a job walks the index from the cursor; entries whose records are at hand are written
 * in groups whose look-ups overlap; the others are read a window ahead, sorted by place on their
 * way to the disk, and written in order of (partition, tag) as the first of them has arrived; the
 * page ends at its limit of entries or bytes, or with the range, and its last frame says where to
 * go on. Partitions of which this node is no replica are passed over. A record that can't be read
 * is listed without its value (WIRE_VALUE_UNKNOWN): its version is known and its reader asks
 * elsewhere. */
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

/* What is written of an entry whose record was to be read. False: nothing, it has vanished. */
static bool list_read(const struct store_read *read, struct wire_list_entry *entry,
                      const struct record **ret_record)
{
    *ret_record = NULL;
    entry->record_len = 0;
    if (read->status != 0) {
        entry->state = WIRE_VALUE_UNKNOWN;
    } else if (read->state == WIRE_ABSENT) {
        return false;
    } else {
        /* A newer version than the index told a moment ago is as good. */
        const struct record *record = &read->record;
        entry->version = record->version;
        entry->state = read->state;
        if (KHO_RECORD_HEAD + record->key_len + record->raw_len > KHO_LIST_RECORD_MAX)
            return true;
        entry->record_len = (uint32_t)record_size(record);
        *ret_record = record;
    }
    return true;
}

/* Writes the entry of a slot, whose read, if there was one, has ended. */
static void list_deliver(struct read_slot *slot)
{
    struct wire_list_entry entry = slot->entry;
    const struct record *record = NULL;
    entry.record_len = 0;
    if (!slot->reading || list_read(&slot->read, &entry, &record))
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
static bool list_next(struct request *request, struct wire_list_ask *cursor,
                      struct wire_list_entry *ret_entry)
{
    struct serve *serve = serve_of(request->conn);
    bool replica = serve_is_replica(serve, cursor->partition_from, request->replicas);
    if (replica && store_episode_of(serve->store, cursor->partition_from) != 0)
        request->flags |= KHO_FRAME_EPISODE;
    if (replica && store_next(serve->store, cursor->collection, cursor->partition_from, cursor->tag,
                              ret_entry))
        return true;
    cursor->partition_from++;
    cursor->tag = (struct key_tag){0};
    return false;
}

static void list_fill(const struct request *request, const struct wire_list_entry *entry,
                      struct store_read *read)
{
    read->collection = request->ask.collection;
    read->partition = entry->partition;
    read->hash.high = entry->tag.high;
    read->hash.low = (uint64_t)entry->tag.low << 56;
    read->sweep = true;
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
    list_fill(request, entry, &slot->read);
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

/* Writes one entry of a group, if the page and the connection have room for it. */
static bool list_group_write(struct request *request, const struct store_read *read,
                             const struct wire_list_entry *listed)
{
    struct conn *conn = request->conn;
    struct wire_list_entry entry = *listed;
    const struct record *record;
    bool there = list_read(read, &entry, &record);
    uint32_t bytes = WIRE_LIST_ENTRY + entry.record_len;
    uint64_t coming = conn->unsent + conn->frame.len;
    if (list_page_full(request) || !serve_may_write(serve_of(conn), bytes) ||
        (coming > 0 && coming + bytes > CONN_UNSENT_MAX))
        return false;
    if (there)
        list_write(request, &entry, record);
    request->page_bytes += entry.record_len;
    request->page_entries++;
    return true;
}

/* Writes the entries at the cursor whose records are at hand, a group at most. False: the first one
 * isn't, or there is no room for it. */
static bool list_at_once(struct request *request)
{
    struct serve *serve = serve_of(request->conn);
    struct wire_list_ask cursor = request->ask;
    struct wire_list_entry entries[STORE_READS_CACHED];
    struct store_read reads[STORE_READS_CACHED] = {{0}};
    uint32_t count = 0, written = 0;
    while (count < STORE_READS_CACHED && cursor.partition_from < cursor.partition_to &&
           serve->units > 0) {
        serve->units--;
        if (!list_next(request, &cursor, &entries[count]))
            continue;
        list_behind(&entries[count], &cursor.partition_from, &cursor.tag);
        list_fill(request, &entries[count], &reads[count]);
        count++;
    }
    uint32_t done = store_read_cached(serve->store, reads, count);
    while (written < count && (done >> written & 1) != 0 &&
           list_group_write(request, &reads[written], &entries[written]))
        written++;
    for (uint32_t rest = done; rest != 0; rest &= rest - 1)
        store_read_end(serve->store, &reads[__builtin_ctz(rest)]);
    request->ask = cursor;
    if (written < count) {
        request->ask.partition_from = entries[written].partition;
        request->ask.tag = entries[written].tag;
    }
    return written > 0 || count == 0;
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
        if (request->ask.ask == KHO_LIST_RECORDS && queue_empty(&request->window) &&
            list_at_once(request))
            continue;
        if (serve->units == 0)
            return JOB_UNITS;
        serve->units--;
        if (!list_next(request, &request->ask, &entry))
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
