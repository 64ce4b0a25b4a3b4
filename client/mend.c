/* mend.c: owns the agreement of replicas about some keys.
 *
 * The entries are worked on in windows. For each window:
 *   PROBE  every replica tells version, floor and drop number of every key. The drop number must be
 *          told before the source is read (R7), so this comes first even where a listing knew the
 *          versions.
 *   READ   the newest records are read by tag from replicas that have them, as many as fit in the
 *          bound of memory; one that can't give its value is passed over for the next.
 *   WRITE  each record goes as a COPY to every replica that lacks it; then READ goes on.
 * Keys whose drop number moved meanwhile (KHO_EDROPPED) are probed and read again.
 *
 * With votes (listing) a key is settled when Q unsuspected replicas, or all, told its version (R3)
 * and W have the highest durably: what get does, so that reads stay monotonic. Without (repair) all
 * replicas that answer get it. A tombstone at or below the floor of a replica without the key is
 * not copied there (R7): its absence says the same.
 *
 * A replica whose request fails is left out for the rest (`gone`); a newer map ends everything
 * (KHO_EEPOCHOLD), since what was told under an older one doesn't count (R5). */
#include "mend_slot.h"

/* Allowed moves, as bits of the phases that may follow. */
static const uint8_t mend_moves[] = {
    [MEND_IDLE] = 1u << MEND_PROBE,
    [MEND_PROBE] = 1u << MEND_READ | 1u << MEND_IDLE | 1u << MEND_PROBE,
    [MEND_READ] = 1u << MEND_WRITE | 1u << MEND_IDLE,
    [MEND_WRITE] = 1u << MEND_READ | 1u << MEND_IDLE | 1u << MEND_PROBE,
};

void mend_move(struct mend *mend, enum mend_phase to)
{
    KHO_ASSERT((mend_moves[mend->phase] & (1u << to)) != 0);
    mend->phase = to;
}

static void mend_drop(struct client *client, struct mend_column *column)
{
    if (column->asked)
        request_drop(client, &column->request);
    column->asked = false;
    client_release(client, column->body);
    column->body = NULL;
}

void mend_forget(struct client *client, struct mend *mend, struct mend_slot *slot)
{
    mend->held_bytes -= slot->len;
    client_release(client, slot->bytes);
    slot->bytes = NULL;
    slot->len = 0;
}

void mend_stop(struct client *client, struct mend *mend)
{
    for (uint32_t k = 0; k < mend->replicas; k++) {
        mend_drop(client, &mend->columns[k]);
        fetch_stop(client, &mend->columns[k].fetch);
    }
    if (mend->slots != NULL)
        for (uint32_t i = 0; i < mend->window; i++)
            mend_forget(client, mend, &mend->slots[i]);
    client_release(client, mend->slots);
    mend->slots = NULL;
    mend->phase = MEND_IDLE;
}

void mend_end(struct client *client, struct mend *mend, int status, struct kho_now now)
{
    mend_stop(client, mend);
    mend->end(client, mend, status, now);
}

/* A column's request failed. True: that ended the whole mend. */
bool mend_column_failed(struct client *client, struct mend *mend, uint32_t k, int status,
                        struct kho_now now)
{
    if (status == KHO_EEPOCHOLD || status == -ENOMEM) {
        mend_end(client, mend, status, now);
        return true;
    }
    mend->gone |= column_bit(k);
    mend->columns[k].status = status;
    return false;
}

/* --- Settling --------------------------------------------------------------------------------- */

void mend_settle(struct client *client, struct mend *mend, struct mend_slot *slot, int status)
{
    struct mend_entry *entry = mend_entry_of(mend, slot);
    mend_forget(client, mend, slot);
    slot->settled = true;
    slot->sources = slot->targets = 0;
    entry->status = status;
}

/* Nobody that answers can give the value. It is lost only if nobody else could have it. */
static int mend_without_source(const struct mend *mend, const struct mend_slot *slot)
{
    return (mend_all(mend) & (columns_t)~slot->probed) != 0 || mend->gone != 0 ? KHO_EUNAVAILABLE
                                                                               : KHO_EDAMAGED;
}

