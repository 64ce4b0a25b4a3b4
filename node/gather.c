/* gather.c: a sort by the first bits that differ, in as many groups as there are entries, about;
 * what shares these bits is sorted by insertion, or by the library where it is much (gather.h). */
#include "gather.h"

#include "store.h"

#include <assert.h>
#include <errno.h>

enum { GROUPS_MAX = 1 << GATHER_BITS_MAX, INSERTED_MAX = 16 };
static_assert(GATHER_ENTRIES <= UINT16_MAX, "ends of groups");

int gather_init(struct gather *gather, struct shard_world *world)
{
    *gather = (struct gather){.world = world};
    gather->entries = world_allocate(world, GATHER_ENTRIES * sizeof *gather->entries, 0);
    gather->sorted = world_allocate(world, GATHER_ENTRIES * sizeof *gather->sorted, 0);
    gather->ends = world_allocate(world, GROUPS_MAX * sizeof *gather->ends, 0);
    bool ok = gather->entries != NULL && gather->sorted != NULL && gather->ends != NULL;
    return ok ? 0 : -ENOMEM;
}

void gather_fini(struct gather *gather)
{
    struct shard_world *world = gather->world;
    if (world == NULL)
        return;
    world_release(world, gather->entries, GATHER_ENTRIES * sizeof *gather->entries);
    world_release(world, gather->sorted, GATHER_ENTRIES * sizeof *gather->sorted);
    world_release(world, gather->ends, GROUPS_MAX * sizeof *gather->ends);
    gather->world = NULL;
}

/* --- Sorting ---------------------------------------------------------------------------------- */

/* How many bits tell groups of one or two entries apart. */
static uint32_t group_bits(uint32_t count)
{
    uint32_t bits = 1;
    while (bits < GATHER_BITS_MAX && 1u << bits < count)
        bits++;
    return bits;
}

static inline uint32_t group_of(const struct index_entry *entry, uint32_t shared, uint32_t bits)
{
    return (uint32_t)(entry->tag.high << shared >> (64 - bits));
}

/* Brings the entries into the order of their groups, within a group as they came. On return
 * ends[group] is where it ends in `sorted`. */
static void groups_sort(struct gather *gather, uint32_t shared, uint32_t bits)
{
    uint16_t *ends = gather->ends;
    uint32_t at = 0;
    memset(ends, 0, (sizeof *ends) << bits);
    for (uint32_t i = 0; i < gather->count; i++)
        ends[group_of(&gather->entries[i], shared, bits)]++;
    for (uint32_t group = 0; group < 1u << bits; group++) {
        uint32_t count = ends[group];
        ends[group] = (uint16_t)at;
        at += count;
    }
    for (uint32_t i = 0; i < gather->count; i++)
        gather->sorted[ends[group_of(&gather->entries[i], shared, bits)]++] = gather->entries[i];
}

static void insertion_sort(struct index_entry *entries, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        struct index_entry entry = entries[i];
        uint32_t at = i;
        for (; at > 0 && key_tag_compare(entries[at - 1].tag, entry.tag) > 0; at--)
            entries[at] = entries[at - 1];
        entries[at] = entry;
    }
}

static int tag_order(const void *a, const void *b)
{
    const struct index_entry *x = a, *y = b;
    return key_tag_compare(x->tag, y->tag);
}

/* Leaves one entry of each key. Returns how many these are. */
static uint32_t keys_once(struct index_entry *entries, uint32_t count)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (kept == 0 || key_tag_compare(entries[kept - 1].tag, entries[i].tag) != 0)
            entries[kept++] = entries[i];
        else if (index_replaces(&entries[i], &entries[kept - 1]))
            entries[kept - 1] = entries[i];
    }
    return kept;
}

const struct index_entry *gather_sort(struct gather *gather, uint32_t shared, uint32_t *ret_count)
{
    uint32_t bits = group_bits(gather->count), from = 0;
    KHO_ASSERT(shared < 64);
    groups_sort(gather, shared, bits);
    for (uint32_t group = 0; group < 1u << bits; group++) {
        uint32_t end = gather->ends[group];
        if (end - from <= INSERTED_MAX)
            insertion_sort(gather->sorted + from, end - from);
        else
            qsort(gather->sorted + from, end - from, sizeof *gather->sorted, tag_order);
        from = end;
    }
    *ret_count = keys_once(gather->sorted, gather->count);
    gather->count = 0;
    return gather->sorted;
}
