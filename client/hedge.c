/* hedge.c: what a replica leaves unanswered is asked elsewhere, too.
 *
 * It owns the batches of READ and PROBE that may still be hedged, in order of sending, and what is
 * known of how long answers take (latency.h). The happy path: a batch is packed, sent, answered in
 * time, and its time goes into the histogram.
 *
 * Late is what takes longer than 99 of 100 such requests took at most replicas, at least
 * HEDGE_AFTER_MIN and at most the option's hedge_ms, which also holds until something is known.
 * Then the batch's reads are asked elsewhere. Each such read costs HEDGE_PRICE, and each read that
 * starts earns 1: so hedges are 5 % of the reads at most, and an overload, in which all are late,
 * doesn't double itself. A node that says nothing at all for hedge_ms has failed rather than slowed
 * down: that is worth any price. One that is much slower than the others is asked last for a while.
 *
 * How it can fail: not at all; where nobody else is in reach a hedge asks nobody. */
#include "item.h"

#define HEDGE_AFTER_MIN  CLIENT_MS_NS
#define HEDGE_PRICE      20u
#define HEDGES_SAVED_MAX 512u
#define HEDGE_SLOW_TIMES 4u
#define HEDGE_SLOW_NS    (2000 * CLIENT_MS_NS) /* then it is given another try */

static const enum slot_kind hedge_kinds[] = {SLOT_READ, SLOT_PROBE};

static bool hedge_is_kind(enum slot_kind kind)
{
    return kind == SLOT_READ || kind == SLOT_PROBE;
}

/* --- The budget ------------------------------------------------------------------------------- */

void hedge_init(struct client *client)
{
    client->hedge_budget = (uint64_t)HEDGE_PRICE * HEDGES_SAVED_MAX;
}

void hedge_earn(struct client *client)
{
    if (client->hedge_budget < (uint64_t)HEDGE_PRICE * HEDGES_SAVED_MAX)
        client->hedge_budget++;
}

/* --- What is known of the nodes' speed -------------------------------------------------------- */

void hedge_batch_packed(struct session *session, struct batch *batch, struct kho_now now)
{
    queue_init(&batch->unhedged);
    batch->send_serial = session->send_serial + 1;
    batch->sent_ns = now.mono_ns;
    if (hedge_is_kind((enum slot_kind)batch->kind))
        queue_push(&session->unhedged[batch->kind], &batch->unhedged);
}

/* The step that packed it may have been long, which is no fault of the node. */
void hedge_sent(struct session *session, uint64_t send_serial, struct kho_now now)
{
    for (size_t i = 0; i < KHO_COUNT_OF(hedge_kinds); i++) {
        QUEUE_FOREACH (link, &session->unhedged[hedge_kinds[i]]) {
            struct batch *batch = KHO_CONTAINER_OF(link, struct batch, unhedged);
            if (batch->send_serial > send_serial)
                break;
            if (batch->send_serial == send_serial)
                batch->sent_ns = kho_max(batch->sent_ns, now.mono_ns);
        }
    }
}

/* The median over all sessions of what they take, by steps: each look at one of them moves it an
 * eighth of itself towards that one. A minority of slow nodes doesn't move it far. */
static void hedge_median_move(struct client *client, enum slot_kind kind, uint64_t high)
{
    uint64_t *median = &client->hedge_after_ns[kind];
    if (*median == 0)
        *median = high;
    else if (high > *median)
        *median = kho_min(high, *median + *median / 8);
    else
        *median = kho_max(high, *median - *median / 8);
}

void hedge_batch_ended(struct client *client, struct batch *batch, bool answered,
                       struct kho_now now)
{
    enum slot_kind kind = (enum slot_kind)batch->kind;
    struct session *session = batch->session;
    queue_remove(&batch->unhedged);
    if (!answered || !hedge_is_kind(kind) || batch->slow_by_size)
        return;
    struct latency *latency = &session->latency[kind];
    if (!latency_add(latency, now.mono_ns - batch->sent_ns, now.mono_ns))
        return;
    uint64_t high = latency_high(latency);
    hedge_median_move(client, kind, high);
    if (high <= HEDGE_SLOW_TIMES * kho_max(client->hedge_after_ns[kind], HEDGE_AFTER_MIN))
        return;
    /* What it does at the next try counts, not what it has done. */
    session->slow_until_ns = now.mono_ns + HEDGE_SLOW_NS;
    memset(session->latency, 0, sizeof session->latency);
}

/* When a request of this kind is late. */
static uint64_t hedge_after(const struct client *client, enum slot_kind kind)
{
    uint64_t after = client->hedge_after_ns[kind];
    if (after == 0)
        return client->hedge_ns;
    return kho_min(kho_max(after, HEDGE_AFTER_MIN), client->hedge_ns);
}

