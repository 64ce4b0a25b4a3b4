/* item.c: the write of one record, and how any record starts and ends.
 *
 * Happy path of a put or del: probe all replicas (STAMP); with the votes of a majority draw a
 * version above all of them; send it to all replicas (WRITE); end as applied with W acks; go on in
 * the background until all R have it. An append, or a write that came with a token, starts with
 * WRITE.
 *
 * How it fails: it ends as *not applied* only where no replica can have the version, that is where
 * every send of it was refused for certain, or none was sent; otherwise *in doubt*, with a token.
 * After an end in doubt the client's versions carry a new writer: a later put of the key, which may
 * see none of it, must never draw the same version for another value (R6).
 *
 * While the layout of its partition changes, both stamp and write need their majority in each of
 * the two layouts (R5, quorum.h).
 *
 * Suspicion (R3): a suspect's answer raises the highest version but is no vote; all R answers stand
 * for a majority, too. A replica that can't say (R2) is neither. */
#include "item.h"

#include "bundle.h"

/* --- Beginning -------------------------------------------------------------------------------- */

static void slot_reset(struct slot *slot, struct item *item, struct session *session)
{
    memset(slot, 0, sizeof *slot);
    queue_init(&slot->link);
    slot->item = item;
    slot->session = session;
}

/* Slots of the item's replicas under the map in force. False: no memory for a session. */
static bool item_slots_begin(struct client *client, struct item *item, struct kho_now now)
{
    struct records *call = item->call;
    uint16_t nodes[COLUMNS_MAX];
    item->slots = call->slots + (size_t)item->index * call->width;
    item->columns = (uint8_t)layouts_nodes(&client->map, item->partition, call->replicas, nodes,
                                           &item->layouts);
    KHO_ASSERT(item->columns <= call->width);
    for (uint32_t k = 0; k < item->columns; k++) {
        uint32_t node = nodes[k];
        uint32_t shard = route_shard(client, node, item->partition);
        struct session *session = client->remotes[node]->sessions[shard];
        if (session == NULL)
            session = route_session(client, node, shard, now);
        if (session == NULL)
            return false;
        slot_reset(&item->slots[k], item, session);
    }
    return true;
}

static void item_stamp_begin(struct client *client, struct item *item, struct kho_now now)
{
    item->phase = ITEM_STAMP;
    item->votes = item->told = 0;
    item->stamped = false;
    item->floor = 0;
    item->lowest_wall_ms = UINT64_MAX;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        slot_detach(client, s);
        slot_reset(s, item, s->session);
        slot_ask(client, s, SLOT_PROBE, now);
    }
    item_check_reach(client, item, now);
}

static void item_check_write(struct client *client, struct item *item, struct kho_now now);

static void item_write_begin(struct client *client, struct item *item, struct kho_now now)
{
    item->phase = ITEM_WRITE;
    item->acks = 0;
    item->refusal = 0;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        slot_ask(client, s, SLOT_WRITE, now);
    item_check_write(client, item, now);
}

static bool item_version_draw(struct client *client, struct item *item, uint64_t wall_ms)
{
    /* The low bits are a running number rather than a draw: two stamps of one client within a
     * millisecond can't meet. */
    uint64_t counter = version_stamp(KHO_PLANTED(stamp_below_highest) ? 0 : item->highest.counter,
                                     item->floor, wall_ms, client->stamp_serial++);
    if (counter == 0)
        return false;
    bundle_leave(client, item);
    item->version = (struct version){.counter = counter, .writer = client->writer};
    item->stamped = true;
    return true;
}

/* The lowest node time of a majority, as heard and carried on since; 0: too few were heard. */
static uint64_t item_wall_heard(const struct item *item, struct kho_now now)
{
    uint64_t lowest = UINT64_MAX;
    columns_t heard = 0;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        const struct session *session = s->session;
        if (session->wall_ms == 0)
            continue;
        heard |= slot_bit(s);
        lowest = kho_min(lowest,
                         session->wall_ms + (now.mono_ns - session->wall_heard_ns) / CLIENT_MS_NS);
    }
    return layouts_have(item->layouts, heard, item->call->read_quorum) ? lowest : 0;
}

