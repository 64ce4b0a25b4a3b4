/* mend_copy.c: owns the second half of a mend: records read from those that have them, and copied
 * to those that lack them.
 *
 * READ asks each column for the slots whose first untried source it is, sized after what came
 * before; a record that can't be had there is left to the next source. What is only wanted by a
 * listing is handed on and settled; what is lacked somewhere is held until it is copied. When the
 * held records pass their bound, reading stops and WRITE begins: to every column its records in
 * order, one frame at a time, a large value in a request of its own. Then mend.c looks what is
 * left.
 */
#include "mend_slot.h"

/* --- Read ------------------------------------------------------------------------------------- */

static void mend_write(struct client *client, struct mend *mend, struct kho_now now);

/* A newer version than any that was told: only this column has it. */
static void mend_newer(const struct mend *mend, struct mend_slot *slot, uint32_t k,
                       const struct record *record)
{
    struct mend_entry *entry = mend_entry_of(mend, slot);
    entry->version = record->version;
    entry->have = slot->sources = column_bit(k);
    slot->targets = mend_here(mend) & slot->probed & (columns_t)~column_bit(k);
    if (record_is_tombstone(record))
        mend_spare_floors(mend, slot);
    if (mend->votes > 0 && layouts_have(mend->layouts, entry->have, mend->acks))
        slot->targets = 0;
}

/* Keeps a record until it is copied. False: no memory. */
static bool mend_hold(struct client *client, struct mend *mend, struct mend_slot *slot,
                      const struct record *record)
{
    size_t size = record_size(record);
    KHO_ASSERT(record->value != NULL || record->stored_len == 0);
    uint8_t *bytes = client_allocate(client, size);
    if (bytes == NULL)
        return false;
    struct record copy = *record;
    copy.version.counter += KHO_PLANTED(repair_raises_version);
    record_encode(&copy, bytes);
    slot->bytes = bytes;
    slot->len = (uint32_t)size;
    mend->held_bytes += size;
    return true;
}

static void mend_read_check(struct client *client, struct mend *mend, struct kho_now now)
{
    for (uint32_t k = 0; k < mend->replicas; k++)
        if (mend->columns[k].fetch.active)
            return;
    mend_write(client, mend, now);
}

static void mend_fetched(struct client *client, struct fetch *fetch, uint32_t name, int status,
                         uint8_t state, const struct record *record, struct kho_now now)
{
    struct mend_column *column = fetch->owner;
    struct mend *mend = column->mend;
    uint32_t k = (uint32_t)(column - mend->columns);
    struct mend_slot *slot = &mend->slots[name];
    struct mend_entry *entry = mend_entry_of(mend, slot);
    if (status != 0 || record == NULL || version_compare(record->version, entry->version) < 0) {
        slot->sources &= (columns_t)~column_bit(k); /* damaged there: another is asked next */
        return;
    }
    if (version_compare(record->version, entry->version) > 0)
        mend_newer(mend, slot, k, record);
    entry->state = state;
    bool whole = record->value != NULL || record_is_tombstone(record) || record->stored_len == 0;
    if (slot->targets != 0 && !whole)
        return; /* only the head was asked, and now the value is needed: read again */
    mend->read_bytes += record_size(record);
    if (mend->record != NULL)
        mend->record(client, mend, mend->first + name, record, now);
    if (slot->targets == 0) {
        mend_settle(client, mend, slot, 0);
        return;
    }
    if (!mend_hold(client, mend, slot, record)) {
        mend_end(client, mend, -ENOMEM, now);
    } else if (mend->held_bytes > MEND_BYTES_MAX) {
        fetch_stop(client, fetch); /* the rest is read when this has been copied */
        mend_read_check(client, mend, now);
    }
}

static void mend_fetch_ended(struct client *client, struct fetch *fetch, int status,
                             struct kho_now now)
{
    struct mend_column *column = fetch->owner;
    struct mend *mend = column->mend;
    uint32_t k = (uint32_t)(column - mend->columns);
    if (status != 0 && mend_column_failed(client, mend, k, status, now))
        return;
    mend_read_check(client, mend, now);
}