/* Q unsuspected replicas told, or all R (R3). */
static bool mend_voted(const struct mend *mend, const struct mend_slot *slot)
{
    columns_t votes = 0, told = 0;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        if ((slot->probed & column_bit(k)) == 0 || slot->told[k].state == WIRE_UNKNOWN)
            continue;
        told |= column_bit(k);
        if (!mend->columns[k].suspect)
            votes |= column_bit(k);
    }
    return layouts_voted(mend->layouts, votes, told, mend->votes);
}

static int mend_unvoted(const struct mend *mend, const struct mend_slot *slot)
{
    return slot->probed == mend_all(mend) ? KHO_EUNKNOWN : KHO_EUNAVAILABLE;
}

/* Who has the version, who could give it, who lacks it. */
static void mend_sort(const struct mend *mend, struct mend_slot *slot)
{
    struct mend_entry *entry = mend_entry_of(mend, slot);
    entry->have = slot->sources = slot->targets = 0;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        const struct wire_probe_answer *told = &slot->told[k];
        if ((slot->probed & column_bit(k)) == 0 || (mend_here(mend) & column_bit(k)) == 0)
            continue;
        bool same = told->state != WIRE_ABSENT && told->state != WIRE_UNKNOWN &&
                    version_compare(told->version, entry->version) == 0;
        if (same && told->state != WIRE_VALUE_UNKNOWN) {
            entry->have |= column_bit(k);
            slot->sources |= column_bit(k);
        } else if (same && mend->votes > 0) {
            entry->have |= column_bit(k); /* it votes the version; its value is repair's business */
        } else {
            slot->targets |= column_bit(k);
        }
    }
}

/* Targets that must not get a tombstone, since they dropped it, or a later one, already (R7). */
void mend_spare_floors(const struct mend *mend, struct mend_slot *slot)
{
    struct mend_entry *entry = mend_entry_of(mend, slot);
    for (uint32_t k = 0; k < mend->replicas; k++) {
        const struct wire_probe_answer *told = &slot->told[k];
        if ((slot->targets & column_bit(k)) != 0 && told->state == WIRE_ABSENT &&
            entry->version.counter <= told->floor) {
            slot->targets &= (columns_t)~column_bit(k);
            entry->have |= column_bit(k);
        }
    }
}

/* All have told: what is to be done for this key? */
static void mend_decide(struct client *client, struct mend *mend, struct mend_slot *slot)
{
    struct mend_entry *entry = mend_entry_of(mend, slot);
    entry->version = (struct version){0};
    entry->state = WIRE_ABSENT;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        const struct wire_probe_answer *told = &slot->told[k];
        if ((slot->probed & column_bit(k)) == 0 || told->state == WIRE_ABSENT ||
            told->state == WIRE_UNKNOWN)
            continue;
        int order = version_compare(told->version, entry->version);
        bool later = KHO_PLANTED(repair_takes_first) && !version_is_zero(entry->version);
        if ((order > 0 && !later) || (order == 0 && entry->state == WIRE_VALUE_UNKNOWN)) {
            entry->version = told->version;
            entry->state = told->state;
        }
    }
    if (mend->votes > 0 && !mend_voted(mend, slot)) {
        mend_settle(client, mend, slot, mend_unvoted(mend, slot));
        return;
    }
    if (version_is_zero(entry->version)) {
        mend_settle(client, mend, slot, 0);
        return;
    }
    mend_sort(mend, slot);
    bool dead = entry->state == WIRE_TOMBSTONE;
    if (dead)
        mend_spare_floors(mend, slot);
    bool enough = mend->votes > 0
                      ? layouts_have(mend->layouts, entry->have, mend->acks)
                      : slot->targets == 0 || (dead && KHO_PLANTED(repair_skips_deletes));
    if (enough && (dead || mend->votes == 0))
        mend_settle(client, mend, slot, 0);
    else if (enough)
        slot->targets = 0; /* only to be read */
}

/* --- Probe ------------------------------------------------------------------------------------ */

static void mend_probe_done(struct client *client, struct mend *mend, struct kho_now now)
{
    for (uint32_t k = 0; k < mend->replicas; k++)
        mend_drop(client, &mend->columns[k]);
    for (uint32_t i = 0; i < mend->window; i++) {
        struct mend_slot *slot = &mend->slots[i];
        if (!slot->settled && slot->again) {
            slot->again = false;
            mend_decide(client, mend, slot);
        }
    }
    mend_next(client, mend, now);
}

