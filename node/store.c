/* store.c: the door to a shard's durable records (store.h): it brings the rooms behind it together.
 *
 *     depot     options, manifest, map, index: what all share     log      commits, keys in flight
 *     recover   the start                                         maker    segments ahead of need
 *     reader    reads, cache, damage                              mapset   the way of a map into
 * force replace   manifest and map on disk
 *
 * Here live the rules that need several of them: which write is taken (R1, R4, R6, R7), what a
 * probe tells (R2), episodes and their end, and when manifest, marks and segments are due. The
 * manifest changes in memory at once; who must not answer before it is durable waits for its
 * generation.
 *
 * Failure: a start that can't tell what was lost ends as STORE_FAILED; a failed write or sync later
 * makes the shard read-only. */
#include "log.h"
#include "maker.h"
#include "mapset.h"
#include "reader.h"
#include "recover.h"

static const uint64_t SPACE_LOOK_NS = 1000000000ull;
static const uint64_t NS_PER_MS = 1000000ull;

/* Somebody who waits for the manifest, then an answer on its way. */
struct waiter {
    struct queue link;
    struct store_done done;
    uint64_t generation;
};

struct store {
    struct depot depot;
    struct log log;
    struct reader reader;
    struct maker maker;
    struct recover recover;
    struct mapset mapset;
    struct replace manifest_file;
    uint64_t manifest_writing; /* generation under way */
    uint64_t manifest_retry_ns;
    enum store_phase phase;
    bool recovered, closing;
    struct queue waiters; /* struct waiter */
    struct queue ended;   /* struct waiter, answers to be fetched */
    struct queue reads;   /* struct store_read, done */
    struct op space_op;
    bool space_busy;
    uint64_t space_ns; /* when to look next */
    uint64_t started_ns, recovery_ms;
    struct op *close_ops;
    uint32_t close_count;
};

/* --- Life ------------------------------------------------------------------------------------- */

int store_create(const struct shard_options *options, struct shard_world *world,
                 struct store **ret_store)
{
    struct store *store = world_allocate(world, sizeof *store, 0);
    if (store == NULL)
        return -ENOMEM;
    memset(store, 0, sizeof *store);
    struct depot *depot = &store->depot;
    depot->options = *options;
    depot->world = world;
    depot->file_next = DEPOT_FILE_FIRST;
    depot->disk_free = UINT64_MAX;
    depot->self = -1;
    manifest_init(&depot->manifest, world);
    depot->manifest.identity.incarnation = options->incarnation;
    depot->manifest.identity.shard = options->shard;
    depot->manifest.shard_count = options->shard_count;
    queue_init(&store->waiters);
    queue_init(&store->ended);
    queue_init(&store->reads);
    maker_init(&store->maker, depot);
    mapset_init(&store->mapset, depot);
    replace_init(&store->manifest_file, depot, FILE_MANIFEST, DEPOT_FILE_MANIFEST);
    int error = recover_init(&store->recover, depot);
    if (error == 0)
        error = log_init(&store->log, depot);
    if (error == 0)
        error = reader_init(&store->reader, depot, &store->reads);
    if (error != 0) {
        store_destroy(store);
        return error;
    }
    *ret_store = store;
    return 0;
}

static void waiters_free(struct store *store, struct queue *queue)
{
    struct queue *link;
    while ((link = queue_pop(queue)) != NULL)
        world_release(store->depot.world, KHO_CONTAINER_OF(link, struct waiter, link),
                      sizeof(struct waiter));
}

void store_destroy(struct store *store)
{
    if (store == NULL)
        return;
    struct depot *depot = &store->depot;
    struct shard_world *world = depot->world;
    waiters_free(store, &store->waiters);
    waiters_free(store, &store->ended);
    recover_fini(&store->recover);
    maker_fini(&store->maker);
    mapset_fini(&store->mapset);
    replace_fini(&store->manifest_file);
    reader_fini(&store->reader);
    log_fini(&store->log);
    index_destroy(depot->index);
    depot_map_release(depot, &depot->map);
    manifest_fini(&depot->manifest);
    world_release(world, store->close_ops, store->close_count * sizeof *store->close_ops);
    world_release(world, store, sizeof *store);
}

