/* tree.c: how directories lead to buckets, grow, and learn that cells have moved.
 *
 * Happy path: an entry goes to its bucket. A full bucket is split first, for which the directory
 * above must tell its next bit: it does already, or doubles, or gets another one below it.
 *
 * Failure: each of these steps leaves a tree that is right and holds the same entries, so that it
 * may end at any of them for want of memory. */
#include "tree.h"

#include <assert.h>
#include <kho/error.h>

static_assert(DIRECTORY_SLOTS % CELL_UNIT == 0, "directories are whole units");
static_assert((int)TREE_POOLS <= (int)CELL_POOLS_MAX, "cells has as many pools");

void tree_sizes(uint32_t *ret_sizes)
{
    for (uint32_t pool = 0; pool < BUCKET_POOLS; pool++)
        ret_sizes[pool] = bucket_size(pool * BUCKET_STEP);
    for (uint32_t bits = 1; bits <= DIRECTORY_BITS_MAX; bits++)
        ret_sizes[BUCKET_POOLS + bits - 1] = DIRECTORY_SLOTS + (4u << bits);
}

/* --- One directory ---------------------------------------------------------------------------- */

static cell_ref slot_get(const uint8_t *directory, uint32_t slot)
{
    return kho_load32(directory + DIRECTORY_SLOTS + 4 * (size_t)slot);
}
static void slot_set(uint8_t *directory, uint32_t slot, cell_ref ref)
{
    kho_store32(directory + DIRECTORY_SLOTS + 4 * (size_t)slot, ref);
}
static uint32_t slot_count(const uint8_t *directory)
{
    return 1u << directory[DIRECTORY_BITS];
}

/* The slots that hold that reference, which lie in a row. Returns how many. */
static uint32_t slots_find(const uint8_t *directory, cell_ref ref, uint32_t *ret_first)
{
    uint32_t first = 0, end, count = slot_count(directory);
    while (slot_get(directory, first) != ref)
        KHO_ASSERT(++first < count);
    for (end = first + 1; end < count && slot_get(directory, end) == ref; end++)
        continue;
    *ret_first = first;
    return end - first;
}

/* The same for a bucket, whose entries tell where: the bits that a directory tells and the bucket
 * doesn't have are those of its slots in a row. */
static uint32_t slots_of_bucket(const uint8_t *directory, const uint8_t *bucket, cell_ref ref,
                                uint32_t *ret_first)
{
    uint32_t told = (uint32_t)directory[DIRECTORY_BASE] + directory[DIRECTORY_BITS];
    struct index_entry entry;
    if (bucket_count(bucket) == 0)
        return slots_find(directory, ref, ret_first);
    bucket_get(bucket, 0, &entry);
    uint32_t slot =
        tag_bits(entry.tag, directory[DIRECTORY_BASE]) >> (8 - directory[DIRECTORY_BITS]);
    uint32_t count = 1u << (told - bucket[BUCKET_DEPTH]);
    *ret_first = slot & ~(count - 1);
    KHO_ASSERT(slot_get(directory, *ret_first) == ref);
    return count;
}

static void slots_set(uint8_t *directory, uint32_t first, uint32_t count, cell_ref to)
{
    for (uint32_t i = 0; i < count; i++)
        slot_set(directory, first + i, to);
}

static void slots_replace(uint8_t *directory, cell_ref from, cell_ref to)
{
    uint32_t first, count = slots_find(directory, from, &first);
    slots_set(directory, first, count, to);
}

/* A directory without references. 0: no memory. */
static cell_ref directory_make(struct cells *cells, cell_ref owner, uint32_t bits, uint32_t base)
{
    KHO_ASSERT(bits >= 1 && bits <= DIRECTORY_BITS_MAX);
    cell_ref ref = cells_take(cells, BUCKET_POOLS + bits - 1, owner);
    if (ref == 0)
        return 0;
    uint8_t *directory = cell_at(cells, ref);
    directory[CELL_KIND] = CELL_DIRECTORY;
    directory[DIRECTORY_BITS] = (uint8_t)bits;
    directory[DIRECTORY_BASE] = (uint8_t)base;
    directory[DIRECTORY_BASE + 1] = 0;
    return ref;
}

