/* slot.c: one item at one replica: waiting, packed, answered.
 *
 * It owns slots between slot_ask and the answer, the frames of items under way (batches), and
 * values too large for a frame. The happy path: slot_ask queues on the session; pack.c puts it into
 * a batch; batch_frame decodes the answer and hands each entry to its slot's item.
 *
 * How it fails: a broken connection, or a node that refuses the whole frame for the time being,
 * sends the slots to wait again; other refusals are every entry's. An answer that doesn't fit what
 * was asked breaks the session. An item that ends first takes its slots out of the batch. */
#include "item.h"

#include <kho/piece.h>

#define SLOT_VALUE_FRAME_MAX (KHO_FRAME_MAX - KHO_FRAME_HEAD)

struct record item_record(const struct item *item)
{
    return (struct record){
        .collection = item->call->collection,
        .key_len = item->key_len,
        .flags = item->tombstone ? KHO_RECORD_TOMBSTONE : 0,
        .codec = item->codec,
        .version = item->version,
        .raw_len = item->value_len,
        .stored_len = item->stored_len,
        .hash = item->content,
        .key = item->key,
        .value = item->value,
    };
}

static bool slot_writes(const struct slot *slot)
{
    return slot->kind == SLOT_WRITE || slot->kind == SLOT_COPY;
}

static void slot_mark_sent(struct slot *slot)
{
    slot->ask = SLOT_SENT;
    if (slot_writes(slot)) {
        slot->twice = slot->maybe;
        slot->maybe = true;
    }
}

void slot_sent(struct slot *slot, struct batch *batch, uint32_t index)
{
    slot->batch = batch;
    slot->index = index;
    slot_mark_sent(slot);
}

/* --- Large values ----------------------------------------------------------------------------- */

void item_large_sent(struct request *request)
{
    if (request->end != item_large_end)
        return;
    struct large *large = KHO_CONTAINER_OF(request, struct large, request);
    slot_mark_sent(large->slot);
}

static void large_frame(struct client *client, struct request *request,
                        const struct wire_head *head, const uint8_t *body, size_t len,
                        struct kho_now now)
{
    struct large *large = KHO_CONTAINER_OF(request, struct large, request);
    struct slot *slot = large->slot;
    int status = len == WIRE_STATUS_ANSWER ? (int32_t)kho_load32(body) : KHO_EMALFORMED;
    if (head->count != 1 || len != WIRE_STATUS_ANSWER || status > 0) {
        session_break(client, slot->session, KHO_EMALFORMED, now);
        return;
    }
    /* The request is over with this frame, so its end is not needed any more. */
    slot->large = NULL;
    slot->ask = SLOT_IDLE;
    request_drop(client, request);
    client_release(client, large);
    if (slot->kind == SLOT_COPY)
        reader_copy_answered(client, slot, status, now);
    else
        item_write_answered(client, slot, status, now);
}

static bool slot_large_wait(struct client *client, struct slot *slot, struct kho_now now)
{
    const struct item *item = slot->item;
    struct large *large = (struct large *)client_allocate_zeroed(client, sizeof *large);
    if (large == NULL)
        return false;
    struct record record = item_record(item);
    uint8_t *to = large->body;
    if (slot->kind == SLOT_COPY) {
        kho_store64(to, slot->drops);
        to += WIRE_DROPS;
        large->request.flags = KHO_FRAME_COPY;
    }
    to += record_encode_head(&record, to);
    large->slot = slot;
    large->request.type = WIRE_WRITE_LARGE;
    large->request.count = 1;
    large->request.body = large->body;
    large->request.body_len = (uint32_t)(to - large->body);
    large->request.data = item->value;
    large->request.data_len = item->stored_len;
    large->request.deadline_ns = CLIENT_NEVER;
    large->request.frame = large_frame;
    large->request.end = item_large_end;
    slot->large = large;
    request_send_on(client, &large->request, slot->session, now);
    return true;
}

/* --- Asking ----------------------------------------------------------------------------------- */

void slot_detach(struct client *client, struct slot *slot)
{
    if (slot->large != NULL) {
        request_drop(client, &slot->large->request);
        client_release(client, slot->large);
        slot->large = NULL;
    } else if (slot->ask == SLOT_WAITING) {
        queue_remove(&slot->link);
        slot->session->waiting_count[slot->kind]--;
    } else if (slot->ask == SLOT_SENT) {
        if (slot->batch->large_slot == slot)
            slot->batch->large_slot = NULL;
        slot->batch->slots[slot->index] = NULL;
        slot->batch = NULL;
    }
    slot->ask = SLOT_IDLE;
}

