/* repair_unit.c: owns the work on partitions: making replicas equal, and the proof that a damaged
 * one has caught up.
 *
 * A unit works on one partition, collection by collection: all where an episode is open in it, else
 * those whose digests differ. The replicas in reach are listed page by page (merge.c), and what any
 * of them lacks, or has without its value, is copied (mend.c).
 *
 * The proof (R2). Replica n with an open episode dominates those that were listed beside it, when
 * after the copying it has everything that any of them had. That closes the episode if of those
 * others R - W + 1 were without an episode in the partition, as each told with its listing; suspect
 * ones (R3) count only when all R replicas were listed (models/damage.cpp, B4c and B4e: a suspect
 * may be listed, a damaged one never). All were listed under the epoch of this pass, since a node
 * answers in no other and a change of it restarts the pass. An acknowledged write is on W replicas
 * and so on one of R - W + 1; a write that is acknowledged later is acknowledged under this epoch.
 *
 * While the partition's layout changes, all of that is asked of both layouts, every collection is
 * listed, and the unit also shows that the new one may stand alone (unit_prove_moved).
 *
 * A record whose newest value nobody in reach can give is given up if it was never acknowledged
 * (repair_forget.c); else it is counted as lost, or waits for who is away; its replicas lack it, so
 * their episodes stay. */
#include "repair.h"

#define UNIT_LIMIT 2048u /* entries of one page: 100 KiB a replica */

static void unit_collection(struct client *client, struct repair_unit *unit, struct kho_now now);
static void unit_page(struct client *client, struct repair_unit *unit, struct kho_now now);

/* The partition's column of a column of the merge under way. */
static columns_t unit_column_bit(const struct repair_unit *unit, uint32_t k)
{
    uint32_t column = 0;
    while (unit->nodes[column] != unit->merge.nodes[k])
        column++;
    KHO_ASSERT(column < unit->columns);
    return column_bit(column);
}

static void unit_stop(struct client *client, struct repair_unit *unit)
{
    merge_stop(client, &unit->merge);
    repair_forget_stop(client, unit);
    mend_stop(client, &unit->mend);
    client_release(client, unit->entries);
    unit->entries = NULL;
    unit->active = false;
}

void repair_work_stop(struct client *client, struct repair *repair)
{
    if (repair->units == NULL)
        return;
    for (uint32_t i = 0; i < REPAIR_UNITS; i++)
        unit_stop(client, &repair->units[i]);
    /* The array stays until the call is released: a unit's callback may have led here. */
}

/* --- The proof -------------------------------------------------------------------------------- */

/* Were enough of the layout's other replicas listed without an episode, or all that there are? */
static bool unit_listed(const struct repair_unit *unit, columns_t layout, columns_t but,
                        uint32_t needed)
{
    columns_t rest = layout & (columns_t)~but;
    columns_t others = rest & unit->listed & (columns_t)~unit->damaged;
    return columns_count(others & (columns_t)~unit->suspects) >= needed ||
           (columns_count(others) >= needed && others == rest);
}

static void unit_prove(struct repair_unit *unit)
{
    struct layouts layouts = unit->merge.layouts;
    columns_t all = layouts_all(layouts);
    uint32_t needed = unit->replicas - unit->write_quorum + 1u;
    for (uint32_t k = 0; k < unit->merge.replicas; k++) {
        columns_t bit = column_bit(k);
        if ((unit->candidates & unit_column_bit(unit, k)) == 0)
            continue;
        bool enough = unit_listed(unit, layouts.now, bit, needed) &&
                      unit_listed(unit, layouts.before, bit, needed);
        bool complete = (unit->listed & bit) != 0 && (unit->lack & bit) == 0;
        if (enough && complete)
            continue;
        unit->proved &= (columns_t)~unit_column_bit(unit, k);
        if (complete && unit->listed == all)
            unit->repair->overlap = true; /* everybody answered, and too many are damaged */
    }
}

/* R5: Q of the old replicas told what they have, and a majority of the new ones has it; those that
 * are in reach all do, since the old ones are let go then. */
static void unit_prove_moved(struct repair_unit *unit)
{
    struct layouts layouts = unit->merge.layouts;
    columns_t whole = unit->listed & (columns_t) ~(unit->damaged | unit->lack);
    if (!unit_listed(unit, layouts.before, 0, unit->read_quorum) ||
        columns_count(whole & layouts.now) < unit->write_quorum ||
        (unit->listed & layouts.now & (columns_t)~whole) != 0)
        unit->moved = false;
}

