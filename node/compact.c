/* compact.c: chooses a segment, copies what is wanted in it, and has it retired (compact.h).
 *
 * It can be stopped at any point by want of room (in flight, in memory, on the disk): the block
 * under way is then taken up again where it was left. */
#include "compact.h"

#include "damage.h"
#include "live.h"

enum phase { PHASE_IDLE, PHASE_COPY, PHASE_FLUSH, PHASE_LAND, PHASE_SETTLE };

static const uint64_t LOOK_NS = 1000000000ull;
static const uint64_t RETRY_NS = 10000000ull;
static const uint64_t BURST_NS = 10000000ull;
enum {
    SHORT_DEAD_PERCENT = 12, /* with the disk short, a segment is worth its copying from there on */
    URGENT_PERCENT = 15,     /* so much above the share that starts it */
    LOOK_UPS = 48            /* in the index, at once */
};

#define OUT_COPIES_BYTES (COMPACT_COPIES * sizeof(struct log_copy))
#define MEMORY_BYTES     (COMPACT_OUTS * (OUT_COPIES_BYTES + BLOCK_RAW_MAX) + BLOCK_RAW_MAX)

/* --- Life ------------------------------------------------------------------------------------- */

void compact_init(struct compact *compact, struct depot *depot, struct log *log,
                  struct reader *reader)
{
    *compact = (struct compact){.depot = depot, .log = log};
    retire_init(&compact->retire, depot, reader);
    walk_init(&compact->walk, depot);
}

static void memory_release(struct compact *compact)
{
    world_release(compact->depot->world, compact->memory, MEMORY_BYTES);
    compact->memory = NULL;
}

void compact_fini(struct compact *compact)
{
    if (compact->depot == NULL)
        return;
    walk_fini(&compact->walk);
    memory_release(compact);
    compact->depot = NULL;
}

static bool memory_take(struct compact *compact)
{
    uint8_t *at = world_allocate(compact->depot->world, MEMORY_BYTES, 64);
    if (at == NULL)
        return false;
    compact->memory = at;
    for (uint32_t i = 0; i < COMPACT_OUTS; i++, at += OUT_COPIES_BYTES)
        compact->outs[i] = (struct compact_out){.copies = (struct log_copy *)(void *)at};
    for (uint32_t i = 0; i < COMPACT_OUTS; i++, at += BLOCK_RAW_MAX)
        compact->outs[i].raw = at;
    compact->scratch = at;
    return true;
}

/* --- Choosing --------------------------------------------------------------------------------- */

void compact_dead(const struct compact *compact, uint64_t *ret_dead, uint64_t *ret_total)
{
    const struct manifest *manifest = &compact->depot->manifest;
    const struct segment *s;
    *ret_dead = *ret_total = 0;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT; i = s->newer) {
        s = manifest_segment(manifest, i);
        if (!s->sealed)
            continue;
        *ret_dead += live_dead_bytes(s);
        *ret_total += s->size;
    }
}

/* The sealed segment with the most dead bytes, if it is time; MANIFEST_NO_SLOT: none. */
static uint32_t choose(const struct compact *compact, bool *ret_urgent)
{
    const struct depot *depot = compact->depot;
    const struct manifest *manifest = &depot->manifest;
    const struct segment *s;
    uint32_t best = MANIFEST_NO_SLOT;
    uint64_t best_dead = 0, dead, total;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT; i = s->newer) {
        s = manifest_segment(manifest, i);
        if (!s->sealed || s->stays)
            continue;
        if (s->live_records == 0 || (s->rewrite && s->open))
            return i;
        if (s->open && live_dead_bytes(s) > best_dead) {
            best = i;
            best_dead = live_dead_bytes(s);
        }
    }
    if (best == MANIFEST_NO_SLOT)
        return best;
    compact_dead(compact, &dead, &total);
    double percent = (double)dead * 100 / (double)total;
    *ret_urgent =
        depot_short(depot) || percent >= depot->options.compact_dead_percent + URGENT_PERCENT;
    if (percent >= depot->options.compact_dead_percent)
        return best;
    uint64_t worth = manifest_segment(manifest, best)->size / 100 * SHORT_DEAD_PERCENT;
    return depot_short(depot) && best_dead >= worth ? best : MANIFEST_NO_SLOT;
}

static void begin(struct compact *compact, struct kho_now now)
{
    uint32_t victim = choose(compact, &compact->urgent);
    compact->look_ns = now.mono_ns + LOOK_NS;
    compact->newest = compact->depot->manifest.newest;
    if (victim == MANIFEST_NO_SLOT || (compact->memory == NULL && !memory_take(compact))) {
        if (compact->memory != NULL)
            memory_release(compact);
        return;
    }
    compact->victim = victim;
    compact->resume = 0;
    compact->sequence = 0;
    compact->phase = PHASE_SETTLE;
    if (manifest_segment(&compact->depot->manifest, victim)->live_records == 0)
        return;
    walk_open(&compact->walk, victim);
    compact->phase = PHASE_COPY;
}