static size_t slot_record_size(const struct slot *slot)
{
    return (slot->kind == SLOT_COPY ? WIRE_DROPS : 0) + (size_t)KHO_RECORD_HEAD +
           slot->item->key_len + slot->item->stored_len;
}

void slot_ask(struct client *client, struct slot *slot, enum slot_kind kind, struct kho_now now)
{
    slot_detach(client, slot);
    slot->kind = (uint8_t)kind;
    if (slot_writes(slot) && slot_record_size(slot) > SLOT_VALUE_FRAME_MAX) {
        slot->ask = SLOT_WAITING;
        if (slot_large_wait(client, slot, now))
            return;
        /* Nothing was sent: this replica has refused for want of our memory. */
        slot->ask = SLOT_IDLE;
        slot->refused = true;
        slot->item->refusal = -ENOMEM;
        return;
    }
    slot->ask = SLOT_WAITING;
    queue_push(&slot->session->waiting[kind], &slot->link);
    slot->session->waiting_count[kind]++;
}

/* --- Refusals of whole frames ----------------------------------------------------------------- */

/* The node may take it later, or over another connection. */
static bool slot_status_passes(int status)
{
    return status == KHO_EUNAVAILABLE || status == KHO_EEPOCHOLD || status == KHO_EBEHIND ||
           status == KHO_ENOMAP || status == KHO_ESTOPPING || status == KHO_EBUSY ||
           status == -ENOMEM || status == 0;
}

static void slot_failed(struct client *client, struct slot *slot, int status, struct kho_now now)
{
    static const struct wire_probe_answer no_vote = {.state = WIRE_UNKNOWN};
    if (slot_status_passes(status)) {
        /* Refused as a whole means not carried out. A broken connection leaves that open, and so
         * does a map that came into force after the write was accepted (R5). */
        bool refused = status != KHO_EUNAVAILABLE && status != KHO_EEPOCHOLD && status != 0;
        if (slot_writes(slot) && refused && !slot->twice)
            slot->maybe = false;
        if (slot->kind == SLOT_READ) {
            reader_source_lost(client, slot, now);
            return;
        }
        slot_ask(client, slot, (enum slot_kind)slot->kind, now);
        if (slot->kind == SLOT_PROBE && slot->item->phase == ITEM_READ)
            reader_advance(client, slot->item, now);
    } else if (slot->kind == SLOT_PROBE) {
        item_probe_answered(client, slot, &no_vote, false, UINT64_MAX, now);
    } else if (slot->kind == SLOT_READ) {
        reader_answered(client, slot, status, false, NULL, NULL, NULL, now);
    } else if (slot->kind == SLOT_COPY) {
        reader_copy_answered(client, slot, status, now);
    } else {
        item_write_answered(client, slot, status, now);
    }
}

void item_large_end(struct client *client, struct request *request, int status, struct kho_now now)
{
    struct large *large = KHO_CONTAINER_OF(request, struct large, request);
    struct slot *slot = large->slot;
    slot->large = NULL;
    slot->ask = SLOT_IDLE;
    client_release(client, large);
    slot_failed(client, slot, status, now);
}

void batch_end(struct client *client, struct request *request, int status, struct kho_now now)
{
    struct batch *batch = KHO_CONTAINER_OF(request, struct batch, request);
    bool broken = false;
    hedge_batch_ended(client, batch, status == 0, now);
    for (uint32_t i = 0; i < batch->count; i++) {
        struct slot *slot = batch->slots[i];
        if (slot == NULL)
            continue;
        batch->slots[i] = NULL;
        slot->batch = NULL;
        slot->ask = SLOT_IDLE;
        broken |= status == 0;
        slot_failed(client, slot, status, now);
    }
    struct session *session = batch->session;
    client_release(client, batch);
    /* The answer ended without a word about some entry. */
    if (broken)
        session_break(client, session, KHO_EMALFORMED, now);
}

/* --- Answers ---------------------------------------------------------------------------------- */

/* The slot of an entry, taken out of the batch, or NULL: nobody waits for it. */
static struct slot *batch_take(struct batch *batch, uint32_t index)
{
    struct slot *slot = batch->slots[index];
    if (slot == NULL)
        return NULL;
    batch->slots[index] = NULL;
    slot->batch = NULL;
    slot->ask = SLOT_IDLE;
    return slot;
}

static bool batch_probe_frame(struct client *client, struct batch *batch,
                              const struct wire_head *head, const uint8_t *body, size_t len,
                              struct kho_now now)
{
    if (len != (size_t)head->count * WIRE_PROBE_ANSWER ||
        head->count > batch->count - batch->answered)
        return false;
    bool suspect = (head->flags & KHO_FRAME_SUSPECT) != 0;
    for (uint32_t i = 0; i < head->count; i++) {
        struct wire_probe_answer answer;
        wire_probe_answer_decode(body + (size_t)i * WIRE_PROBE_ANSWER, &answer);
        if (answer.state > WIRE_UNKNOWN || answer.version.counter > KHO_COUNTER_MAX)
            return false;
        struct slot *slot = batch_take(batch, batch->answered++);
        if (slot != NULL)
            item_probe_answered(client, slot, &answer, suspect, head->wall_ms, now);
    }
    return true;
}