enum store_phase store_phase(const struct store *store)
{
    return store->phase;
}

void store_progress(const struct store *store, uint64_t *ret_done, uint64_t *ret_total)
{
    *ret_done = 0;
    *ret_total = 0;
    if (store->recover.depot != NULL)
        recover_progress(&store->recover, ret_done, ret_total);
}

/* --- The end of recovery ---------------------------------------------------------------------- */

/* Unsealed segments before the one that goes on, and those of another alignment, are sealed.
 * Returns the slot that goes on, or LOG_NO_SEGMENT. */
static uint32_t segments_settle(struct store *store)
{
    struct manifest *manifest = &store->depot.manifest;
    const struct scan *scan = &store->recover.scan;
    uint32_t tail = LOG_NO_SEGMENT;
    for (uint32_t i = 0; i < manifest->segments.count; i++) {
        const struct segment *s = manifest_segment(manifest, i);
        if (!s->sealed && s->touched)
            tail = i;
    }
    for (uint32_t i = 0; i < manifest->segments.count; i++) {
        struct segment *s = manifest_segment(manifest, i);
        bool before = tail != LOG_NO_SEGMENT && i < tail;
        if (s->sealed || (!before && s->alignment == store->depot.options.alignment))
            continue;
        if (!before)
            s->last = scan->highest;
        s->sealed = true;
        store->depot.manifest_dirty = true;
    }
    if (tail == LOG_NO_SEGMENT || manifest_segment(manifest, tail)->sealed)
        return LOG_NO_SEGMENT;
    return tail;
}

static void log_resume(struct store *store)
{
    struct log *log = &store->log;
    struct depot *depot = &store->depot;
    const struct scan *scan = &store->recover.scan;
    uint32_t tail = segments_settle(store);
    log->sequence = scan->highest;
    log->durable = scan->highest;
    log->predecessor = scan->predecessor;
    /* A mark at the end, or a sealed end in the manifest, says already that all is durable. */
    log->marked = tail == LOG_NO_SEGMENT || scan->last_empty ? log->durable : UINT64_MAX;
    log->idle_since_ns = scan->now.mono_ns;
    if (tail != LOG_NO_SEGMENT) {
        log->current = tail;
        log->position = manifest_segment(&depot->manifest, tail)->end;
    }
    for (uint32_t i = tail == LOG_NO_SEGMENT ? 0 : tail; i < depot->manifest.segments.count; i++) {
        const struct segment *s = manifest_segment(&depot->manifest, i);
        if (!s->sealed && !s->touched && log->spare == LOG_NO_SEGMENT)
            log_give_segment(log, i);
    }
}

/* The index is there: the rooms that use it learn of it. */
static void index_ready(struct store *store)
{
    store->log.index = store->depot.index;
    store->reader.index = store->depot.index;
    store->reader.seed = store->depot.map.seed;
}

static void ready(struct store *store, struct kho_now now)
{
    struct index_digest totals = {0};
    store->phase = STORE_READY;
    store->recovery_ms = (now.mono_ns - store->started_ns) / NS_PER_MS;
    store->space_ns = now.mono_ns;
    if (store->depot.index != NULL)
        index_totals(store->depot.index, &totals);
    world_event(store->depot.world, EVENT_INFO,
                "shard %u is ready: %llu records in %u segments, durable to sequence %llu, read in "
                "%llu ms",
                store->depot.options.shard, (unsigned long long)totals.count,
                store->depot.manifest.segments.count, (unsigned long long)store->log.durable,
                (unsigned long long)store->recovery_ms);
}

static void manifest_write(struct store *store, struct kho_now now);

static void recovered(struct store *store, int state, struct kho_now now)
{
    struct depot *depot = &store->depot;
    int error = 0;
    if (state > 0)
        return;
    if (state < 0) {
        store->phase = STORE_FAILED;
        return;
    }
    store->recovered = true;
    if (depot->map.bytes != NULL) {
        log_resume(store);
        index_ready(store);
        if (store->recover.scan.damages > 0)
            world_event(depot->world, EVENT_ERROR, "%u damaged places were found in the log",
                        store->recover.scan.damages);
        depot_readmitted(depot, &depot->map, now, &error);
        if (error != 0) {
            store->phase = STORE_FAILED;
            return;
        }
    }
    recover_fini(&store->recover);
    /* Seals and episodes count before anything is served or written. */
    if (depot->manifest_dirty)
        manifest_write(store, now);
    else
        ready(store, now);
}

