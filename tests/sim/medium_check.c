/* medium_check.c: the disks against the history, and whether all shards vote. */
#include "medium_check.h"

#include "known.h"
#include "raw.h"
#include <kho/hash.h>
#include <kho/map.h>

/* --- The disks ---------------------------------------------------------------------------------
 */

void medium_view_take(struct workload *w, struct medium_view *ret_view)
{
    memset(ret_view, 0, sizeof *ret_view);
    for (uint32_t n = 0; n < w->cluster->options.nodes && !w->sim->failed; n++) {
        const struct node *node = &w->cluster->nodes[n];
        for (uint32_t s = 0; s < node->shard_count && !w->sim->failed; s++) {
            struct medium_owner owner = {
                .cluster = w->cluster->id, .incarnation = node->incarnation, .shard = s};
            struct medium_scan *scan = &ret_view->scans[n][s];
            if (!medium_scan_disk(scan, node->shards[s].disk, &owner))
                sim_fail(w->sim, "the disk of %s.%u has no manifest that holds", node->name, s);
            if (scan->wrong[0] != '\0')
                sim_fail(w->sim, "the disk of %s.%u, %s", node->name, s, scan->wrong);
            w->checked.blocks += scan->blocks;
            w->checked.records += scan->copies;
        }
    }
}

void medium_view_fini(struct medium_view *view)
{
    for (uint32_t n = 0; n < VNET_NODES_MAX; n++)
        for (uint32_t s = 0; s < NODE_SHARDS_MAX; s++)
            medium_scan_fini(&view->scans[n][s]);
}

/* --- Records ---------------------------------------------------------------------------------- */

/* One version of one key, as it lies on a disk. */
static void record_check(struct workload *w, const struct known *known, const char *name,
                         const struct medium_scan *scan, const struct medium_record *r)
{
    if (r->collection > CLUSTER_COLLECTIONS)
        return; /* ballast (memory.c): no history has it */
    const struct slot *slot = known_slot(known, r->collection, scan->keys + r->key_at, r->key_len);
    uint64_t value = r->tombstone ? 0 : known_value(known, &r->hash);
    const struct known_write *write = &known->writes[value];
    const char *fault = NULL;
    if (!r->tombstone && value == 0)
        fault = "a value that nobody wrote";
    else if (value != 0 && slot != NULL && write->key != slot->history_key)
        fault = "the value of another key";
    else if (value != 0 && write->end == HISTORY_NOT)
        fault = "the value of a write that ended as not applied";
    else if (value != 0 && write->end == HISTORY_OK &&
             version_compare(write->version, r->version) != 0)
        fault = "a value under another version than its write's";
    if (slot != NULL && fault == NULL) {
        bool told;
        uint64_t expected = known_version(known, slot->history_key, r->version, &told);
        if (told && expected != value)
            fault = "another value than the one told to clients";
    }
    if (fault != NULL)
        sim_fail(w->sim, "on the disk of %s, key %d version %llu.%u has %s (%llu)", name,
                 slot != NULL ? (int)slot->history_key : -1, (unsigned long long)r->version.counter,
                 r->version.writer, fault, (unsigned long long)value);
}

/* Where a key lives, computed from its bytes. */
static uint32_t partition_of(const struct workload *w, const struct slot *slot)
{
    uint8_t bytes[4 + sizeof slot->bytes];
    kho_store32(bytes, slot->event ? 2 : 1);
    memcpy(bytes + 4, slot->bytes, slot->len);
    uint64_t low = XXH3_128bits_withSeed(bytes, 4 + slot->len, w->cluster->map_seed).low64;
    return (uint32_t)(low % w->cluster->options.partitions);
}

/* On how many disks of these nodes is the key, at that version or newer? Weak ones aside. */
static uint32_t slot_count(struct workload *w, const struct medium_view *view,
                           const struct slot *slot, struct version least, const uint16_t *nodes,
                           bool repaired, uint32_t *ret_weak)
{
    const struct cluster_options *o = &w->cluster->options;
    uint32_t partition = partition_of(w, slot), there = 0;
    *ret_weak = 0;
    for (uint32_t k = 0; k < o->replicas; k++) {
        uint32_t n = nodes[k];
        const struct medium_record *r = medium_scan_newest(
            &view->scans[n][partition % o->shards], slot->event ? 2 : 1, slot->bytes, slot->len);
        bool has = r != NULL && version_compare(r->version, least) >= 0;
        bool is_weak = !repaired && node_weak(w, &w->cluster->nodes[n]);
        *ret_weak += is_weak;
        there += has && !is_weak;
        if (!has)
            sim_trace(w->sim, "the disk of n%u has version %llu.%u of key %u", n,
                      (unsigned long long)(r != NULL ? r->version.counter : 0),
                      r != NULL ? r->version.writer : 0, slot->history_key);
    }
    return there;
}

/* In both layouts, while one changes: what was acknowledged before has its majority in the previous
 * one, what is acknowledged since in each. */
