/* tree.h: the entries of one table: buckets (bucket.h) below directories, by the bits of their
 * tags.
 *
 * A small table is one bucket. A bucket that is full becomes two, by the next bit of the tag, and a
 * directory tells which: 2^n references, by the n bits behind those that its place implies. A
 * bucket that has fewer bits of its own than the directory tells apart is referred to several times
 * in a row. (Fagin, Nievergelt, Pippenger, Strong, "Extendible hashing", 1979.) A directory grows
 * by doubling, up to 256 references; what needs more bits gets a directory of its own below. So no
 * step of growth copies more than some KiB, tables of all sizes find a bucket in few steps, and
 * tags that were chosen to fall together cost directories in proportion to their entries. The order
 * of buckets is the order of tags, which is that of listing.
 *
 * A directory is a cell:
 *
 *     0   4 owner     as below
 *     4   1 kind      CELL_DIRECTORY
 *     5   1 bits      n, 1 to 8
 *     6   1 base      bits of the tag that come before
 *     7   1 0
 *     8 4*2^n         references; the top bit says that one is to a directory
 *
 * The owner of a bucket or directory is the directory above or, with the top bit set, the number of
 * its table. Buckets aren't joined when they empty: an empty one takes 8 bytes, and goes with its
 * table. */
#ifndef KHO_NODE_TREE_H
#define KHO_NODE_TREE_H

#include "bucket.h"

enum {
    DIRECTORY_BITS = 5,
    DIRECTORY_BASE = 6,
    DIRECTORY_SLOTS = 8,
    DIRECTORY_BITS_MAX = 8,
    TREE_POOLS = BUCKET_POOLS + DIRECTORY_BITS_MAX
};
/* Of an owner: it is a table, the other bits are its number. */
#define TREE_TABLE (1u << 31)
/* Of a reference in a directory or table: it is to a directory. */
#define TREE_DIRECTORY (1u << 31)

/* The sizes of the cells that trees are made of, TREE_POOLS of them: for cells_init(). */
void tree_sizes(uint32_t *ret_sizes);

/* What a table keeps of its tree. Growth changes it, and so does tree_moved(). */
struct tree {
    cell_ref root; /* 0: no entry */
    uint32_t bits; /* that the root tells apart, so that a look-up need not read its head */
};

/* The slot of the root directory that a tag leads to; NULL: the root is a bucket, or nothing. */
static inline const uint8_t *tree_slot(const struct cells *cells, const struct tree *tree,
                                       struct key_tag tag)
{
    if ((tree->root & TREE_DIRECTORY) == 0)
        return NULL;
    return cell_at(cells, tree->root & ~TREE_DIRECTORY) + DIRECTORY_SLOTS +
           4 * (size_t)(tag.high >> (64 - tree->bits));
}

/* The bucket for a tag; it isn't touched. */
static inline cell_ref tree_bucket(const struct cells *cells, const struct tree *tree,
                                   struct key_tag tag)
{
    const uint8_t *slot = tree_slot(cells, tree, tag);
    cell_ref ref = slot != NULL ? kho_load32(slot) : tree->root;
    while ((ref & TREE_DIRECTORY) != 0) {
        const uint8_t *directory = cell_at(cells, ref & ~TREE_DIRECTORY);
        uint32_t at = tag_bits(tag, directory[DIRECTORY_BASE]) >> (8 - directory[DIRECTORY_BITS]);
        ref = kho_load32(directory + DIRECTORY_SLOTS + 4 * (size_t)at);
    }
    return ref;
}

/* Makes one empty bucket of an empty tree. KHO_EFULL: no memory, and nothing happened. */
int tree_create(struct cells *cells, struct tree *tree, cell_ref table);
/* Adds an entry that isn't there; `bucket` is that of its tag. KHO_EFULL: no memory; all entries
 * are where they were. */
int tree_add(struct cells *cells, struct tree *tree, cell_ref bucket,
             const struct index_entry *entry);
/* Splits the bucket, which has bits left to be split by; `more`: room that each half has beyond
 * its entries. KHO_EFULL, as above. */
int tree_split(struct cells *cells, struct tree *tree, cell_ref bucket, const uint32_t more[2]);
/* Frees all. */
void tree_clear(struct cells *cells, struct tree *tree);
/* The first entry at or after `from`. */
bool tree_next(const struct cells *cells, const struct tree *tree, struct key_tag from,
               struct index_entry *ret_entry);
/* The first tag behind a bucket of the tree; false: it is the last one. `tag`: any of the bucket.
 */
bool tree_behind(const uint8_t *bucket, struct key_tag tag, struct key_tag *ret_tag);
/* A cell has moved: what refers to it is told, and what it owns. `tree` is that of the table that
 * owns it, or NULL if a directory does. */
void tree_moved(const struct cells *cells, struct tree *tree, cell_ref from, cell_ref to);

#endif
