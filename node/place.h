/* place.h: where a block lies, in the 48 bits that an index entry has for it.
 *
 *   bits 28..47  slot of the segment in the shard's table (not its id: slots are of this run)
 *   bits  6..27  offset of the block in the segment, in units of 64 bytes
 *   bits  0..5   size class of the stored block, head included
 *
 * A class stands for an upper bound on the length, so that one read of known length fetches the
 * block. Bounds rise by a quarter octave above a fixed part that covers heads and key, so that
 * values of round sizes fit theirs closely: bound(c) = 2048 + (5 + c mod 4) * 2^(c / 4 + 6). */
#ifndef KHO_NODE_PLACE_H
#define KHO_NODE_PLACE_H

#include <kho/base.h>

enum {
    PLACE_UNIT = 64,
    PLACE_CLASSES = 64,
    PLACE_CLASS_BASE = 2048,
    PLACE_SLOTS_MAX = (1 << 20) - 1 /* the last slot would collide with PLACE_UNKNOWN */
};

/* The upper bound of a class. */
static inline uint32_t place_class_bytes(uint32_t class)
{
    KHO_ASSERT(class < PLACE_CLASSES);
    return PLACE_CLASS_BASE + ((5 + class % 4) << (class / 4 + 6));
}

/* The lowest class whose bound is at least `bytes`. */
static inline uint32_t place_class_of(uint32_t bytes)
{
    uint32_t class = 0;
    KHO_ASSERT(bytes <= place_class_bytes(PLACE_CLASSES - 1));
    if (bytes > PLACE_CLASS_BASE + 512) {
        uint32_t rest = bytes - PLACE_CLASS_BASE;
        /* The octave whose bounds end at 2^(n + 1) begins behind 2^n. */
        uint32_t octave = 31 - (uint32_t)__builtin_clz(rest - 1);
        class = (octave - 8) * 4;
    }
    while (place_class_bytes(class) < bytes)
        class ++;
    return class;
}

static inline uint64_t place_encode(uint32_t slot, uint64_t offset, uint32_t bytes)
{
    KHO_ASSERT(slot < PLACE_SLOTS_MAX);
    KHO_ASSERT(offset % PLACE_UNIT == 0 && offset < 256u << 20);
    return (uint64_t)slot << 28 | (offset / PLACE_UNIT) << 6 | place_class_of(bytes);
}
/* The place without its slot, as footers have it, and back. */
static inline uint32_t place_in_segment(uint64_t place)
{
    return (uint32_t)(place & 0xFFFFFFFu);
}
static inline uint64_t place_in_slot(uint32_t slot, uint32_t in_segment)
{
    return (uint64_t)slot << 28 | in_segment;
}
static inline uint32_t place_slot(uint64_t place)
{
    return (uint32_t)(place >> 28);
}
static inline uint64_t place_offset(uint64_t place)
{
    return ((place >> 6) & 0x3FFFFFu) * PLACE_UNIT;
}
/* The upper bound of the stored block's length. */
static inline uint32_t place_bytes(uint64_t place)
{
    return place_class_bytes((uint32_t)(place & 0x3Fu));
}
/* What names the block: the place without its size class. */
static inline uint64_t place_block(uint64_t place)
{
    return place & ~(uint64_t)0x3Fu;
}

#endif
