/* index.c: the tables of the index, their digests, and what the index takes of the memory.
 *
 * A collection gets an array of `partitions` tables at its first entry. A table is a digest and a
 * tree of entries (tree.h), whose cells have the slabs of the whole index in common (cells.h).
 *
 * Failure: a new entry earns KHO_EFULL where its cells would need a slab past the memory's bound. A
 * reservation charges its entries to the budget at once; while one is out, slabs may pass the bound
 * by what it charged. */
#include "index.h"

#include "store.h"
#include "tree.h"

#include <errno.h>
#include <kho/record.h>

enum {
    /* What a reserved entry is charged: an entry, its print, and its share of a bucket that was
     * just split and of slabs that were just begun. */
    RESERVE_BYTES = 48,
    DIGESTED_BYTES = 21,
    DIGESTED_VERSION = 9,
    DIGESTED_WRITER = 17
};
#define TOMBSTONE_BIT (1ull << 63)

struct table {
    struct index_digest digest;
    struct tree tree;
};

struct collection {
    uint32_t id;
    uint32_t
        ordinal; /* in the order of their coming: table numbers begin at ordinal * partitions */
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
    uint32_t reserved;
    struct cells cells;
};

/* --- Digests ---------------------------------------------------------------------------------- */

/* Adds what one entry contributes, or takes it away: the sum is modulo 2^128, so taking away is
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

/* `entry` is as the index holds it (bucket_get), so that what is taken away is what was added. */
static void digest_entry(struct index *index, struct table *table, const struct index_entry *entry,
                         bool add)
{
    uint8_t bytes[DIGESTED_BYTES];
    kho_store64(bytes, entry->tag.high);
    bytes[8] = entry->tag.low;
    kho_store64(bytes + DIGESTED_VERSION,
                entry->version.counter | (entry->tombstone ? TOMBSTONE_BIT : 0));
    kho_store32(bytes + DIGESTED_WRITER, entry->version.writer);
    XXH128_hash_t hash = XXH3_128bits_withSeed(bytes, sizeof bytes, index->seed);
    struct index_digest one = {
        .count = 1,
        .tombstones = entry->tombstone,
        .bytes = (uint64_t)KHO_RECORD_HEAD + kho_min(entry->value_bytes, INDEX_VALUE_MAX),
        .sum_low = hash.low64,
        .sum_high = hash.high64,
    };
    digest_change(&table->digest, &one, add);
    digest_change(&index->totals, &one, add);
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
    struct cells *cells = &index->cells;
    size_t tables_size = index->partitions * sizeof(struct table);
    struct table *tables = cells_allocate(cells, tables_size);
    struct collection *collections = cells_allocate(cells, (count + 1) * sizeof *collections);
    if (tables == NULL || collections == NULL) {
        cells_release(cells, tables, tables_size);
        cells_release(cells, collections, (count + 1) * sizeof *collections);
        return NULL;
    }
    memset(tables, 0, tables_size);
    for (uint32_t i = 0; i < count; i++)
        collections[i < at ? i : i + 1] = index->collections[i];
    collections[at] = (struct collection){.id = id, .ordinal = count, .tables = tables};
    cells_release(cells, index->collections, count * sizeof *collections);
    index->collections = collections;
    index->collection_count = count + 1;
    return &collections[at];
}

/* The table, or NULL where it has no entry. */
static struct table *table_get(const struct index *index, uint32_t collection, uint32_t partition)
{
    KHO_ASSERT(partition < index->partitions);
    struct collection *c = collection_find(index, collection);
    if (c == NULL || c->tables[partition].tree.root == 0)
        return NULL;
    return &c->tables[partition];
}

/* An entry's bucket and its number there. False: it isn't there; *ret_bucket is 0 without a table.
 */
static bool table_find(const struct index *index, const struct table *table, struct key_tag tag,
                       cell_ref *ret_bucket, uint32_t *ret_i)
{
    *ret_bucket = 0;
    if (table == NULL || table->tree.root == 0)
        return false;
    *ret_bucket = tree_bucket(&index->cells, &table->tree, tag);
    const uint8_t *bucket = cell_at(&index->cells, *ret_bucket);
    *ret_i = bucket_find(bucket, tag);
    return *ret_i < bucket_count(bucket);
}

static void table_clear(struct index *index, struct collection *collection, struct table *table)
{
    tree_clear(&index->cells, &table->tree);
    memset(table, 0, sizeof *table);
    collection->table_count--;
}

