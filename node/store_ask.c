/* store_ask.c: what a store tells: probes, reads, listings, digests, episodes, numbers (store.h).
 *
 * A partition with an episode that hides what it may have lost answers unknown (R2); one whose
 * versions are known, or of a suspect shard, answers from the index. */
#include "store_inside.h"

#include <assert.h>

/* --- Reading ---------------------------------------------------------------------------------- */

static uint8_t entry_state(const struct index_entry *entry)
{
    if (entry->place == PLACE_UNKNOWN)
        return WIRE_VALUE_UNKNOWN;
    return entry->tombstone ? WIRE_TOMBSTONE : WIRE_PRESENT;
}

void store_floor(const struct store *store, uint32_t partition, uint64_t *ret_floor,
                 uint64_t *ret_drops)
{
    const struct manifest *manifest = &store->depot.manifest;
    bool there = partition < manifest->partitions;
    *ret_floor = there ? manifest->floors[partition].floor : 0;
    *ret_drops = there ? manifest->floors[partition].drops : 0;
}

void store_probe(const struct store *store, uint32_t collection, uint32_t partition,
                 struct key_hash hash, struct wire_probe_answer *ret_answer)
{
    const struct depot *depot = &store->depot;
    struct wire_probe_answer answer = {.state = WIRE_ABSENT};
    struct index_entry entry;
    if (depot->index == NULL || partition >= depot->manifest.partitions) {
        answer.state = WIRE_UNKNOWN;
        *ret_answer = answer;
        return;
    }
    answer.floor = depot->manifest.floors[partition].floor;
    answer.drops = depot->manifest.floors[partition].drops;
    if (manifest_hides(&depot->manifest, partition) != 0 && !KHO_PLANTED(hidden_partition_votes)) {
        answer.state = WIRE_UNKNOWN;
    } else if (index_get(depot->index, collection, partition, key_tag(hash), &entry) &&
               !(KHO_PLANTED(damage_as_absent) && entry.place == PLACE_UNKNOWN) &&
               !(KHO_PLANTED(delete_absent) && entry.tombstone)) {
        answer.version = entry.version;
        answer.state = entry_state(&entry);
    }
    *ret_answer = answer;
}

static_assert((int)STORE_PREFETCH_STEPS == (int)INDEX_PREFETCH_STEPS, "the index's own");

void store_prefetch(const struct store *store, uint32_t collection, uint32_t partition,
                    struct key_hash hash, uint32_t step)
{
    if (store->depot.index != NULL)
        index_prefetch(store->depot.index, collection, partition, key_tag(hash), step);
}

void store_prefetch_write(const struct store *store, uint32_t collection, uint32_t partition,
                          struct key_hash hash, uint32_t step)
{
    if (step == 0)
        log_prefetch(&store->log, collection, partition, key_tag(hash));
    store_prefetch(store, collection, partition, hash, step);
}

bool store_read(struct store *store, struct store_read *read, struct kho_now now)
{
    (void)now;
    return reader_read(&store->reader, read);
}

uint32_t store_read_cached(struct store *store, struct store_read *reads, uint32_t count)
{
    return reader_read_cached(&store->reader, reads, count);
}

void store_read_end(struct store *store, struct store_read *read)
{
    reader_end(&store->reader, read);
}

uint32_t store_reads_pending(const struct store *store)
{
    return store->reader.pending;
}

bool store_next(const struct store *store, uint32_t collection, uint32_t partition,
                struct key_tag from, struct wire_list_entry *ret_entry)
{
    struct index_entry entry;
    if (store->depot.index == NULL ||
        !index_next(store->depot.index, collection, partition, from, &entry))
        return false;
    /* The length of exactly 16 MiB counts as one less in the index. */
    uint32_t value = entry.value_bytes + (entry.value_bytes == KHO_VALUE_MAX - 1);
    *ret_entry = (struct wire_list_entry){.partition = partition,
                                          .version = entry.version,
                                          .tag = entry.tag,
                                          .state = entry_state(&entry),
                                          .record_len = KHO_RECORD_HEAD + value};
    return true;
}

bool store_digest(const struct store *store, uint32_t collection, uint32_t partition,
                  struct wire_digest_entry *ret_digest)
{
    const struct depot *depot = &store->depot;
    struct index_digest digest = {0};
    struct wire_digest_entry entry = {.collection = collection, .partition = partition};
    bool there = depot->index != NULL &&
                 index_digest(depot->index, collection, partition, &digest) && digest.count > 0;
    if (there) {
        entry.count = digest.count;
        entry.bytes = digest.bytes;
        entry.sum_low = digest.sum_low;
        entry.sum_high = digest.sum_high;
    }
    if (partition < depot->manifest.partitions) {
        entry.floor = depot->manifest.floors[partition].floor;
        entry.drops = depot->manifest.floors[partition].drops;
        entry.episode = manifest_episode_of(&depot->manifest, partition);
    }
    *ret_digest = entry;
    return there;
}

