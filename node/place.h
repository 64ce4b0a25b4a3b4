/* place.h: where a block lies, in the 48 bits that an index entry has for it.
 *
 *   bits 28..47  slot of the segment in the shard's table (not its id: slots are of this run)
 *   bits  6..27  offset of the block in the segment, in units of 64 bytes
 *   bits  0..5   size class of the stored block, head included
 *
 * A class stands for an upper bound on the length, so that one read of known length fetches the
 * block. Packed blocks, which are read for one record of many, have bounds in steps of a sector:
 *
 *   class 0..32   bound 512 * (class + 1), up to 16,896: a block of BLOCK_RAW_MAX that didn't
 *                 compress, head included
 *   class 33..63  with n = class - 33: bound 2^(14 + n / 3) * (5/4, 25/16, 2 by n mod 3)
 *
 * A large block is read by its value's length where that is less (reader.c). */
#ifndef KHO_NODE_PLACE_H
#define KHO_NODE_PLACE_H

#include <kho/base.h>

enum {
    PLACE_UNIT = 64,
    PLACE_CLASSES = 64,
    PLACE_STEP = 512,
    PLACE_STEPS = 33,               /* classes with bounds in steps */
    PLACE_SLOTS_MAX = (1 << 20) - 1 /* the last slot would collide with PLACE_UNKNOWN */
};

/* The upper bound of a class. */
static inline uint32_t place_class_bytes(uint32_t class)
{
    static const uint32_t sixteenths[3] = {20, 25, 32};
    KHO_ASSERT(class < PLACE_CLASSES);
    if (class < PLACE_STEPS)
        return (class + 1) * PLACE_STEP;
    uint32_t n = class - PLACE_STEPS;
    return sixteenths[n % 3] << (10 + n / 3);
}

/* The lowest class whose bound is at least `bytes`, which is more than 0. */
static inline uint32_t place_class_of(uint32_t bytes)
{
    KHO_ASSERT(bytes > 0 && bytes <= place_class_bytes(PLACE_CLASSES - 1));
    if (bytes <= PLACE_STEPS * PLACE_STEP)
        return (bytes - 1) / PLACE_STEP;
    /* The octave whose bounds end at 2^(n + 1) begins behind 2^n. */
    uint32_t octave = 31 - (uint32_t)__builtin_clz(bytes - 1);
    uint32_t class = PLACE_STEPS + (octave - 14) * 3;
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
