/* fake_store.h: a store of a few thousand records in memory that implements node/store.h, so that
 * the serving side is tested alone: the test says when commits become durable, when reads end and
 * in which order, when there is room, and when the disk has failed.
 *
 * One store at a time; `fake` is it. Included by one .c only: it defines the store_* functions. */
#ifndef KHO_TESTS_FAKE_STORE_H
#define KHO_TESTS_FAKE_STORE_H

#include "node/store.h"

#include <errno.h>

enum { FAKE_RECORDS_MAX = 20000, FAKE_READS_MAX = 512, FAKE_DONES_MAX = 8192 };

struct fake_record {
    struct record record; /* key and value point into `bytes` */
    uint32_t partition;
    struct key_hash hash;
    uint64_t sequence;
    uint8_t *bytes;
};

struct store {
    struct shard_world *world;
    enum store_phase phase;
    struct fake_record records[FAKE_RECORDS_MAX];
    uint32_t count;
    uint64_t durable, taken;
    bool gathered;
    bool hold_commits; /* durable stays where it is */
    bool no_room;
    int failed;
    bool suspect;
    int write_status; /* what store_write refuses with, or 0 */
    bool refuse_blocks;
    uint32_t blocks; /* that were stored as they came */
    bool hold_reads, last_read_first;
    struct store_read *reads[FAKE_READS_MAX];
    uint32_t read_count, reads_most;
    uint64_t reads_begun;
    uint32_t pinned;
    bool hold_map;
    void *map_owner;
    uint64_t map_context;
    uint8_t *map_bytes, *map_next;
    size_t map_length;
    struct map map;
    uint64_t episode; /* open in partition 3, or 0 */
    struct store_done dones[FAKE_DONES_MAX];
    uint32_t done_count, done_taken;
    uint32_t turns;
};

static struct store *fake;

static void fake_done(struct store_done done)
{
    KHO_ASSERT(fake->done_count < FAKE_DONES_MAX);
    fake->dones[fake->done_count++] = done;
}

/* --- What the test does ----------------------------------------------------------------------- */

static inline void fake_commit(void)
{
    if (!fake->failed)
        fake->durable = fake->taken;
    fake->gathered = false;
}

static void fake_read_fill(struct store_read *read)
{
    const struct fake_record *found = NULL;
    struct key_tag tag = key_tag(read->hash);
    for (uint32_t i = 0; i < fake->count; i++) {
        const struct fake_record *r = &fake->records[i];
        if (r->sequence <= fake->durable && r->record.collection == read->collection &&
            r->partition == read->partition && key_tag_compare(key_tag(r->hash), tag) == 0)
            found = r;
    }
    read->status = 0;
    read->state = WIRE_ABSENT;
    read->pin = fake;
    fake->pinned++;
    read->record = (struct record){.collection = read->collection};
    if (fake->episode != 0 && read->partition == 3) {
        read->status = KHO_EUNKNOWN;
        read->state = WIRE_UNKNOWN;
    } else if (found != NULL) {
        read->record = found->record;
        read->state = record_is_tombstone(&found->record) ? WIRE_TOMBSTONE : WIRE_PRESENT;
    }
}

/* Ends at most `max` of the reads that are held. */
static inline uint32_t fake_reads_end(uint32_t max)
{
    uint32_t ended = 0;
    while (fake->read_count > 0 && ended < max) {
        uint32_t at = fake->last_read_first ? fake->read_count - 1 : 0;
        struct store_read *read = fake->reads[at];
        memmove(&fake->reads[at], &fake->reads[at + 1],
                sizeof fake->reads[0] * (fake->read_count - at - 1));
        fake->read_count--;
        fake_read_fill(read);
        fake_done((struct store_done){.kind = STORE_DONE_READ, .read = read});
        ended++;
    }
    return ended;
}