static void item_write_start(struct client *client, struct item *item, struct kho_now now)
{
    if (item->stamped) {
        item_write_begin(client, item, now);
        return;
    }
    uint64_t wall_ms = item->unprobed ? item_wall_heard(item, now) : 0;
    if (wall_ms != 0 && item_version_draw(client, item, wall_ms))
        item_write_begin(client, item, now);
    else
        item_stamp_begin(client, item, now);
}

void item_start(struct client *client, struct item *item, struct kho_now now)
{
    bool write = records_write(item->call);
    item->phase = write ? ITEM_STAMP : ITEM_READ;
    if (!item_slots_begin(client, item, now)) {
        item->slots = NULL;
        item_give_up(client, item, -ENOMEM, now);
        return;
    }
    if (write)
        item_write_start(client, item, now);
    else
        reader_start(client, item, now);
}

void items_run_ready(struct client *client, struct kho_now now)
{
    struct queue *link;
    while ((link = queue_pop(&client->ready)) != NULL)
        item_start(client, KHO_CONTAINER_OF(link, struct item, link), now);
}

/* --- Ending ----------------------------------------------------------------------------------- */

/* How many slots still have something on its way. */
static uint32_t item_open_slots(const struct item *item)
{
    uint32_t open = 0;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        open += s->ask != SLOT_IDLE;
    return open;
}

static void item_detach_all(struct client *client, struct item *item)
{
    if (item->slots == NULL)
        return;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        slot_detach(client, s);
}

static void item_ended(struct client *client, struct item *item)
{
    if (item->phase == ITEM_LINED)
        queue_remove(&item->link);
    item->phase = ITEM_ENDED;
    line_leave(client, item);
    records_item_ended(client, item->call);
}

static void item_applied(struct client *client, struct item *item)
{
    struct kho_result *result = &item->call->results[item->index];
    result->status = 0;
    result->outcome = KHO_APPLIED;
    result->version =
        (struct kho_version){.counter = item->version.counter, .writer = item->version.writer};
    result->value_len = item->value_len;
    memcpy(result->hash, item->content.bytes, 16);
    if (item_open_slots(item) > 0) {
        item->held = true;
        item->call->held++;
    } else if (item->acks != layouts_all(item->layouts)) {
        client->given_up++;
    }
    item_ended(client, item);
}

bool item_may_be_there(const struct item *item)
{
    if (item->token || item->sent_before)
        return true;
    if (item->phase != ITEM_WRITE || item->slots == NULL)
        return false;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->acked || s->maybe)
            return true;
    return false;
}

static void item_end_write(struct client *client, struct item *item, int status)
{
    struct kho_result *result = &item->call->results[item->index];
    bool doubt = item_may_be_there(item) && !KHO_PLANTED(doubt_denied);
    result->status = doubt && status != KHO_ECONFLICT ? KHO_EINDOUBT : status;
    result->outcome = doubt ? KHO_IN_DOUBT : KHO_NOT_APPLIED;
    if (doubt) {
        result->version =
            (struct kho_version){.counter = item->version.counter, .writer = item->version.writer};
        token_make(item, &result->token);
        client->writer = (uint32_t)kho_random_next(&client->random);
        client->given_up++;
    }
    item_detach_all(client, item);
    item_ended(client, item);
}

void item_end_read(struct client *client, struct item *item, int status)
{
    struct kho_result *result = &item->call->results[item->index];
    result->status = status;
    if (status == 0 || status == KHO_ENOTFOUND)
        result->version =
            (struct kho_version){.counter = item->version.counter, .writer = item->version.writer};
    if (status == 0) {
        result->value = item->call->verb == CLIENT_GET ? item->raw : NULL;
        result->value_len = item->value_len;
        memcpy(result->hash, item->content.bytes, 16);
    }
    item_detach_all(client, item);
    item_ended(client, item);
}

void item_give_up(struct client *client, struct item *item, int status, struct kho_now now)
{
    (void)now;
    if (item->phase == ITEM_ENDED)
        return;
    if (records_write(item->call))
        item_end_write(client, item, status);
    else
        item_end_read(client, item, status);
}

