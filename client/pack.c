/* pack.c: fills sends with frames at the end of a step.
 *
 * It owns the blocks and what goes into them. A block of 256 KiB takes, in this order: a DATA frame
 * of the large value that is being streamed, whole-frame requests, then items, many to a frame,
 * kind by kind. Two sends are in flight at most, so what gathers meanwhile goes out in larger
 * frames: batching without a timer. Frames under way are bounded by number and bytes; the rest
 * waits.
 *
 * How it fails: only memory can run out; then the session breaks and what waits goes on waiting. */
#include "bundle.h"
#include "item.h"
#include "session.h"

#define PACK_STREAM_SHARE                                                                          \
    (64u << 10)              /* of a block, where other frames wait beside a large value           \
                              */
#define PACK_READS_MAX 1024u /* in a frame: answers are larger than asks */
#define PACK_POOL_MAX  16u   /* blocks kept for reuse: 4 MiB */

struct send_block *send_block_take(struct client *client)
{
    struct block_pool *pool = &client->blocks;
    struct send_block *block = pool->free_blocks;
    if (block != NULL) {
        pool->free_blocks = block->next;
        pool->free_count--;
    } else {
        block = (struct send_block *)client_allocate(client, sizeof *block);
    }
    if (block == NULL)
        return NULL;
    memset(&block->op, 0, sizeof block->op);
    block->next = NULL;
    block->len = 0;
    return block;
}

void send_block_give(struct client *client, struct send_block *block)
{
    struct block_pool *pool = &client->blocks;
    if (pool->free_count == PACK_POOL_MAX) {
        client_release(client, block);
        return;
    }
    block->next = pool->free_blocks;
    pool->free_blocks = block;
    pool->free_count++;
}

static uint32_t pack_room(const struct send_block *block)
{
    return KHO_FRAME_MAX - block->len;
}

/* Heads and hashes the frame whose body lies behind the block's used bytes, and takes it in. */
static void pack_seal(const struct client *client, struct send_block *block, uint8_t type,
                      uint8_t flags, uint16_t count, uint64_t id, uint32_t body_len)
{
    struct wire_head head = {
        .length = KHO_FRAME_HEAD + body_len,
        .type = type,
        .flags = flags,
        .count = count,
        .request = id,
    };
    if (client_has_map(client)) {
        head.epoch = client->map.epoch;
        head.map_hash = client->map.hash;
        head.cluster = client->map.cluster;
    }
    wire_frame_seal(block->bytes + block->len, &head, false);
    block->len += head.length;
}

/* --- Large values ----------------------------------------------------------------------------- */

/* One DATA frame. Where the owner dropped the request the rest is filled with zeros: the node waits
 * for it, and refuses a value without its content hash. */
static void pack_stream(struct client *client, struct session *session, struct send_block *block,
                        uint32_t room)
{
    struct way *way = &session->ways[session->stream_way];
    if (!session->streaming || room <= KHO_FRAME_HEAD)
        return;
    uint32_t left = session->stream_len - session->stream_sent;
    uint32_t len = (uint32_t)kho_min(room - KHO_FRAME_HEAD, left);
    uint8_t *to = block->bytes + block->len + KHO_FRAME_HEAD;
    if (way->request == NULL)
        memset(to, 0, len);
    else
        memcpy(to, way->request->data + session->stream_sent, len);
    session->stream_sent += len;
    session->streaming = session->stream_sent < session->stream_len;
    pack_seal(client, block, WIRE_DATA, session->streaming ? KHO_FRAME_MORE : 0, 0, way->id, len);
}

static bool pack_large(struct client *client, struct session *session, struct send_block *block,
                       struct kho_now now)
{
    if (session->streaming || queue_empty(&session->larges))
        return false;
    struct request *request = KHO_CONTAINER_OF(session->larges.next, struct request, link);
    if (pack_room(block) < KHO_FRAME_HEAD + request->body_len)
        return false;
    if (session->bytes_under_way >= SESSION_BYTES_MAX)
        return false;
    struct way *way = request_way(session, request, request->data_len, false, now);
    if (way == NULL)
        return false;
    queue_remove(&request->link);
    item_large_sent(request);
    memcpy(block->bytes + block->len + KHO_FRAME_HEAD, request->body, request->body_len);
    uint8_t more = request->data_len > 0 ? KHO_FRAME_MORE : 0;
    pack_seal(client, block, request->type, (uint8_t)(request->flags | more), request->count,
              way->id, request->body_len);
    session->streaming = request->data_len > 0;
    session->stream_way = request->way;
    session->stream_len = request->data_len;
    session->stream_sent = 0;
    return true;
}