void store_start(struct store *store, const struct file_found *files, size_t count,
                 struct kho_now now)
{
    KHO_ASSERT(store->phase == STORE_STARTING && !store->recovered);
    store->started_ns = now.mono_ns;
    recovered(store, recover_start(&store->recover, files, count, now), now);
}

/* --- The manifest ----------------------------------------------------------------------------- */

static void finish(struct store *store, struct waiter *waiter, int status)
{
    waiter->done.status = status;
    queue_push(&store->ended, &waiter->link);
}

static void manifest_write(struct store *store, struct kho_now now)
{
    struct depot *depot = &store->depot;
    struct manifest *manifest = &depot->manifest;
    if (!depot->manifest_dirty || replace_busy(&store->manifest_file) || depot->read_only ||
        now.mono_ns < store->manifest_retry_ns)
        return;
    manifest->durable = kho_max(manifest->durable, store->log.durable);
    uint8_t *to = replace_prepare(&store->manifest_file, manifest_length(manifest));
    if (to == NULL) {
        store->manifest_retry_ns = now.mono_ns + SPACE_LOOK_NS;
        return;
    }
    manifest->generation++;
    manifest_encode(manifest, to);
    store->manifest_writing = manifest->generation;
    depot->manifest_dirty = false;
    replace_start(&store->manifest_file);
}

static void map_ended(struct store *store, int status);

/* The manifest of `manifest_writing` is durable, or won't be. */
static void manifest_written(struct store *store, int status, struct kho_now now)
{
    struct depot *depot = &store->depot;
    int map_status, answer = status == -ENOSPC ? KHO_ENOSPACE : status;
    if (status != 0) {
        depot->manifest_dirty = true;
        store->manifest_retry_ns = now.mono_ns + SPACE_LOOK_NS;
        if (status != -ENOSPC)
            depot_fail(depot, "replacing the file 'manifest'", 0, 0, status);
    }
    if (store->phase == STORE_STARTING) {
        if (status == 0)
            ready(store, now);
        else
            store->phase = STORE_FAILED;
        return;
    }
    QUEUE_FOREACH_SAFE (link, &store->waiters) {
        struct waiter *waiter = KHO_CONTAINER_OF(link, struct waiter, link);
        if (waiter->generation <= store->manifest_writing) {
            queue_remove(&waiter->link);
            finish(store, waiter, answer);
        }
    }
    if (mapset_manifest(&store->mapset, store->manifest_writing, status, &map_status))
        map_ended(store, map_status);
    if (status == 0 && store->maker.made && store->maker.generation <= store->manifest_writing) {
        store->maker.made = false;
        log_give_segment(&store->log, store->maker.slot);
    }
}

/* --- Segments and space ----------------------------------------------------------------------- */

/* R4: what creating a segment has to leave free, so that compaction always can. */
static bool segment_affordable(const struct depot *depot)
{
    return depot->disk_free == UINT64_MAX ||
           depot->disk_free >= depot->options.segment_bytes + depot->options.reserve_bytes / 4;
}

static void segment_make(struct store *store)
{
    struct depot *depot = &store->depot;
    if (depot->map.bytes == NULL || depot->self < 0 || maker_busy(&store->maker) ||
        store->maker.made || store->phase != STORE_READY || !log_wants_segment(&store->log))
        return;
    if (!segment_affordable(depot)) {
        if (!depot->space_told)
            world_event(depot->world, EVENT_WARNING,
                        "%llu bytes are free: too few for another segment of %llu bytes beside the "
                        "reserve; writes are refused when the last one is full",
                        (unsigned long long)depot->disk_free,
                        (unsigned long long)depot->options.segment_bytes);
        depot->no_space = true;
        depot->space_told = true;
    }
    if (!depot->no_space)
        maker_start(&store->maker);
}