/* A cell of the index has got another place. */
static void index_cell_moved(void *arg, cell_ref owner, cell_ref from, cell_ref to)
{
    struct index *index = arg;
    struct tree *tree = NULL;
    if ((owner & TREE_TABLE) != 0) {
        uint32_t number = owner & ~TREE_TABLE, i = 0;
        while (index->collections[i].ordinal != number / index->partitions)
            KHO_ASSERT(++i < index->collection_count);
        tree = &index->collections[i].tables[number % index->partitions].tree;
    }
    tree_moved(&index->cells, tree, from, to);
}

/* --- The door --------------------------------------------------------------------------------- */

int index_create(struct shard_world *world, uint32_t partitions, uint64_t seed,
                 struct index **ret_index)
{
    KHO_ASSERT(partitions >= 1 && partitions <= KHO_PARTITIONS_MAX);
    struct index *index = world_allocate(world, sizeof *index, 0);
    if (index == NULL)
        return -ENOMEM;
    memset(index, 0, sizeof *index);
    index->world = world;
    index->seed = seed;
    index->partitions = partitions;
    uint32_t sizes[TREE_POOLS];
    tree_sizes(sizes);
    cells_init(&index->cells, world, sizes, TREE_POOLS, index_cell_moved, index);
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
            tree_clear(&index->cells, &c->tables[p].tree);
        cells_release(&index->cells, c->tables, index->partitions * sizeof *c->tables);
    }
    cells_release(&index->cells, index->collections,
                  index->collection_count * sizeof *index->collections);
    cells_fini(&index->cells);
    world_release(index->world, index, sizeof *index);
}

bool index_get(const struct index *index, uint32_t collection, uint32_t partition,
               struct key_tag tag, struct index_entry *ret_entry)
{
    cell_ref bucket;
    uint32_t i;
    if (!table_find(index, table_get(index, collection, partition), tag, &bucket, &i))
        return false;
    bucket_get(cell_at(&index->cells, bucket), i, ret_entry);
    return true;
}

void index_prefetch(const struct index *index, uint32_t collection, uint32_t partition,
                    struct key_tag tag, uint32_t step)
{
    const struct collection *c = collection_find(index, collection);
    if (c == NULL || partition >= index->partitions)
        return;
    const struct table *table = &c->tables[partition];
    if (step == 0) {
        __builtin_prefetch(table);
        return;
    }
    if (table->tree.root == 0)
        return;
    if (step == 1) {
        __builtin_prefetch(tree_slot(&index->cells, &table->tree, tag));
        return;
    }
    const uint8_t *bucket = cell_at(&index->cells, tree_bucket(&index->cells, &table->tree, tag));
    if (step == 2)
        bucket_prefetch_prints(bucket);
    else
        bucket_prefetch_entry(bucket, tag);
}

/* Puts an entry where table_find() said that it is, or belongs. */
static int put_at(struct index *index, struct collection *c, struct table *table, cell_ref bucket,
                  const struct index_entry *entry)
{
    bool made = bucket == 0;
    uint32_t partition = (uint32_t)(table - c->tables);
    cell_ref owner = TREE_TABLE | (c->ordinal * index->partitions + partition);
    int rc = made ? tree_create(&index->cells, &table->tree, owner, entry)
                  : tree_add(&index->cells, &table->tree, bucket, entry);
    cells_settle(&index->cells);
    if (rc != 0)
        return rc;
    c->table_count += made;
    digest_entry(index, table, entry, true);
    return 0;
}

static void replace_at(struct index *index, struct table *table, cell_ref bucket, uint32_t i,
                       const struct index_entry *old, const struct index_entry *entry)
{
    digest_entry(index, table, old, false);
    bucket_set(cell_at(&index->cells, bucket), i, entry);
    digest_entry(index, table, entry, true);
}

int index_put_higher(struct index *index, uint32_t collection, uint32_t partition,
                     const struct index_entry *entry, bool *ret_there, struct index_entry *ret_old)
{
    KHO_ASSERT(partition < index->partitions);
    struct collection *c = collection_find(index, collection);
    if (c == NULL && (c = collection_make(index, collection)) == NULL)
        return KHO_EFULL;
    struct table *table = &c->tables[partition];
    cell_ref bucket;
    uint32_t i;
    *ret_there = table_find(index, table, entry->tag, &bucket, &i);
    if (!*ret_there) {
        int rc = put_at(index, c, table, bucket, entry);
        return rc != 0 ? rc : 1;
    }
    bucket_get(cell_at(&index->cells, bucket), i, ret_old);
    int order = version_compare(entry->version, ret_old->version);
    if (order < 0 || (order == 0 && entry->place == PLACE_UNKNOWN))
        return 0;
    replace_at(index, table, bucket, i, ret_old, entry);
    return 1;
}

