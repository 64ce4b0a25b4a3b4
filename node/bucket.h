/* bucket.h: up to 64 entries of one table whose tags begin with the same bits.
 *
 * A bucket is one cell (cells.h), so that what a look-up reads lies in one page:
 *
 *     0   4 owner     what refers to the bucket (tree.h)
 *     4   1 count     entries; a directory has CELL_DIRECTORY here, more than any bucket
 *     5   1 depth     so many leading bits of the tag are the bucket's own, 0 to 66
 *     6   1 top       the first 8 bits of its lowest tag
 *     7   1 room      entries that it has room for: a multiple of 2
 *     8   n prints    room of them, in the entries' order; 0 behind the last
 *   8+n 29n entries   room of them, INDEX_ENTRY_BYTES each
 *
 * A print is the 8 bits of the tag that follow the bucket's own: a look-up compares prints, eight
 * at once, and goes to the entry that they leave, hardly ever to more. Bits that bucket and print
 * imply aren't stored: an entry keeps the lower 64 bits of its tag of 72, and the first 8 follow
 * from `top` and the print.
 *
 *     0   8 tag       but for its first 8 bits
 *     8   8 counter   of the version; bit 63: tombstone
 *    16   4 writer
 *    20   6 place
 *    26   3 value length
 *
 * Entries lie in the order of their coming, so that adding one moves none; the order of tags is
 * found when it is asked for. A full bucket moves to a cell with room for two more: that leaves
 * half an entry unused on average, 15 bytes of 1,400, and copies 700 bytes for each entry that
 * comes. (A larger step would copy less and leave more unused; a larger bucket the other way
 * round.) */
#ifndef KHO_NODE_BUCKET_H
#define KHO_NODE_BUCKET_H

#include "cells.h"
#include "index.h"

enum {
    CELL_KIND = 4, /* offset, in buckets and directories */
    CELL_DIRECTORY = 0x80,
    BUCKET_COUNT = CELL_KIND,
    BUCKET_DEPTH = 5,
    BUCKET_TOP = 6,
    BUCKET_ROOM = 7,
    BUCKET_PRINTS = 8,
    BUCKET_ENTRIES_MAX = 64,
    BUCKET_STEP = 2,
    BUCKET_DEPTH_MAX = 66,
    BUCKET_POOLS = BUCKET_ENTRIES_MAX / BUCKET_STEP + 1 /* the first pools of cells: by room */
};

static inline uint32_t bucket_size(uint32_t room)
{
    return BUCKET_PRINTS + room * (1 + INDEX_ENTRY_BYTES);
}

/* The 8 bits of a tag from bit `from` on, counted from the highest; 0 behind the last. */
static inline uint8_t tag_bits(struct key_tag tag, uint32_t from)
{
    if (from <= 56)
        return (uint8_t)(tag.high >> (56 - from));
    return (uint8_t)((tag.high << 8 | tag.low) << (from - 8) >> 56);
}

static inline uint32_t bucket_count(const uint8_t *bucket)
{
    return bucket[BUCKET_COUNT];
}

/* An empty bucket. 0: no memory. */
cell_ref bucket_create(struct cells *cells, cell_ref owner, uint32_t depth, uint8_t top);
void bucket_destroy(struct cells *cells, cell_ref ref);

/* The number of the entry with that tag, or the bucket's count. The tag has the bucket's bits. */
uint32_t bucket_find(const uint8_t *bucket, struct key_tag tag);
/* The number of the entry with the lowest tag at or above `from`, or the bucket's count. `from` has
 * the bucket's bits. */
uint32_t bucket_next(const uint8_t *bucket, struct key_tag from);
void bucket_get(const uint8_t *bucket, uint32_t i, struct index_entry *ret_entry);
/* Replaces an entry by one of the same tag. */
void bucket_set(uint8_t *bucket, uint32_t i, const struct index_entry *entry);
void bucket_repoint(uint8_t *bucket, uint32_t i, uint64_t place);
/* Fetches towards the cache what bucket_find() reads: the prints; then, when they have arrived, the
 * first entry that it would look at. */
void bucket_prefetch_prints(const uint8_t *bucket);
void bucket_prefetch_entry(const uint8_t *bucket, struct key_tag tag);
/* What adding an entry touches, when its head has arrived: the place behind the last one, or all of
 * a bucket that is full. */
void bucket_prefetch_growth(const struct cells *cells, const uint8_t *bucket);
void bucket_prefetch_whole(const uint8_t *bucket);

/* Adds an entry that isn't there, to a bucket that isn't full. The bucket may get another
 * reference, which its owner is told (cells.h). KHO_EFULL: no memory, and nothing happened. */
int bucket_add(struct cells *cells, cell_ref ref, const struct index_entry *entry);
/* Removes an entry; the last one takes its number. The bucket may get another reference. */
void bucket_remove(struct cells *cells, cell_ref ref, uint32_t i);
/* Sees to it that a bucket has room for `entries` in all, BUCKET_ENTRIES_MAX at most; it may get
 * another reference. KHO_EFULL: no memory, and nothing happened. */
int bucket_reserve(struct cells *cells, cell_ref *ref, uint32_t entries);
/* Adds an entry that isn't there to a bucket that has room. */
void bucket_append(uint8_t *bucket, const struct index_entry *entry);
/* Makes two buckets of one, by the next bit, and destroys it; their owner is the same and has to be
 * told. Each has room for so many entries `more`, as far as a bucket can. KHO_EFULL: no memory, and
 * nothing happened. */
int bucket_split(struct cells *cells, cell_ref ref, const uint32_t more[2], cell_ref ret_halves[2]);

#endif