static void segment_made(struct store *store, const struct segment *segment, struct kho_now now)
{
    struct depot *depot = &store->depot;
    store->space_ns = now.mono_ns;
    depot->space_told = false;
    if (manifest_add_segment(&depot->manifest, segment) != 0) {
        depot_fail(depot, "listing", segment->id, 0, -ENOMEM);
        return;
    }
    store->maker.made = true;
    store->maker.slot = depot->manifest.segments.count - 1;
    store->maker.generation = depot->manifest.generation + 1;
    depot->manifest_dirty = true;
}

static void space_look(struct store *store, struct kho_now now)
{
    if (store->space_busy || store->depot.map.bytes == NULL || now.mono_ns < store->space_ns)
        return;
    store->space_busy = true;
    store->space_ns = now.mono_ns + SPACE_LOOK_NS;
    store->space_op = (struct op){.file = -1, .conn = -1};
    depot_push(&store->depot, &store->space_op, OP_SPACE, PURPOSE_SPACE, store);
}

static void space_looked(struct store *store, const struct op *op)
{
    struct depot *depot = &store->depot;
    store->space_busy = false;
    if (op->result < 0)
        return;
    depot->disk_free = op->offset;
    /* What allocation refused is tried again, too: someone may have made room. */
    if (depot->no_space && segment_affordable(depot))
        depot->no_space = false;
}

static bool space_refuses(const struct depot *depot, enum store_class class)
{
    uint64_t reserve = depot->options.reserve_bytes;
    if (depot->disk_free == UINT64_MAX)
        return false;
    return depot->disk_free < (class == STORE_USER ? reserve : reserve / 2);
}

/* --- Turns ------------------------------------------------------------------------------------ */

static bool quiet(const struct store *store)
{
    return log_idle(&store->log) && !maker_busy(&store->maker) && !store->mapset.busy &&
           !replace_busy(&store->manifest_file) && store->reader.pending == 0 &&
           store->depot.ops == 0;
}

/* All that is open is closed; then it has stopped. */
static void files_close(struct store *store)
{
    struct depot *depot = &store->depot;
    uint32_t count = depot->manifest.segments.count;
    store->closing = true;
    if (count == 0)
        return;
    store->close_ops = world_allocate(depot->world, count * sizeof *store->close_ops, 0);
    if (store->close_ops == NULL)
        return; /* the process is about to end: the system closes them */
    store->close_count = count;
    for (uint32_t i = 0; i < count; i++) {
        const struct segment *s = manifest_segment(&depot->manifest, i);
        struct op *op = &store->close_ops[i];
        if (!s->open)
            continue;
        *op = (struct op){.file = s->file, .conn = -1};
        depot_push(depot, op, OP_CLOSE_FILE, PURPOSE_CLOSE, store);
    }
}

static void stop_progress(struct store *store, struct kho_now now)
{
    if (store->phase != STORE_STOPPING)
        return;
    if (store->recovered && !store->closing) {
        log_pump(&store->log, true, now);
        if (log_wants_mark(&store->log))
            log_mark(&store->log, now);
        if (log_idle(&store->log))
            manifest_write(store, now);
    }
    if (!quiet(store))
        return;
    if (!store->closing)
        files_close(store);
    if (store->depot.ops == 0)
        store->phase = STORE_STOPPED;
}

static uint64_t mark_due(const struct store *store)
{
    if (store->depot.index == NULL || !log_wants_mark(&store->log))
        return UINT64_MAX;
    return store->log.idle_since_ns + store->depot.options.idle_mark_ms * NS_PER_MS;
}

static void housekeeping(struct store *store, struct kho_now now)
{
    if (store->phase == STORE_READY) {
        if (now.mono_ns >= mark_due(store))
            log_mark(&store->log, now);
        space_look(store, now);
        segment_make(store);
        manifest_write(store, now);
    } else if (store->phase == STORE_STARTING && store->recovered) {
        manifest_write(store, now); /* it found no memory at first */
    }
    stop_progress(store, now);
}

void store_tick(struct store *store, struct kho_now now)
{
    housekeeping(store, now);
}

