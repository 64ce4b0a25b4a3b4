/* repair_forget.c: owns the giving up of versions that nobody can give and nobody was promised.
 *
 * A put that reached one replica and no other, and whose value rots there, leaves a version that
 * can't be read, copied or dominated: gets of its key would fail and the episode stay open for
 * ever. It was never acknowledged where fewer than W replicas have it: a page says so when all
 * replicas were listed, nobody has the value, and each that lacks the version knows all its
 * versions (no episode hides there, none is suspect). All told under the epoch of this pass, which
 * is later than the damage; while a layout changes the previous one is asked, since an
 * acknowledgement needed a majority of it then and before. The replica refuses otherwise
 * (store_forget.c), and then the record counts as lost until another pass.
 *
 * Afterwards the replica has no version of the key, and its partition hides: the mend that follows
 * copies what the others have, if anything. */
#include "repair.h"

#define FORGET_MAX 1024u /* of one page; the next pass sees the rest */

void repair_forget_stop(struct client *client, struct repair_unit *unit)
{
    for (uint32_t k = 0; k < COLUMNS_MAX; k++) {
        struct repair_forget *forget = &unit->forgets[k];
        if (forget->asked)
            request_drop(client, &forget->request);
        forget->asked = false;
        client_release(client, forget->body);
        forget->body = NULL;
    }
    unit->forgets_waiting = 0;
}

/* Was it never acknowledged, and can nobody give it? */
static bool forget_may(const struct repair_unit *unit, const struct merge_entry *entry)
{
    const struct merge *merge = &unit->merge;
    columns_t all = layouts_all(merge->layouts);
    columns_t lack = all & (columns_t)~entry->have;
    uint32_t unheard = columns_count(lack & merge->layouts.before);
    return entry->state == WIRE_VALUE_UNKNOWN && merge->answered == all &&
           (lack & (merge->damaged | merge->suspects)) == 0 &&
           unheard >= unit->replicas - unit->write_quorum + 1u;
}

static void forget_frame(struct client *client, struct request *request,
                         const struct wire_head *head, const uint8_t *body, size_t len,
                         struct kho_now now)
{
    struct repair_forget *forget = request->owner;
    struct repair *repair = forget->unit->repair;
    (void)client;
    (void)now;
    for (uint32_t i = 0; i < head->count && len >= WIRE_STATUS_ANSWER; i++) {
        repair->result.records_dropped += kho_load32(body) == 0;
        body += WIRE_STATUS_ANSWER;
        len -= WIRE_STATUS_ANSWER;
    }
}

static void forget_ended(struct client *client, struct request *request, int status,
                         struct kho_now now)
{
    struct repair_forget *forget = request->owner;
    struct repair_unit *unit = forget->unit;
    struct repair *repair = unit->repair;
    forget->asked = false;
    client_release(client, forget->body);
    forget->body = NULL;
    if (repair_failed(client, repair, status, now))
        return;
    if (status != 0)
        repair_unreach(repair, unit->merge.nodes[forget - unit->forgets], status);
    if (--unit->forgets_waiting == 0)
        repair_forgot(client, unit, now);
}

/* Asks one replica. 0 (also where it has nothing to give up), or -ENOMEM. */
static int forget_ask(struct client *client, struct repair_unit *unit, uint32_t k,
                      struct kho_now now)
{
    const struct merge *merge = &unit->merge;
    struct repair_forget *forget = &unit->forgets[k];
    uint32_t count = 0;
    for (uint32_t i = 0; i < merge->count && count < FORGET_MAX; i++)
        count += (merge->entries[i].have >> k & 1) != 0 && forget_may(unit, &merge->entries[i]);
    if (count == 0)
        return 0;
    forget->unit = unit;
    forget->body = client_allocate(client, (size_t)count * WIRE_FORGET_ASK);
    if (forget->body == NULL)
        return -ENOMEM;
    uint8_t *to = forget->body, *end = to + (size_t)count * WIRE_FORGET_ASK;
    for (uint32_t i = 0; to < end; i++) {
        const struct merge_entry *entry = &merge->entries[i];
        if ((entry->have >> k & 1) == 0 || !forget_may(unit, entry))
            continue;
        struct wire_forget_ask ask = {
            .collection = merge->collection,
            .partition = entry->place.partition,
            .hash = {.low = (uint64_t)entry->place.tag.low << 56, .high = entry->place.tag.high},
            .version = entry->version};
        wire_forget_ask_encode(&ask, to);
        to += WIRE_FORGET_ASK;
    }
    forget->request = (struct request){
        .type = WIRE_FORGET,
        .count = (uint16_t)count,
        .body = forget->body,
        .body_len = count * WIRE_FORGET_ASK,
        .deadline_ns = now.mono_ns + REPAIR_ASK_NS,
        .frame = forget_frame,
        .end = forget_ended,
        .owner = forget,
    };
    uint32_t shard = route_shard(client, merge->nodes[k], unit->partition);
    int rc = request_send(client, &forget->request, merge->nodes[k], shard, now);
    forget->asked = rc == 0;
    unit->forgets_waiting += rc == 0;
    return rc;
}

bool repair_forget(struct client *client, struct repair_unit *unit, struct kho_now now)
{
    KHO_ASSERT(unit->forgets_waiting == 0);
    for (uint32_t k = 0; k < unit->merge.replicas; k++)
        if (forget_ask(client, unit, k, now) != 0) {
            repair_end(client, unit->repair, -ENOMEM);
            return true;
        }
    return unit->forgets_waiting > 0;
}
