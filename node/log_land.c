/* log_land.c: the ends of writes: commits land in order, segments are sealed (log.h).
 *
 * Happy path: a commit's write ends, and with it those before it that wait; their entries enter the
 * index, `durable` moves up. A failed write is final (R4): neither that commit nor a later one
 * lands. Where the index finds no memory for a new key, landing stops there, is told once, and goes
 * on later: until then nothing from that key on is acknowledged or read. */
#include "log_inside.h"

#include "live.h"

/* A copy: the index names it in place of where it came from, or of a value that was lost since. */
static void land_copy(struct log *log, const struct commit *c, const struct pending *p)
{
    struct index_entry old;
    struct manifest *manifest = &log->depot->manifest;
    const struct commit_block *b = &c->blocks[p->block];
    uint64_t place = place_encode(c->segment, c->offset + b->offset, BLOCK_HEAD + b->stored_len);
    if (!index_get(log->index, p->collection, p->partition, p->tag, &old) ||
        (version_compare(old.version, p->version) != 0 && !KHO_PLANTED(compact_repoints_blindly)) ||
        (!KHO_PLANTED(compact_repoints_blindly) && old.place != p->from &&
         old.place != PLACE_UNKNOWN))
        return;
    index_repoint(log->index, p->collection, p->partition, p->tag, place);
    live_lose(manifest, old.place, old.value_bytes);
    if (KHO_PLANTED(compact_drops_deletes) && p->tombstone &&
        index_remove(log->index, p->collection, p->partition, p->tag))
        return;
    live_gain(manifest, place, old.value_bytes);
    if (old.place == PLACE_UNKNOWN && log->depot->values_unknown > 0)
        log->depot->values_unknown--;
}

static const uint64_t LAND_AGAIN_NS = 100000000ull;

/* False: the index has no memory for it, and nothing happened. */
static bool land_entry(struct log *log, const struct commit *c, const struct pending *p)
{
    struct index_entry old, entry = {.tag = p->tag,
                                     .version = p->version,
                                     .tombstone = p->tombstone,
                                     .value_bytes = p->value_bytes};
    const struct commit_block *b = &c->blocks[p->block];
    bool there;
    entry.place = place_encode(c->segment, c->offset + b->offset, BLOCK_HEAD + b->stored_len);
    int put = index_put_higher(log->index, p->collection, p->partition, &entry, &there, &old);
    if (put < 0)
        return false; /* reserved in our bound when it was taken, but the heap has none */
    if (put == 1) {
        if (there)
            live_lose(&log->depot->manifest, old.place, old.value_bytes);
        live_gain(&log->depot->manifest, entry.place, entry.value_bytes);
        if (there && old.place == PLACE_UNKNOWN && log->depot->values_unknown > 0)
            log->depot->values_unknown--;
    }
    if (p->reserved)
        index_unreserve(log->index, 1);
    return true;
}

#ifdef KHO_WITH_PLANTED
/* The entries of a commit under way enter the index. */
void log_show(struct log *log, struct commit *c)
{
    for (uint32_t i = 0; i < c->entry_count; i++) {
        if (c->entries[i].copy || c->entries[i].dead)
            continue;
        (void)land_entry(log, c, &c->entries[i]);
        c->entries[i].reserved = false;
    }
}
#endif

/* The index's cache misses of the entries to come overlap with the work on this one; new keys may
 * move their bucket. */
static void land_prefetch(const struct log *log, const struct commit *c, uint32_t i)
{
    enum { AHEAD = 4 }; /* entries between two steps */
    for (uint32_t step = 0; step <= INDEX_PREFETCH_STEPS; step++) {
        uint32_t ahead = i + (INDEX_PREFETCH_STEPS + 1 - step) * AHEAD;
        if (ahead >= c->entry_count)
            continue;
        const struct pending *p = &c->entries[ahead];
        if (step == 0)
            log_prefetch(log, p->collection, p->partition, p->tag);
        if (step < INDEX_PREFETCH_STEPS)
            index_prefetch(log->index, p->collection, p->partition, p->tag, step);
        else if (p->reserved)
            index_prefetch_growth(log->index, p->collection, p->partition, p->tag);
    }
}

/* Up to where a segment can be read back: a footer under way isn't there yet. */
static void landed_note(const struct log *log, uint32_t slot, uint64_t end)
{
    struct segment *s = manifest_segment(&log->depot->manifest, slot);
    if (log->footer.flying && log->footer.segment == slot)
        end = kho_min(end, log->footer.op.offset);
    s->landed = kho_max(s->landed, end);
}

