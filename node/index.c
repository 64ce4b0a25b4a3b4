/* index.c: the tables of the index, their entries in the order of their tags, and their digests.
 *
 * A collection gets an array of `partitions` table headers at its first entry, a table its slots at
 * its first entry. A slot holds INDEX_ENTRY_BYTES, packed:
 *
 *     0  8 tag.high      little-endian, as all below
 *     8  1 tag.low
 *     9  8 counter       of the version; bit 63: tombstone. 0: the slot is empty
 *    17  4 writer
 *    21  6 place
 *    27  3 value length
 *
 * The first `capacity` slots are homes (tag.high scaled to the capacity), the few behind them take
 * what spills over the end, so that no entry wraps around. Order is kept by two rules: entries rise
 * with their tags from slot to slot, and between an entry's home and the entry no slot is empty. So
 * a look-up scans from the home and stops at the first empty slot or higher tag, an insertion
 * shifts the rest of its run by one, a removal shifts it back, and growing is one sweep.
 *
 * A table grows by about 15 % when 90 % of its homes are used. An entry that would spill past the
 * last slot at a lower load than that (tags chosen to fall together) lengthens the overflow
 * instead, so crafted keys cost time, not memory.
 *
 * Failure: a new entry earns KHO_EFULL where its table would grow past the memory's bound. A
 * reservation charges its entries to the budget at once; while one is out, growth may pass the
 * bound by what it charged. */
#include "index.h"

#include "store.h"

#include <errno.h>
#include <kho/record.h>

enum {
    CAPACITY_FIRST = 4,
    /* What a reserved entry is charged: its slot at the lowest load after growth, and a share of
     * the slots that a new table has. */
    RESERVE_BYTES = 48,
    VALUE_BYTES_MAX = (1 << 24) - 1,
    OFFSET_VERSION = 9,
    OFFSET_WRITER = 17,
    OFFSET_PLACE = 21,
    OFFSET_VALUE = 27,
    DIGESTED_BYTES = OFFSET_PLACE /* tag and version enter the digest, place and length don't */
};
#define TOMBSTONE_BIT (1ull << 63)

struct table {
    uint8_t *slots;
    uint32_t capacity;
    uint32_t slot_count;
    struct index_digest digest;
};

struct collection {
    uint32_t id;
    uint32_t table_count;
    struct table *tables; /* one a partition */
};

struct index {
    struct shard_world *world;
    uint64_t seed;
    uint32_t partitions;
    uint32_t collection_count;
    struct collection *collections; /* by rising id */
    struct index_digest totals;
    uint64_t memory_bytes;
    uint32_t reserved;
};

static void *take(struct index *index, size_t size)
{
    struct shard_world *world = index->world;
    uint64_t max = world->memory_max;
    if (index->reserved > 0)
        world->memory_max = UINT64_MAX;
    void *memory = world_allocate(world, size, 0);
    world->memory_max = max;
    if (memory != NULL)
        index->memory_bytes += size;
    return memory;
}

static void give_back(struct index *index, void *memory, size_t size)
{
    if (memory == NULL)
        return;
    index->memory_bytes -= size;
    world_release(index->world, memory, size);
}

/* --- One slot --------------------------------------------------------------------------------- */

static inline uint8_t *slot_at(const struct table *table, uint32_t slot)
{
    return table->slots + (size_t)slot * INDEX_ENTRY_BYTES;
}
static inline uint64_t slot_version(const uint8_t *slot)
{
    return kho_load64(slot + OFFSET_VERSION);
}
static inline bool slot_empty(const uint8_t *slot)
{
    return slot_version(slot) == 0;
}
static inline uint32_t home_of(uint64_t high, uint32_t capacity)
{
    return (uint32_t)(((unsigned __int128)high * capacity) >> 64);
}
static inline uint32_t value_bytes_of(const uint8_t *slot)
{
    return kho_load16(slot + OFFSET_VALUE) | (uint32_t)slot[OFFSET_VALUE + 2] << 16;
}
static inline uint64_t place_of(const uint8_t *slot)
{
    return kho_load32(slot + OFFSET_PLACE) | (uint64_t)kho_load16(slot + OFFSET_PLACE + 4) << 32;
}
static inline void place_set(uint8_t *slot, uint64_t place)
{
    KHO_ASSERT(place <= PLACE_UNKNOWN);
    kho_store32(slot + OFFSET_PLACE, (uint32_t)place);
    kho_store16(slot + OFFSET_PLACE + 4, (uint16_t)(place >> 32));
}

