/* index.h: the in-memory index of one shard: which version of each key is durable, and where.
 *
 * One table per (collection, partition), made at its first entry, which grows bucket by bucket: no
 * entry that comes moves more than some KiB. A table is a tree by the bits of the tags (tree.h), so
 * that listing is a sweep in their order and a cursor stays good while the table grows; its leaves
 * are buckets of up to 64 entries of INDEX_ENTRY_BYTES (bucket.h), in cells without holes between
 * them (cells.h). In all a record takes 31 to 32 bytes: tag 9, version 12 (the top bit of the
 * counter marks a tombstone), place 6, value length 3 (a value of exactly 16 MiB counts as one byte
 * less, on every replica alike), and what is left unused.
 *
 * Each table maintains its digest: count, bytes (record heads, keys excluded, and values) and the
 * sum of XXH3-128(tag, version) seeded with the cluster's seed, modulo 2^128. A sum, since XOR
 * would hide an entry that is there twice. Place and damage don't enter it: replicas that hold the
 * same versions have the same digest. */
#ifndef KHO_NODE_INDEX_H
#define KHO_NODE_INDEX_H

#include <kho/key.h>
#include <kho/version.h>

struct shard_world;
struct index;

enum {
    INDEX_ENTRY_BYTES = 29,
    INDEX_PREFETCH_STEPS = 4,
    INDEX_VALUE_MAX = (1 << 24) - 1 /* a longer value counts as so long */
};

/* Where a record's block lies: segment slot (20 bits), offset in the segment / 64 (22 bits), size
 * class of the stored block (6 bits): 48 bits. */
#define PLACE_UNKNOWN 0xFFFFFFFFFFFFu /* the value is damaged; key and version are known (R2) */

struct index_entry {
    struct key_tag tag;
    struct version version;
    bool tombstone;
    uint64_t place;
    uint32_t value_bytes; /* uncompressed length */
};

struct index_digest {
    uint64_t count;
    uint64_t tombstones;
    uint64_t bytes;
    uint64_t sum_low, sum_high;
};

/* Memory comes from the world's budget. `seed` is the cluster's, of the digests. */
int index_create(struct shard_world *world, uint32_t partitions, uint64_t seed,
                 struct index **ret_index);
void index_destroy(struct index *index);

bool index_get(const struct index *index, uint32_t collection, uint32_t partition,
               struct key_tag tag, struct index_entry *ret_entry);
/* Fetches towards the cache what index_get() or index_put() of that key will touch. There are
 * INDEX_PREFETCH_STEPS steps, each of which reads what the one before has fetched: the table, its
 * directory's slot, the bucket's prints, the entry. A look-up that misses the cache costs some 200
 * to 500 ns; whoever has many ahead goes through the steps for all of them first. */
void index_prefetch(const struct index *index, uint32_t collection, uint32_t partition,
                    struct key_tag tag, uint32_t step);
/* After that, what index_put() of a new key touches beside: its place, or the whole bucket, if that
 * is full. */
void index_prefetch_growth(const struct index *index, uint32_t collection, uint32_t partition,
                           struct key_tag tag);
/* True if `entry` takes the place of an older one of its key: unless that has a higher version, or
 * the same one and `entry` no place. */
static inline bool index_replaces(const struct index_entry *entry, const struct index_entry *old)
{
    int order = version_compare(entry->version, old->version);
    return order > 0 || (order == 0 && entry->place != PLACE_UNKNOWN);
}
/* Inserts, or replaces the entry of that tag whatever its version: the caller compares. KHO_EFULL:
 * a new entry, and the memory's bound is reached; replacing never fails. */
int index_put(struct index *index, uint32_t collection, uint32_t partition,
              const struct index_entry *entry);
/* As index_put(), if it index_replaces() what is there: with one look-up. 1: put, 0: left alone;
 * *ret_there and *ret_old: what was there. KHO_EFULL. */
int index_put_higher(struct index *index, uint32_t collection, uint32_t partition,
                     const struct index_entry *entry, bool *ret_there, struct index_entry *ret_old);
/* What index_put_higher() would do with each of these entries of one table, which rise by tag: all
 * that belong to a bucket at once, so that it grows in one step and is fetched towards the cache
 * long before. *ret_unknown: how many more entries than before have no place. KHO_EFULL: some were
 * put, and *ret_unknown tells of these. */
int index_put_all(struct index *index, uint32_t collection, uint32_t partition,
                  const struct index_entry *entries, uint32_t count, int64_t *ret_unknown);
/* Makes sure that `count` further new entries can be put without KHO_EFULL, or says KHO_EFULL. Used
 * before a write is accepted; reservations are given back by index_unreserve as entries land. */
int index_reserve(struct index *index, uint32_t count);
void index_unreserve(struct index *index, uint32_t count);
/* Removes an entry: true if it was there. */
bool index_remove(struct index *index, uint32_t collection, uint32_t partition, struct key_tag tag);
/* Points an existing entry elsewhere, leaving digest and version alone. */
bool index_repoint(struct index *index, uint32_t collection, uint32_t partition, struct key_tag tag,
                   uint64_t place);
/* Drops all tables of a partition (a former replica discards, R5). */
void index_drop_partition(struct index *index, uint32_t partition);
/* The first entry at or after `from`. */
bool index_next(const struct index *index, uint32_t collection, uint32_t partition,
                struct key_tag from, struct index_entry *ret_entry);
/* False, and zeros: no such table. */
bool index_digest(const struct index *index, uint32_t collection, uint32_t partition,
                  struct index_digest *ret_digest);
uint32_t index_collections(const struct index *index, uint32_t *ret_ids, uint32_t max);
/* Calls `each` for all entries of all tables; it may repoint through `entry->place` by returning
 * true. For damage: finding what a block held. */
void index_scan(struct index *index,
                bool (*each)(void *arg, uint32_t collection, uint32_t partition,
                             struct index_entry *entry),
                void *arg);
/* Sums over all tables. */
void index_totals(const struct index *index, struct index_digest *ret_totals);
uint64_t index_memory(const struct index *index);

#endif