/* --- Whole-frame requests --------------------------------------------------------------------- */

static void pack_requests(struct client *client, struct session *session, struct send_block *block,
                          struct kho_now now)
{
    QUEUE_FOREACH_SAFE (link, &session->pending) {
        struct request *request = KHO_CONTAINER_OF(link, struct request, link);
        /* A node that isn't the map's is asked for its map only; it waits alone there. */
        if (session->foreign && request->type != WIRE_MAP)
            continue;
        if (pack_room(block) < KHO_FRAME_HEAD + request->body_len)
            return;
        struct way *way =
            request_way(session, request, KHO_FRAME_HEAD + request->body_len, false, now);
        if (way == NULL)
            return;
        queue_remove(link);
        if (request->body_len > 0)
            memcpy(block->bytes + block->len + KHO_FRAME_HEAD, request->body, request->body_len);
        pack_seal(client, block, request->type, request->flags, request->count, way->id,
                  request->body_len);
    }
}

/* --- Items ------------------------------------------------------------------------------------ */

static uint32_t pack_entry_size(const struct slot *slot)
{
    const struct item *item = slot->item;
    switch (slot->kind) {
    case SLOT_PROBE:
        return WIRE_PROBE_ASK;
    case SLOT_READ:
        return (uint32_t)WIRE_READ_ASK + item->key_len;
    case SLOT_COPY:
        return WIRE_DROPS + KHO_RECORD_HEAD + item->key_len + item->stored_len;
    default:
        return KHO_RECORD_HEAD + item->key_len + item->stored_len;
    }
}

static void pack_entry(const struct slot *slot, uint8_t *to)
{
    const struct item *item = slot->item;
    if (slot->kind == SLOT_PROBE) {
        struct wire_probe_ask ask = {item->call->collection, item->partition, item->hash};
        wire_probe_ask_encode(&ask, to);
    } else if (slot->kind == SLOT_READ) {
        struct wire_read_ask ask = {
            .collection = item->call->collection,
            .key_len = item->key_len,
            .ask = item->want_value ? KHO_READ_RECORD : KHO_READ_HEAD,
            .partition = item->partition,
            .hash = item->hash,
            .key = item->key,
        };
        wire_read_ask_encode(&ask, to);
    } else {
        struct record record = item_record(item);
        if (slot->kind == SLOT_COPY) {
            kho_store64(to, slot->drops);
            to += WIRE_DROPS;
        }
        record_encode(&record, to);
    }
}

static const uint8_t pack_types[SLOT_KINDS] = {
    [SLOT_PROBE] = WIRE_PROBE,
    [SLOT_WRITE] = WIRE_WRITE,
    [SLOT_COPY] = WIRE_WRITE,
    [SLOT_READ] = WIRE_READ,
};

static uint32_t pack_entries(struct session *session, struct batch *batch, uint32_t max,
                             uint8_t *to, uint32_t room)
{
    bool write = batch->kind == SLOT_WRITE || batch->kind == SLOT_COPY;
    uint32_t used = 0, values = 0;
    while (batch->count < max && !queue_empty(&session->waiting[batch->kind])) {
        struct slot *slot = KHO_CONTAINER_OF(session->waiting[batch->kind].next, struct slot, link);
        uint32_t size = pack_entry_size(slot);
        if (size > room - used)
            break;
        if (write && slot->item->value_len > KHO_FRAME_VALUES_MAX - values)
            break;
        /* One of a bundle that is whole here begins a frame of its own. */
        if (batch->kind == SLOT_WRITE && batch->count > 0 && bundle_waits(session))
            break;
        values += write ? slot->item->value_len : 0;
        queue_remove(&slot->link);
        session->waiting_count[batch->kind]--;
        if (batch->kind == SLOT_WRITE && slot->item->bundle == NULL)
            slot->item->single = true;
        pack_entry(slot, to + used);
        used += size;
        slot_sent(slot, batch, batch->count);
        batch->slots[batch->count++] = slot;
    }
    return used;
}