static bool batch_write_frame(struct client *client, struct batch *batch,
                              const struct wire_head *head, const uint8_t *body, size_t len,
                              struct kho_now now)
{
    if (len != (size_t)head->count * WIRE_STATUS_ANSWER ||
        head->count > batch->count - batch->answered)
        return false;
    for (uint32_t i = 0; i < head->count; i++) {
        int status = (int32_t)kho_load32(body + (size_t)i * WIRE_STATUS_ANSWER);
        if (status > 0)
            return false;
        struct slot *slot = batch_take(batch, batch->answered++);
        if (slot != NULL && batch->kind == SLOT_COPY)
            reader_copy_answered(client, slot, status, now);
        else if (slot != NULL)
            item_write_answered(client, slot, status, now);
    }
    return true;
}

/* The record must be the one that was asked for. */
static bool batch_record_fits(const struct item *item, const struct record *record)
{
    return record->collection == item->call->collection && record->key_len == item->key_len &&
           memcmp(record->key, item->key, item->key_len) == 0;
}

/* Checks the value of a record against its content hash, and unpacks it for a get that wants it:
 * *ret_raw is in the call's chunks, or the record's bytes themselves. 0, KHO_ECHECKSUM, -ENOMEM. */
static int batch_value(struct client *client, const struct item *item, const struct record *record,
                       bool wanted, const uint8_t **ret_raw)
{
    if (record->codec == KHO_CODEC_NONE || !wanted || item->call->verb != CLIENT_GET) {
        *ret_raw = record->value;
        return value_matches(record, client->piece) ? 0 : KHO_ECHECKSUM;
    }
    uint8_t *raw = records_value(client, item->call, record->raw_len);
    if (raw == NULL)
        return -ENOMEM;
    if (value_unpack(record, raw) != 0)
        return KHO_ECHECKSUM;
    struct kho_id hash = content_hash(raw, record->raw_len);
    *ret_raw = raw;
    return kho_id_equal(&hash, &record->hash) ? 0 : KHO_ECHECKSUM;
}

/* A record that lies whole in the frame (or its head, where only that was asked). */
static void batch_record(struct client *client, struct slot *slot, bool suspect,
                         const struct wire_read_answer *answer, struct record *record,
                         struct kho_now now)
{
    struct item *item = slot->item;
    const uint8_t *raw = NULL;
    bool wanted = item->want_value && record->value != NULL && !record_is_tombstone(record) &&
                  reader_wants(item, record->version);
    int status = batch_record_fits(item, record) ? 0 : KHO_ECOLLISION;
    if (status == 0 && record->value != NULL)
        status = batch_value(client, item, record, wanted, &raw);
    if (wanted && status == 0) {
        uint8_t *value = records_value(client, item->call, record->stored_len);
        if (value != NULL && record->stored_len > 0)
            memcpy(value, record->value, record->stored_len);
        if (value == NULL)
            status = -ENOMEM;
        raw = raw == record->value ? value : raw;
        record->value = value;
    } else {
        record->value = NULL;
    }
    reader_answered(client, slot, status, suspect, answer, status == 0 ? record : NULL, raw, now);
}

/* One entry of a READ answer. Returns its bytes, or KHO_EMALFORMED. */
static int batch_read_entry(struct client *client, struct batch *batch, bool suspect,
                            const uint8_t *from, size_t len, struct kho_now now)
{
    struct wire_read_answer answer;
    struct record record = {0};
    if (len < WIRE_READ_ANSWER)
        return KHO_EMALFORMED;
    wire_read_answer_decode(from, &answer);
    bool has =
        answer.status == 0 && (answer.state == WIRE_PRESENT || answer.state == WIRE_TOMBSTONE);
    if (answer.index >= batch->count || answer.record_len > len - WIRE_READ_ANSWER ||
        (answer.status == 0 && !has && answer.state != WIRE_ABSENT) ||
        (has ? answer.record_len == 0 : answer.record_len != 0))
        return KHO_EMALFORMED;
    const uint8_t *bytes = from + WIRE_READ_ANSWER;
    if (has) {
        int used = record_decode(bytes, answer.record_len, &record);
        if (used < 0)
            used = record_decode_head(bytes, answer.record_len, &record);
        if (used < 0 || (uint32_t)used != answer.record_len ||
            record_is_tombstone(&record) != (answer.state == WIRE_TOMBSTONE))
            return KHO_EMALFORMED;
    }
    struct slot *slot = batch_take(batch, answer.index);
    if (slot != NULL && has)
        batch_record(client, slot, suspect, &answer, &record, now);
    else if (slot != NULL)
        reader_answered(client, slot, answer.status, suspect, &answer, NULL, NULL, now);
    return WIRE_READ_ANSWER + (int)answer.record_len;
}