/* False: memory is wanting. Those before `landed` are in the index. */
static bool land(struct log *log, struct commit *c)
{
    for (; c->landed < c->entry_count; c->landed++) {
        struct pending *p = &c->entries[c->landed];
        land_prefetch(log, c, c->landed);
        if (p->dead)
            continue;
        if (p->copy) {
            land_copy(log, c, p);
            continue;
        }
        if (!land_entry(log, c, p))
            return false;
        log_pending_remove(log, p);
    }
    KHO_ASSERT(c->sequence > log->durable);
    log->durable = c->sequence;
    log->landed_end = c->offset + c->length;
    log->landed_segment = c->segment;
    landed_note(log, c->segment, log->landed_end);
    log->commits_landed++;
    log->bytes_landed += c->length;
    log->records_landed += c->entry_count;
    queue_remove(&c->link);
    log->flying_count--;
    log_buffer_release(log, c);
    c->state = COMMIT_FREE;
    queue_push(&log->free, &c->link);
    return true;
}

static struct segment *footer_of(const struct log *log)
{
    return manifest_segment(&log->depot->manifest, log->footer.segment);
}

/* Segments behind the current one whose last commit has landed and whose footers are written are
 * sealed. */
static void seal_segments(struct log *log)
{
    struct manifest *manifest = &log->depot->manifest;
    struct segment *s = manifest_segment(manifest, log->current);
    while (s->older != MANIFEST_NO_SLOT) {
        s = manifest_segment(manifest, s->older);
        if (s->sealed)
            break;
        if (s->last > log->durable || (log->footer.flying && footer_of(log) == s))
            continue;
        s->sealed = true;
        manifest->durable = log->durable;
        log->depot->manifest_dirty = true;
    }
}

/* Neither that commit nor what is behind it can land any more; those before still may. */
static void commits_give_up(struct log *log, const struct commit *from)
{
    while (!queue_empty(&log->flying)) {
        struct commit *last = KHO_CONTAINER_OF(log->flying.prev, struct commit, link);
        if (last->sequence < from->sequence)
            break;
        queue_remove(&last->link);
        queue_push(&log->ready, &last->link);
    }
}

static void land_what_can(struct log *log, struct kho_now now)
{
    bool told = log->land_again_ns != 0;
    log->land_again_ns = 0;
    while (!queue_empty(&log->flying)) {
        struct commit *first = KHO_CONTAINER_OF(log->flying.next, struct commit, link);
        if (first->state != COMMIT_DONE)
            break;
        if (land(log, first))
            continue;
        log->land_again_ns = now.mono_ns + LAND_AGAIN_NS;
        if (!told)
            world_event(log->depot->world, EVENT_WARNING,
                        "the system has no memory for the index: writes wait for their "
                        "acknowledgement until it has; give the node more, or lower --memory");
        break;
    }
    seal_segments(log);
}

void log_land_again(struct log *log, bool last, struct kho_now now)
{
    if (log->land_again_ns == 0 || (now.mono_ns < log->land_again_ns && !last))
        return;
    land_what_can(log, now);
    if (log->land_again_ns == 0 || !last)
        return;
    world_event(log->depot->world, EVENT_WARNING,
                "the system has no memory for the index: the last writes are on the disk, though "
                "unacknowledged, and the next start finds them");
    log->depot->read_only = true;
    log->land_again_ns = 0;
    commits_give_up(log, KHO_CONTAINER_OF(log->flying.next, struct commit, link));
}

void log_completed(struct log *log, struct op *op, struct kho_now now)
{
    struct commit *c = op->context;
    KHO_ASSERT(c->state == COMMIT_FLYING && &c->op == op);
    log->idle_since_ns = now.mono_ns;
    bool failed = op->result < 0 || (uint32_t)op->result != op->len;
    if (failed && !KHO_PLANTED(failed_write_acked)) {
        int error = op->result < 0 ? op->result : -EIO;
        const struct segment *segment = manifest_segment(&log->depot->manifest, c->segment);
        if (!log->depot->read_only)
            depot_fail(log->depot, "a write to", segment->id, c->offset, error);
        commits_give_up(log, c);
        return;
    }
    c->state = COMMIT_DONE;
    if (KHO_PLANTED(lands_out_of_order) && c->landed == 0)
        land(log, c);
    land_what_can(log, now);
}

void log_footer_completed(struct log *log, struct op *op, struct kho_now now)
{
    struct segment *segment = footer_of(log);
    KHO_ASSERT(log->footer.flying && op == &log->footer.op);
    log->idle_since_ns = now.mono_ns;
    log->footer.flying = false;
    if (op->result < 0 || (uint32_t)op->result != op->len) {
        int error = op->result < 0 ? op->result : -EIO;
        if (!log->depot->read_only)
            depot_fail(log->depot, "a write to", segment->id, op->offset, error);
        /* It was to be the last of its segment: what is sealed ends before it. */
        if (log->current != log->footer.segment && segment->end == op->offset + op->len)
            segment->end = op->offset;
        return;
    }
    segment->footer = (uint32_t)op->offset;
    segment->footer_bytes = op->len;
    if (log->landed_segment == log->footer.segment && log->landed_end >= op->offset)
        landed_note(log, log->footer.segment, kho_max(log->landed_end, op->offset + op->len));
    log->footer_bytes_landed += op->len;
    seal_segments(log);
}
