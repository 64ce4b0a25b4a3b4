/* enter.c: the rules by which a start's records enter the index (enter.h). */
#include "enter.h"

#include "place.h"

struct enter_damage {
    uint64_t offset, end;
};

int enter_init(struct enter *enter, struct depot *depot)
{
    *enter = (struct enter){.depot = depot};
    enter->since = world_allocate(depot->world, KHO_PARTITIONS_MAX * sizeof *enter->since, 0);
    return enter->since != NULL ? 0 : -ENOMEM;
}

void enter_fini(struct enter *enter)
{
    if (enter->depot == NULL)
        return;
    struct shard_world *world = enter->depot->world;
    world_release(world, enter->since, KHO_PARTITIONS_MAX * sizeof *enter->since);
    world_release(world, enter->damages, enter->damage_room * sizeof *enter->damages);
    enter->depot = NULL;
}

void enter_start(struct enter *enter)
{
    const struct depot *depot = enter->depot;
    for (uint32_t p = 0; p < depot->map.partitions; p++)
        enter->since[p] = depot_since(depot, &depot->map, p);
}

static int damage_order(const void *a, const void *b)
{
    const struct enter_damage *x = a, *y = b;
    return x->offset < y->offset ? -1 : x->offset > y->offset;
}

int enter_segment(struct enter *enter, const struct segment *segment)
{
    const struct manifest *manifest = &enter->depot->manifest;
    uint32_t count = manifest->damages.count;
    enter->damage_count = 0;
    if (count > enter->damage_room) {
        struct shard_world *world = enter->depot->world;
        world_release(world, enter->damages, enter->damage_room * sizeof *enter->damages);
        enter->damage_room = 0;
        enter->damages = world_allocate(world, count * sizeof *enter->damages, 0);
        if (enter->damages == NULL)
            return -ENOMEM;
        enter->damage_room = count;
    }
    for (uint32_t i = 0; i < count; i++) {
        const struct damage *d = manifest_damage(manifest, i);
        if (d->segment != segment->id)
            continue;
        enter->damages[enter->damage_count++] = (struct enter_damage){
            .offset = d->offset,
            .end = d->length > UINT64_MAX - d->offset ? UINT64_MAX : d->offset + d->length};
    }
    if (enter->damage_count > 0)
        qsort(enter->damages, enter->damage_count, sizeof *enter->damages, damage_order);
    /* Where they overlap, one ends no earlier than those before it. */
    for (uint32_t i = 1; i < enter->damage_count; i++)
        enter->damages[i].end = kho_max(enter->damages[i].end, enter->damages[i - 1].end);
    return 0;
}

bool enter_damaged(const struct enter *enter, uint64_t offset)
{
    uint32_t low = 0, high = enter->damage_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (enter->damages[middle].offset <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 && offset < enter->damages[low - 1].end;
}

int enter_record(struct enter *enter, uint32_t collection, uint32_t partition,
                 const struct index_entry *entry, uint64_t epoch)
{
    struct depot *depot = enter->depot;
    struct index_entry old;
    enter->records++;
    if (!enter_counts(enter, partition, epoch) ||
        (KHO_PLANTED(deletes_not_restored) && entry->tombstone))
        return 0;
    bool there;
    int put = index_put_higher(depot->index, collection, partition, entry, &there, &old);
    if (put != 1)
        return put;
    depot->values_unknown += entry->place == PLACE_UNKNOWN;
    depot->values_unknown -= there && old.place == PLACE_UNKNOWN;
    return 0;
}

int enter_table(struct enter *enter, uint32_t collection, uint32_t partition,
                const struct index_entry *entries, uint32_t count)
{
    struct depot *depot = enter->depot;
    int64_t unknown;
    int error = index_put_all(depot->index, collection, partition, entries, count, &unknown);
    depot->values_unknown += (uint64_t)unknown;
    return error;
}