/* --- Copying ---------------------------------------------------------------------------------- */

static bool welcome(const struct compact *compact)
{
    return compact->urgent || log_copies_welcome(compact->log);
}

/* Hands a block over to the log. False: later. */
static bool hand_over(struct compact *compact, uint32_t collection, const uint8_t *raw,
                      uint32_t raw_len, const struct log_copy *copies, uint32_t count,
                      struct kho_now now)
{
    if (!welcome(compact))
        return false;
    int error =
        log_copy(compact->log, collection, raw, raw_len, copies, count, now, &compact->sequence);
    compact->starved = error == KHO_ENOSPACE;
    if (error == 0)
        compact->bytes_out += raw_len;
    else
        compact->next_ns = now.mono_ns + RETRY_NS;
    return error == 0;
}

static bool out_flush(struct compact *compact, struct compact_out *out, struct kho_now now)
{
    if (out->count > 0 &&
        !hand_over(compact, out->collection, out->raw, out->used, out->copies, out->count, now))
        return false;
    out->used = 0;
    out->count = 0;
    return true;
}

/* The block that is filled with records of a collection, with room for `size` bytes more. NULL:
 * what is in the way can't be handed over now. */
static struct compact_out *out_for(struct compact *compact, uint32_t collection, uint32_t size,
                                   struct kho_now now)
{
    struct compact_out *fullest = &compact->outs[0], *empty = NULL;
    for (uint32_t i = 0; i < COMPACT_OUTS; i++) {
        struct compact_out *out = &compact->outs[i];
        if (out->count == 0) {
            empty = out;
        } else if (out->collection == collection) {
            if (out->used + size <= BLOCK_RAW_MAX)
                return out;
            return out_flush(compact, out, now) ? out : NULL;
        } else if (out->used > fullest->used) {
            fullest = out;
        }
    }
    if (empty == NULL && !out_flush(compact, fullest, now))
        return NULL;
    struct compact_out *out = empty != NULL ? empty : fullest;
    out->collection = collection;
    return out;
}

/* A record of the block under way, to be looked up. */
struct found {
    struct record record;
    struct log_copy copy;
    uint32_t end; /* its end in the block */
};

static void found_fill(const struct compact *compact, struct found *found)
{
    const struct depot *depot = compact->depot;
    const struct record *record = &found->record;
    struct key_hash hash =
        key_hash(record->collection, record->key, record->key_len, depot->map.seed);
    found->copy = (struct log_copy){.partition = depot_partition(depot, record, hash),
                                    .tag = key_tag(hash),
                                    .version = record->version,
                                    .value_bytes = record->raw_len,
                                    .tombstone = record_is_tombstone(record)};
}

/* The next records of a block from `offset` on, at most LOOK_UPS of them. The index's cache misses
 * of all of them overlap. */
static uint32_t find(const struct compact *compact, const uint8_t *raw, uint32_t raw_len,
                     uint32_t offset, struct found *ret_found)
{
    uint32_t count = 0;
    while (count < LOOK_UPS && block_next(raw, raw_len, &offset, &ret_found[count].record) == 1) {
        found_fill(compact, &ret_found[count]);
        ret_found[count++].end = offset;
    }
    for (uint32_t step = 0; step < INDEX_PREFETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++)
            index_prefetch(compact->depot->index, ret_found[i].record.collection,
                           ret_found[i].copy.partition, ret_found[i].copy.tag, step);
    return count;
}

/* True if the index names the record at this very place, or its version without a value. */
static bool wanted(const struct compact *compact, struct found *found,
                   const struct block_head *head)
{
    struct log_copy *copy = &found->copy;
    struct index_entry entry;
    if (!index_get(compact->depot->index, found->record.collection, copy->partition, copy->tag,
                   &entry) ||
        version_compare(entry.version, copy->version) != 0)
        return false;
    copy->from = entry.place;
    return entry.place == PLACE_UNKNOWN || (place_slot(entry.place) == compact->victim &&
                                            place_offset(entry.place) == head->offset);
}

/* A large record goes as it is, others are packed with their like. False: no room now. */
static bool found_copy(struct compact *compact, const struct found *found, const uint8_t *raw,
                       const struct block_head *head, struct kho_now now)
{
    const struct record *record = &found->record;
    uint32_t size = (uint32_t)record_size(record);
    if (head->raw_len > BLOCK_RAW_MAX)
        return hand_over(compact, record->collection, raw, head->raw_len, &found->copy, 1, now);
    struct compact_out *out = out_for(compact, record->collection, size, now);
    if (out == NULL)
        return false;
    KHO_ASSERT(out->count < COMPACT_COPIES);
    out->copies[out->count++] = found->copy;
    record_encode(record, out->raw + out->used);
    out->used += size;
    return true;
}

