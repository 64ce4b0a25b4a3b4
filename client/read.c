/* read.c: the read of one record.
 *
 * Happy path: READ from one replica, PROBE to as many others as make a majority; they vote, agree,
 * and the record is in hand: done in one round trip. The others are asked where that isn't enough:
 * the votes differ, one doesn't come, or is late.
 *
 * While the layout of its partition changes, both votes and write-back need their majority in each
 * of the two layouts (R5, quorum.h); the record is sought at old replicas first.
 *
 * Where they disagree, the highest version is written back before it is returned, until as many
 * replicas have it as make every later majority meet one (R - Q + 1), or reads would not be
 * monotonic. A write-back carries the drop number that its target told before the source was read
 * (R7). The answers came all at once, so the source is probed once more: a version names one value
 * (R6), so that it still has the version is as good as reading it again.
 *
 * How it fails: a replica that can't give the value (rotten, cut off, of another key) is left out
 * as a source and another one is asked; no source left is KHO_EDAMAGED. A slow one is hedged
 * (hedge.c). A majority out of reach is KHO_EUNAVAILABLE. KHO_EDROPPED starts the read again. */
#include "item.h"

struct reader_view {
    struct version highest;
    columns_t votes, told; /* unsuspected replies; all replies */
    columns_t open;        /* may still reply */
    columns_t have;        /* have the highest version, by reply or write-back */
    bool tombstone;        /* the highest is one */
};

static bool reader_slot_open(const struct slot *slot)
{
    return !slot->replied && !slot->unknown && !slot->session->given_up;
}

static bool reader_slot_at(const struct slot *slot, struct version version)
{
    return slot->replied && version_compare(slot->version, version) == 0;
}

static struct reader_view reader_look(const struct item *item)
{
    struct reader_view view = {0};
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        if (reader_slot_open(s))
            view.open |= slot_bit(s);
        if (!s->replied)
            continue;
        view.highest = version_max(view.highest, s->version);
        view.told |= slot_bit(s);
        if (!s->suspect)
            view.votes |= slot_bit(s);
    }
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        bool at = reader_slot_at(s, view.highest);
        bool copied = s->acked && version_compare(item->version, view.highest) == 0;
        if (at || copied)
            view.have |= slot_bit(s);
        view.tombstone |= at && s->state == WIRE_TOMBSTONE;
    }
    return view;
}

/* --- Choosing whom to ask --------------------------------------------------------------------- */

#define READER_RUN 64u /* reads that go to the same replica first */

/* Up, and not silent for so long that a hedge would be due. */
static bool reader_session_well(const struct client *client, const struct session *session,
                                struct kho_now now)
{
    return session->state == SESSION_UP && !session->foreign && !session->given_up &&
           session->hold_until_ns == 0 &&
           (session->way_count == 0 || now.mono_ns - session->asked_ns < client->hedge_ns);
}

/* Where a replica stands in the order in which they are asked now. The replicas take turns as the
 * first; the reads of one step, and neighbours of one call, have the same first one, as far as they
 * have the same replicas: few frames, and what lies in one block is unpacked by one node. */
static uint32_t reader_rank(const struct client *client, const struct slot *slot)
{
    const struct item *item = slot->item;
    uint32_t before = 0;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        before += s->session->remote->node < slot->session->remote->node;
    return (before + client->serial) % item->columns;
}

void readers_rotate(struct client *client)
{
    if (client->run_left < READER_RUN)
        client->serial++;
    client->run_left = READER_RUN;
}

static bool reader_may_give(const struct slot *slot, const struct version *highest)
{
    bool reading = slot->kind == SLOT_READ && slot->ask != SLOT_IDLE;
    if (reading || slot->no_value || slot->unknown || slot->session->given_up)
        return false;
    if (highest != NULL && !reader_slot_at(slot, *highest))
        return false;
    return !slot->replied || slot->state == WIRE_PRESENT;
}