/* Does somebody who told have the newest value (or does nobody have the key)? */
static bool mend_sourced(const struct mend *mend, const struct mend_slot *slot)
{
    struct version newest = {0};
    bool sourced = true;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        const struct wire_probe_answer *told = &slot->told[k];
        if ((slot->probed & column_bit(k)) == 0 || told->state == WIRE_ABSENT ||
            told->state == WIRE_UNKNOWN)
            continue;
        int order = version_compare(told->version, newest);
        if (order > 0)
            sourced = false;
        newest = version_max(newest, told->version);
        sourced |= order >= 0 && told->state != WIRE_VALUE_UNKNOWN;
    }
    return sourced;
}

/* All have told, or failed; or, in a listing, enough have. */
static void mend_probe_check(struct client *client, struct mend *mend, struct kho_now now)
{
    bool waiting = false, enough = mend->votes > 0 && !mend->thorough;
    for (uint32_t k = 0; k < mend->replicas; k++)
        waiting |= mend->columns[k].asked;
    for (uint32_t i = 0; i < mend->window && enough; i++)
        enough = mend->slots[i].settled || !mend->slots[i].again ||
                 (mend_voted(mend, &mend->slots[i]) && mend_sourced(mend, &mend->slots[i]));
    if (!waiting || enough)
        mend_probe_done(client, mend, now);
}

static void mend_probe_frame(struct client *client, struct request *request,
                             const struct wire_head *head, const uint8_t *body, size_t len,
                             struct kho_now now)
{
    struct mend_column *column = request->owner;
    struct mend *mend = column->mend;
    uint32_t k = (uint32_t)(column - mend->columns);
    (void)client;
    (void)now;
    column->suspect |= (head->flags & KHO_FRAME_SUSPECT) != 0;
    /* The answers come in the order of the slots that were asked, over one frame or more. */
    for (uint32_t i = 0; i < head->count && len >= WIRE_PROBE_ANSWER; i++) {
        while (column->next < mend->window &&
               (mend->slots[column->next].settled || !mend->slots[column->next].again))
            column->next++;
        if (column->next == mend->window)
            return;
        struct mend_slot *slot = &mend->slots[column->next++];
        wire_probe_answer_decode(body, &slot->told[k]);
        if (slot->told[k].state > WIRE_UNKNOWN || slot->told[k].version.counter > KHO_COUNTER_MAX)
            slot->told[k].state = WIRE_UNKNOWN; /* no state that we know is no vote */
        slot->probed |= column_bit(k);
        column->count++;
        body += WIRE_PROBE_ANSWER;
        len -= WIRE_PROBE_ANSWER;
    }
}

static void mend_probe_ended(struct client *client, struct request *request, int status,
                             struct kho_now now)
{
    struct mend_column *column = request->owner;
    struct mend *mend = column->mend;
    uint32_t k = (uint32_t)(column - mend->columns);
    column->asked = false;
    if (status == 0 && column->count != request->count)
        status = KHO_EMALFORMED;
    if (status != 0 && mend_column_failed(client, mend, k, status, now))
        return;
    if (status != 0)
        for (uint32_t i = 0; i < mend->window; i++)
            if (mend->slots[i].again)
                mend->slots[i].probed &= (columns_t)~column_bit(k);
    mend_probe_check(client, mend, now);
}

static int mend_probe_ask(struct client *client, struct mend *mend, uint32_t k, uint32_t count,
                          struct kho_now now)
{
    struct mend_column *column = &mend->columns[k];
    column->body = client_allocate(client, (size_t)count * WIRE_PROBE_ASK);
    if (column->body == NULL)
        return -ENOMEM;
    uint8_t *to = column->body;
    for (uint32_t i = 0; i < mend->window; i++) {
        if (!mend->slots[i].again || mend->slots[i].settled)
            continue;
        struct place place = mend->entries[mend->first + i].place;
        struct wire_probe_ask ask = {
            .collection = mend->collection,
            .partition = place.partition,
            .hash = {.low = (uint64_t)place.tag.low << 56, .high = place.tag.high},
        };
        wire_probe_ask_encode(&ask, to);
        to += WIRE_PROBE_ASK;
    }
    column->next = column->count = 0;
    column->suspect = false;
    column->request = (struct request){
        .type = WIRE_PROBE,
        .count = (uint16_t)count,
        .body = column->body,
        .body_len = count * WIRE_PROBE_ASK,
        .deadline_ns = mend->deadline_ns,
        .frame = mend_probe_frame,
        .end = mend_probe_ended,
        .owner = column,
    };
    uint32_t shard =
        route_shard(client, mend->nodes[k], mend->entries[mend->first].place.partition);
    int rc = request_send(client, &column->request, mend->nodes[k], shard, now);
    column->asked = rc == 0;
    return rc;
}

