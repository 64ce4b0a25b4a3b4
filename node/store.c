/* store.c: the life of a store (store.h): it brings the rooms behind the door together.
 *
 *     depot     options, manifest, map and index: what all share
 *     recover   the start                  log       commits, and the keys in flight
 *     reader    reads, cache, damage       maker     segments ahead of need
 *     mapset    a map's way into force     replace   manifest and map on the disk
 *     compact   dead bytes given back      scrub     rot found
 *
 * Here is decided when something is due: recovery's end, the manifest, marks, segments, a look at
 * the disk's space, the stop. The manifest changes in memory at once; who must not answer before it
 * is durable waits for its generation. Which write is taken stands in store_write.c, what is told
 * in store_ask.c, maps and episodes' ends in store_map.c.
 *
 * Failure: a start that can't tell what was lost ends as STORE_FAILED; a failed write or sync later
 * makes the shard read-only. */
#include "damage.h"
#include "live.h"
#include "store_inside.h"

#include <assert.h>

static const uint64_t SPACE_LOOK_NS = 1000000000ull;
static const uint64_t NS_PER_MS = 1000000ull;

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
    compact_init(&store->compact, depot, &store->log, &store->reader);
    scrub_init(&store->scrub, depot, &store->reader.cache);
    replace_init(&store->manifest_file, depot, FILE_MANIFEST, DEPOT_FILE_MANIFEST);
    int error = footer_maker_init(&depot->tail, world, options->footer_entries);
    if (error == 0)
        error = recover_init(&store->recover, depot);
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

uint32_t store_areas(const struct store *store, struct io_area *ret_areas)
{
    uint32_t count = log_areas(&store->log, ret_areas);
    return count + reader_areas(&store->reader, ret_areas + count);
}

static_assert((int)LOG_AREAS_MAX + (int)READER_AREAS_MAX <= (int)IO_AREAS_MAX, "all have room");

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
    compact_fini(&store->compact);
    scrub_fini(&store->scrub);
    replace_fini(&store->manifest_file);
    reader_fini(&store->reader);
    log_fini(&store->log);
    index_destroy(depot->index);
    depot_map_release(depot, &depot->map);
    footer_maker_fini(&depot->tail);
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

/* Only the last segment that was used may go on: sequences rise from slot to slot. Unsealed ones
 * before it, and those of another alignment, are sealed. Returns the slot that goes on, or
 * LOG_NO_SEGMENT. */
static uint32_t segments_settle(struct store *store)
{
    struct manifest *manifest = &store->depot.manifest;
    const struct scan *scan = &store->recover.scan;
    uint32_t tail = LOG_NO_SEGMENT;
    for (uint32_t i = 0; i < manifest->segments.count; i++) {
        const struct segment *s = manifest_segment(manifest, i);
        if (s->sealed || s->touched)
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
    log->sequence = KHO_PLANTED(sequence_reused) ? scan->expected - 1 : scan->highest;
    log->durable = log->sequence;
    log->predecessor = scan->predecessor;
    /* A mark at the end, or a sealed end in the manifest, says already that all is durable. */
    log->marked = tail == LOG_NO_SEGMENT || scan->last_empty ? log->durable : UINT64_MAX;
    log->idle_since_ns = scan->now.mono_ns;
    if (tail == LOG_NO_SEGMENT || tail != scan->tail)
        footer_maker_reset(&depot->tail);
    if (tail != LOG_NO_SEGMENT) {
        log->current = tail;
        log->position = manifest_segment(&depot->manifest, tail)->end;
        manifest_segment(&depot->manifest, tail)->landed = log->position;
    }
    for (uint32_t i = tail == LOG_NO_SEGMENT ? 0 : tail; i < depot->manifest.segments.count; i++) {
        const struct segment *s = manifest_segment(&depot->manifest, i);
        if (!s->sealed && !s->touched && log->spare == LOG_NO_SEGMENT)
            log_give_segment(log, i);
    }
}

void store_index_ready(struct store *store)
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
                store->depot.manifest.listed, (unsigned long long)store->log.durable,
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
        live_count(depot);
        log_resume(store);
        store_index_ready(store);
        if (store->recover.scan.damages > 0)
            world_event(depot->world, EVENT_ERROR, "%u damaged places were found in the log",
                        store->recover.scan.damages);
        depot_readmitted(depot, &depot->map, now, &error);
        if (error == 0)
            error = damage_cover(depot, now);
        if (error != 0) {
            store->phase = STORE_FAILED;
            return;
        }
    }
    recover_fini(&store->recover);
    depot->world->memory_max = store->memory_max;
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
    /* What fitted at run time has to fit again, with recovery's buffers beside it. */
    store->memory_max = store->depot.world->memory_max;
    store->depot.world->memory_max += store->memory_max / 8 + 2 * (uint64_t)COMMIT_BYTES_MAX;
    recovered(store, recover_start(&store->recover, files, count, now), now);
}