/* --- Copying ---------------------------------------------------------------------------------- */

static void unit_mended(struct client *client, struct mend *mend, int status, struct kho_now now)
{
    struct repair_unit *unit = mend->owner;
    struct repair *repair = unit->repair;
    repair->result.records_copied += mend->copied;
    repair->result.bytes_copied += mend->copied_bytes;
    if (repair_failed(client, repair, status, now))
        return;
    for (uint32_t k = 0; k < mend->replicas; k++) {
        if ((mend->gone & column_bit(k)) != 0)
            repair_unreach(repair, mend->nodes[k], mend->columns[k].status);
        if (mend->columns[k].refusal != 0 && repair->refusal == 0)
            repair->refusal = mend->columns[k].refusal;
    }
    columns_t here = unit->merge.answered;
    for (uint32_t i = 0; i < mend->count; i++) {
        const struct mend_entry *entry = &unit->entries[i];
        if (entry->status != 0 || !version_is_zero(entry->version))
            unit->lack |= here & (columns_t)~entry->have;
        unit->lost += entry->status == KHO_EDAMAGED;
    }
    client_release(client, unit->entries);
    unit->entries = NULL;
    unit_page(client, unit, now);
}

/* Copies what some replica of the page lacks. False: nothing is missing. */
static bool unit_mend(struct client *client, struct repair_unit *unit, struct kho_now now)
{
    const struct merge *merge = &unit->merge;
    struct mend *mend = &unit->mend;
    uint32_t count = 0;
    for (uint32_t i = 0; i < merge->count; i++)
        count += merge->entries[i].whole != merge->answered;
    if (count == 0)
        return false;
    unit->entries = client_allocate_zeroed(client, (size_t)count * sizeof *unit->entries);
    if (unit->entries == NULL) {
        repair_end(client, unit->repair, -ENOMEM);
        return true;
    }
    count = 0;
    for (uint32_t i = 0; i < merge->count; i++)
        if (merge->entries[i].whole != merge->answered)
            unit->entries[count++].place = merge->entries[i].place;
    mend->collection = merge->collection;
    mend->replicas = merge->replicas;
    mend->layouts = merge->layouts;
    memcpy(mend->nodes, merge->nodes, sizeof mend->nodes);
    mend->skip = layouts_all(merge->layouts) & (columns_t)~merge->answered;
    mend->entries = unit->entries;
    mend->count = count;
    mend->deadline_ns = now.mono_ns + REPAIR_ASK_NS;
    mend->end = unit_mended;
    mend->owner = unit;
    if (mend_start(client, mend, now) != 0)
        repair_end(client, unit->repair, -ENOMEM);
    return true;
}

/* --- Pages ------------------------------------------------------------------------------------ */

static void unit_merged(struct client *client, struct merge *merge, int status, struct kho_now now)
{
    struct repair_unit *unit = merge->owner;
    struct repair *repair = unit->repair;
    if (repair_failed(client, repair, status, now))
        return;
    for (uint32_t k = 0; k < merge->replicas; k++) {
        const struct merge_replica *column = &merge->columns[k];
        if (!column->asked || column->status == 0)
            continue;
        if (repair_failed(client, repair, column->status, now))
            return;
        repair_unreach(repair, merge->nodes[k], column->status);
    }
    repair->result.records_compared += merge->count;
    unit->listed &= merge->answered;
    unit->damaged |= merge->damaged;
    unit->suspects |= merge->suspects;
    merge->from = merge->next;
    if (merge->answered == 0)
        merge->from.partition = merge->partition_to; /* nobody is left */
    if (!repair_forget(client, unit, now))
        repair_forgot(client, unit, now);
}

void repair_forgot(struct client *client, struct repair_unit *unit, struct kho_now now)
{
    if (!unit_mend(client, unit, now))
        unit_page(client, unit, now);
}

/* The next page, or the next collection. */
static void unit_page(struct client *client, struct repair_unit *unit, struct kho_now now)
{
    struct merge *merge = &unit->merge;
    columns_t all = layouts_all(merge->layouts);
    merge->skip = 0;
    for (uint32_t k = 0; k < merge->replicas; k++)
        if (unit->repair->unreached[merge->nodes[k]] != 0)
            merge->skip |= column_bit(k);
    unit->listed &= (columns_t)~merge->skip;
    bool alone = columns_count(all & (columns_t)~merge->skip) < 2;
    if (alone)
        unit->listed = 0;
    if (alone || merge->from.partition >= merge->partition_to) {
        unit_prove(unit);
        unit_prove_moved(unit);
        unit->collection++;
        unit_collection(client, unit, now);
        return;
    }
    merge->deadline_ns = now.mono_ns + REPAIR_ASK_NS;
    if (merge_start(client, merge, now) != 0)
        repair_end(client, unit->repair, -ENOMEM);
}