/* May be asked for its vote, and wasn't. */
static bool reader_unasked(const struct slot *slot)
{
    return slot->ask == SLOT_IDLE && !slot->replied && !slot->unknown;
}

/* A replica to READ from: it may have `highest`, isn't being read, and best is well, not slow, and
 * wasn't asked before, so that its vote comes with it. NULL: none. */
static struct slot *reader_source(const struct client *client, const struct item *item,
                                  const struct version *highest, bool well, struct kho_now now)
{
    uint32_t columns = item->columns, best_rank = 0;
    struct slot *best = NULL;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        if (!reader_may_give(s, highest) || (well && !reader_session_well(client, s->session, now)))
            continue;
        uint32_t rank = reader_rank(client, s);
        if (now.mono_ns < s->session->slow_until_ns)
            rank += 2 * columns;
        if (!reader_unasked(s))
            rank += columns;
        /* One that is just joining has least of all. */
        if ((item->layouts.before & slot_bit(s)) == 0)
            rank += 4 * columns;
        if (best == NULL || rank < best_rank) {
            best = s;
            best_rank = rank;
        }
    }
    return best;
}

void reader_ask_all(struct client *client, struct item *item, struct kho_now now)
{
    if (item->asked_all || item->phase != ITEM_READ)
        return;
    item->asked_all = true;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (reader_unasked(s))
            slot_ask(client, s, SLOT_PROBE, now);
}

/* How many have to agree that a read is over. */
static uint32_t reader_enough(const struct records *call)
{
    return (uint32_t)kho_max(call->read_quorum, (uint32_t)call->replicas - call->read_quorum + 1);
}

/* Votes that are there or on their way from nodes that are well. */
static columns_t reader_votes_expected(const struct client *client, const struct item *item,
                                       struct kho_now now)
{
    columns_t votes = 0;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->replied ? !s->suspect
                       : s->ask != SLOT_IDLE && reader_session_well(client, s->session, now))
            votes |= slot_bit(s);
    return votes;
}

/* The next to be asked for its vote, or NULL. False: some replica isn't well. */
static bool reader_next(const struct client *client, const struct item *item, struct kho_now now,
                        struct slot **ret_next)
{
    uint32_t best = UINT32_MAX;
    *ret_next = NULL;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        if (!reader_session_well(client, s->session, now))
            return false;
        uint32_t rank = reader_rank(client, s);
        if (now.mono_ns < s->session->slow_until_ns)
            rank += item->columns;
        if (!reader_unasked(s) || rank >= best)
            continue;
        best = rank;
        *ret_next = s;
    }
    return true;
}

/* Asks as many as must agree, in their order. All where some replica isn't well, so that one that
 * comes back is noticed, and where nobody may be hedged. */
static void reader_ask_enough(struct client *client, struct item *item, struct kho_now now)
{
    uint32_t enough = reader_enough(item->call);
    columns_t votes = reader_votes_expected(client, item, now);
    while (!layouts_have(item->layouts, votes, enough)) {
        struct slot *next;
        bool well = reader_next(client, item, now, &next) && client->hedge_ns != CLIENT_NEVER;
        if (!well || next == NULL) {
            reader_ask_all(client, item, now);
            return;
        }
        slot_ask(client, next, SLOT_PROBE, now);
        votes |= slot_bit(next);
    }
}

static bool reader_reading(const struct client *client, const struct item *item, bool well,
                           struct kho_now now)
{
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->kind == SLOT_READ && s->ask != SLOT_IDLE && !s->session->given_up &&
            (!well || reader_session_well(client, s->session, now)))
            return true;
    return false;
}

