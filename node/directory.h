/* directory.h: an unpacked block in memory, with the places of its records by version.
 *
 * Layout, in one piece of memory that the caller holds: this struct, `mask` + 1 slots of 4 bytes,
 * the block's records as they were packed. A slot is the record's offset (16 bits) below 16 bits of
 * the version's hash; an unused one is all ones, which no offset is. A record lies at its hash's
 * slot or behind it, before the next unused one; twice as many slots as records keep the way short.
 * So a record is found without decoding those before it, and without hashing a key. */
#ifndef KHO_NODE_DIRECTORY_H
#define KHO_NODE_DIRECTORY_H

#include "block.h"

struct directory {
    uint32_t raw_len;
    uint32_t records; /* as the block's head has it */
    uint32_t mask;    /* slots less one */
    uint32_t slots[];
};
#define DIRECTORY_UNUSED UINT32_MAX

/* Bytes of memory for a block; both numbers are within the bounds of block.h. */
size_t directory_bytes(uint32_t records, uint32_t raw_len);
/* Lays it out in that much memory. The records are to be unpacked to directory_raw(). */
struct directory *directory_init(void *memory, uint32_t records, uint32_t raw_len);
static inline uint8_t *directory_raw(const struct directory *directory)
{
    /* The caller's memory, const or not as the caller has it. */
    union {
        const void *view;
        uint8_t *own;
    } end = {.view = directory->slots + directory->mask + 1};
    return end.own;
}
/* Notes the places, once the records are there. What lies behind a record that can't be decoded, or
 * behind as many as the head said, isn't found. */
void directory_fill(struct directory *directory);

/* What is looked for in a directory. */
struct directory_search {
    uint32_t collection;
    struct version version;
    uint32_t at, left, mark;
};
struct directory_search directory_search(const struct directory *directory, uint32_t collection,
                                         struct version version);
/* The next record of that collection and version: those of other keys may have the same. */
bool directory_next(const struct directory *directory, struct directory_search *search,
                    struct record *ret_record);

/* Fetch towards the processor's cache what a search of that version will read: its slots at step
 * 0, the first record that it will decode at step 1. */
void directory_prefetch(const struct directory *directory, struct version version, int step);

#endif