/* One frame of one kind: 1, 0 where none fits now, -ENOMEM. */
static int pack_batch(struct client *client, struct session *session, struct send_block *block,
                      enum slot_kind kind, struct kho_now now)
{
    if (session->waiting_count[kind] == 0 || session->batch_count >= SESSION_BATCHES_MAX ||
        session->bytes_under_way >= SESSION_BYTES_MAX || session->way_count == SESSION_WAYS)
        return 0;
    if (kind == SLOT_WRITE)
        bundle_make(client, session);
    const struct slot *first = KHO_CONTAINER_OF(session->waiting[kind].next, struct slot, link);
    uint32_t room = pack_room(block);
    if (room < KHO_FRAME_HEAD || pack_entry_size(first) > room - KHO_FRAME_HEAD)
        return 0;
    room -= KHO_FRAME_HEAD;
    bool bundles = kind == SLOT_WRITE && bundle_waits(session);
    uint32_t max = kind == SLOT_READ ? PACK_READS_MAX : KHO_FRAME_ENTRIES_MAX;
    max = (uint32_t)kho_min(max, session->waiting_count[kind]);
    if (bundles && first->item->bundle->stored_len + WIRE_BLOCK_HEAD > room)
        return 0;
    if (!bundles)
        max = (uint32_t)kho_min(max, room / WIRE_PROBE_ASK);
    struct batch *batch = (struct batch *)client_allocate(
        client, sizeof *batch + (size_t)max * sizeof(struct slot *));
    if (batch == NULL)
        return -ENOMEM;
    memset(batch, 0, sizeof *batch);
    queue_init(&batch->request.link);
    batch->session = session;
    batch->kind = (uint8_t)kind;
    hedge_batch_packed(session, batch, now);
    batch->request.type = bundles ? WIRE_WRITE_BLOCKS : pack_types[kind];
    batch->request.deadline_ns = CLIENT_NEVER;
    batch->request.frame = batch_frame;
    batch->request.end = batch_end;
    uint8_t *to = block->bytes + block->len + KHO_FRAME_HEAD;
    uint32_t used = bundles ? bundle_pack(session, batch, max, to, room)
                            : pack_entries(session, batch, max, to, room);
    KHO_ASSERT(batch->count > 0);
    struct way *way = request_way(session, &batch->request, KHO_FRAME_HEAD + used, true, now);
    KHO_ASSERT(way != NULL);
    pack_seal(client, block, batch->request.type, kind == SLOT_COPY ? KHO_FRAME_COPY : 0,
              (uint16_t)batch->count, way->id, used);
    return 1;
}

static int pack_items(struct client *client, struct session *session, struct send_block *block,
                      struct kho_now now)
{
    static const enum slot_kind order[SLOT_KINDS] = {SLOT_PROBE, SLOT_READ, SLOT_WRITE, SLOT_COPY};
    int status = 1;
    for (int i = 0; i < SLOT_KINDS; i++) {
        do
            status = pack_batch(client, session, block, order[i], now);
        while (status > 0);
        if (status < 0)
            return status;
    }
    pack_large(client, session, block, now);
    return 0;
}

static bool pack_items_wait(const struct session *session)
{
    for (int kind = 0; kind < SLOT_KINDS; kind++)
        if (session->waiting_count[kind] > 0)
            return true;
    return !queue_empty(&session->larges);
}

static void pack_emit(struct client *client, struct session *session, struct send_block *block)
{
    for (uint32_t i = 0; i < SESSION_SENDS_MAX; i++) {
        if (session->flying[i] == NULL) {
            session->flying[i] = block;
            break;
        }
    }
    session->sends++;
    session->ops++;
    block->serial = ++session->send_serial;
    block->op.kind = CLIENT_OP_SEND;
    block->op.conn = session->conn;
    block->op.data = block->bytes;
    block->op.len = block->len;
    block->op.owner = session;
    queue_push(&client->outbox, &block->op.link);
}

void session_flush(struct client *client, struct session *session, struct kho_now now)
{
    if (session->remote == NULL)
        return;
    if (session->given_up && !session->foreign && !queue_empty(&session->pending))
        request_end_pending(client, session, session_cause(session), now);
    if (session->state != SESSION_UP)
        return;
    if (session->hold_until_ns != 0 && now.mono_ns >= session->hold_until_ns)
        session->hold_until_ns = 0;
    bool open = !session->foreign && session->hold_until_ns == 0;
    while (session->sends < SESSION_SENDS_MAX) {
        bool items = open && pack_items_wait(session);
        if (!items && !session->streaming && queue_empty(&session->pending))
            return;
        struct send_block *block = send_block_take(client);
        if (block == NULL) {
            session_break(client, session, -ENOMEM, now);
            return;
        }
        pack_stream(client, session, block, items ? PACK_STREAM_SHARE : KHO_FRAME_MAX);
        pack_requests(client, session, block, now);
        int status = items ? pack_items(client, session, block, now) : 0;
        if (block->len == 0) {
            send_block_give(client, block);
            if (status < 0)
                session_break(client, session, status, now);
            return;
        }
        pack_emit(client, session, block);
    }
}