static void slot_check(struct workload *w, const struct known *known,
                       const struct medium_view *view, const struct slot *slot, bool repaired)
{
    const struct cluster_options *o = &w->cluster->options;
    uint32_t partition = partition_of(w, slot);
    struct version least = known->least[slot->history_key];
    const struct map *map = workload_map(w);
    const uint8_t *row = map != NULL ? map_previous(map, partition) : NULL;
    uint16_t nodes[KHO_MAP_REPLICAS_MAX];
    uint32_t weak;
    if (version_is_zero(least))
        return;
    for (uint32_t k = 0; k < o->replicas; k++)
        nodes[k] =
            row != NULL ? map_row_replica(row, k) : (uint16_t)workload_replica(w, partition, k);
    uint32_t there = slot_count(w, view, slot, least, nodes, repaired, &weak);
    uint32_t wanted = repaired ? o->replicas : o->write_quorum - weak;
    w->checked.keys++;
    if (there < wanted)
        sim_fail(w->sim,
                 "%s, key %u at version %llu.%u or newer is whole on the disks of %u replicas, "
                 "where %u must have it",
                 repaired ? "after repair" : "healed", slot->history_key,
                 (unsigned long long)least.counter, least.writer, there, wanted);
    if (repaired && row != NULL)
        sim_fail(w->sim, "after repair, partition %u still moves", partition);
}

void medium_check_records(struct workload *w, const struct medium_view *view, bool repaired)
{
    struct known known;
    known_init(&known, w);
    for (uint32_t n = 0; n < w->cluster->options.nodes; n++)
        for (uint32_t s = 0; s < w->cluster->options.shards; s++) {
            const struct medium_scan *scan = &view->scans[n][s];
            for (size_t i = 0; i < scan->count && !w->sim->failed; i++)
                record_check(w, &known, w->cluster->nodes[n].name, scan, &scan->records[i]);
        }
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++)
        slot_check(w, &known, view, &w->slots[i], repaired);
    known_fini(&known);
}

static bool keys_have(const struct medium_key *keys, size_t count, const struct medium_scan *scan,
                      const struct medium_record *r)
{
    for (size_t i = 0; i < count; i++)
        if (keys[i].collection == r->collection && keys[i].len == r->key_len &&
            memcmp(keys[i].bytes, scan->keys + r->key_at, r->key_len) == 0)
            return true;
    return false;
}

void medium_check_orphans(const struct workload *w, const struct medium_scan *scan,
                          struct medium_key **keys, size_t *count)
{
    for (size_t i = 0; i < scan->count; i++) {
        const struct medium_record *r = &scan->records[i];
        bool told = false;
        for (size_t k = 0; k < w->slot_count && !told; k++)
            told = known_slot_compare(r->collection, scan->keys + r->key_at, r->key_len,
                                      &w->slots[k]) == 0;
        if (told || !medium_scan_is_newest(scan, i) || r->key_len > sizeof(*keys)->bytes ||
            keys_have(*keys, *count, scan, r))
            continue;
        *keys = realloc(*keys, (*count + 1) * sizeof **keys);
        KHO_ASSERT(*keys != NULL);
        struct medium_key *key = &(*keys)[(*count)++];
        *key = (struct medium_key){.collection = r->collection, .len = r->key_len};
        memcpy(key->bytes, scan->keys + r->key_at, r->key_len);
    }
}

/* --- Votes ------------------------------------------------------------------------------------ */

static void vote_check(struct workload *w, struct node *node, uint32_t shard, uint64_t epoch)
{
    struct remembered *last = &w->remembered[node->index][shard];
    struct raw raw;
    int rc = raw_open_shard(&raw, node, shard, &w->cluster->id, 0);
    const struct wire_hello_node *hello = &raw.hello;
    if (rc != 0 || hello->status != 0)
        sim_fail(w->sim, "%s.%u says no HELLO: %d, %d", node->name, shard, rc, hello->status);
    else if (hello->flags != 0)
        sim_fail(w->sim, "after repair, %s.%u says HELLO with flags %u: it gives no vote",
                 node->name, shard, hello->flags);
    else if (hello->epoch != epoch)
        sim_fail(w->sim, "%s.%u is in epoch %llu, others are in %llu", node->name, shard,
                 (unsigned long long)hello->epoch, (unsigned long long)epoch);
    else if (kho_id_equal(&hello->incarnation, &last->incarnation) &&
             hello->durable < last->durable)
        sim_fail(w->sim, "the durable sequence of %s.%u went from %llu back to %llu", node->name,
                 shard, (unsigned long long)last->durable, (unsigned long long)hello->durable);
    *last = (struct remembered){.incarnation = hello->incarnation, .durable = hello->durable};
    w->checked.votes++;
    raw_close(&raw);
}

void medium_check_votes(struct workload *w)
{
    const struct cluster_options *o = &w->cluster->options;
    uint64_t epoch = w->epoch;
    for (uint32_t n = 0; n < o->nodes * o->shards; n++)
        epoch = kho_max(epoch,
                        shard_epoch(w->cluster->nodes[n / o->shards].shards[n % o->shards].shard));
    for (uint32_t n = 0; n < o->nodes * o->shards && !w->sim->failed; n++)
        vote_check(w, &w->cluster->nodes[n / o->shards], n % o->shards, epoch);
    w->epoch = epoch;
}
