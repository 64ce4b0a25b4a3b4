/* scrub.c: looks at one commit or footer after the other (scrub.h). Reads that fail for want of
 * memory or the like are no damage: the segment is begun again later. */
#include "scrub.h"

#include "damage.h"
#include "footer.h"

static const uint64_t LOOK_NS = 1000000000ull;

void scrub_init(struct scrub *scrub, struct depot *depot, struct cache **cache)
{
    *scrub = (struct scrub){.depot = depot, .cache = cache};
    window_init(&scrub->window, depot);
}

void scrub_fini(struct scrub *scrub)
{
    if (scrub->depot != NULL)
        window_fini(&scrub->window);
    scrub->depot = NULL;
}

/* --- Choosing --------------------------------------------------------------------------------- */

/* Up to where a segment can be looked at; 0: not at all. */
static uint64_t look_end(const struct segment *s)
{
    uint64_t end = s->sealed ? s->end : s->landed;
    return s->open && end > segment_start(s->alignment) ? end : 0;
}

static uint64_t look_age(const struct segment *s, uint64_t now_ms)
{
    return s->checked_ms <= now_ms ? now_ms - s->checked_ms : UINT64_MAX;
}

/* The segment that waits longest, MANIFEST_NO_SLOT: none; and what all of them take. */
static uint32_t oldest_look(const struct depot *depot, uint64_t now_ms, uint64_t *ret_total)
{
    const struct manifest *manifest = &depot->manifest;
    const struct segment *s;
    uint32_t oldest = MANIFEST_NO_SLOT;
    *ret_total = 0;
    for (uint32_t i = manifest->oldest; i != MANIFEST_NO_SLOT; i = s->newer) {
        s = manifest_segment(manifest, i);
        if (look_end(s) == 0)
            continue;
        *ret_total += look_end(s);
        if (oldest == MANIFEST_NO_SLOT ||
            look_age(s, now_ms) > look_age(manifest_segment(manifest, oldest), now_ms))
            oldest = i;
    }
    return oldest;
}

uint64_t scrub_age(const struct scrub *scrub)
{
    uint64_t total;
    uint32_t slot = oldest_look(scrub->depot, scrub->now_ms, &total);
    if (slot == MANIFEST_NO_SLOT)
        return 0;
    uint64_t age = look_age(manifest_segment(&scrub->depot->manifest, slot), scrub->now_ms);
    return age == UINT64_MAX ? 0 : age / 1000;
}

static void open_at(struct scrub *scrub, uint64_t position)
{
    const struct segment *s = manifest_segment(&scrub->depot->manifest, scrub->slot);
    scrub->position = position;
    window_open(&scrub->window, s->file, s->size);
}

static void begin(struct scrub *scrub, struct kho_now now)
{
    const struct depot *depot = scrub->depot;
    uint64_t total, half = depot->options.scrub_ms / 2;
    uint32_t slot = oldest_look(depot, now.wall_ms, &total);
    scrub->next_ns = now.mono_ns + LOOK_NS;
    if (slot == MANIFEST_NO_SLOT)
        return;
    const struct segment *s = manifest_segment(&depot->manifest, slot);
    if (look_age(s, now.wall_ms) < half)
        return;
    scrub->slot = slot;
    scrub->segment = s->id;
    scrub->broken = false;
    scrub->works = true;
    scrub->end = look_end(s);
    scrub->next_ns = now.mono_ns;
    open_at(scrub, segment_start(s->alignment));
}

/* --- Looking ---------------------------------------------------------------------------------- */

/* Bodies that don't hold lose their records at once; true if nothing is wrong with the commit. */
static bool commit_look(struct scrub *scrub, const uint8_t *bytes, const struct commit_head *head,
                        struct kho_now now)
{
    struct depot *depot = scrub->depot;
    struct commit_check check;
    struct block_head block;
    uint32_t at = COMMIT_HEAD;
    commit_check(bytes, head, &depot->manifest.identity, &check);
    if (check.whole)
        return true;
    for (uint32_t i = 0; i < head->blocks; i++) {
        uint32_t begins = at;
        if (commit_next_block(bytes, head, &depot->manifest.identity, &at, &block) != 1)
            break;
        if (block_body_matches(&block, bytes + begins + BLOCK_HEAD) ||
            manifest_damage_known(&depot->manifest, scrub->segment, block.offset, BLOCK_HEAD))
            continue;
        cache_forget_segment(*scrub->cache, scrub->slot);
        damage_note(depot, scrub->slot, block.offset, BLOCK_HEAD, KHO_ECHECKSUM, now);
    }
    return false;
}