void reader_hedge(struct client *client, struct item *item, struct kho_now now)
{
    if (item->phase != ITEM_READ)
        return;
    /* A record in hand that is older than what others have is none: its source is hedged, too. */
    struct reader_view view = reader_look(item);
    bool older = item->have_record && version_compare(item->version, view.highest) < 0;
    if (!item->have_record || older) {
        struct slot *slot = reader_source(client, item, older ? &view.highest : NULL, true, now);
        if (slot != NULL)
            slot_ask(client, slot, SLOT_READ, now);
    }
    reader_ask_all(client, item, now);
}

void reader_source_lost(struct client *client, struct slot *slot, struct kho_now now)
{
    struct item *item = slot->item;
    if (!slot->replied)
        slot_ask(client, slot, SLOT_PROBE, now);
    if (!reader_reading(client, item, false, now))
        reader_hedge(client, item, now);
    reader_advance(client, item, now);
}

void reader_start(struct client *client, struct item *item, struct kho_now now)
{
    item->phase = ITEM_READ;
    item->want_value = item->want_value || item->call->verb == CLIENT_GET;
    item->have_record = false;
    item->confirming = false;
    item->confirmed = false;
    item->asked_all = false;
    item->tombstone = false;
    item->refusal = 0;
    item->version = (struct version){0};
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        struct session *session = s->session;
        slot_detach(client, s);
        memset(s, 0, sizeof *s);
        queue_init(&s->link);
        s->item = item;
        s->session = session;
    }
    struct slot *source = reader_source(client, item, NULL, true, now);
    if (source == NULL)
        source = reader_source(client, item, NULL, false, now);
    if (source != NULL)
        slot_ask(client, source, SLOT_READ, now);
    reader_ask_enough(client, item, now);
    hedge_earn(client);
    client->run_left -= client->run_left > 0;
    if (client->run_left == 0)
        readers_rotate(client);
    reader_advance(client, item, now);
}

/* --- What comes next -------------------------------------------------------------------------- */

/* The record in hand is now that of `version`; what was done for another is void. */
static void reader_take(struct client *client, struct item *item, struct version version)
{
    item->have_record = true;
    if (version_compare(item->version, version) == 0)
        return;
    item->version = version;
    item->confirming = false;
    item->confirmed = false;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        if (s->kind == SLOT_COPY && s->ask != SLOT_IDLE)
            slot_detach(client, s);
        s->acked = false;
        s->refused = false;
        s->told = false;
    }
}

static void reader_take_tombstone(struct client *client, struct item *item, struct version version)
{
    reader_take(client, item, version);
    item->tombstone = true;
    item->value = NULL;
    item->raw = NULL;
    item->value_len = 0;
    item->stored_len = 0;
    item->codec = KHO_CODEC_NONE;
    memset(&item->content, 0, sizeof item->content);
}

/* Nobody gives the value: because it is damaged, or because who has it is out of reach. */
static void reader_no_source(struct client *client, struct item *item, struct version highest)
{
    int status = KHO_EDAMAGED;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (reader_slot_at(s, highest) && !s->no_value && s->session->given_up)
            status = KHO_EUNAVAILABLE;
    item_end_read(client, item, status);
}

/* Gets the record of the highest version from one of those that have it. */
static void reader_fetch(struct client *client, struct item *item, const struct reader_view *view,
                         struct kho_now now)
{
    if (reader_reading(client, item, true, now))
        return;
    struct slot *source = reader_source(client, item, &view->highest, true, now);
    if (source == NULL && reader_reading(client, item, false, now))
        return;
    if (source == NULL)
        source = reader_source(client, item, &view->highest, false, now);
    if (source != NULL)
        slot_ask(client, source, SLOT_READ, now);
    else if (view->open == 0)
        reader_no_source(client, item, view->highest);
}

static void reader_confirm(struct client *client, struct item *item, const struct reader_view *view,
                           struct kho_now now)
{
    struct slot *source = NULL;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        s->told = s->replied || s->unknown;
        if (!reader_slot_at(s, view->highest) || s->session->given_up)
            continue;
        if (source == NULL || reader_session_well(client, s->session, now))
            source = s;
    }
    if (source == NULL) {
        /* Those that had it are out of reach now; others may still tell, or the read ends. */
        if (view->open == 0)
            item_end_read(client, item, KHO_EUNAVAILABLE);
        return;
    }
    item->confirming = true;
    item->source = (uint8_t)(source - item->slots);
    slot_ask(client, source, SLOT_PROBE, now);
}