void item_background_end(struct client *client, struct item *item)
{
    KHO_ASSERT(item->held && item->phase == ITEM_ENDED);
    item_detach_all(client, item);
    bool all = item->slots != NULL;
    for (struct slot *s = item_slot_begin(item); all && s < item_slot_end(item); s++)
        all = s->acked;
    client->given_up += !all;
    item->held = false;
    records_item_settled(client, item->call);
}

void item_background_restart(struct client *client, struct item *item, struct kho_now now)
{
    if (!item_slots_begin(client, item, now)) {
        item->slots = NULL;
        item_background_end(client, item);
        return;
    }
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        slot_ask(client, s, SLOT_WRITE, now);
    if (item_open_slots(item) == 0)
        item_background_end(client, item);
}

/* --- Stamp ------------------------------------------------------------------------------------ */

static bool item_stamp_ready(const struct item *item)
{
    uint32_t quorum = KHO_PLANTED(stamp_quorum_one) ? 1 : item->call->read_quorum;
    return layouts_voted(item->layouts, item->votes, item->told, quorum);
}

static void item_stamp_done(struct client *client, struct item *item, struct kho_now now)
{
    uint64_t wall_ms = KHO_PLANTED(stamp_of_client_clock) ? now.wall_ms : item->lowest_wall_ms;
    if (!item_version_draw(client, item, wall_ms)) {
        item_give_up(client, item, KHO_ETOOFAR, now);
        return;
    }
    item_write_begin(client, item, now);
}

static void item_stamp_answered(struct client *client, struct slot *slot,
                                const struct wire_probe_answer *answer, bool suspect,
                                uint64_t wall_ms, struct kho_now now)
{
    struct item *item = slot->item;
    item->highest = version_max(item->highest, answer->version);
    item->floor = kho_max(item->floor, answer->floor);
    if (answer->state == WIRE_UNKNOWN && !KHO_PLANTED(unknown_votes)) {
        slot->unknown = true;
    } else {
        slot->replied = true;
        item->lowest_wall_ms = kho_min(item->lowest_wall_ms, wall_ms);
        item->told |= slot_bit(slot);
        if (!suspect)
            item->votes |= slot_bit(slot);
    }
    if (item_stamp_ready(item))
        item_stamp_done(client, item, now);
    else
        item_check_reach(client, item, now);
}

void item_probe_answered(struct client *client, struct slot *slot,
                         const struct wire_probe_answer *answer, bool suspect, uint64_t wall_ms,
                         struct kho_now now)
{
    if (slot->item->phase == ITEM_STAMP)
        item_stamp_answered(client, slot, answer, suspect, wall_ms, now);
    else if (slot->item->phase == ITEM_READ)
        reader_probe_answered(client, slot, answer, suspect, now);
}

/* Replicas that may still answer the stamp. */
static void item_check_stamp(struct client *client, struct item *item, struct kho_now now)
{
    const struct records *call = item->call;
    columns_t open = 0, live = 0;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        if (s->session->given_up)
            continue;
        live |= slot_bit(s);
        if (!s->replied && !s->unknown)
            open |= slot_bit(s);
    }
    bool votes =
        layouts_voted(item->layouts, item->votes | open, item->told | open, call->read_quorum);
    if (!votes || !layouts_have(item->layouts, live, call->write_quorum))
        item_give_up(client, item, KHO_EUNAVAILABLE, now);
}

/* --- Write ------------------------------------------------------------------------------------ */

/* Refusals after which the replica can't have the version. Not among them: a failed disk (what was
 * in flight may come back at its next start) and what we don't know. */
static bool item_refusal_is_certain(int status)
{
    switch (status) {
    case KHO_EFULL:
    case KHO_ENOSPACE:
    case KHO_ECONFLICT:
    case KHO_ETOOFAR:
    case KHO_ESTALE:
    case KHO_ECLOCK:
    case KHO_ENOTREPLICA:
    case KHO_EMALFORMED:
    case KHO_ECHECKSUM:
    case KHO_EDENIED:
    case KHO_ENOCOLLECTION:
    case KHO_EKEYSIZE:
    case KHO_EVALUESIZE:
    case KHO_ETOOLARGE:
    case KHO_EDROPPED:
    case KHO_ECOLLISION:
        return true;
    default:
        return false;
    }
}