static void unit_collection_begin(struct client *client, struct repair_unit *unit)
{
    struct merge *merge = &unit->merge;
    struct map_collection collection;
    map_collection(&client->map, unit->collection, &collection);
    unit->replicas = collection.replicas;
    unit->write_quorum = quorum_write(&client->map, collection.replicas);
    unit->read_quorum = quorum_read(&client->map, collection.replicas);
    merge->collection = collection.id;
    merge->replicas = (uint8_t)layouts_nodes(&client->map, unit->partition, collection.replicas,
                                             merge->nodes, &merge->layouts);
    unit->listed = layouts_all(merge->layouts);
    unit->damaged = unit->suspects = unit->lack = 0;
    merge->from = (struct place){unit->partition, {0}};
    merge->partition_to = unit->partition + 1;
    merge->limit = UNIT_LIMIT;
    merge->end = unit_merged;
    merge->owner = unit;
}

/* --- Partitions ------------------------------------------------------------------------------- */

static void unit_done(struct client *client, struct repair_unit *unit)
{
    struct repair *repair = unit->repair;
    for (uint32_t k = 0; k < unit->columns; k++)
        if ((unit->proved & column_bit(k)) != 0)
            repair_bit_set(repair->nodes[unit->nodes[k]].proved, unit->partition);
    if (unit->moving && unit->moved)
        repair_bit_set(repair->moved, unit->partition);
    repair->lost[unit->partition] = unit->lost;
    repair->result.partitions_done++;
    unit_stop(client, unit);
}

/* Finds the next collection that needs work; the partition is done when there is none. */
static void unit_collection(struct client *client, struct repair_unit *unit, struct kho_now now)
{
    struct repair *repair = unit->repair;
    for (; unit->collection < client->map.collection_count; unit->collection++) {
        bool wanted = repair->all ||
                      (int)unit->collection == map_collection_by_name(&client->map, repair->name);
        if (unit->candidates != 0 || unit->moving ||
            (wanted && repair_differs(client, repair, unit->collection, unit->partition)))
            break;
    }
    if (unit->collection < client->map.collection_count) {
        unit_collection_begin(client, unit);
        unit_page(client, unit, now);
        return;
    }
    unit_done(client, unit);
    repair_work(client, repair, now);
}

static void unit_start(struct client *client, struct repair_unit *unit, uint32_t partition)
{
    struct repair *repair = unit->repair;
    unit->active = true;
    unit->partition = partition;
    unit->collection = 0;
    unit->lost = 0;
    unit->candidates = 0;
    struct layouts layouts;
    unit->columns =
        layouts_nodes(&client->map, partition, client->map.width, unit->nodes, &layouts);
    for (uint32_t k = 0; k < unit->columns; k++)
        if (repair_bit(repair->nodes[unit->nodes[k]].open, partition))
            unit->candidates |= column_bit(k);
    unit->proved = unit->candidates;
    unit->moving = repair_moving(client, repair, partition);
    unit->moved = true;
}

void repair_work(struct client *client, struct repair *repair, struct kho_now now)
{
    if (repair->phase != REPAIR_WORK)
        return;
    if (repair->filling)
        return; /* a unit that had nothing to do: the loop below goes on */
    repair->filling = true;
    bool busy = false;
    for (uint32_t i = 0; i < REPAIR_UNITS && repair->phase == REPAIR_WORK; i++) {
        struct repair_unit *unit = &repair->units[i];
        unit->repair = repair;
        while (!unit->active && repair->next_partition < repair->partitions &&
               repair->phase == REPAIR_WORK) {
            uint32_t partition = repair->next_partition++;
            if (!repair_bit(repair->work, partition))
                continue;
            unit_start(client, unit, partition);
            unit_collection(client, unit, now);
            if (repair->phase != REPAIR_WORK)
                break;
        }
        if (repair->phase == REPAIR_WORK)
            busy |= unit->active;
    }
    repair->filling = false;
    if (repair->phase == REPAIR_WORK && !busy)
        repair_worked(client, repair, now);
}