void store_turn_end(struct store *store, struct kho_now now)
{
    if (store->phase == STORE_READY)
        log_pump(&store->log, true, now);
    housekeeping(store, now);
}

void store_stop(struct store *store, struct kho_now now)
{
    if (store->phase == STORE_STOPPING || store->phase == STORE_STOPPED ||
        store->phase == STORE_FAILED)
        return;
    store->phase = STORE_STOPPING;
    maker_stop(&store->maker);
    stop_progress(store, now);
}

uint64_t store_deadline(const struct store *store)
{
    uint64_t deadline = UINT64_MAX;
    if (store->phase == STORE_READY) {
        deadline = mark_due(store);
        if (store->depot.map.bytes != NULL && !store->space_busy)
            deadline = kho_min(deadline, store->space_ns);
    }
    if ((store->phase == STORE_READY || store->phase == STORE_STARTING) &&
        store->depot.manifest_dirty && store->recovered && !store->depot.read_only &&
        !replace_busy(&store->manifest_file))
        deadline = kho_min(deadline, store->manifest_retry_ns);
    return deadline;
}

void store_completed(struct store *store, struct op *op, struct kho_now now)
{
    struct segment segment;
    int state, status;
    KHO_ASSERT(store->depot.ops > 0);
    store->depot.ops--;
    switch (op->purpose) {
    case PURPOSE_COMMIT:
        log_completed(&store->log, op, now);
        break;
    case PURPOSE_FETCH:
        reader_completed(&store->reader, op, now);
        break;
    case PURPOSE_RECOVER:
    case PURPOSE_WINDOW:
        if (store->phase == STORE_STARTING)
            recovered(store, recover_completed(&store->recover, op, now), now);
        break;
    case PURPOSE_MAKE:
        if (maker_completed(&store->maker, op, now, &segment))
            segment_made(store, &segment, now);
        break;
    case PURPOSE_REPLACE:
        if (op->context == &store->mapset.file) {
            if (mapset_completed(&store->mapset, op, &status))
                map_ended(store, status);
        } else {
            state = replace_completed(&store->manifest_file, op);
            if (state <= 0)
                manifest_written(store, state, now);
        }
        break;
    case PURPOSE_SPACE:
        space_looked(store, op);
        break;
    default:
        KHO_ASSERT(op->purpose == PURPOSE_CLOSE);
    }
    stop_progress(store, now);
}

/* --- Writing ---------------------------------------------------------------------------------- */

bool store_room(const struct store *store, uint64_t bytes, uint32_t records)
{
    if (store->phase != STORE_READY || store->depot.read_only || store->depot.index == NULL)
        return true; /* the write itself says why not */
    return log_room(&store->log, bytes, records) != -EAGAIN;
}

/* R6, where the hash is at hand: a durable record of that very version. */
static int same_check(struct store *store, struct key_tag tag, const struct record *record,
                      const struct index_entry *entry)
{
    struct kho_id hash;
    uint32_t length = record->raw_len < KHO_VALUE_MAX ? record->raw_len : KHO_VALUE_MAX - 1;
    if (entry->tombstone != record_is_tombstone(record) || entry->value_bytes != length)
        return KHO_ECONFLICT;
    if (entry->place != PLACE_UNKNOWN &&
        reader_cached_hash(&store->reader, entry->place, tag, record, &hash) &&
        !kho_id_equal(&hash, &record->hash))
        return KHO_ECONFLICT;
    return 0;
}

/* R6: a first-hand counter further ahead than a day of all that is known here. */
static bool too_far(uint64_t counter, uint64_t known, uint64_t floor, struct kho_now now)
{
    uint64_t base = kho_max(version_counter_at(now.wall_ms), kho_max(known, floor));
    uint64_t ahead = version_counter_at(KHO_COUNTER_AHEAD_MS);
    return base < KHO_COUNTER_MAX - ahead && counter > base + ahead;
}

/* R7: what is at or below the floor and absent. */
static int floor_check(const struct floor *floor, const struct record *record, bool copy,
                       uint64_t drops)
{
    if (floor->floor == 0 || record->version.counter > floor->floor)
        return 0;
    if (!copy)
        return KHO_ESTALE;
    return drops != floor->drops ? KHO_EDROPPED : 0;
}