/* What one column is asked for: slots whose first source it is. */
static uint32_t mend_read_asks(const struct mend *mend, uint32_t k, struct fetch_ask *asks)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < mend->window && count < mend->reach; i++) {
        const struct mend_slot *slot = &mend->slots[i];
        columns_t sources = slot->sources & mend_here(mend);
        if (slot->settled || slot->bytes != NULL || sources == 0 ||
            (uint32_t)__builtin_ctz(sources) != k)
            continue;
        struct place place = mend->entries[mend->first + i].place;
        asks[count++] = (struct fetch_ask){.partition = place.partition,
                                           .tag = place.tag,
                                           .head = mend->heads && slot->targets == 0,
                                           .name = i};
    }
    return count;
}

void mend_read(struct client *client, struct mend *mend, struct kho_now now)
{
    struct fetch_ask asks[FETCH_MAX];
    mend_move(mend, MEND_READ);
    mend->read_bytes = 0;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        uint32_t count = mend_read_asks(mend, k, asks);
        if (count == 0)
            continue;
        struct mend_column *column = &mend->columns[k];
        column->fetch.node = mend->nodes[k];
        column->fetch.collection = mend->collection;
        column->fetch.deadline_ns = mend->deadline_ns;
        column->fetch.record = mend_fetched;
        column->fetch.end = mend_fetch_ended;
        column->fetch.owner = column;
        if (fetch_start(client, &column->fetch, asks, count, now) != 0) {
            mend_end(client, mend, -ENOMEM, now);
            return;
        }
    }
}

/* --- Write ------------------------------------------------------------------------------------ */

static bool mend_waits(const struct mend *mend, const struct mend_slot *slot, uint32_t k)
{
    (void)mend;
    return slot->bytes != NULL && (slot->targets & column_bit(k)) != 0;
}

/* All copies of this round have ended. */
static void mend_wrote(struct client *client, struct mend *mend, struct kho_now now)
{
    for (uint32_t i = 0; i < mend->window; i++) {
        struct mend_slot *slot = &mend->slots[i];
        if (slot->settled || slot->bytes == NULL)
            continue;
        mend_forget(client, mend, slot);
        const struct mend_entry *entry = mend_entry_of(mend, slot);
        bool enough = mend->votes > 0 && layouts_have(mend->layouts, entry->have, mend->acks);
        if (enough || (!slot->again && mend->votes == 0))
            mend_settle(client, mend, slot, enough ? 0 : slot->refusal);
        else if (!slot->again || slot->tries >= MEND_TRIES)
            mend_settle(client, mend, slot, slot->refusal != 0 ? slot->refusal : KHO_EUNAVAILABLE);
    }
    /* Reads are sized after what came: many small records at once, few large ones. */
    if (mend->read_bytes > MEND_BYTES_MAX)
        mend->reach = (uint32_t)kho_max(mend->reach / 4, 1);
    else if (mend->read_bytes < MEND_BYTES_MAX / 4)
        mend->reach = (uint32_t)kho_min((uint64_t)mend->reach * 2, FETCH_MAX);
    mend_next(client, mend, now);
}

static void mend_write_check(struct client *client, struct mend *mend, struct kho_now now)
{
    for (uint32_t k = 0; k < mend->replicas; k++)
        if (mend->columns[k].asked)
            return;
    mend_wrote(client, mend, now);
}

static int mend_write_column(struct client *client, struct mend *mend, uint32_t k,
                             struct kho_now now);

static void mend_write_frame(struct client *client, struct request *request,
                             const struct wire_head *head, const uint8_t *body, size_t len,
                             struct kho_now now)
{
    struct mend_column *column = request->owner;
    struct mend *mend = column->mend;
    uint32_t k = (uint32_t)(column - mend->columns);
    (void)client;
    (void)now;
    for (uint32_t i = 0; i < head->count && len >= WIRE_STATUS_ANSWER; i++) {
        while (column->first < column->next && !mend_waits(mend, &mend->slots[column->first], k))
            column->first++;
        if (column->first == column->next)
            return;
        struct mend_slot *slot = &mend->slots[column->first++];
        int status = (int32_t)kho_load32(body);
        if (status > 0)
            status = KHO_EMALFORMED;
        slot->targets &= (columns_t)~column_bit(k);
        column->count--;
        if (status == 0) {
            mend_entry_of(mend, slot)->have |= column_bit(k);
            mend->copied++;
            mend->copied_bytes += slot->len;
        } else {
            slot->again |= status == KHO_EDROPPED;
            slot->refusal = slot->refusal != 0 ? slot->refusal : status;
            if (status != KHO_EDROPPED && column->refusal == 0)
                column->refusal = status;
        }
        body += WIRE_STATUS_ANSWER;
        len -= WIRE_STATUS_ANSWER;
    }
}