static void slot_pack(const struct index_entry *entry, uint8_t *slot)
{
    uint64_t counter = entry->version.counter;
    KHO_ASSERT(counter >= 1 && counter <= KHO_COUNTER_MAX);
    KHO_ASSERT(entry->value_bytes <= KHO_VALUE_MAX);
    kho_store64(slot, entry->tag.high);
    slot[8] = entry->tag.low;
    kho_store64(slot + OFFSET_VERSION, counter | (entry->tombstone ? TOMBSTONE_BIT : 0));
    kho_store32(slot + OFFSET_WRITER, entry->version.writer);
    place_set(slot, entry->place);
    uint32_t value_bytes = (uint32_t)kho_min(entry->value_bytes, VALUE_BYTES_MAX);
    kho_store16(slot + OFFSET_VALUE, (uint16_t)value_bytes);
    slot[OFFSET_VALUE + 2] = (uint8_t)(value_bytes >> 16);
}

static void slot_unpack(const uint8_t *slot, struct index_entry *ret_entry)
{
    uint64_t counter = slot_version(slot);
    ret_entry->tag = (struct key_tag){.high = kho_load64(slot), .low = slot[8]};
    ret_entry->version = (struct version){.counter = counter & ~TOMBSTONE_BIT,
                                          .writer = kho_load32(slot + OFFSET_WRITER)};
    ret_entry->tombstone = (counter & TOMBSTONE_BIT) != 0;
    ret_entry->place = place_of(slot);
    ret_entry->value_bytes = value_bytes_of(slot);
}

/* --- Digests ---------------------------------------------------------------------------------- */

/* Adds what one slot contributes, or takes it away: the sum is modulo 2^128, so taking away is
 * exact. */
static void digest_change(struct index_digest *digest, const struct index_digest *one, bool add)
{
    uint64_t sign = add ? 1 : UINT64_MAX;
    digest->count += sign * one->count;
    digest->tombstones += sign * one->tombstones;
    digest->bytes += sign * one->bytes;
    unsigned __int128 sum = (unsigned __int128)digest->sum_high << 64 | digest->sum_low;
    unsigned __int128 part = (unsigned __int128)one->sum_high << 64 | one->sum_low;
    sum = add ? sum + part : sum - part;
    digest->sum_low = (uint64_t)sum;
    digest->sum_high = (uint64_t)(sum >> 64);
}

static void digest_slot(struct index *index, struct table *table, const uint8_t *slot, bool add)
{
    XXH128_hash_t hash = XXH3_128bits_withSeed(slot, DIGESTED_BYTES, index->seed);
    struct index_digest one = {
        .count = 1,
        .tombstones = (slot_version(slot) & TOMBSTONE_BIT) != 0,
        .bytes = (uint64_t)KHO_RECORD_HEAD + value_bytes_of(slot),
        .sum_low = hash.low64,
        .sum_high = hash.high64,
    };
    digest_change(&table->digest, &one, add);
    digest_change(&index->totals, &one, add);
}

/* --- Tables ----------------------------------------------------------------------------------- */

/* The first slot at or after the tag's home that is empty or holds this tag or a higher one;
 * slot_count if the overflow ends before. */
static inline uint32_t table_find(const struct table *table, struct key_tag tag)
{
    uint32_t slot = home_of(tag.high, table->capacity);
    const uint8_t *p = slot_at(table, slot);
    for (; slot < table->slot_count; slot++, p += INDEX_ENTRY_BYTES) {
        uint64_t high = kho_load64(p);
        if (slot_empty(p) || high > tag.high || (high == tag.high && p[8] >= tag.low))
            break;
    }
    return slot;
}

static inline bool slot_is(const struct table *table, uint32_t slot, struct key_tag tag)
{
    if (slot == table->slot_count)
        return false;
    const uint8_t *p = slot_at(table, slot);
    return !slot_empty(p) && kho_load64(p) == tag.high && p[8] == tag.low;
}

static void table_free(struct index *index, struct table *table)
{
    give_back(index, table->slots, (size_t)table->slot_count * INDEX_ENTRY_BYTES);
    memset(table, 0, sizeof *table);
}