/* One commit or footer, or a unit of neither. 1: went on; 0: waits, or has no memory now. */
static int look(struct scrub *scrub, const struct segment *s, struct kho_now now)
{
    const struct identity *identity = &scrub->depot->manifest.identity;
    struct commit_head commit;
    struct footer_head footer_head;
    struct footer footer;
    struct kho_id checksum;
    const uint8_t *bytes;
    uint64_t length = s->alignment, left = scrub->end - scrub->position;
    int there = window_need(&scrub->window, scrub->position, length, &bytes);
    if (there != 1)
        return there;
    bool is_commit = commit_head_decode(bytes, identity, &commit, &checksum) == 0 &&
                     commit.segment == s->id && commit.offset == scrub->position &&
                     commit.length % s->alignment == 0 && commit.length <= left;
    bool is_footer = !is_commit && footer_head_decode(bytes, identity, &footer_head) == 0 &&
                     footer_head.segment == s->id && footer_head.offset == scrub->position &&
                     footer_head.length % s->alignment == 0 && footer_head.length <= left;
    if (is_commit || is_footer) {
        length = is_commit ? commit.length : footer_head.length;
        there = window_need(&scrub->window, scrub->position, length, &bytes);
        if (there != 1)
            return there;
    }
    bool good = false;
    if (is_commit)
        good = commit_look(scrub, bytes, &commit, now);
    else if (is_footer)
        good = footer_open(bytes, &footer_head, &footer) == 0;
    scrub->broken |= !good;
    scrub->position += length;
    scrub->bytes += length;
    return 1;
}

static void finish(struct scrub *scrub, struct segment *s, struct kho_now now)
{
    scrub->works = false;
    scrub->next_ns = now.mono_ns;
    s->checked_ms = now.wall_ms;
    scrub->depot->manifest_dirty = true;
    /* Said once a run: with compaction off the segment stays. */
    if (!scrub->broken || s->rewrite)
        return;
    s->rewrite = true;
    world_event(scrub->depot->world, EVENT_WARNING,
                "segment-%016llx has bytes that don't hold: compaction rewrites it without them",
                (unsigned long long)s->id);
}

void scrub_turn(struct scrub *scrub, struct kho_now now)
{
    struct depot *depot = scrub->depot;
    scrub->now_ms = now.wall_ms;
    if (depot->options.scrub_ms == 0 || depot->index == NULL || scrub->waits ||
        now.mono_ns < scrub->next_ns)
        return;
    if (!scrub->works)
        begin(scrub, now);
    if (!scrub->works)
        return;
    struct segment *s = manifest_segment(&depot->manifest, scrub->slot);
    if (s->state != SEGMENT_LISTED || s->id != scrub->segment || scrub->failed) {
        scrub->works = scrub->failed = false;
        scrub->next_ns = now.mono_ns + LOOK_NS;
        return;
    }
    uint64_t from = scrub->position, total;
    int went = 1;
    while (went == 1 && scrub->position < scrub->end && scrub->position - from < SCRUB_SLICE)
        went = look(scrub, s, now);
    scrub->waits = went == 0;
    if (scrub->waits) {
        s->users++;
        return;
    }
    if (scrub->position >= scrub->end)
        finish(scrub, s, now);
    oldest_look(depot, now.wall_ms, &total);
    double pass_ns = (double)depot->options.scrub_ms * 1e6;
    double share = total > 0 ? (double)(scrub->position - from) / (double)total : 0;
    scrub->next_ns = now.mono_ns + (went < 0 ? LOOK_NS : (uint64_t)(pass_ns * share));
    /* It is a while until then: the memory is of more use elsewhere. */
    window_fini(&scrub->window);
    window_init(&scrub->window, depot);
    if (scrub->works)
        open_at(scrub, scrub->position);
}

uint64_t scrub_deadline(const struct scrub *scrub)
{
    const struct depot *depot = scrub->depot;
    if (depot->options.scrub_ms == 0 || depot->index == NULL || scrub->waits)
        return UINT64_MAX;
    return scrub->next_ns;
}

void scrub_completed(struct scrub *scrub, struct op *op)
{
    KHO_ASSERT(scrub->waits);
    scrub->failed = op->result < 0 && op->result != -EIO;
    if (!scrub->failed && !window_completed(&scrub->window, op))
        return;
    scrub->waits = false;
    manifest_segment(&scrub->depot->manifest, scrub->slot)->users--;
}