/* The entry wasn't taken under our epoch or not now: ask again. */
static bool item_refusal_passes(int status)
{
    return status == KHO_EEPOCHOLD || status == KHO_EBEHIND || status == KHO_EBUSY ||
           status == KHO_ESTOPPING || status == -ENOMEM || status == -EAGAIN;
}

static void item_refused(struct client *client, struct slot *slot, int status)
{
    struct item *item = slot->item;
    (void)client;
    slot->refused = true;
    slot->stale = status == KHO_ESTALE;
    if (item_refusal_is_certain(status) && !slot->twice)
        slot->maybe = false;
    /* A conflict is a broken rule somewhere (R6) and must be heard above all else. */
    if (item->refusal != KHO_ECONFLICT)
        item->refusal = status;
}

void item_write_answered(struct client *client, struct slot *slot, int status, struct kho_now now)
{
    struct item *item = slot->item;
    if (status == 0) {
        slot->acked = true;
        item->acks |= slot_bit(slot);
    } else if (item_refusal_passes(status)) {
        slot->session->hold_until_ns = now.mono_ns + SESSION_BEHIND_NS;
        slot_ask(client, slot, SLOT_WRITE, now);
        return;
    } else {
        item_refused(client, slot, status);
    }
    if (item->phase == ITEM_WRITE &&
        layouts_have(item->layouts, item->acks, item->call->write_quorum))
        item_applied(client, item);
    else if (item->phase == ITEM_WRITE)
        item_check_write(client, item, now);
    else if (item->held && item_open_slots(item) == 0)
        item_background_end(client, item);
}

/* No majority can be had any more: end, or stamp anew where R7 allows it. What is on its way to a
 * replica in reach is waited for, since its answer tells *not applied* from *in doubt*. */
static void item_write_failed(struct client *client, struct item *item, struct kho_now now)
{
    bool stale = false, open = false;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++) {
        bool sent = s->ask == SLOT_SENT;
        if (s->ask == SLOT_WAITING)
            slot_detach(client, s);
        open |= sent && !s->session->given_up;
        stale |= s->stale;
    }
    if (open)
        return;
    if (stale && !item_may_be_there(item)) {
        item->unprobed = false;
        item_stamp_begin(client, item, now);
        return;
    }
    item_give_up(client, item, item->refusal != 0 ? item->refusal : KHO_EUNAVAILABLE, now);
}

static void item_check_write(struct client *client, struct item *item, struct kho_now now)
{
    columns_t possible = item->acks;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->ask != SLOT_IDLE && !s->session->given_up)
            possible |= slot_bit(s);
    if (!layouts_have(item->layouts, possible, item->call->write_quorum))
        item_write_failed(client, item, now);
}

void item_check_reach(struct client *client, struct item *item, struct kho_now now)
{
    if (item->phase == ITEM_STAMP)
        item_check_stamp(client, item, now);
    else if (item->phase == ITEM_WRITE)
        item_check_write(client, item, now);
    else if (item->phase == ITEM_READ)
        reader_advance(client, item, now);
}

/* --- What the sessions tell ------------------------------------------------------------------- */

static bool item_on_session(const struct item *item, const struct session *session)
{
    if (item->slots == NULL)
        return false;
    for (struct slot *s = item_slot_begin(item); s < item_slot_end(item); s++)
        if (s->session == session)
            return true;
    return false;
}

void items_session_given_up(struct client *client, struct session *session, struct kho_now now)
{
    QUEUE_FOREACH_SAFE (link, &client->calls) {
        struct records *call = records_of(KHO_CONTAINER_OF(link, struct call, link));
        if (call == NULL || !call->resolved)
            continue;
        for (uint32_t i = 0; i < call->count && !call->all_ended; i++) {
            struct item *item = &call->items[i];
            if (item->phase >= ITEM_STAMP && item->phase < ITEM_ENDED &&
                item_on_session(item, session))
                item_check_reach(client, item, now);
        }
    }
}