uint32_t store_collections(const struct store *store, uint32_t *ret_ids, uint32_t max)
{
    return store->depot.index != NULL ? index_collections(store->depot.index, ret_ids, max) : 0;
}

/* --- Episodes --------------------------------------------------------------------------------- */

uint64_t store_episode_of(const struct store *store, uint32_t partition)
{
    return manifest_hides(&store->depot.manifest, partition);
}

bool store_suspect(const struct store *store)
{
    return manifest_suspect(&store->depot.manifest);
}

uint32_t store_episodes(const struct store *store, struct wire_episode *ret, uint32_t max)
{
    const struct manifest *manifest = &store->depot.manifest;
    for (uint32_t i = 0; i < manifest->episodes.count && i < max; i++) {
        const struct episode *e = manifest_episode(manifest, i);
        uint32_t first = 0;
        while (!manifest_episode_has(e, first))
            first++;
        ret[i] = (struct wire_episode){.id = e->id,
                                       .kind = e->kind,
                                       .partitions = e->open,
                                       .epoch = e->epoch,
                                       .opened_ms = e->opened_ms,
                                       .first_partition = first};
    }
    return manifest->episodes.count;
}

/* --- Numbers -----------------------------------------------------------------------------------
 */

void store_stats(const struct store *store, uint64_t *stats)
{
    const struct depot *depot = &store->depot;
    const struct manifest *manifest = &depot->manifest;
    struct index_digest totals = {0};
    if (depot->index != NULL) {
        index_totals(depot->index, &totals);
        stats[STAT_index_bytes] += index_memory(depot->index);
    }
    stats[STAT_records] += totals.count;
    stats[STAT_tombstones] += totals.tombstones;
    stats[STAT_value_bytes] += totals.bytes;
    stats[STAT_segments] += manifest->listed;
    const struct segment *s;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT; i = s->newer) {
        s = manifest_segment(manifest, i);
        stats[STAT_segment_bytes] += i == store->log.current ? store->log.position : s->end;
    }
    stats[STAT_commits] += store->log.commits_landed;
    stats[STAT_commit_bytes] += store->log.bytes_landed;
    stats[STAT_written] += store->log.records_landed;
    stats[STAT_reads] += store->reader.reads;
    stats[STAT_disk_reads] += store->reader.disk_reads;
    stats[STAT_cache_hits] += store->reader.cache_hits;
    stats[STAT_memory_bytes] += depot->world->memory_bytes;
    stats[STAT_memory_max] += depot->world->memory_max;
    stats[STAT_disk_free] += depot->disk_free == UINT64_MAX ? 0 : depot->disk_free;
    stats[STAT_damaged_blocks] += manifest->damages.count;
    stats[STAT_values_unknown] += depot->values_unknown;
    stats[STAT_episodes] += manifest->episodes.count;
    for (uint32_t i = 0; i < manifest->episodes.count; i++)
        stats[STAT_episode_partitions] += manifest_episode(manifest, i)->open;
    stats[STAT_suspect] += manifest_suspect(manifest);
    stats[STAT_readonly] += depot->read_only;
    stats[STAT_durable] += store->log.durable;
    stats[STAT_epoch] += depot->epoch;
    stats[STAT_recovery_ms] += store->recovery_ms;
    uint64_t dead, sealed;
    compact_dead(&store->compact, &dead, &sealed);
    stats[STAT_sealed_bytes] += sealed;
    stats[STAT_dead_bytes] += dead;
    stats[STAT_compacted_segments] += store->compact.segments;
    stats[STAT_compacted_in] += store->compact.bytes_in;
    stats[STAT_compacted_out] += store->compact.bytes_out;
    stats[STAT_zeroed_bytes] += store->maker.zeroed_bytes;
    stats[STAT_recycled_segments] += store->maker.recycled_segments;
    stats[STAT_footer_bytes] += store->log.footer_bytes_landed;
    stats[STAT_scrubbed_bytes] += store->scrub.bytes;
    stats[STAT_scrub_age] = kho_max(stats[STAT_scrub_age], scrub_age(&store->scrub));
}