/* Sends the record to those that lack it. Returns who may come to have it. */
static columns_t reader_copy(struct client *client, struct item *item,
                             const struct reader_view *view, bool *ret_untold, struct kho_now now)
{
    columns_t possible = view->have;
    *ret_untold = false;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        bool lacks = s->unknown || (s->replied && !reader_slot_at(s, view->highest));
        if (!lacks || s->acked || s->refused || s->session->given_up)
            continue;
        *ret_untold |= !s->told;
        if (!s->told)
            continue;
        if (s->kind != SLOT_COPY || s->ask == SLOT_IDLE)
            slot_ask(client, s, SLOT_COPY, now);
        if (s->ask != SLOT_IDLE)
            possible |= slot_bit(s);
    }
    return possible;
}

static void reader_write_back(struct client *client, struct item *item,
                              const struct reader_view *view, uint32_t need, struct kho_now now)
{
    bool untold;
    if (item->confirming && !item->slots[item->source].session->given_up)
        return;
    if (!item->confirmed) {
        reader_confirm(client, item, view, now);
        return;
    }
    if (layouts_have(item->layouts, reader_copy(client, item, view, &untold, now), need))
        return;
    if (untold) {
        item->confirmed = false;
        reader_confirm(client, item, view, now);
    } else if (view->open == 0) {
        item_end_read(client, item, item->refusal != 0 ? item->refusal : KHO_EUNAVAILABLE);
    }
}

/* No majority can answer any more. Where damage alone is the cause, it is called that. */
static void reader_no_majority(struct client *client, struct item *item)
{
    int status = KHO_EDAMAGED;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->session->given_up)
            status = KHO_EUNAVAILABLE;
    item_end_read(client, item, status);
}

void reader_advance(struct client *client, struct item *item, struct kho_now now)
{
    const struct records *call = item->call;
    if (item->phase != ITEM_READ)
        return;
    struct reader_view view = reader_look(item);
    uint32_t votes = KHO_PLANTED(read_quorum_one) ? 1 : call->read_quorum;
    if (!layouts_voted(item->layouts, view.votes, view.told, votes)) {
        if (!item->asked_all &&
            !layouts_have(item->layouts, reader_votes_expected(client, item, now),
                          reader_enough(call)))
            reader_ask_all(client, item, now);
        if (!layouts_voted(item->layouts, view.votes | view.open, view.told | view.open,
                           call->read_quorum))
            reader_no_majority(client, item);
        return;
    }
    uint32_t need = (uint32_t)call->replicas - call->read_quorum + 1;
    if (KHO_PLANTED(no_write_back) || KHO_PLANTED(read_quorum_one))
        need = 1;
    if (version_is_zero(view.highest)) {
        item->version = view.highest;
        item_end_read(client, item, KHO_ENOTFOUND);
        return;
    }
    /* Who gave the record was found damaged since, so nobody votes for its version any more. */
    if (item->have_record && version_compare(item->version, view.highest) > 0)
        item->have_record = false;
    bool have = item->have_record && (version_compare(item->version, view.highest) == 0 ||
                                      KHO_PLANTED(older_record_returned));
    if (view.tombstone && !have) {
        reader_take_tombstone(client, item, view.highest);
        have = true;
        view = reader_look(item);
    }
    bool agreed = layouts_have(item->layouts, view.have, need);
    if (!agreed && !item->want_value && !view.tombstone) {
        /* A stat that must write back needs the value after all. */
        item->want_value = true;
        item->have_record = false;
        have = false;
        for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
            if (s->kind == SLOT_READ && s->ask != SLOT_IDLE)
                slot_ask(client, s, SLOT_READ, now);
    }
    if (have && (agreed || (KHO_PLANTED(write_back_not_awaited) && item->confirmed))) {
        item_end_read(client, item, item->tombstone ? KHO_ENOTFOUND : 0);
        return;
    }
    /* More than the record of what they agree on is missing. */
    if (!agreed || !reader_reading(client, item, true, now))
        reader_ask_all(client, item, now);
    if (have)
        reader_write_back(client, item, &view, need, now);
    else
        reader_fetch(client, item, &view, now);
}