static void directory_give(struct cells *cells, cell_ref ref)
{
    cells_give(cells, ref, BUCKET_POOLS + cell_at(cells, ref)[DIRECTORY_BITS] - 1u);
}

/* --- Moves ------------------------------------------------------------------------------------ */

/* Makes the directory the owner of what it refers to. */
static void directory_own(const struct cells *cells, cell_ref ref)
{
    const uint8_t *directory = cell_at(cells, ref);
    for (uint32_t slot = 0; slot < slot_count(directory); slot++)
        if (slot == 0 || slot_get(directory, slot) != slot_get(directory, slot - 1))
            kho_store32(cell_at(cells, slot_get(directory, slot) & ~TREE_DIRECTORY), ref);
}

void tree_moved(const struct cells *cells, struct tree *tree, cell_ref from, cell_ref to)
{
    const uint8_t *cell = cell_at(cells, to);
    cell_ref flag = cell[CELL_KIND] == CELL_DIRECTORY ? TREE_DIRECTORY : 0;
    if (tree != NULL) {
        KHO_ASSERT(tree->root == (from | flag));
        *tree = (struct tree){.root = to | flag, .bits = flag != 0 ? cell[DIRECTORY_BITS] : 0};
    } else if (flag != 0) {
        slots_replace(cell_at(cells, cell_owner(cell)), from | flag, to | flag);
    } else {
        uint8_t *directory = cell_at(cells, cell_owner(cell));
        uint32_t first, count = slots_of_bucket(directory, cell, from, &first);
        slots_set(directory, first, count, to);
    }
    if (flag != 0)
        directory_own(cells, to);
}

/* --- Growing ---------------------------------------------------------------------------------- */

/* Puts a directory of one bit between a bucket and its owner. */
static int directory_insert(struct cells *cells, struct tree *tree, cell_ref bucket)
{
    const uint8_t *cell = cell_at(cells, bucket);
    cell_ref owner = cell_owner(cell);
    cell_ref ref = directory_make(cells, owner, 1, cell[BUCKET_DEPTH]);
    if (ref == 0)
        return KHO_EFULL;
    uint8_t *directory = cell_at(cells, ref);
    slot_set(directory, 0, bucket);
    slot_set(directory, 1, bucket);
    directory_own(cells, ref);
    if ((owner & TREE_TABLE) != 0)
        *tree = (struct tree){.root = ref | TREE_DIRECTORY, .bits = 1};
    else
        slots_replace(cell_at(cells, owner), bucket, ref | TREE_DIRECTORY);
    return 0;
}

/* Lets a directory tell one bit more. */
static int directory_double(struct cells *cells, cell_ref from_ref)
{
    const uint8_t *from = cell_at(cells, from_ref);
    cell_ref to_ref =
        directory_make(cells, cell_owner(from), from[DIRECTORY_BITS] + 1u, from[DIRECTORY_BASE]);
    if (to_ref == 0)
        return KHO_EFULL;
    uint8_t *to = cell_at(cells, to_ref);
    for (uint32_t slot = 0; slot < slot_count(to); slot++)
        slot_set(to, slot, slot_get(from, slot / 2));
    directory_give(cells, from_ref);
    cells_moved(cells, from_ref, to_ref);
    return 0;
}

/* Sees to it that a directory above the bucket tells its next bit. */
static int directory_tell(struct cells *cells, struct tree *tree, cell_ref ref)
{
    const uint8_t *bucket = cell_at(cells, ref);
    cell_ref owner = cell_owner(bucket);
    if ((owner & TREE_TABLE) != 0)
        return directory_insert(cells, tree, ref);
    const uint8_t *directory = cell_at(cells, owner);
    uint32_t told = (uint32_t)directory[DIRECTORY_BASE] + directory[DIRECTORY_BITS];
    KHO_ASSERT(bucket[BUCKET_DEPTH] <= told);
    if (bucket[BUCKET_DEPTH] < told)
        return 0;
    return directory[DIRECTORY_BITS] < DIRECTORY_BITS_MAX ? directory_double(cells, owner)
                                                          : directory_insert(cells, tree, ref);
}