int store_write(struct store *store, uint32_t partition, struct key_hash hash,
                const struct record *record, bool copy, uint64_t drops, struct kho_now now,
                uint64_t *ret_sequence)
{
    struct depot *depot = &store->depot;
    struct key_tag tag = key_tag(hash);
    struct index_entry entry = {0};
    struct log_look look;
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    if (depot->index == NULL || depot->map.bytes == NULL)
        return KHO_ENOMAP;
    KHO_ASSERT(partition < depot->map.partitions);
    if (depot->read_only)
        return KHO_EREADONLY;
    const struct floor *floor = &depot->manifest.floors[partition];
    bool there = index_get(depot->index, record->collection, partition, tag, &entry);
    log_look(&store->log, record->collection, partition, tag, record, &look);
    uint64_t known = kho_max(entry.version.counter, look.found ? look.version.counter : 0);
    if (!copy && too_far(record->version.counter, known, floor->floor, now))
        return KHO_ETOOFAR;
    if (look.same) {
        if (look.same_conflict)
            return KHO_ECONFLICT;
        *ret_sequence = look.same_sequence;
        return 0;
    }
    int order = there ? version_compare(record->version, entry.version) : 1;
    if (order == 0 && same_check(store, tag, record, &entry) != 0)
        return KHO_ECONFLICT;
    if (order < 0 || (order == 0 && entry.place != PLACE_UNKNOWN)) {
        *ret_sequence = store->log.durable;
        return 0;
    }
    if (look.found && version_compare(record->version, look.version) < 0) {
        *ret_sequence = look.sequence;
        return 0;
    }
    bool new_key = !there && !look.found;
    int error = new_key ? floor_check(floor, record, copy, drops) : 0;
    if (error != 0)
        return error;
    bool first_rank = copy || record_is_tombstone(record);
    if (space_refuses(depot, first_rank ? STORE_DELETE_OR_REPAIR : STORE_USER))
        return KHO_ENOSPACE;
    if (new_key && index_reserve(depot->index, 1) != 0)
        return KHO_EFULL;
    error = log_take(&store->log, partition, tag, record, new_key, now, ret_sequence);
    if (error != 0 && new_key)
        index_unreserve(depot->index, 1);
    return error;
}

uint64_t store_sequence_taken(const struct store *store)
{
    return store->log.sequence;
}

uint64_t store_durable(const struct store *store)
{
    return store->log.durable;
}

int store_failed(const struct store *store)
{
    return store->depot.read_only ? KHO_EREADONLY : 0;
}

/* --- Reading ---------------------------------------------------------------------------------- */

static uint8_t entry_state(const struct index_entry *entry)
{
    if (entry->place == PLACE_UNKNOWN)
        return WIRE_VALUE_UNKNOWN;
    return entry->tombstone ? WIRE_TOMBSTONE : WIRE_PRESENT;
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
    if (manifest_hides(&depot->manifest, partition) != 0) {
        answer.state = WIRE_UNKNOWN;
    } else if (index_get(depot->index, collection, partition, key_tag(hash), &entry)) {
        answer.version = entry.version;
        answer.state = entry_state(&entry);
    }
    *ret_answer = answer;
}