/* --- What waits to be sent -------------------------------------------------------------------- */

/* It is asked elsewhere: reads move, votes are asked of all. */
static void hedge_move_waiting(struct client *client, struct session *session, struct kho_now now)
{
    struct queue moved, *link;
    queue_init(&moved);
    session->moved_ns = session->asked_ns;
    for (size_t i = 0; i < KHO_COUNT_OF(hedge_kinds); i++) {
        queue_append_all(&moved, &session->waiting[hedge_kinds[i]]);
        session->waiting_count[hedge_kinds[i]] = 0;
    }
    while ((link = queue_pop(&moved)) != NULL) {
        struct slot *slot = KHO_CONTAINER_OF(link, struct slot, link);
        slot->ask = SLOT_IDLE;
        if (slot->kind == SLOT_READ) {
            reader_source_lost(client, slot, now);
            continue;
        }
        slot_ask(client, slot, SLOT_PROBE, now);
        reader_ask_all(client, slot->item, now);
    }
}

void hedge_session_broke(struct client *client, struct session *session, struct kho_now now)
{
    hedge_move_waiting(client, session, now);
}

/* Reads wait behind frames without an answer, and weren't moved in this silence yet (those that
 * come back had nowhere else to go). */
static bool hedge_waiting_stuck(const struct session *session)
{
    return session->waiting_count[SLOT_READ] + session->waiting_count[SLOT_PROBE] > 0 &&
           session->moved_ns != session->asked_ns;
}

/* --- What was sent ---------------------------------------------------------------------------- */

static bool hedge_helps(const struct slot *slot)
{
    return slot != NULL && slot->item->phase == ITEM_READ &&
           (slot->kind == SLOT_READ || !slot->item->asked_all);
}

/* Asks the entries of a batch elsewhere, as far as the budget goes. False: it is used up. */
static bool hedge_batch(struct client *client, struct batch *batch, bool silent, struct kho_now now)
{
    for (; batch->hedged < batch->count; batch->hedged++) {
        struct slot *slot = batch->slots[batch->hedged];
        if (!hedge_helps(slot))
            continue;
        if (!silent && client->hedge_budget < HEDGE_PRICE)
            return false;
        client->hedge_budget -= kho_min(client->hedge_budget, HEDGE_PRICE);
        if (slot->kind == SLOT_READ)
            reader_hedge(client, slot->item, now);
        else
            reader_ask_all(client, slot->item, now);
    }
    queue_remove(&batch->unhedged);
    return true;
}

static bool hedge_possible(const struct client *client, const struct session *session)
{
    return session->state == SESSION_UP && session->way_count > 0 &&
           client->hedge_ns != CLIENT_NEVER;
}

void hedge_session(struct client *client, struct session *session, struct kho_now now)
{
    if (!hedge_possible(client, session))
        return;
    bool silent = now.mono_ns - session->asked_ns >= client->hedge_ns;
    if (silent && hedge_waiting_stuck(session))
        hedge_move_waiting(client, session, now);
    if (!silent && now.mono_ns < session->hedge_wait_ns)
        return;
    for (size_t i = 0; i < KHO_COUNT_OF(hedge_kinds); i++) {
        struct queue *unhedged = &session->unhedged[hedge_kinds[i]];
        uint64_t after = hedge_after(client, hedge_kinds[i]);
        while (!queue_empty(unhedged)) {
            struct batch *batch = KHO_CONTAINER_OF(unhedged->next, struct batch, unhedged);
            if (now.mono_ns - batch->sent_ns < after)
                break;
            if (!hedge_batch(client, batch, silent, now)) {
                session->hedge_wait_ns = now.mono_ns + kho_max(after, HEDGE_AFTER_MIN);
                return;
            }
        }
    }
}

uint64_t hedge_deadline(const struct client *client, const struct session *session)
{
    uint64_t at = CLIENT_NEVER;
    if (!hedge_possible(client, session))
        return at;
    for (size_t i = 0; i < KHO_COUNT_OF(hedge_kinds); i++) {
        const struct queue *unhedged = &session->unhedged[hedge_kinds[i]];
        if (queue_empty(unhedged))
            continue;
        const struct batch *oldest = KHO_CONTAINER_OF(unhedged->next, struct batch, unhedged);
        at = kho_min(at, oldest->sent_ns + hedge_after(client, hedge_kinds[i]));
    }
    uint64_t silent_at = session->asked_ns + client->hedge_ns;
    if (at != CLIENT_NEVER)
        at = kho_max(at, kho_min(session->hedge_wait_ns, silent_at));
    if (hedge_waiting_stuck(session))
        at = kho_min(at, silent_at);
    return at;
}