/* --- Answers ---------------------------------------------------------------------------------- */

void reader_probe_answered(struct client *client, struct slot *slot,
                           const struct wire_probe_answer *answer, bool suspect, struct kho_now now)
{
    struct item *item = slot->item;
    slot->unknown = answer->state == WIRE_UNKNOWN && !KHO_PLANTED(unknown_votes);
    slot->replied = !slot->unknown;
    slot->suspect = suspect;
    slot->state = answer->state;
    slot->drops = answer->drops;
    slot->version = answer->state == WIRE_ABSENT ? (struct version){0} : answer->version;
    slot->no_value |= answer->state == WIRE_VALUE_UNKNOWN;
    if (item->confirming && slot == &item->slots[item->source]) {
        item->confirming = false;
        item->confirmed = reader_slot_at(slot, item->version);
    }
    reader_advance(client, item, now);
}

bool reader_wants(const struct item *item, struct version version)
{
    return !item->have_record || version_compare(version, item->version) > 0;
}

static void reader_record(struct client *client, struct item *item, const struct record *record,
                          const uint8_t *raw)
{
    bool tombstone = record_is_tombstone(record);
    bool usable = tombstone || !item->want_value || record->value != NULL;
    if (!usable || !reader_wants(item, record->version))
        return;
    reader_take(client, item, record->version);
    item->tombstone = tombstone;
    item->value = record->value;
    item->raw = raw;
    item->value_len = record->raw_len;
    item->stored_len = record->stored_len;
    item->codec = record->codec;
    item->content = record->hash;
}

void reader_answered(struct client *client, struct slot *slot, int status, bool suspect,
                     const struct wire_read_answer *answer, const struct record *record,
                     const uint8_t *raw, struct kho_now now)
{
    struct item *item = slot->item;
    if (item->phase != ITEM_READ)
        return;
    if (status == -ENOMEM) {
        item_end_read(client, item, -ENOMEM);
        return;
    }
    if (status != 0) {
        /* No record from here; its vote, if it has one, is asked for by itself. */
        slot->no_value = true;
        if (!slot->replied)
            slot_ask(client, slot, SLOT_PROBE, now);
        if (!reader_reading(client, item, false, now))
            reader_hedge(client, item, now);
    } else {
        slot->unknown = false;
        slot->replied = true;
        slot->suspect = suspect;
        slot->state = answer->state;
        slot->drops = answer->drops;
        slot->version = record != NULL ? record->version : (struct version){0};
        if (record != NULL)
            reader_record(client, item, record, raw);
    }
    reader_advance(client, item, now);
}

void reader_copy_answered(struct client *client, struct slot *slot, int status, struct kho_now now)
{
    struct item *item = slot->item;
    if (item->phase != ITEM_READ)
        return;
    switch (status) {
    case 0:
        slot->acked = true;
        break;
    case KHO_EDROPPED:
        reader_start(client, item, now);
        return;
    case KHO_EEPOCHOLD:
    case KHO_EBEHIND:
    case KHO_EBUSY:
    case KHO_ESTOPPING:
        slot->session->hold_until_ns = now.mono_ns + SESSION_BEHIND_NS;
        slot_ask(client, slot, SLOT_COPY, now);
        return;
    default:
        slot->refused = true;
        item->refusal = status;
    }
    reader_advance(client, item, now);
}
