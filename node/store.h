/* store.h: the durable records of one shard, as the serving side sees them: log, index, cache,
 * manifest, episodes and map behind one door. (Rooms inside: log segment block index cache recover
 * manifest.) It knows nothing of connections and messages.
 *
 * Order and durability (R1): store_write() gives the sequence of the commit that will carry the
 * record; it is durable, visible and may be acknowledged once store_durable() has reached it. A
 * sequence is reached only when all before it are. When store_failed() is not 0, sequences not yet
 * reached never will be (R4).
 *
 * Ops go to the outbox given at creation, owner OP_OWNER_STORE; the shard routes their completions
 * to store_completed(). Asynchronous results (reads, persisted changes) come out of
 * store_next_done() after the step. */
#ifndef KHO_NODE_STORE_H
#define KHO_NODE_STORE_H

#include <kho/map.h>
#include <kho/wire.h>

#include "op.h"
#include "shard.h"

struct store;

/* What all rooms of a shard share: outbox, events, memory in use. */
struct shard_world {
    struct queue outbox;     /* of struct op.link */
    struct event events[64]; /* ring; when full the oldest are lost and counted */
    uint32_t event_head, event_count;
    uint64_t events_lost;
    uint64_t memory_bytes; /* in use; world_allocate and world_release keep it */
    uint64_t memory_max;
    struct kho_random random;
};