static inline void fake_map_end(int status)
{
    KHO_ASSERT(fake->map_next != NULL);
    if (status == 0) {
        free(fake->map_bytes);
        fake->map_bytes = fake->map_next;
        KHO_ASSERT(map_decode(fake->map_bytes, fake->map_length, &fake->map) == 0);
    } else {
        free(fake->map_next);
    }
    fake->map_next = NULL;
    fake_done((struct store_done){.kind = STORE_DONE_MAP,
                                  .owner = fake->map_owner,
                                  .context = fake->map_context,
                                  .status = status});
}

/* --- store.h ---------------------------------------------------------------------------------- */

int store_create(const struct shard_options *options, struct shard_world *world,
                 struct store **ret_store)
{
    (void)options;
    fake = calloc(1, sizeof *fake);
    KHO_ASSERT(fake != NULL);
    fake->world = world;
    *ret_store = fake;
    return 0;
}
void store_destroy(struct store *store)
{
    if (store == NULL)
        return;
    for (uint32_t i = 0; i < store->count; i++)
        free(store->records[i].bytes);
    free(store->map_bytes);
    free(store->map_next);
    free(store);
    fake = NULL;
}
uint32_t store_areas(const struct store *store, struct io_area *ret_areas)
{
    (void)store;
    (void)ret_areas;
    return 0;
}
void store_start(struct store *store, const struct file_found *files, size_t count,
                 struct kho_now now)
{
    (void)files, (void)count, (void)now;
    store->phase = STORE_READY;
}
enum store_phase store_phase(const struct store *store)
{
    return store->phase;
}
void store_progress(const struct store *store, uint64_t *ret_done, uint64_t *ret_total)
{
    (void)store;
    *ret_done = *ret_total = 0;
}
void store_completed(struct store *store, struct op *op, struct kho_now now)
{
    (void)store, (void)op, (void)now;
}
void store_tick(struct store *store, struct kho_now now)
{
    (void)store, (void)now;
}
void store_turn_end(struct store *store, struct kho_now now)
{
    (void)now;
    store->turns++;
    if (!store->hold_commits)
        fake_commit();
}
void store_stop(struct store *store, struct kho_now now)
{
    (void)now;
    store->phase = STORE_STOPPED;
}
void store_hurry(struct store *store, struct kho_now now)
{
    (void)store, (void)now;
}
uint64_t store_deadline(const struct store *store)
{
    (void)store;
    return UINT64_MAX;
}
void store_stats(const struct store *store, uint64_t *stats)
{
    stats[STAT_records] += store->count;
    stats[STAT_reads] += store->reads_begun;
}
bool store_room(const struct store *store, uint64_t bytes, uint32_t records)
{
    (void)bytes;
    return !store->no_room && store->count + records <= FAKE_RECORDS_MAX;
}
int store_write(struct store *store, uint32_t partition, struct key_hash hash,
                const struct record *record, bool copy, uint64_t drops, struct kho_now now,
                uint64_t *ret_sequence)
{
    (void)copy, (void)drops, (void)now;
    if (store->failed)
        return store->failed;
    if (store->write_status != 0)
        return store->write_status;
    struct fake_record *r = &store->records[store->count++];
    r->bytes = malloc(record_size(record));
    KHO_ASSERT(r->bytes != NULL);
    r->record = *record;
    memcpy(r->bytes, record->key, record->key_len);
    if (record->stored_len > 0)
        memcpy(r->bytes + record->key_len, record->value, record->stored_len);
    r->record.key = r->bytes;
    r->record.value = r->bytes + record->key_len;
    r->partition = partition;
    r->hash = hash;
    if (!store->gathered)
        store->taken++;
    store->gathered = true;
    r->sequence = *ret_sequence = store->taken;
    return 0;
}
bool store_write_block(struct store *store, struct store_entry *entries, uint32_t count,
                       const uint8_t *stored, uint32_t stored_len, uint32_t raw_len,
                       struct kho_now now, uint64_t *ret_sequence)
{
    (void)stored, (void)stored_len, (void)raw_len;
    if (store->failed || store->write_status != 0 || store->refuse_blocks)
        return false;
    for (uint32_t i = 0; i < count; i++)
        store_write(store, entries[i].partition, entries[i].hash, &entries[i].record, false, 0, now,
                    ret_sequence);
    store->blocks++;
    return true;
}
uint64_t store_sequence_taken(const struct store *store)
{
    return store->taken;
}
uint64_t store_durable(const struct store *store)
{
    return store->durable;
}
int store_failed(const struct store *store)
{
    return store->failed;
}
void store_prefetch(const struct store *store, uint32_t collection, uint32_t partition,
                    struct key_hash hash, uint32_t step)
{
    (void)store;
    (void)collection;
    (void)partition;
    (void)hash;
    (void)step;
}
void store_prefetch_write(const struct store *store, uint32_t collection, uint32_t partition,
                          struct key_hash hash, uint32_t step)
{
    (void)store;
    (void)collection;
    (void)partition;
    (void)hash;
    (void)step;
}

