/* store_write.c: which write is taken (store.h).
 *
 * A record is compared with what is durable and what is in flight: it is stored, or what is there
 * already answers for it (R1), or it is refused: another value under its version (R6), a counter
 * too far ahead (R6), at or below the floor of an absent key (R7), no room in memory or on the disk
 * (R4). Each refusal comes before anything is taken. */
#include "store_inside.h"

#include <assert.h>

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

/* What becomes of a record: a refusal (below 0), or one of these. */
enum verdict {
    VERDICT_THERE, /* what is there, or on its way, answers for it: *ret_sequence (R1) */
    VERDICT_TAKE
};

static int judge(struct store *store, uint32_t partition, struct key_tag tag,
                 const struct record *record, bool copy, uint64_t drops, struct kho_now now,
                 bool *ret_new_key, uint64_t *ret_sequence)
{
    struct depot *depot = &store->depot;
    struct index_entry entry = {0};
    struct log_look look;
    KHO_ASSERT(partition < depot->map.partitions);
    const struct floor *floor = &depot->manifest.floors[partition];
    bool there = index_get(depot->index, record->collection, partition, tag, &entry);
    log_look(&store->log, record->collection, partition, tag, record, &look);
    uint64_t known = kho_max(entry.version.counter, look.found ? look.version.counter : 0);
    if (!copy && too_far(record->version.counter, known, floor->floor, now))
        return KHO_ETOOFAR;
    if (look.same) {
        *ret_sequence = KHO_PLANTED(retry_acked_early) ? store->log.durable : look.same_sequence;
        return look.same_conflict ? KHO_ECONFLICT : VERDICT_THERE;
    }
    int order = there ? version_compare(record->version, entry.version) : 1;
    if (order == 0 && same_check(store, tag, record, &entry) != 0)
        return KHO_ECONFLICT;
    /* Below a version whose value is unknown it is stored: that value may be nowhere else (R2). */
    if (order <= 0 && entry.place != PLACE_UNKNOWN && !KHO_PLANTED(lower_replaces)) {
        *ret_sequence = store->log.durable;
        return VERDICT_THERE;
    }
    if (look.found && version_compare(record->version, look.version) < 0) {
        *ret_sequence = look.sequence;
        return VERDICT_THERE;
    }
    *ret_new_key = !there && !look.found;
    int error = *ret_new_key ? floor_check(floor, record, copy, drops) : 0;
    if (error != 0)
        return error;
    bool first_rank = copy || record_is_tombstone(record);
    if (space_refuses(depot, first_rank ? STORE_DELETE_OR_REPAIR : STORE_USER))
        return KHO_ENOSPACE;
    return VERDICT_TAKE;
}

/* Why nothing is taken at all, or 0. */
static int closed(const struct store *store)
{
    const struct depot *depot = &store->depot;
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    if (depot->index == NULL || depot->map.bytes == NULL)
        return KHO_ENOMAP;
    return depot->read_only ? KHO_EREADONLY : 0;
}

int store_write(struct store *store, uint32_t partition, struct key_hash hash,
                const struct record *record, bool copy, uint64_t drops, struct kho_now now,
                uint64_t *ret_sequence)
{
    struct depot *depot = &store->depot;
    struct key_tag tag = key_tag(hash);
    bool new_key = false;
    int error = closed(store);
    if (error != 0)
        return error;
    int verdict = judge(store, partition, tag, record, copy, drops, now, &new_key, ret_sequence);
    if (verdict != VERDICT_TAKE)
        return verdict;
    if (new_key && (!memory_left(depot->world) || index_reserve(depot->index, 1) != 0))
        return KHO_EFULL;
    error = log_take(&store->log, partition, tag, record, new_key, now, ret_sequence);
    if (error != 0 && new_key)
        index_unreserve(depot->index, 1);
    return error;
}

/* --- Blocks ----------------------------------------------------------------------------------- */

/* Whether a key is in the block twice: its records would have to be compared with one another. */
static bool key_twice(const struct store_entry *entries, uint32_t count)
{
    enum { SEATS = 1024 };
    static_assert((int)STORE_BLOCK_RECORDS * 2 < (int)SEATS, "a seat is soon found");
    uint16_t seats[SEATS] = {0};
    for (uint32_t i = 0; i < count; i++) {
        struct key_hash hash = entries[i].hash;
        uint32_t seat = (uint32_t)hash.low % SEATS;
        for (; seats[seat] != 0; seat = (seat + 1) % SEATS) {
            struct key_hash other = entries[seats[seat] - 1].hash;
            if (other.low == hash.low && other.high == hash.high)
                return true;
        }
        seats[seat] = (uint16_t)(i + 1);
    }
    return false;
}

bool store_write_block(struct store *store, struct store_entry *entries, uint32_t count,
                       const uint8_t *stored, uint32_t stored_len, uint32_t raw_len,
                       struct kho_now now, uint64_t *ret_sequence)
{
    struct depot *depot = &store->depot;
    uint32_t new_keys = 0;
    uint64_t there;
    KHO_ASSERT(count >= 1 && count <= STORE_BLOCK_RECORDS);
    if (closed(store) != 0 || key_twice(entries, count))
        return false;
    for (uint32_t i = 0; i < count; i++) {
        struct store_entry *e = &entries[i];
        if (judge(store, e->partition, key_tag(e->hash), &e->record, false, 0, now, &e->new_key,
                  &there) != VERDICT_TAKE)
            return false;
        new_keys += e->new_key;
    }
    if (new_keys > 0 && (!memory_left(depot->world) || index_reserve(depot->index, new_keys) != 0))
        return false;
    if (log_take_block(&store->log, entries, count, stored, stored_len, raw_len, now,
                       ret_sequence) == 0)
        return true;
    if (new_keys > 0)
        index_unreserve(depot->index, new_keys);
    return false;
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