/* How many slots a table of that capacity has: its homes, the overflow that a random choice of tags
 * hardly ever fills, and room for the one that its entries need. */
static uint32_t slots_needed(const struct table *table, uint32_t capacity)
{
    uint32_t overflow = (uint32_t)kho_min(2 + capacity / 8, 24);
    uint32_t end = 0;
    for (uint32_t slot = 0; slot < table->slot_count; slot++) {
        const uint8_t *p = slot_at(table, slot);
        if (!slot_empty(p))
            end = (uint32_t)kho_max(home_of(kho_load64(p), capacity), end) + 1;
    }
    return (uint32_t)kho_max(capacity + overflow, end + 8);
}

/* Moves the table's entries to `capacity` homes. KHO_EFULL: no memory, and nothing happened. */
static int table_resize(struct index *index, struct table *table, uint32_t capacity)
{
    struct table grown = {.capacity = capacity, .digest = table->digest};
    grown.slot_count = slots_needed(table, capacity);
    size_t size = (size_t)grown.slot_count * INDEX_ENTRY_BYTES;
    grown.slots = take(index, size);
    if (grown.slots == NULL)
        return KHO_EFULL;
    memset(grown.slots, 0, size);
    uint32_t to = 0;
    for (uint32_t slot = 0; slot < table->slot_count; slot++) {
        const uint8_t *p = slot_at(table, slot);
        if (slot_empty(p))
            continue;
        to = (uint32_t)kho_max(home_of(kho_load64(p), capacity), to);
        memcpy(slot_at(&grown, to++), p, INDEX_ENTRY_BYTES);
    }
    KHO_ASSERT(to <= grown.slot_count);
    give_back(index, table->slots, (size_t)table->slot_count * INDEX_ENTRY_BYTES);
    *table = grown;
    return 0;
}

/* The end of the run that `slot` is in: its first empty slot, or slot_count. */
static uint32_t table_run_end(const struct table *table, uint32_t slot)
{
    while (slot < table->slot_count && !slot_empty(slot_at(table, slot)))
        slot++;
    return slot;
}

/* Makes the slot empty where the absent tag belongs, growing the table as needed. */
static int table_open(struct index *index, struct table *table, struct key_tag tag,
                      uint32_t *ret_slot)
{
    int rc = 0;
    if (table->slots == NULL)
        rc = table_resize(index, table, CAPACITY_FIRST);
    else if ((table->digest.count + 1) * 10 > (uint64_t)table->capacity * 9)
        rc = table_resize(index, table, table->capacity + table->capacity * 3 / 20 + 2);
    if (rc != 0)
        return rc;
    uint32_t slot = table_find(table, tag);
    uint32_t end = table_run_end(table, slot);
    if (end == table->slot_count) {
        rc = table_resize(index, table, table->capacity);
        if (rc != 0)
            return rc;
        slot = table_find(table, tag);
        end = table_run_end(table, slot);
        KHO_ASSERT(end < table->slot_count);
    }
    memmove(slot_at(table, slot) + INDEX_ENTRY_BYTES, slot_at(table, slot),
            (size_t)(end - slot) * INDEX_ENTRY_BYTES);
    *ret_slot = slot;
    return 0;
}

/* Closes the gap at `slot`: what follows in the run moves back, as far as homes allow. */
static void table_close_gap(struct table *table, uint32_t slot)
{
    uint32_t end = slot + 1;
    while (end < table->slot_count) {
        const uint8_t *p = slot_at(table, end);
        if (slot_empty(p) || home_of(kho_load64(p), table->capacity) == end)
            break;
        end++;
    }
    memmove(slot_at(table, slot), slot_at(table, slot) + INDEX_ENTRY_BYTES,
            (size_t)(end - slot - 1) * INDEX_ENTRY_BYTES);
    memset(slot_at(table, end - 1), 0, INDEX_ENTRY_BYTES);
}

/* --- Collections ------------------------------------------------------------------------------ */

/* Where the collection is, or would be, among the sorted ones. Ids are handed out from 1, so the
 * first guess nearly always holds. */