void store_floor(const struct store *store, uint32_t partition, uint64_t *ret_floor,
                 uint64_t *ret_drops)
{
    (void)store;
    *ret_floor = 5;
    *ret_drops = partition;
}

void store_probe(const struct store *store, uint32_t collection, uint32_t partition,
                 struct key_hash hash, struct wire_probe_answer *ret_answer)
{
    memset(ret_answer, 0, sizeof *ret_answer);
    ret_answer->floor = 5;
    ret_answer->drops = partition;
    for (uint32_t i = 0; i < store->count; i++) {
        const struct fake_record *r = &store->records[i];
        if (r->sequence > store->durable || r->record.collection != collection ||
            r->partition != partition || key_tag_compare(key_tag(r->hash), key_tag(hash)) != 0)
            continue;
        ret_answer->version = r->record.version;
        ret_answer->state = record_is_tombstone(&r->record) ? WIRE_TOMBSTONE : WIRE_PRESENT;
    }
}
bool store_read(struct store *store, struct store_read *read, struct kho_now now)
{
    (void)now;
    store->reads_begun++;
    if (!store->hold_reads) {
        fake_read_fill(read);
        return true;
    }
    KHO_ASSERT(store->read_count < FAKE_READS_MAX);
    store->reads[store->read_count++] = read;
    if (store->read_count > store->reads_most)
        store->reads_most = store->read_count;
    return false;
}
void store_read_end(struct store *store, struct store_read *read)
{
    KHO_ASSERT(read->pin == store && store->pinned > 0);
    read->pin = NULL;
    store->pinned--;
}
uint32_t store_read_cached(struct store *store, struct store_read *reads, uint32_t count)
{
    KHO_ASSERT(count <= STORE_READS_CACHED);
    uint32_t done = 0;
    for (uint32_t i = 0; i < count && !store->hold_reads; i++) {
        fake_read_fill(&reads[i]);
        done |= 1u << i;
        /* Large values are never at hand. */
        if (reads[i].record.stored_len > 16 << 10) {
            store_read_end(store, &reads[i]);
            done &= ~(1u << i);
        }
    }
    store->reads_begun += (uint32_t)__builtin_popcount(done);
    return done;
}
uint32_t store_reads_pending(const struct store *store)
{
    return store->read_count;
}
bool store_next(const struct store *store, uint32_t collection, uint32_t partition,
                struct key_tag from, struct wire_list_entry *ret_entry)
{
    const struct fake_record *best = NULL;
    for (uint32_t i = 0; i < store->count; i++) {
        const struct fake_record *r = &store->records[i];
        if (r->sequence > store->durable || r->record.collection != collection ||
            r->partition != partition || key_tag_compare(key_tag(r->hash), from) < 0)
            continue;
        if (best == NULL || key_tag_compare(key_tag(r->hash), key_tag(best->hash)) <= 0)
            best = r;
    }
    if (best == NULL)
        return false;
    memset(ret_entry, 0, sizeof *ret_entry);
    ret_entry->partition = partition;
    ret_entry->tag = key_tag(best->hash);
    ret_entry->version = best->record.version;
    ret_entry->state = record_is_tombstone(&best->record) ? WIRE_TOMBSTONE : WIRE_PRESENT;
    ret_entry->record_len = KHO_RECORD_HEAD + best->record.raw_len;
    return true;
}
bool store_digest(const struct store *store, uint32_t collection, uint32_t partition,
                  struct wire_digest_entry *ret_digest)
{
    struct wire_list_entry entry;
    struct key_tag from = {0};
    memset(ret_digest, 0, sizeof *ret_digest);
    ret_digest->floor = 5;
    ret_digest->episode = partition == 3 ? store->episode : 0;
    while (store_next(store, collection, partition, from, &entry)) {
        ret_digest->count++;
        from = entry.tag;
        if (++from.low == 0)
            from.high++;
    }
    return ret_digest->count > 0;
}
uint32_t store_collections(const struct store *store, uint32_t *ret_ids, uint32_t max)
{
    (void)store;
    if (max > 0)
        ret_ids[0] = 1;
    return 1;
}
uint64_t store_episode_of(const struct store *store, uint32_t partition)
{
    return partition == 3 ? store->episode : 0;
}
bool store_suspect(const struct store *store)
{
    return store->suspect;
}
uint32_t store_episodes(const struct store *store, struct wire_episode *ret, uint32_t max)
{
    if (store->episode != 0 && max > 0)
        ret[0] = (struct wire_episode){
            .id = store->episode, .kind = WIRE_EPISODE_ROT, .partitions = 1, .first_partition = 3};
    return store->episode != 0;
}
int store_episode_close(struct store *store, uint64_t id, uint32_t partition, void *owner,
                        uint64_t context)
{
    if (id != store->episode || partition != 3)
        return -ENOENT;
    store->episode = 0;
    fake_done((struct store_done){.kind = STORE_DONE_EPISODE, .owner = owner, .context = context});
    return 0;
}
int store_forget(struct store *store, uint32_t collection, uint32_t partition, struct key_hash hash,
                 struct version version, struct kho_now now)
{
    (void)store;
    (void)now;
    return collection == 1 && partition == 3 && hash.high == 77 && version.counter == 5 ? 0
                                                                                        : -ENOENT;
}
const struct map *store_map(const struct store *store)
{
    return store->map_bytes != NULL ? &store->map : NULL;
}
static struct kho_id fake_incarnation(void)
{
    return (struct kho_id){{11}};
}
int store_map_self(const struct store *store)
{
    struct kho_id self = fake_incarnation();
    return store->map_bytes != NULL ? map_node_by_incarnation(&store->map, &self) : -1;
}
int store_map_set(struct store *store, const uint8_t *bytes, size_t length, void *owner,
                  uint64_t context, struct kho_now now, bool *ret_done)
{
    struct map next;
    (void)now;
    *ret_done = false;
    int status = map_decode(bytes, length, &next);
    struct kho_id self = fake_incarnation();
    if (status == 0 && map_node_by_incarnation(&next, &self) < 0)
        status = KHO_EINCARNATION;
    if (status < 0)
        return status;
    if (store->map_bytes != NULL && next.epoch <= store->map.epoch) {
        *ret_done = next.epoch == store->map.epoch && next.hash == store->map.hash;
        return *ret_done ? 0 : KHO_EEPOCHOLD;
    }
    if (store->map_next != NULL)
        return KHO_EBUSY;
    store->map_next = malloc(length);
    KHO_ASSERT(store->map_next != NULL);
    memcpy(store->map_next, bytes, length);
    store->map_length = length;
    store->map_owner = owner;
    store->map_context = context;
    if (!store->hold_map)
        fake_map_end(0);
    return 0;
}
bool store_next_done(struct store *store, struct store_done *ret_done)
{
    if (store->done_taken == store->done_count) {
        store->done_taken = store->done_count = 0;
        return false;
    }
    *ret_done = store->dones[store->done_taken++];
    return true;
}

#endif
