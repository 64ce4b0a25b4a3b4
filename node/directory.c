/* directory.c: the places of the records in an unpacked block (layout: directory.h).
 *
 * Happy path: one walk over the records' heads, reading lengths and versions, fills the slots; a
 * search walks the slots from the version's own on and decodes those records whose hash agrees. A
 * record is decoded, and so checked, when it is found, not before. */
#include "directory.h"

#include <assert.h>

static_assert(BLOCK_RAW_MAX < 0xFFFF, "an offset fits 16 bits and is never all ones");

static inline uint64_t version_hash(struct version version)
{
    return (version.counter ^ (uint64_t)version.writer << 32) * 0x9E3779B97F4A7C15u;
}
/* Slot and mark are different bits of it. */
static inline uint32_t slot_of(const struct directory *directory, uint64_t hash)
{
    return (uint32_t)(hash >> 48) & directory->mask;
}
static inline uint32_t mark_of(uint64_t hash)
{
    return (uint32_t)(hash >> 32) & 0xFFFF;
}

static uint32_t slots_for(uint32_t records)
{
    return records < 2 ? 4 : 2u << (32 - (uint32_t)__builtin_clz(records - 1));
}

size_t directory_bytes(uint32_t records, uint32_t raw_len)
{
    KHO_ASSERT(records >= 1 && records <= raw_len / (KHO_RECORD_HEAD + 1));
    KHO_ASSERT(raw_len <= BLOCK_RAW_MAX);
    return sizeof(struct directory) + slots_for(records) * sizeof(uint32_t) + raw_len;
}

struct directory *directory_init(void *memory, uint32_t records, uint32_t raw_len)
{
    struct directory *directory = memory;
    directory->raw_len = raw_len;
    directory->records = records;
    directory->mask = slots_for(records) - 1;
    memset(directory->slots, 0xFF, ((size_t)directory->mask + 1) * sizeof(uint32_t));
    return directory;
}

void directory_fill(struct directory *directory)
{
    const uint8_t *raw = directory_raw(directory);
    uint32_t offset = 0, rest = directory->raw_len, mask = directory->mask;
    for (uint32_t i = 0; i < directory->records && rest >= KHO_RECORD_HEAD; i++) {
        const uint8_t *p = raw + offset;
        struct version version = {.counter = kho_load64(p + 8), .writer = kho_load32(p + 16)};
        uint64_t hash = version_hash(version);
        uint32_t slot = slot_of(directory, hash);
        while (directory->slots[slot] != DIRECTORY_UNUSED)
            slot = (slot + 1) & mask;
        directory->slots[slot] = mark_of(hash) << 16 | offset;
        uint64_t size = (uint64_t)KHO_RECORD_HEAD + kho_load16(p + 4) + kho_load32(p + 24);
        if (size > rest)
            return;
        offset += (uint32_t)size;
        rest -= (uint32_t)size;
    }
}

struct directory_search directory_search(const struct directory *directory, uint32_t collection,
                                         struct version version)
{
    uint64_t hash = version_hash(version);
    return (struct directory_search){.collection = collection,
                                     .version = version,
                                     .at = slot_of(directory, hash),
                                     .left = directory->mask + 1,
                                     .mark = mark_of(hash)};
}

bool directory_next(const struct directory *directory, struct directory_search *search,
                    struct record *ret_record)
{
    const uint8_t *raw = directory_raw(directory);
    struct record r;
    while (search->left > 0) {
        uint32_t slot = directory->slots[search->at];
        if (slot == DIRECTORY_UNUSED)
            return false;
        search->at = (search->at + 1) & directory->mask;
        search->left--;
        uint32_t offset = slot & 0xFFFF;
        if (slot >> 16 != search->mark ||
            record_decode(raw + offset, directory->raw_len - offset, &r) < 0)
            continue;
        if (r.collection == search->collection &&
            version_compare(r.version, search->version) == 0) {
            *ret_record = r;
            return true;
        }
    }
    return false;
}

void directory_prefetch(const struct directory *directory, struct version version, int step)
{
    uint64_t hash = version_hash(version);
    uint32_t slot = slot_of(directory, hash), mask = directory->mask;
    if (step == 0) {
        __builtin_prefetch(&directory->slots[slot]);
        return;
    }
    const uint8_t *raw = directory_raw(directory);
    for (uint32_t i = 0; i <= mask && directory->slots[slot] != DIRECTORY_UNUSED; i++) {
        if (directory->slots[slot] >> 16 == mark_of(hash)) {
            __builtin_prefetch(raw + (directory->slots[slot] & 0xFFFF));
            __builtin_prefetch(raw + (directory->slots[slot] & 0xFFFF) + 64);
            return;
        }
        slot = (slot + 1) & mask;
    }
}