static void mend_write_ended(struct client *client, struct request *request, int status,
                             struct kho_now now)
{
    struct mend_column *column = request->owner;
    struct mend *mend = column->mend;
    uint32_t k = (uint32_t)(column - mend->columns);
    column->asked = false;
    client_release(client, column->body);
    column->body = NULL;
    if (status == 0 && column->count != 0)
        status = KHO_EMALFORMED;
    if (status != 0) {
        if (mend_column_failed(client, mend, k, status, now))
            return;
    } else if (mend_write_column(client, mend, k, now) != 0) {
        mend_end(client, mend, -ENOMEM, now);
        return;
    }
    mend_write_check(client, mend, now);
}

/* The records of one write: consecutive waiting slots that fit in a frame, or one that doesn't fit
 * in any, whose value then follows the frame. Sets column->first, next and count; returns the
 * bytes of the body. */
static uint32_t mend_write_plan(const struct mend *mend, struct mend_column *column, uint32_t k,
                                bool *ret_large)
{
    const uint32_t room = KHO_FRAME_MAX - KHO_FRAME_HEAD;
    uint32_t bytes = 0, values = 0;
    *ret_large = false;
    column->first = column->next;
    column->count = 0;
    for (; column->next < mend->window; column->next++) {
        const struct mend_slot *slot = &mend->slots[column->next];
        if (!mend_waits(mend, slot, k))
            continue;
        struct record record;
        int head = record_decode_head(slot->bytes, slot->len, &record);
        KHO_ASSERT(head > 0);
        uint32_t more = WIRE_DROPS + slot->len;
        bool fits = bytes + more <= room && record.raw_len <= KHO_FRAME_VALUES_MAX - values;
        if (!fits && column->count > 0)
            break;
        column->count++;
        if (more > room) {
            *ret_large = true;
            column->next++;
            return WIRE_DROPS + (uint32_t)head;
        }
        bytes += more;
        values += record.raw_len;
    }
    return bytes;
}

static int mend_write_column(struct client *client, struct mend *mend, uint32_t k,
                             struct kho_now now)
{
    struct mend_column *column = &mend->columns[k];
    bool large;
    uint32_t size = mend_write_plan(mend, column, k, &large);
    if (column->count == 0)
        return 0;
    column->body = client_allocate(client, size);
    if (column->body == NULL)
        return -ENOMEM;
    uint8_t *to = column->body;
    column->request = (struct request){
        .type = large ? WIRE_WRITE_LARGE : WIRE_WRITE,
        .flags = KHO_FRAME_COPY,
        .count = (uint16_t)column->count,
        .body = column->body,
        .body_len = size,
        .deadline_ns = mend->deadline_ns,
        .frame = mend_write_frame,
        .end = mend_write_ended,
        .owner = column,
    };
    for (uint32_t i = column->first; i < column->next; i++) {
        const struct mend_slot *slot = &mend->slots[i];
        if (!mend_waits(mend, slot, k))
            continue;
        kho_store64(to, slot->told[k].drops);
        to += WIRE_DROPS;
        uint32_t len = large ? size - WIRE_DROPS : slot->len;
        memcpy(to, slot->bytes, len);
        to += len;
        if (large) {
            column->request.data = slot->bytes + len;
            column->request.data_len = slot->len - len;
        }
    }
    uint32_t shard =
        route_shard(client, mend->nodes[k], mend->entries[mend->first].place.partition);
    int rc = request_send(client, &column->request, mend->nodes[k], shard, now);
    column->asked = rc == 0;
    return rc;
}

static void mend_write(struct client *client, struct mend *mend, struct kho_now now)
{
    mend_move(mend, MEND_WRITE);
    for (uint32_t i = 0; i < mend->window; i++)
        mend->slots[i].targets &= mend_here(mend);
    for (uint32_t k = 0; k < mend->replicas; k++) {
        mend->columns[k].next = 0;
        if ((mend_here(mend) & column_bit(k)) == 0)
            continue;
        if (mend_write_column(client, mend, k, now) != 0) {
            mend_end(client, mend, -ENOMEM, now);
            return;
        }
    }
    mend_write_check(client, mend, now);
}