int tree_split(struct cells *cells, struct tree *tree, cell_ref ref, const uint32_t more[2])
{
    cell_ref halves[2];
    int rc = directory_tell(cells, tree, ref);
    if (rc == 0)
        rc = bucket_split(cells, ref, more, halves);
    if (rc != 0)
        return rc;
    uint8_t *directory = cell_at(cells, cell_owner(cell_at(cells, halves[0])));
    uint32_t first, count = slots_find(directory, ref, &first);
    KHO_ASSERT(count % 2 == 0);
    for (uint32_t i = 0; i < count; i++)
        slot_set(directory, first + i, halves[i >= count / 2]);
    return 0;
}

int tree_create(struct cells *cells, struct tree *tree, cell_ref table)
{
    KHO_ASSERT(tree->root == 0 && (table & TREE_TABLE) != 0);
    *tree = (struct tree){.root = bucket_create(cells, table, 0, 0)};
    return tree->root != 0 ? 0 : KHO_EFULL;
}

int tree_add(struct cells *cells, struct tree *tree, cell_ref bucket,
             const struct index_entry *entry)
{
    static const uint32_t no_more[2];
    while (bucket_count(cell_at(cells, bucket)) == BUCKET_ENTRIES_MAX) {
        int rc = tree_split(cells, tree, bucket, no_more);
        if (rc != 0)
            return rc;
        bucket = tree_bucket(cells, tree, entry->tag);
    }
    return bucket_add(cells, bucket, entry);
}

/* --- Sweeping --------------------------------------------------------------------------------- */

bool tree_behind(const uint8_t *bucket, struct key_tag tag, struct key_tag *ret_tag)
{
    uint32_t depth = bucket[BUCKET_DEPTH];
    if (depth == 0)
        return false;
    /* One is added at the lowest of the bucket's bits; those below are 0. */
    if (depth > 64) {
        uint8_t step = (uint8_t)(1u << (72 - depth));
        *ret_tag = (struct key_tag){.high = tag.high, .low = (uint8_t)((tag.low & -step) + step)};
        ret_tag->high += ret_tag->low == 0;
    } else {
        uint64_t step = UINT64_C(1) << (64 - depth);
        *ret_tag = (struct key_tag){.high = (tag.high & -step) + step, .low = 0};
    }
    return ret_tag->high != 0 || ret_tag->low != 0;
}

bool tree_next(const struct cells *cells, const struct tree *tree, struct key_tag from,
               struct index_entry *ret_entry)
{
    const uint8_t *bucket;
    do {
        bucket = cell_at(cells, tree_bucket(cells, tree, from));
        uint32_t i = bucket_next(bucket, from);
        if (i < bucket_count(bucket)) {
            bucket_get(bucket, i, ret_entry);
            return true;
        }
    } while (tree_behind(bucket, from, &from));
    return false;
}

/* The depth of the recursion is that of the tree: at most 10. */
static void cell_clear(struct cells *cells, cell_ref ref)
{
    if ((ref & TREE_DIRECTORY) == 0) {
        bucket_destroy(cells, ref);
        return;
    }
    ref &= ~TREE_DIRECTORY;
    const uint8_t *directory = cell_at(cells, ref);
    for (uint32_t slot = 0; slot < slot_count(directory); slot++)
        if (slot == 0 || slot_get(directory, slot) != slot_get(directory, slot - 1))
            cell_clear(cells, slot_get(directory, slot));
    directory_give(cells, ref);
}

void tree_clear(struct cells *cells, struct tree *tree)
{
    if (tree->root != 0)
        cell_clear(cells, tree->root);
    *tree = (struct tree){0};
}
