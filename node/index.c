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
    struct tree tree; /* first: in the line that index_prefetch() fetches */
    struct index_digest digest;
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

/* Adds an entry, or takes it away. It is as the index holds it (bucket_get), so that what is taken
 * away is what was added. */
static void digest_entry(const struct index *index, struct index_digest *digest,
                         const struct index_entry *entry, bool add)
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
    digest_change(digest, &one, add);
}

/* What a table has got, or lost. */
static void table_change(struct index *index, struct table *table,
                         const struct index_digest *change)
{
    digest_change(&table->digest, change, true);
    digest_change(&index->totals, change, true);
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

void index_prefetch_growth(const struct index *index, uint32_t collection, uint32_t partition,
                           struct key_tag tag)
{
    const struct collection *c = collection_find(index, collection);
    if (c == NULL || partition >= index->partitions || c->tables[partition].tree.root == 0)
        return;
    cell_ref ref = tree_bucket(&index->cells, &c->tables[partition].tree, tag);
    const uint8_t *bucket = cell_at(&index->cells, ref);
    if (bucket_count(bucket) == bucket[BUCKET_ROOM])
        cells_prefetch(&index->cells, ref);
    bucket_prefetch_growth(&index->cells, bucket);
}

/* An empty bucket for a table that has none. */
static int table_begin(struct index *index, struct collection *c, struct table *table)
{
    uint32_t partition = (uint32_t)(table - c->tables);
    cell_ref owner = TREE_TABLE | (c->ordinal * index->partitions + partition);
    int rc = tree_create(&index->cells, &table->tree, owner);
    c->table_count += rc == 0;
    return rc;
}

/* A put is over. */
static void table_settle(struct index *index, struct collection *c, struct table *table)
{
    if (table->digest.count == 0 && table->tree.root != 0)
        table_clear(index, c, table);
    cells_settle(&index->cells);
}

/* Puts an entry that isn't there; `bucket`: what table_find() said. */
static int put_at(struct index *index, struct collection *c, struct table *table, cell_ref bucket,
                  const struct index_entry *entry)
{
    struct index_digest change = {0};
    int rc = bucket == 0 ? table_begin(index, c, table) : 0;
    if (rc == 0)
        rc = tree_add(&index->cells, &table->tree, bucket != 0 ? bucket : table->tree.root, entry);
    if (rc == 0) {
        digest_entry(index, &change, entry, true);
        table_change(index, table, &change);
    }
    table_settle(index, c, table);
    return rc;
}

static void replace_at(struct index *index, struct table *table, cell_ref bucket, uint32_t i,
                       const struct index_entry *old, const struct index_entry *entry)
{
    struct index_digest change = {0};
    if (!KHO_PLANTED(digest_not_updated))
        digest_entry(index, &change, old, false);
    bucket_set(cell_at(&index->cells, bucket), i, entry);
    digest_entry(index, &change, entry, true);
    table_change(index, table, &change);
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
    if (!index_replaces(entry, ret_old) && !KHO_PLANTED(lower_replaces))
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

/* --- Many entries of one table ---------------------------------------------------------------- */

/* What index_put_all() is about. */
struct load {
    struct index *index;
    struct tree *tree;
    const struct index_entry *entries;
    uint32_t count;
    uint32_t at;           /* the next entry */
    uint32_t heads, whole; /* entries whose buckets' heads, or all of them, are being fetched */
    struct index_digest change;
    int64_t unknown;
};

/* True if an entry isn't likely to have the same bucket as the one before it: the root, at least,
 * tells them apart. */
static bool load_parts(const struct load *load, uint32_t i)
{
    const struct index_entry *entry = &load->entries[i];
    uint32_t bits = load->tree->bits;
    return i == 0 || (bits > 0 && (entry[0].tag.high ^ entry[-1].tag.high) >> (64 - bits) != 0);
}

static const uint8_t *load_ahead(const struct load *load, uint32_t i)
{
    const struct cells *cells = &load->index->cells;
    return cell_at(cells, tree_bucket(cells, load->tree, load->entries[i].tag));
}

/* The cache misses of buckets to come overlap with the work on this one: first their heads, then
 * what these say is all that will be read or moved. */
static void load_prefetch(struct load *load)
{
    enum { HEADS_AHEAD = 40, WHOLE_AHEAD = 16 };
    uint32_t heads = (uint32_t)kho_min(load->at + HEADS_AHEAD, load->count);
    uint32_t whole = (uint32_t)kho_min(load->at + WHOLE_AHEAD, load->count);
    for (; load->heads < heads; load->heads++)
        if (load_parts(load, load->heads))
            bucket_prefetch_prints(load_ahead(load, load->heads));
    for (; load->whole < whole; load->whole++)
        if (load_parts(load, load->whole))
            bucket_prefetch_whole(load_ahead(load, load->whole));
}

/* Puts an entry in the place of the one that is there, if its version says so. */
static void load_replace(struct load *load, uint8_t *bucket, uint32_t i,
                         const struct index_entry *entry)
{
    struct index_entry old;
    bucket_get(bucket, i, &old);
    if (!index_replaces(entry, &old))
        return;
    digest_entry(load->index, &load->change, &old, false);
    bucket_set(bucket, i, entry);
    digest_entry(load->index, &load->change, entry, true);
    load->unknown += (entry->place == PLACE_UNKNOWN) - (old.place == PLACE_UNKNOWN);
}

/* Where the entries end that belong to the same bucket as the next one. */
static uint32_t load_end(const struct load *load, const uint8_t *bucket)
{
    struct key_tag behind;
    uint32_t end = load->at + 1;
    if (!tree_behind(bucket, load->entries[load->at].tag, &behind))
        return load->count;
    while (end < load->count && key_tag_compare(load->entries[end].tag, behind) < 0)
        end++;
    return end;
}

/* Puts the next entries that belong to one bucket; or splits it, if it hasn't room for the new ones
 * among them, so that they belong to two. */
static int load_bucket(struct load *load)
{
    struct cells *cells = &load->index->cells;
    cell_ref ref = tree_bucket(cells, load->tree, load->entries[load->at].tag);
    uint8_t *bucket = cell_at(cells, ref);
    const struct index_entry *fresh[BUCKET_ENTRIES_MAX];
    uint32_t count = bucket_count(bucket), end = load_end(load, bucket), fresh_count = 0;
    uint32_t more[2] = {0}; /* new ones by their next bit */
    for (uint32_t at = load->at; at < end; at++) {
        const struct index_entry *entry = &load->entries[at];
        uint32_t i = bucket_find(bucket, entry->tag);
        if (i < count) {
            load_replace(load, bucket, i, entry);
            continue;
        }
        more[tag_bits(entry->tag, bucket[BUCKET_DEPTH]) >> 7]++;
        if (fresh_count < BUCKET_ENTRIES_MAX)
            fresh[fresh_count++] = entry;
    }
    if (count + more[0] + more[1] > BUCKET_ENTRIES_MAX)
        return tree_split(cells, load->tree, ref, more);
    int rc = bucket_reserve(cells, &ref, count + fresh_count);
    if (rc != 0)
        return rc;
    bucket = cell_at(cells, ref);
    for (uint32_t i = 0; i < fresh_count; i++) {
        bucket_append(bucket, fresh[i]);
        digest_entry(load->index, &load->change, fresh[i], true);
        load->unknown += fresh[i]->place == PLACE_UNKNOWN;
    }
    load->at = end;
    return 0;
}

int index_put_all(struct index *index, uint32_t collection, uint32_t partition,
                  const struct index_entry *entries, uint32_t count, int64_t *ret_unknown)
{
    KHO_ASSERT(partition < index->partitions);
    *ret_unknown = 0;
    struct collection *c = collection_find(index, collection);
    if (c == NULL && (c = collection_make(index, collection)) == NULL)
        return KHO_EFULL;
    struct table *table = &c->tables[partition];
    struct load load = {.index = index, .tree = &table->tree, .entries = entries, .count = count};
    int rc = table->tree.root == 0 ? table_begin(index, c, table) : 0;
    while (rc == 0 && load.at < count) {
        load_prefetch(&load);
        rc = load_bucket(&load);
    }
    table_change(index, table, &load.change);
    table_settle(index, c, table);
    *ret_unknown = load.unknown;
    return rc;
}

/* --- Reservations and changes ----------------------------------------------------------------- */

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
    struct index_digest change = {0};
    bucket_get(cell_at(&index->cells, bucket), i, &old);
    digest_entry(index, &change, &old, false);
    table_change(index, table, &change);
    bucket_remove(&index->cells, bucket, i);
    table_settle(index, collection_find(index, collection), table);
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