int index_put(struct index *index, uint32_t collection, uint32_t partition,
              const struct index_entry *entry)
{
    KHO_ASSERT(partition < index->partitions);
    struct collection *c = collection_find(index, collection);
    if (c == NULL && (c = collection_make(index, collection)) == NULL)
        return KHO_EFULL;
    struct table *table = &c->tables[partition];
    struct index_entry old;
    cell_ref bucket;
    uint32_t i;
    if (!table_find(index, table, entry->tag, &bucket, &i))
        return put_at(index, c, table, bucket, entry);
    bucket_get(cell_at(&index->cells, bucket), i, &old);
    replace_at(index, table, bucket, i, &old, entry);
    return 0;
}

int index_reserve(struct index *index, uint32_t count)
{
    struct shard_world *world = index->world;
    uint64_t bytes = (uint64_t)count * RESERVE_BYTES;
    uint64_t charged = (uint64_t)index->reserved * RESERVE_BYTES + bytes;
    if (world->memory_bytes > world->memory_max || bytes > world->memory_max - world->memory_bytes)
        return KHO_EFULL;
    if (index->cells.bytes + charged > CELLS_BYTES_MAX)
        return KHO_EFULL;
    world->memory_bytes += bytes;
    index->reserved += count;
    index->cells.beyond = index->reserved > 0;
    return 0;
}

void index_unreserve(struct index *index, uint32_t count)
{
    KHO_ASSERT(count <= index->reserved);
    index->reserved -= count;
    index->cells.beyond = index->reserved > 0;
    index->world->memory_bytes -= (uint64_t)count * RESERVE_BYTES;
}

bool index_remove(struct index *index, uint32_t collection, uint32_t partition, struct key_tag tag)
{
    struct table *table = table_get(index, collection, partition);
    struct index_entry old;
    cell_ref bucket;
    uint32_t i;
    if (!table_find(index, table, tag, &bucket, &i))
        return false;
    bucket_get(cell_at(&index->cells, bucket), i, &old);
    digest_entry(index, table, &old, false);
    bucket_remove(&index->cells, bucket, i);
    if (table->digest.count == 0)
        table_clear(index, collection_find(index, collection), table);
    cells_settle(&index->cells);
    return true;
}

bool index_repoint(struct index *index, uint32_t collection, uint32_t partition, struct key_tag tag,
                   uint64_t place)
{
    cell_ref bucket;
    uint32_t i;
    if (!table_find(index, table_get(index, collection, partition), tag, &bucket, &i))
        return false;
    bucket_repoint(cell_at(&index->cells, bucket), i, place);
    return true;
}

void index_drop_partition(struct index *index, uint32_t partition)
{
    KHO_ASSERT(partition < index->partitions);
    for (uint32_t i = 0; i < index->collection_count; i++) {
        struct table *table = &index->collections[i].tables[partition];
        if (table->tree.root == 0)
            continue;
        digest_change(&index->totals, &table->digest, false);
        table_clear(index, &index->collections[i], table);
    }
    cells_settle(&index->cells);
}

bool index_next(const struct index *index, uint32_t collection, uint32_t partition,
                struct key_tag from, struct index_entry *ret_entry)
{
    const struct table *table = table_get(index, collection, partition);
    return table != NULL && tree_next(&index->cells, &table->tree, from, ret_entry);
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

void index_scan(struct index *index,
                bool (*each)(void *arg, uint32_t collection, uint32_t partition,
                             struct index_entry *entry),
                void *arg)
{
    for (uint32_t n = 0; n < index->collection_count; n++)
        for (uint32_t p = 0; p < index->partitions; p++) {
            const struct collection *c = &index->collections[n];
            struct key_tag from = {0};
            uint8_t *bucket;
            if (c->tables[p].tree.root == 0)
                continue;
            do {
                struct index_entry entry;
                bucket =
                    cell_at(&index->cells, tree_bucket(&index->cells, &c->tables[p].tree, from));
                for (uint32_t i = 0; i < bucket_count(bucket); i++) {
                    bucket_get(bucket, i, &entry);
                    if (each(arg, c->id, p, &entry))
                        bucket_repoint(bucket, i, entry.place);
                }
            } while (tree_behind(bucket, from, &from));
        }
}

void index_totals(const struct index *index, struct index_digest *ret_totals)
{
    *ret_totals = index->totals;
}

uint64_t index_memory(const struct index *index)
{
    return sizeof *index + index->cells.bytes;
}