/* Probes the slots that are marked. 0, or -ENOMEM: the caller ends the mend. */
static int mend_probe(struct client *client, struct mend *mend, struct kho_now now)
{
    uint32_t count = 0;
    mend_move(mend, MEND_PROBE);
    for (uint32_t i = 0; i < mend->window; i++) {
        struct mend_slot *slot = &mend->slots[i];
        if (!slot->settled && slot->again) {
            slot->probed = 0;
            slot->tries++;
            count++;
        }
    }
    KHO_ASSERT(count > 0);
    for (uint32_t k = 0; k < mend->replicas; k++) {
        if ((mend_here(mend) & column_bit(k)) == 0)
            continue;
        int rc = mend_probe_ask(client, mend, k, count, now);
        if (rc != 0)
            return rc;
    }
    return 0;
}

/* --- Windows ---------------------------------------------------------------------------------- */

/* All sources were tried. In a listing some replicas may not have been heard: they are now. */
static void mend_exhausted(struct client *client, struct mend *mend, struct mend_slot *slot)
{
    if ((mend_here(mend) & (columns_t)~slot->probed) != 0 && slot->tries < MEND_TRIES) {
        mend->thorough = true;
        slot->again = true;
        return;
    }
    mend_settle(client, mend, slot, mend_without_source(mend, slot));
}

/* Settles what nobody can go on with; says what is left to do in this window. */
static bool mend_left(struct client *client, struct mend *mend, bool *ret_probe)
{
    bool left = false;
    *ret_probe = false;
    for (uint32_t i = 0; i < mend->window; i++) {
        struct mend_slot *slot = &mend->slots[i];
        if (slot->settled)
            continue;
        if (mend_here(mend) == 0)
            mend_settle(client, mend, slot, KHO_EUNAVAILABLE);
        else if (!slot->again && (slot->sources & mend_here(mend)) == 0)
            mend_exhausted(client, mend, slot);
        left |= !slot->settled;
        *ret_probe |= !slot->settled && slot->again;
    }
    return left;
}

static int mend_window(struct client *client, struct mend *mend, struct kho_now now)
{
    mend->window = (uint32_t)kho_min(mend->count - mend->first, FETCH_MAX);
    mend->slots = client_allocate_zeroed(client, (size_t)mend->window * sizeof *mend->slots);
    if (mend->slots == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < mend->window; i++)
        mend->slots[i].again = true;
    return mend_probe(client, mend, now);
}

/* A phase is over: what comes next? */
void mend_next(struct client *client, struct mend *mend, struct kho_now now)
{
    bool probe;
    int rc = 0;
    if (mend_left(client, mend, &probe)) {
        if (!probe) {
            mend_read(client, mend, now);
            return;
        }
        rc = mend_probe(client, mend, now);
    } else {
        client_release(client, mend->slots);
        mend->slots = NULL;
        mend->first += mend->window;
        mend->window = 0;
        mend_move(mend, MEND_IDLE);
        if (mend->first == mend->count || mend_here(mend) == 0) {
            for (uint32_t i = mend->first; i < mend->count; i++)
                mend->entries[i].status = KHO_EUNAVAILABLE;
            mend_end(client, mend, 0, now);
            return;
        }
        rc = mend_window(client, mend, now);
    }
    if (rc != 0)
        mend_end(client, mend, rc, now);
}

int mend_start(struct client *client, struct mend *mend, struct kho_now now)
{
    KHO_ASSERT(mend->phase == MEND_IDLE && mend->count > 0 && mend->skip != mend_all(mend));
    mend->gone = 0;
    mend->copied = mend->copied_bytes = 0;
    mend->first = mend->window = 0;
    mend->reach = 16;
    mend->held_bytes = 0;
    mend->thorough = false;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        mend->columns[k].mend = mend;
        mend->columns[k].status = mend->columns[k].refusal = 0;
    }
    int rc = mend_window(client, mend, now);
    if (rc != 0)
        mend_stop(client, mend);
    return rc;
}