bool store_read(struct store *store, struct store_read *read, struct kho_now now)
{
    return reader_read(&store->reader, read, now);
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

int store_episode_close(struct store *store, uint64_t id, uint32_t partition, void *owner,
                        uint64_t context)
{
    struct depot *depot = &store->depot;
    const struct episode *episode = manifest_episode_find(&depot->manifest, id);
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    if (episode == NULL || partition >= depot->manifest.partitions ||
        !manifest_episode_has(episode, partition))
        return -ENOENT;
    if (depot->epoch <= episode->epoch)
        return KHO_EEPISODE;
    if (depot->read_only)
        return KHO_EREADONLY;
    struct waiter *waiter = world_allocate(depot->world, sizeof *waiter, 0);
    if (waiter == NULL)
        return -ENOMEM;
    *waiter =
        (struct waiter){.done = {.kind = STORE_DONE_EPISODE, .owner = owner, .context = context},
                        .generation = depot->manifest.generation + 1};
    queue_push(&store->waiters, &waiter->link);
    manifest_episode_clear(&depot->manifest, id, partition);
    depot->manifest_dirty = true;
    return 0;
}

/* --- The map ---------------------------------------------------------------------------------- */

const struct map *store_map(const struct store *store)
{
    return store->depot.map.bytes != NULL ? &store->depot.map : NULL;
}

int store_map_self(const struct store *store)
{
    return store->depot.map.bytes != NULL ? store->depot.self : -1;
}

int store_map_set(struct store *store, const uint8_t *bytes, size_t length, void *owner,
                  uint64_t context, struct kho_now now, bool *ret_done)
{
    *ret_done = false;
    if (store->phase != STORE_READY)
        return KHO_ESTOPPING;
    struct waiter *waiter = world_allocate(store->depot.world, sizeof *waiter, 0);
    if (waiter == NULL)
        return -ENOMEM;
    int error = mapset_start(&store->mapset, bytes, length, now, ret_done);
    if (error != 0 || *ret_done) {
        world_release(store->depot.world, waiter, sizeof *waiter);
        return error;
    }
    /* It waits behind all generations: map_ended() finds it by its kind. */
    *waiter = (struct waiter){.done = {.kind = STORE_DONE_MAP, .owner = owner, .context = context},
                              .generation = UINT64_MAX};
    queue_push(&store->waiters, &waiter->link);
    return 0;
}

/* R5: partitions whose data is from before this node became a replica of them are emptied. */
static void partitions_discard(struct store *store, const struct map *map)
{
    struct depot *depot = &store->depot;
    for (uint32_t p = 0; depot->map.bytes != NULL && p < map->partitions; p++) {
        uint64_t since = depot_since(depot, map, p);
        if (since <= depot->epoch)
            continue;
        log_discard(&store->log, p);
        index_drop_partition(depot->index, p);
    }
}

static void map_ended(struct store *store, int status)
{
    struct depot *depot = &store->depot;
    struct mapset *mapset = &store->mapset;
    if (status == 0) {
        /* What was gathered counts under the epoch in which it was taken. */
        log_cut(&store->log);
        partitions_discard(store, &mapset->map);
        depot_map_adopt(depot, &mapset->map);
        mapset->map = (struct map){0};
        index_ready(store);
        world_event(depot->world, EVENT_INFO, "the map of epoch %llu is in force",
                    (unsigned long long)depot->epoch);
    } else if (status != KHO_ENOSPACE && !depot->read_only) {
        depot_fail(depot, "replacing the file 'map'", 0, 0, status);
    }
    QUEUE_FOREACH_SAFE (link, &store->waiters) {
        struct waiter *waiter = KHO_CONTAINER_OF(link, struct waiter, link);
        if (waiter->done.kind == STORE_DONE_MAP) {
            queue_remove(&waiter->link);
            finish(store, waiter, status);
        }
    }
}

/* --- What was finished ------------------------------------------------------------------------ */

bool store_next_done(struct store *store, struct store_done *ret_done)
{
    struct queue *link = queue_pop(&store->reads);
    if (link != NULL) {
        struct store_read *read = KHO_CONTAINER_OF(link, struct store_read, link);
        *ret_done = (struct store_done){
            .kind = STORE_DONE_READ, .read = read, .context = read->context, .owner = read->owner};
        return true;
    }
    link = queue_pop(&store->ended);
    if (link == NULL)
        return false;
    struct waiter *waiter = KHO_CONTAINER_OF(link, struct waiter, link);
    *ret_done = waiter->done;
    world_release(store->depot.world, waiter, sizeof *waiter);
    return true;
}

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
    stats[STAT_segments] += manifest->segments.count;
    for (uint32_t i = 0; i < manifest->segments.count; i++) {
        const struct segment *s = manifest_segment(manifest, i);
        bool current = i == store->log.current;
        stats[STAT_segment_bytes] += current ? store->log.position : s->end;
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
}