void world_init(struct shard_world *world, uint64_t memory_max, uint64_t seed);
/* NULL when memory_max would be passed or the heap has none. `alignment` 0: the heap's own. */
void *world_allocate(struct shard_world *world, size_t size, size_t alignment);
void world_release(struct shard_world *world, void *memory, size_t size);
void world_event(struct shard_world *world, enum event_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void world_push(struct shard_world *world, struct op *op);

/* --- Life ------------------------------------------------------------------------------------- */

int store_create(const struct shard_options *options, struct shard_world *world,
                 struct store **ret_store);
void store_destroy(struct store *store);
/* shard_areas(). */
uint32_t store_areas(const struct store *store, struct io_area *ret_areas);
void store_start(struct store *store, const struct file_found *files, size_t count,
                 struct kho_now now);
enum store_phase { STORE_STARTING, STORE_READY, STORE_STOPPING, STORE_STOPPED, STORE_FAILED };
enum store_phase store_phase(const struct store *store);
void store_progress(const struct store *store, uint64_t *ret_done, uint64_t *ret_total);
void store_completed(struct store *store, struct op *op, struct kho_now now);
void store_tick(struct store *store, struct kho_now now);
/* Seals the gathering commit where one may start, starts zero-filling and idle marks. */
void store_turn_end(struct store *store, struct kho_now now);
void store_stop(struct store *store, struct kho_now now);
/* The time of a stop is up: writes that wait for memory, not for the disk, are given up. */
void store_hurry(struct store *store, struct kho_now now);
uint64_t store_deadline(const struct store *store);
/* Adds the store's part of the numbers to `stats` (STAT_COUNT of them). */
void store_stats(const struct store *store, uint64_t *stats);

/* --- Writing ---------------------------------------------------------------------------------- */

/* How a write counts at the thresholds of R4. */
enum store_class { STORE_USER, STORE_DELETE_OR_REPAIR };

/* True if `records` records of `bytes` bytes in all (as wire records) can be taken now without
 * -EAGAIN. The serving side asks before it accepts a frame, and stops reading the socket if not. */
bool store_room(const struct store *store, uint64_t bytes, uint32_t records);

/* Takes a record whose bytes, hash, partition and rights the caller has checked. The bytes are
 * copied within the call. `drops` (copies only): the drop number that this node told before the
 * source was read. 0 with *ret_sequence (one that is reached already, if an equal or higher version
 * is durable). KHO_ECONFLICT (R6: same version, other content hash, where the hash is at hand: in a
 * commit in flight or the cache), KHO_ESTALE, KHO_EDROPPED (R7), KHO_EFULL, KHO_ENOSPACE,
 * KHO_EREADONLY, KHO_ETOOFAR (R6, first-hand only). */
int store_write(struct store *store, uint32_t partition, struct key_hash hash,
                const struct record *record, bool copy, uint64_t drops, struct kho_now now,
                uint64_t *ret_sequence);
/* A record of a block, with the place of its key. */
struct store_entry {
    struct record record;
    struct key_hash hash;
    uint32_t partition;
    int status;     /* the caller's own */
    uint64_t drops; /* the caller's own */
    bool new_key;   /* the store's own */
};
enum { STORE_BLOCK_RECORDS = KHO_BLOCK_RAW_MAX / (KHO_RECORD_HEAD + 1) };
/* Takes first-hand records that came compressed together, and stores the block as it came:
 * `stored_len` bytes of LZ4 that unpack to the records of `entries` end to end, `raw_len` bytes.
 * All or nothing: true with *ret_sequence; false: something isn't taken (refused, there already,
 * one key twice), and the caller takes each record by itself. Asked for store_room() before, as for
 * store_write(). */
bool store_write_block(struct store *store, struct store_entry *entries, uint32_t count,
                       const uint8_t *stored, uint32_t stored_len, uint32_t raw_len,
                       struct kho_now now, uint64_t *ret_sequence);
/* The sequence that will cover all that was taken so far: FLUSH waits for it. */
uint64_t store_sequence_taken(const struct store *store);
uint64_t store_durable(const struct store *store);
/* 0, or why the shard takes no more writes (KHO_EREADONLY). */
int store_failed(const struct store *store);

/* --- Reading ---------------------------------------------------------------------------------- */

/* Floor and drop number of a partition; zeros where there is none of that number. */
void store_floor(const struct store *store, uint32_t partition, uint64_t *ret_floor,
                 uint64_t *ret_drops);
/* State, version, floor and drop number of a key: what is durable and visible. */
void store_probe(const struct store *store, uint32_t collection, uint32_t partition,
                 struct key_hash hash, struct wire_probe_answer *ret_answer);

/* Fetches towards the cache what a probe, or a write, of that key will touch, in so many steps
 * (index.h). */
enum { STORE_PREFETCH_STEPS = 4 };
void store_prefetch(const struct store *store, uint32_t collection, uint32_t partition,
                    struct key_hash hash, uint32_t step);
void store_prefetch_write(const struct store *store, uint32_t collection, uint32_t partition,
                          struct key_hash hash, uint32_t step);

/* One read. The caller fills the first part, which it keeps in place until the read is done, and
 * `key` (lent: kept in place, too) unless the read is by tag (key_len 0). */
struct store_read {
    uint32_t collection;
    uint32_t partition;
    struct key_hash hash;
    const uint8_t *key;
    uint16_t key_len;
    bool sweep;  /* one of many that go through everything: no sign that it will be read again */
    void *owner; /* the caller's own */

    /* Result. status 0: `state` (ABSENT, PRESENT, TOMBSTONE); for the latter two `record`, whose
     * key and value point into memory pinned until store_read_end(). KHO_EUNKNOWN (an episode; or
     * the version is known, the value damaged: state VALUE_UNKNOWN and record.version),
     * KHO_EDAMAGED (found damaged by this read), KHO_ECOLLISION, -EIO. */
    int status;
    uint8_t state;
    struct record record;

    /* The store's own. */
    struct queue link;
    void *pin;
    uint64_t place;
    uint32_t bytes; /* upper bound of the stored block */
    bool paged;     /* `pin` is a page, else a cached block */
    bool alone;     /* its block is to be read without its neighbours */
};

/* Starts a read. True: done at once (index miss, cache hit, episode); false: it comes out of
 * store_next_done() later. Call store_read_end() in either case when its bytes are no longer
 * needed. Never fails for want of memory: a read that finds no buffer waits for one. What is begun
 * in a turn goes to the disk at its end, sorted by place, neighbours with one read. */
bool store_read(struct store *store, struct store_read *read, struct kho_now now);
/* Does those of the reads that can be done at once, their look-ups overlapping. Bit i of the answer
 * says that reads[i] is done, and wants store_read_end(); the others have not begun. `count` is at
 * most STORE_READS_CACHED. */
enum { STORE_READS_CACHED = 32 };
uint32_t store_read_cached(struct store *store, struct store_read *reads, uint32_t count);
void store_read_end(struct store *store, struct store_read *read);
/* Reads that wait for a buffer or the disk. */
uint32_t store_reads_pending(const struct store *store);

/* The first entry of (collection, partition) at or after `from`, in order of tags. False: none.
 * record_len is that of the record without its key: the index doesn't know keys. */
bool store_next(const struct store *store, uint32_t collection, uint32_t partition,
                struct key_tag from, struct wire_list_entry *ret_entry);

/* Digest, floor and drop number of one table. False, zeros but for floor and drops: no records. */
bool store_digest(const struct store *store, uint32_t collection, uint32_t partition,
                  struct wire_digest_entry *ret_digest);
/* Ids of the collections that have tables, rising; returns how many, at most `max` are written. */
uint32_t store_collections(const struct store *store, uint32_t *ret_ids, uint32_t max);

/* --- Episodes (R2, R3) ------------------------------------------------------------------------ */

/* An episode is open in the partition: reads and stamps of what it may hide are no votes. The id,
 * or 0. A suspect shard (R3) isn't reported here but by store_suspect(): its answers are given,
 * flagged. */
uint64_t store_episode_of(const struct store *store, uint32_t partition);
bool store_suspect(const struct store *store);
/* How many are open, each kind; at most `max` are written. */
uint32_t store_episodes(const struct store *store, struct wire_episode *ret, uint32_t max);
/* Closes one partition of an episode under the map's epoch. 0: persisting began, and
 * store_next_done() tells its end; KHO_EEPISODE: opened in this epoch or later; -ENOENT. */
int store_episode_close(struct store *store, uint64_t id, uint32_t partition, void *owner,
                        uint64_t context);

/* Gives up a version that a repair found on this replica only, without its value: fewer than W
 * replicas have it, so it was never acknowledged, and nobody can give what it stood for. The
 * partition hides until its episodes are closed (store_episode_of()), since what was there before
 * that version isn't known any more. 0; -ENOENT: another version, or its value, is there;
 * KHO_EBUSY: a write of the key is in flight; KHO_EEPISODE: no episode is open in the partition, or
 * one that began in the map's epoch, so that the version may have been acknowledged under it;
 * KHO_EFULL; KHO_EREADONLY. */
int store_forget(struct store *store, uint32_t collection, uint32_t partition, struct key_hash hash,
                 struct version version, struct kho_now now);

/* --- The map (R5) ----------------------------------------------------------------------------- */

/* The map in force (the newest durable one), or NULL. */
const struct map *store_map(const struct store *store);
/* This node's index in it, or -1. */
int store_map_self(const struct store *store);
/* Checks and persists a decided map (the bytes are copied), then puts it in force: a new
 * incarnation that the map readmitted opens its WIPED episode first; data of partitions that this
 * node holds from before its `since` is discarded. 0: begun, store_next_done() tells its end;
 * KHO_EEPOCHOLD: not newer (equal epoch and hash: 0 and done at once, *ret_done true); KHO_EMAP;
 * KHO_ECLUSTER; KHO_EINCARNATION: the map doesn't name this folder; KHO_EBUSY: another is being
 * persisted. */
int store_map_set(struct store *store, const uint8_t *bytes, size_t length, void *owner,
                  uint64_t context, struct kho_now now, bool *ret_done);

/* --- What was finished ------------------------------------------------------------------------ */

enum store_done_kind { STORE_DONE_READ = 1, STORE_DONE_EPISODE, STORE_DONE_MAP };
struct store_done {
    enum store_done_kind kind;
    struct store_read *read; /* READ */
    void *owner;             /* EPISODE, MAP */
    uint64_t context;
    int status;
};
bool store_next_done(struct store *store, struct store_done *ret_done);

#endif