/* The begin of a large value: the slot stays in the batch until the value is whole. */
static bool batch_large_begin(struct client *client, struct batch *batch, bool suspect,
                              const uint8_t *body, size_t len)
{
    struct wire_read_answer *answer = &batch->large_answer;
    struct record *record = &batch->large;
    if (len < WIRE_READ_ANSWER)
        return false;
    wire_read_answer_decode(body, answer);
    if (answer->index >= batch->count || answer->status != 0 || answer->state != WIRE_PRESENT ||
        record_decode_head(body + WIRE_READ_ANSWER, len - WIRE_READ_ANSWER, record) < 0)
        return false;
    batch->large_open = true;
    batch->slow_by_size = true;
    batch->large_suspect = suspect;
    batch->large_got = 0;
    batch->large_bytes = NULL;
    struct slot *slot = batch->slots[answer->index];
    batch->large_slot = slot;
    if (slot == NULL)
        return true;
    /* What makes it useless is told to the item when its frames are over. */
    batch->large_status = 0;
    if (!batch_record_fits(slot->item, record))
        batch->large_status = KHO_ECOLLISION;
    else if (!slot->item->want_value)
        return false; /* only the head was asked */
    else
        batch->large_bytes = records_value(client, slot->item->call, record->stored_len);
    record->key = NULL;
    return true;
}

static void batch_large_done(struct client *client, struct batch *batch, struct kho_now now)
{
    struct record *record = &batch->large;
    batch->large_open = false;
    if (batch->large_slot == NULL)
        return;
    struct slot *slot = batch_take(batch, batch->large_answer.index);
    batch->large_slot = NULL;
    record->value = batch->large_bytes;
    int status = batch->large_status;
    const uint8_t *raw = NULL;
    bool wanted = reader_wants(slot->item, record->version);
    if (status == 0 && record->value == NULL)
        status = -ENOMEM;
    else if (status == 0)
        status = batch_value(client, slot->item, record, wanted, &raw);
    reader_answered(client, slot, status, batch->large_suspect, &batch->large_answer,
                    status == 0 ? record : NULL, raw, now);
}

static bool batch_large_data(struct client *client, struct batch *batch,
                             const struct wire_head *head, const uint8_t *body, size_t len,
                             struct kho_now now)
{
    if (!batch->large_open || len > batch->large.stored_len - batch->large_got)
        return false;
    if (batch->large_slot != NULL && batch->large_bytes != NULL && len > 0)
        memcpy(batch->large_bytes + batch->large_got, body, len);
    batch->large_got += (uint32_t)len;
    if ((head->flags & KHO_FRAME_LAST_DATA) == 0)
        return true;
    if (batch->large_got != batch->large.stored_len)
        return false;
    batch_large_done(client, batch, now);
    return true;
}

static bool batch_read_frame(struct client *client, struct batch *batch,
                             const struct wire_head *head, const uint8_t *body, size_t len,
                             struct kho_now now)
{
    bool suspect = (head->flags & KHO_FRAME_SUSPECT) != 0;
    if (head->type == WIRE_DATA)
        return batch_large_data(client, batch, head, body, len, now);
    if (batch->large_open)
        return false;
    if ((head->flags & KHO_FRAME_LARGE) != 0)
        return head->count == 1 && batch_large_begin(client, batch, suspect, body, len);
    for (uint32_t i = 0; i < head->count; i++) {
        int used = batch_read_entry(client, batch, suspect, body, len, now);
        if (used < 0)
            return false;
        body += used;
        len -= (size_t)used;
    }
    return len == 0;
}

void batch_frame(struct client *client, struct request *request, const struct wire_head *head,
                 const uint8_t *body, size_t len, struct kho_now now)
{
    struct batch *batch = KHO_CONTAINER_OF(request, struct batch, request);
    struct session *session = batch->session;
    bool good;
    if (batch->kind == SLOT_PROBE)
        good = batch_probe_frame(client, batch, head, body, len, now);
    else if (batch->kind == SLOT_READ)
        good = batch_read_frame(client, batch, head, body, len, now);
    else
        good = batch_write_frame(client, batch, head, body, len, now);
    if (!good)
        session_break(client, session, KHO_EMALFORMED, now);
}
