/* store_write.c: which write is taken (store.h).
 *
 * A record is compared with what is durable and what is in flight: it is stored, or what is there
 * already answers for it (R1), or it is refused: another value under its version (R6), a counter
 * too far ahead (R6), at or below the floor of an absent key (R7), no room in memory or on the disk
 * (R4). Each refusal comes before anything is taken. */
#include "store_inside.h"

static bool space_refuses(const struct depot *depot, enum store_class class)
{
    uint64_t reserve = depot->options.reserve_bytes;
    if (depot->disk_free == UINT64_MAX)
        return false;
    return depot->disk_free < (class == STORE_USER ? reserve : reserve / 2);
}

/* --- Writing ---------------------------------------------------------------------------------- */

bool store_room(const struct store *store, uint64_t bytes, uint32_t records)
{
    if (store->phase != STORE_READY || store->depot.read_only || store->depot.index == NULL)
        return true; /* the write itself says why not */
    return log_room(&store->log, bytes, records) != -EAGAIN;
}

/* R6, where the hash is at hand: a durable record of that very version. */
static int same_check(struct store *store, struct key_tag tag, const struct record *record,
                      const struct index_entry *entry)
{
    struct kho_id hash;
    uint32_t length = record->raw_len < KHO_VALUE_MAX ? record->raw_len : KHO_VALUE_MAX - 1;
    if (entry->tombstone != record_is_tombstone(record) || entry->value_bytes != length)
        return KHO_ECONFLICT;
    if (entry->place != PLACE_UNKNOWN &&
        reader_cached_hash(&store->reader, entry->place, tag, record, &hash) &&
        !kho_id_equal(&hash, &record->hash))
        return KHO_ECONFLICT;
    return 0;
}

/* R6: a first-hand counter further ahead than a day of all that is known here. */
static bool too_far(uint64_t counter, uint64_t known, uint64_t floor, struct kho_now now)
{
    uint64_t base = kho_max(version_counter_at(now.wall_ms), kho_max(known, floor));
    uint64_t ahead = version_counter_at(KHO_COUNTER_AHEAD_MS);
    return base < KHO_COUNTER_MAX - ahead && counter > base + ahead;
}

/* R7: what is at or below the floor and absent. */
static int floor_check(const struct floor *floor, const struct record *record, bool copy,
                       uint64_t drops)
{
    if (floor->floor == 0 || record->version.counter > floor->floor)
        return 0;
    if (!copy)
        return KHO_ESTALE;
    return drops != floor->drops ? KHO_EDROPPED : 0;
}

/* New keys leave a part of the memory to all that has to go on at the bound: maps, episodes, reads,
 * connections. */
static bool memory_left(const struct shard_world *world)
{
    return world->memory_bytes < world->memory_max - world->memory_max / 16;
}

int store_write(struct store *store, uint32_t partition, struct key_hash hash,
                const struct record *record, bool copy, uint64_t drops, struct kho_now now,
                uint64_t *ret_sequence)
{
    struct depot *depot = &store->depot;
    struct key_tag tag = key_tag(hash);
    struct index_entry entry = {0};
    struct log_look look;
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    if (depot->index == NULL || depot->map.bytes == NULL)
        return KHO_ENOMAP;
    KHO_ASSERT(partition < depot->map.partitions);
    if (depot->read_only)
        return KHO_EREADONLY;
    const struct floor *floor = &depot->manifest.floors[partition];
    bool there = index_get(depot->index, record->collection, partition, tag, &entry);
    log_look(&store->log, record->collection, partition, tag, record, &look);
    uint64_t known = kho_max(entry.version.counter, look.found ? look.version.counter : 0);
    if (!copy && too_far(record->version.counter, known, floor->floor, now))
        return KHO_ETOOFAR;
    if (look.same) {
        if (look.same_conflict)
            return KHO_ECONFLICT;
        *ret_sequence = look.same_sequence;
        return 0;
    }
    int order = there ? version_compare(record->version, entry.version) : 1;
    if (order == 0 && same_check(store, tag, record, &entry) != 0)
        return KHO_ECONFLICT;
    /* Below a version whose value is unknown it is stored: that value may be nowhere else (R2). */
    if (order <= 0 && entry.place != PLACE_UNKNOWN) {
        *ret_sequence = store->log.durable;
        return 0;
    }
    if (look.found && version_compare(record->version, look.version) < 0) {
        *ret_sequence = look.sequence;
        return 0;
    }
    bool new_key = !there && !look.found;
    int error = new_key ? floor_check(floor, record, copy, drops) : 0;
    if (error != 0)
        return error;
    bool first_rank = copy || record_is_tombstone(record);
    if (space_refuses(depot, first_rank ? STORE_DELETE_OR_REPAIR : STORE_USER))
        return KHO_ENOSPACE;
    if (new_key && (!memory_left(depot->world) || index_reserve(depot->index, 1) != 0))
        return KHO_EFULL;
    error = log_take(&store->log, partition, tag, record, new_key, now, ret_sequence);
    if (error != 0 && new_key)
        index_unreserve(depot->index, 1);
    return error;
}

uint64_t store_sequence_taken(const struct store *store)
{
    return store->log.sequence;
}

uint64_t store_durable(const struct store *store)
{
    return store->log.durable;
}

int store_failed(const struct store *store)
{
    return store->depot.read_only ? KHO_EREADONLY : 0;
}