/* --- The manifest ----------------------------------------------------------------------------- */

static void manifest_write(struct store *store, struct kho_now now)
{
    struct depot *depot = &store->depot;
    struct manifest *manifest = &depot->manifest;
    if (!depot->manifest_dirty || replace_busy(&store->manifest_file) || depot->folder_failed ||
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

/* Answers those who wait for a manifest of that generation. */
static void manifest_answer(struct store *store, uint64_t generation, int status)
{
    int map_status, answer = status == -ENOSPC ? KHO_ENOSPACE : status;
    QUEUE_FOREACH_SAFE (link, &store->waiters) {
        struct waiter *waiter = KHO_CONTAINER_OF(link, struct waiter, link);
        if (waiter->done.kind != STORE_DONE_MAP && waiter->generation <= generation) {
            queue_remove(&waiter->link);
            store_finish(store, waiter, answer);
        }
    }
    if (mapset_manifest(&store->mapset, generation, status, &map_status))
        store_map_ended(store, map_status);
}

/* A segment that was made counts once it is listed: so this is no room for segments, either, and
 * what needs one is refused rather than left to wait for as long as the disk is full (R4). */
static void manifest_lacks_room(struct store *store)
{
    struct depot *depot = &store->depot;
    if (store->phase == STORE_STARTING)
        world_event(
            depot->world, EVENT_ERROR,
            "no room for the file 'manifest': the shard can't start before the disk has some");
    else if (!depot->space_told)
        world_event(depot->world, EVENT_WARNING,
                    "no room for the file 'manifest': writes are refused until the disk has room");
    depot->no_space = true;
    depot->space_told = true;
}

/* The manifest of `manifest_writing` is durable, or won't be. */
static void manifest_written(struct store *store, int status, struct kho_now now)
{
    struct depot *depot = &store->depot;
    if (status != 0) {
        depot->manifest_dirty = true;
        store->manifest_retry_ns = now.mono_ns + SPACE_LOOK_NS;
        if (status != -ENOSPC) {
            depot_fail(depot, "replacing the file 'manifest'", 0, 0, status);
            depot->folder_failed = true;
        } else {
            manifest_lacks_room(store);
        }
    }
    if (store->phase == STORE_STARTING) {
        if (status == 0)
            ready(store, now);
        else
            store->phase = STORE_FAILED;
        return;
    }
    manifest_answer(store, store->manifest_writing, status);
    if (status == 0)
        retire_logged(&store->compact.retire, store->manifest_writing);
    if (status == 0 && store->maker.made && store->maker.generation <= store->manifest_writing) {
        store->maker.made = false;
        depot->space_told = false;
        log_give_segment(&store->log, store->maker.slot);
    }
}

/* --- Segments and space ----------------------------------------------------------------------- */

/* R4: what creating a segment has to leave free, so that compaction always can. */
static bool segment_affordable(const struct store *store)
{
    const struct depot *depot = &store->depot;
    uint64_t left = store->compact.starved ? 0 : depot->options.reserve_bytes / 4;
    bool kept = depot->kept != 0 && !depot->recycling_fails; /* needs no more room */
    return kept || depot->disk_free == UINT64_MAX ||
           depot->disk_free >= depot->options.segment_bytes + left;
}

static void segment_make(struct store *store)
{
    struct depot *depot = &store->depot;
    if (depot->map.bytes == NULL || depot->self < 0 || maker_busy(&store->maker) ||
        store->maker.made || store->phase != STORE_READY || !log_wants_segment(&store->log))
        return;
    if (!segment_affordable(store)) {
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

static void segment_pace(struct store *store, struct kho_now now)
{
    if (!maker_busy(&store->maker))
        return;
    uint64_t wanted = log_zeros_wanted(&store->log, store->depot.options.segment_bytes);
    maker_pace(&store->maker, wanted, wanted == LOG_SEGMENT_AT_ONCE, now);
}

static void segment_made(struct store *store, const struct segment *segment, struct kho_now now)
{
    struct depot *depot = &store->depot;
    store->space_ns = now.mono_ns;
    manifest_list(&depot->manifest, store->maker.slot, segment);
    store->maker.made = true;
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

/* Says once that user writes are refused, and once that they are taken again. */
static void reserve_tell(struct depot *depot)
{
    bool low = depot->disk_free < depot->options.reserve_bytes;
    if (low == depot->reserve_told)
        return;
    depot->reserve_told = low;
    if (low)
        world_event(depot->world, EVENT_WARNING,
                    "the disk is full to its reserve: %llu bytes are free, fewer than the %llu of "
                    "--reserve; user writes are refused, below half of it deletes and repair, too",
                    (unsigned long long)depot->disk_free,
                    (unsigned long long)depot->options.reserve_bytes);
    else
        world_event(depot->world, EVENT_INFO,
                    "the disk has room again: %llu bytes are free; writes are taken",
                    (unsigned long long)depot->disk_free);
}

static void space_looked(struct store *store, const struct op *op)
{
    struct depot *depot = &store->depot;
    store->space_busy = false;
    if (op->result < 0)
        return;
    depot->disk_free = op->offset;
    reserve_tell(depot);
    /* What allocation refused is tried again, too: someone may have made room. */
    if (depot->no_space && segment_affordable(store))
        depot->no_space = false;
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
        log_land_again(&store->log, true, now);
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
        log_land_again(&store->log, false, now);
        if (now.mono_ns >= mark_due(store))
            log_mark(&store->log, now);
        space_look(store, now);
        segment_make(store);
        segment_pace(store, now);
        manifest_write(store, now);
    } else if (store->phase == STORE_STARTING && store->recovered) {
        manifest_write(store, now); /* it found no memory at first */
    }
    /* A folder that failed is never written again: nobody waits for it in vain. */
    if (store->depot.folder_failed && !replace_busy(&store->manifest_file))
        manifest_answer(store, UINT64_MAX, KHO_EREADONLY);
    stop_progress(store, now);
}

void store_tick(struct store *store, struct kho_now now)
{
    housekeeping(store, now);
}

void store_turn_end(struct store *store, struct kho_now now)
{
    if (store->phase == STORE_READY) {
        compact_turn(&store->compact, now);
        scrub_turn(&store->scrub, now);
        log_pump(&store->log, true, now);
    }
    reader_turn_end(&store->reader);
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

void store_hurry(struct store *store, struct kho_now now)
{
    if (store->recovered)
        log_land_again(&store->log, true, now);
}

uint64_t store_deadline(const struct store *store)
{
    uint64_t deadline = UINT64_MAX;
    if (!queue_empty(&store->reads))
        return 0;
    if (store->phase == STORE_READY) {
        deadline = kho_min(mark_due(store), compact_deadline(&store->compact));
        deadline = kho_min(deadline, scrub_deadline(&store->scrub));
        if (store->log.land_again_ns != 0)
            deadline = kho_min(deadline, store->log.land_again_ns);
        if (store->depot.map.bytes != NULL && !store->space_busy)
            deadline = kho_min(deadline, store->space_ns);
    }
    if ((store->phase == STORE_READY || store->phase == STORE_STARTING) &&
        store->depot.manifest_dirty && store->recovered && !store->depot.folder_failed &&
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
    case PURPOSE_FOOTER:
        log_footer_completed(&store->log, op, now);
        break;
    case PURPOSE_FETCH:
        reader_completed(&store->reader, op, now);
        break;
    case PURPOSE_RETIRE:
        if (retire_completed(&store->compact.retire, op))
            store->space_ns = now.mono_ns;
        break;
    case PURPOSE_WINDOW:
        if (op->context == &store->compact.walk.window)
            compact_completed(&store->compact, op);
        else
            scrub_completed(&store->scrub, op);
        break;
    case PURPOSE_RECOVER:
    case PURPOSE_AHEAD:
    case PURPOSE_RESTORE:
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
                store_map_ended(store, status);
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

/* --- What was finished ------------------------------------------------------------------------ */

bool store_next_done(struct store *store, struct store_done *ret_done)
{
    struct queue *link = queue_pop(&store->reads);
    if (link != NULL) {
        struct store_read *read = KHO_CONTAINER_OF(link, struct store_read, link);
        *ret_done =
            (struct store_done){.kind = STORE_DONE_READ, .read = read, .owner = read->owner};
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