static uint32_t collection_place(const struct index *index, uint32_t id)
{
    uint32_t low = 0, high = index->collection_count;
    if (id >= 1 && id <= high && index->collections[id - 1].id == id)
        return id - 1;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (index->collections[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct collection *collection_find(const struct index *index, uint32_t id)
{
    uint32_t at = collection_place(index, id);
    if (at < index->collection_count && index->collections[at].id == id)
        return &index->collections[at];
    return NULL;
}

static struct collection *collection_make(struct index *index, uint32_t id)
{
    uint32_t at = collection_place(index, id), count = index->collection_count;
    size_t tables_size = index->partitions * sizeof(struct table);
    struct table *tables = take(index, tables_size);
    struct collection *collections = take(index, (count + 1) * sizeof *collections);
    if (tables == NULL || collections == NULL) {
        give_back(index, tables, tables_size);
        give_back(index, collections, (count + 1) * sizeof *collections);
        return NULL;
    }
    memset(tables, 0, tables_size);
    for (uint32_t i = 0; i < count; i++)
        collections[i < at ? i : i + 1] = index->collections[i];
    collections[at] = (struct collection){.id = id, .tables = tables};
    give_back(index, index->collections, count * sizeof *collections);
    index->collections = collections;
    index->collection_count = count + 1;
    return &collections[at];
}

/* The table, or NULL where it has no entry. */
static struct table *table_get(const struct index *index, uint32_t collection, uint32_t partition)
{
    KHO_ASSERT(partition < index->partitions);
    struct collection *c = collection_find(index, collection);
    if (c == NULL || c->tables[partition].slots == NULL)
        return NULL;
    return &c->tables[partition];
}

/* --- The door --------------------------------------------------------------------------------- */

int index_create(struct shard_world *world, uint32_t partitions, uint64_t seed,
                 struct index **ret_index)
{
    KHO_ASSERT(partitions >= 1 && partitions <= KHO_PARTITIONS_MAX);
    struct index *index = world_allocate(world, sizeof *index, 0);
    if (index == NULL)
        return -ENOMEM;
    *index = (struct index){.world = world, .seed = seed, .partitions = partitions};
    index->memory_bytes = sizeof *index;
    *ret_index = index;
    return 0;
}

void index_destroy(struct index *index)
{
    if (index == NULL)
        return;
    index_unreserve(index, index->reserved);
    for (uint32_t i = 0; i < index->collection_count; i++) {
        struct collection *c = &index->collections[i];
        for (uint32_t p = 0; p < index->partitions; p++)
            table_free(index, &c->tables[p]);
        give_back(index, c->tables, index->partitions * sizeof *c->tables);
    }
    give_back(index, index->collections, index->collection_count * sizeof *index->collections);
    KHO_ASSERT(index->memory_bytes == sizeof *index);
    world_release(index->world, index, sizeof *index);
}

bool index_get(const struct index *index, uint32_t collection, uint32_t partition,
               struct key_tag tag, struct index_entry *ret_entry)
{
    struct table *table = table_get(index, collection, partition);
    if (table == NULL)
        return false;
    uint32_t slot = table_find(table, tag);
    if (!slot_is(table, slot, tag))
        return false;
    slot_unpack(slot_at(table, slot), ret_entry);
    return true;
}

void index_prefetch(const struct index *index, uint32_t collection, uint32_t partition,
                    struct key_tag tag, int step)
{
    const struct collection *c = collection_find(index, collection);
    if (c == NULL || partition >= index->partitions)
        return;
    const struct table *table = &c->tables[partition];
    if (step == 0) {
        __builtin_prefetch(table);
    } else if (table->slots != NULL) {
        /* The home and what is likely scanned behind it lie in two or three lines. */
        const uint8_t *home = slot_at(table, home_of(tag.high, table->capacity));
        __builtin_prefetch(home);
        __builtin_prefetch(home + 64);
    }
}

int index_put(struct index *index, uint32_t collection, uint32_t partition,
              const struct index_entry *entry)
{
    KHO_ASSERT(partition < index->partitions);
    struct collection *c = collection_find(index, collection);
    if (c == NULL && (c = collection_make(index, collection)) == NULL)
        return KHO_EFULL;
    struct table *table = &c->tables[partition];
    bool made = table->slots == NULL;
    uint32_t slot = made ? 0 : table_find(table, entry->tag);
    if (!made && slot_is(table, slot, entry->tag)) {
        digest_slot(index, table, slot_at(table, slot), false);
    } else {
        int rc = table_open(index, table, entry->tag, &slot);
        if (rc != 0)
            return rc;
        c->table_count += made;
    }
    slot_pack(entry, slot_at(table, slot));
    digest_slot(index, table, slot_at(table, slot), true);
    return 0;
}

int index_reserve(struct index *index, uint32_t count)
{
    struct shard_world *world = index->world;
    uint64_t bytes = (uint64_t)count * RESERVE_BYTES;
    if (world->memory_bytes > world->memory_max || bytes > world->memory_max - world->memory_bytes)
        return KHO_EFULL;
    world->memory_bytes += bytes;
    index->reserved += count;
    return 0;
}

void index_unreserve(struct index *index, uint32_t count)
{
    KHO_ASSERT(count <= index->reserved);
    index->reserved -= count;
    index->world->memory_bytes -= (uint64_t)count * RESERVE_BYTES;
}

bool index_remove(struct index *index, uint32_t collection, uint32_t partition, struct key_tag tag)
{
    struct table *table = table_get(index, collection, partition);
    if (table == NULL)
        return false;
    uint32_t slot = table_find(table, tag);
    if (!slot_is(table, slot, tag))
        return false;
    digest_slot(index, table, slot_at(table, slot), false);
    table_close_gap(table, slot);
    if (table->digest.count == 0) {
        table_free(index, table);
        collection_find(index, collection)->table_count--;
    }
    return true;
}

bool index_repoint(struct index *index, uint32_t collection, uint32_t partition, struct key_tag tag,
                   uint64_t place)
{
    struct table *table = table_get(index, collection, partition);
    if (table == NULL)
        return false;
    uint32_t slot = table_find(table, tag);
    if (!slot_is(table, slot, tag))
        return false;
    place_set(slot_at(table, slot), place);
    return true;
}

void index_drop_partition(struct index *index, uint32_t partition)
{
    KHO_ASSERT(partition < index->partitions);
    for (uint32_t i = 0; i < index->collection_count; i++) {
        struct table *table = &index->collections[i].tables[partition];
        if (table->slots == NULL)
            continue;
        digest_change(&index->totals, &table->digest, false);
        table_free(index, table);
        index->collections[i].table_count--;
    }
}

bool index_next(const struct index *index, uint32_t collection, uint32_t partition,
                struct key_tag from, struct index_entry *ret_entry)
{
    const struct table *table = table_get(index, collection, partition);
    if (table == NULL)
        return false;
    /* Whatever lies behind an empty slot that the search met has its home there, so a higher tag.
     */
    for (uint32_t slot = table_find(table, from); slot < table->slot_count; slot++) {
        if (slot_empty(slot_at(table, slot)))
            continue;
        slot_unpack(slot_at(table, slot), ret_entry);
        return true;
    }
    return false;
}

bool index_digest(const struct index *index, uint32_t collection, uint32_t partition,
                  struct index_digest *ret_digest)
{
    const struct table *table = table_get(index, collection, partition);
    *ret_digest = table != NULL ? table->digest : (struct index_digest){0};
    return table != NULL;
}

uint32_t index_collections(const struct index *index, uint32_t *ret_ids, uint32_t max)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < index->collection_count; i++) {
        if (index->collections[i].table_count == 0)
            continue;
        if (count < max)
            ret_ids[count] = index->collections[i].id;
        count++;
    }
    return count;
}

static void table_scan(struct table *table, uint32_t collection, uint32_t partition,
                       bool (*each)(void *arg, uint32_t collection, uint32_t partition,
                                    struct index_entry *entry),
                       void *arg)
{
    for (uint32_t slot = 0; slot < table->slot_count; slot++) {
        uint8_t *p = slot_at(table, slot);
        struct index_entry entry;
        if (slot_empty(p))
            continue;
        slot_unpack(p, &entry);
        if (each(arg, collection, partition, &entry))
            place_set(p, entry.place);
    }
}

void index_scan(struct index *index,
                bool (*each)(void *arg, uint32_t collection, uint32_t partition,
                             struct index_entry *entry),
                void *arg)
{
    for (uint32_t i = 0; i < index->collection_count; i++)
        for (uint32_t p = 0; p < index->partitions; p++)
            table_scan(&index->collections[i].tables[p], index->collections[i].id, p, each, arg);
}

void index_totals(const struct index *index, struct index_digest *ret_totals)
{
    *ret_totals = index->totals;
}

uint64_t index_memory(const struct index *index)
{
    return index->memory_bytes;
}