/* Copies what is wanted in a block, from `resume` on. False: no room now. */
static bool block_copy(struct compact *compact, const struct walk_block *block, struct kho_now now)
{
    const struct block_head *head = &block->head;
    const uint8_t *raw = block->body;
    struct found found[LOOK_UPS];
    uint32_t count;
    if (!block->whole)
        return true;
    if (head->codec != KHO_CODEC_NONE) {
        if (block_unpack(head, block->body, compact->scratch) != 0)
            return true;
        raw = compact->scratch;
    }
    while ((count = find(compact, raw, head->raw_len, compact->resume, found)) > 0)
        for (uint32_t i = 0; i < count; compact->resume = found[i++].end)
            if (wanted(compact, &found[i], head) && !found_copy(compact, &found[i], raw, head, now))
                return false;
    compact->resume = 0;
    return true;
}

static void pace(struct compact *compact, uint64_t bytes, struct kho_now now)
{
    uint64_t rate = compact->depot->options.compact_rate;
    if (compact->urgent)
        return;
    uint64_t from = kho_max(compact->next_ns, now.mono_ns - kho_min(now.mono_ns, BURST_NS));
    compact->next_ns = from + (uint64_t)((double)bytes * 1e9 / (double)rate);
}

static void copy(struct compact *compact, struct kho_now now)
{
    uint64_t budget = COMPACT_SLICE, before = compact->walk.passed;
    struct walk_block block;
    enum walk_found found;
    while ((found = walk_look(&compact->walk, &budget, &block)) == WALK_BLOCK) {
        if (!block_copy(compact, &block, now))
            break;
        walk_pass(&compact->walk, &block, &budget);
    }
    uint64_t passed = compact->walk.passed - before;
    compact->bytes_in += passed;
    pace(compact, passed, now);
    if (found == WALK_END)
        compact->phase = PHASE_FLUSH;
    else if (found == WALK_NO_ROOM)
        compact->next_ns = now.mono_ns + RETRY_NS;
    if (found != WALK_FAILED)
        return;
    /* Once more: what was copied by now isn't wanted there any more. */
    walk_open(&compact->walk, compact->victim);
    compact->resume = 0;
    compact->next_ns = now.mono_ns + LOOK_NS;
}

static void flush(struct compact *compact, struct kho_now now)
{
    for (uint32_t i = 0; i < COMPACT_OUTS; i++)
        if (!out_flush(compact, &compact->outs[i], now))
            return;
    walk_close(&compact->walk);
    compact->phase = PHASE_LAND;
}

/* --- Settling --------------------------------------------------------------------------------- */

/* The copies have landed: what the index still names in the segment can't be read there. */
static void settle(struct compact *compact, struct kho_now now)
{
    struct depot *depot = compact->depot;
    struct segment *segment = manifest_segment(&depot->manifest, compact->victim);
    if (retire_busy(&compact->retire))
        return;
    if (segment->live_records > 0 &&
        !damage_note(depot, compact->victim, 0, DAMAGE_TO_END, KHO_ECHECKSUM, now)) {
        segment->stays = true;
        compact->phase = PHASE_IDLE;
        return;
    }
    if (retire_start(&compact->retire, compact->victim) != 0)
        return;
    compact->segments++;
    compact->phase = PHASE_IDLE;
    compact->look_ns = now.mono_ns;
}

/* Now and then, and whenever the log has filled another segment. */
static bool look_due(const struct compact *compact, struct kho_now now)
{
    return now.mono_ns >= compact->look_ns || compact->newest != compact->depot->manifest.newest;
}

void compact_turn(struct compact *compact, struct kho_now now)
{
    struct depot *depot = compact->depot;
    retire_turn(&compact->retire);
    if (depot->options.compact_rate == 0 || depot->index == NULL || depot->read_only ||
        depot->folder_failed)
        return;
    if (compact->phase == PHASE_IDLE && look_due(compact, now))
        begin(compact, now);
    bool due = now.mono_ns >= compact->next_ns && welcome(compact);
    if (compact->phase == PHASE_COPY && due)
        copy(compact, now);
    if (compact->phase == PHASE_FLUSH && due)
        flush(compact, now);
    if (compact->phase == PHASE_LAND &&
        (compact->log->durable >= compact->sequence || KHO_PLANTED(compact_frees_early)))
        compact->phase = PHASE_SETTLE;
    if (compact->phase == PHASE_SETTLE)
        settle(compact, now);
}

uint64_t compact_deadline(const struct compact *compact)
{
    const struct depot *depot = compact->depot;
    if (depot->options.compact_rate == 0 || depot->index == NULL || depot->read_only ||
        depot->folder_failed)
        return UINT64_MAX;
    switch (compact->phase) {
    case PHASE_IDLE:
        return compact->look_ns;
    case PHASE_COPY:
    case PHASE_FLUSH:
        if (compact->walk.waits || !welcome(compact))
            return UINT64_MAX; /* a completion will bring a turn */
        return compact->next_ns;
    default:
        return UINT64_MAX;
    }
}

void compact_completed(struct compact *compact, struct op *op)
{
    walk_completed(&compact->walk, op);
}
