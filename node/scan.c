/* scan.c: the survey and the scan of the log at a start (scan.h).
 *
 * Both walk a segment commit by commit; where none begins, they go on in steps of the alignment
 * until the next valid head of this segment, and remember the gap and whether it was all zeros. Of
 * a commit that counts, all blocks are checked; in one that is damaged the good blocks count, and
 * heads behind a broken one are searched in steps of 64 bytes.
 *
 * It gives up where it would have to guess: no memory for the index or for an episode. */
#include "scan.h"

#include "live.h"

#define NO_GAP UINT64_MAX

/* --- Life ------------------------------------------------------------------------------------- */

int scan_init(struct scan *scan, struct depot *depot)
{
    *scan = (struct scan){.depot = depot, .gap = NO_GAP, .tail = MANIFEST_NO_SLOT};
    ahead_init(&scan->ahead, depot);
    scan->scratch = world_allocate(depot->world, BLOCK_RAW_MAX, 0);
    int error = enter_init(&scan->enter, depot);
    if (error == 0)
        error = restore_init(&scan->restore, depot, &scan->enter);
    return scan->scratch != NULL ? error : -ENOMEM;
}

void scan_fini(struct scan *scan)
{
    if (scan->depot == NULL)
        return;
    ahead_fini(&scan->ahead);
    restore_fini(&scan->restore);
    enter_fini(&scan->enter);
    world_release(scan->depot->world, scan->scratch, BLOCK_RAW_MAX);
    scan->depot = NULL;
}

static struct segment *slot_segment(const struct scan *scan, uint32_t slot)
{
    return manifest_segment(&scan->depot->manifest, slot);
}
static uint32_t slot_count(const struct scan *scan)
{
    return scan->depot->manifest.segments.count;
}

void scan_start(struct scan *scan, struct kho_now now)
{
    scan->now = now;
    scan->surveying = true;
    scan->durable = kho_max(scan->depot->manifest.durable, scan->depot->manifest.base);
    for (uint32_t i = 0; i < slot_count(scan); i++) {
        const struct segment *s = slot_segment(scan, i);
        if (s->sealed)
            scan->durable = kho_max(scan->durable, s->last);
        /* Footers are mostly less than an eighth of what they cover. */
        scan->total_bytes += !s->sealed ? s->size : s->footer != 0 ? s->end / 8 : s->end;
    }
    scan->highest = scan->durable;
    enter_start(&scan->enter);
}

/* What is done with a slot: first its head is looked at, then its footers are read, then the blocks
 * that no footer covers. */
enum { SLOT_NEW, SLOT_HEAD, SLOT_FOOTERS, SLOT_BLOCKS };

static void gap_close(struct scan *scan)
{
    scan->gap = NO_GAP;
    scan->gap_dirty = false;
    scan->gap_footer = false;
}

/* Blocks from `position` up to `limit` of the slot are read. */
static void range_begin(struct scan *scan, uint64_t position, uint64_t limit)
{
    ahead_open(&scan->ahead, slot_segment(scan, scan->slot)->file, limit);
    scan->position = position;
    scan->limit = limit;
    gap_close(scan);
}

static void slot_next(struct scan *scan)
{
    scan->slot++;
    scan->step = SLOT_NEW;
}

/* A valid head of this segment at the position. */
static bool head_at(const struct scan *scan, const uint8_t *bytes, struct commit_head *ret_head,
                    struct kho_id *ret_checksum)
{
    const struct segment *s = slot_segment(scan, scan->slot);
    if (commit_head_decode(bytes, &scan->depot->manifest.identity, ret_head, ret_checksum) != 0)
        return false;
    return ret_head->segment == s->id && ret_head->offset == scan->position &&
           ret_head->length % s->alignment == 0 && scan->position + ret_head->length <= scan->limit;
}

/* A valid head of a footer of this segment at the position. */
static bool footer_at(const struct scan *scan, const uint8_t *bytes, struct footer_head *ret_head)
{
    const struct segment *s = slot_segment(scan, scan->slot);
    if (footer_head_decode(bytes, &scan->depot->manifest.identity, ret_head) != 0)
        return false;
    return ret_head->segment == s->id && ret_head->offset == scan->position &&
           ret_head->length % s->alignment == 0 && scan->position + ret_head->length <= scan->limit;
}

/* --- Survey ----------------------------------------------------------------------------------- */

/* A footer is known to be good for a start once all that it covers is known to be durable. */
static void seen_confirm(const struct scan *scan, struct segment *s)
{
    if (s->seen.length == 0 || (s->seen.last > scan->durable && !KHO_PLANTED(footer_trusted)))
        return;
    s->footer = s->seen.offset;
    s->footer_bytes = s->seen.length;
}

/* One step; 1: a read is under way, 0: go on. */
static int survey_step(struct scan *scan)
{
    struct commit_head head;
    struct footer_head footer;
    struct kho_id checksum;
    const uint8_t *bytes;
    struct segment *s = slot_segment(scan, scan->slot);
    if (s->sealed || !s->open || (scan->step != SLOT_NEW && scan->position >= scan->limit)) {
        slot_next(scan);
        return 0;
    }
    if (scan->step == SLOT_NEW) {
        s->used = segment_start(s->alignment);
        range_begin(scan, s->used, s->size);
        scan->step = SLOT_BLOCKS;
    }
    int there = ahead_need(&scan->ahead, scan->position, s->alignment, &bytes);
    if (there != 1)
        return there == 0 ? 1 : there;
    uint64_t length = 0;
    if (head_at(scan, bytes, &head, &checksum)) {
        scan->durable = kho_max(scan->durable, head.durable);
        scan->highest = kho_max(scan->highest, head.sequence);
        if (scan->position == segment_start(s->alignment))
            s->first = (struct survey_first){head.sequence, head.predecessor};
        length = head.length;
    } else if (footer_at(scan, bytes, &footer)) {
        seen_confirm(scan, s);
        s->seen = (struct survey_footer){
            .last = footer.last, .offset = (uint32_t)footer.offset, .length = footer.length};
        length = footer.length;
    } else if (!all_zero(bytes, s->alignment)) {
        length = s->alignment;
    }
    if (length > 0)
        s->used = scan->position + length;
    s->touched = s->touched || length > 0;
    scan->position += length > 0 ? length : s->alignment;
    return 0;
}

/* --- What the next footer will say -------------------------------------------------------------
 */

/* depot.tail is of the slot at hand. */
static struct footer_maker *tail_of(struct scan *scan)
{
    if (scan->tail != scan->slot)
        footer_maker_reset(&scan->depot->tail);
    scan->tail = scan->slot;
    return &scan->depot->tail;
}

/* Notes a commit for the next footer, if nothing in it is damaged. */
static void commit_note(struct scan *scan, const struct commit_head *head, bool whole)
{
    struct footer_maker *tail = tail_of(scan);
    if (!whole || !footer_maker_takes(tail, head->epoch, head->records))
        footer_maker_skip(tail);
    scan->noting = whole && footer_maker_takes(tail, head->epoch, head->records);
    if (scan->noting)
        footer_maker_commit(tail, head->offset, head->sequence, head->epoch);
}

/* What is noted of the commit at hand isn't all that it says, or more. */
static void note_fails(struct scan *scan)
{
    scan->noting = false;
    footer_maker_skip(&scan->depot->tail);
}

static void record_note(struct scan *scan, uint32_t partition, const struct index_entry *entry,
                        uint32_t collection)
{
    struct footer_maker *tail = &scan->depot->tail;
    if (!scan->noting)
        return;
    if (tail->count == FOOTER_ENTRIES_MAX) {
        note_fails(scan);
        return;
    }
    const struct footer_entry noted = {.collection = collection,
                                       .partition = partition,
                                       .tag = entry->tag,
                                       .version = entry->version,
                                       .value_bytes = entry->value_bytes,
                                       .place = place_in_segment(entry->place),
                                       .tombstone = entry->tombstone};
    footer_maker_add(tail, &noted);
}

/* A whole footer covers what was noted. */
static void footer_note(struct scan *scan, const struct footer_head *head)
{
    struct footer_maker *tail = tail_of(scan);
    struct footer_ref ref = {.offset = (uint32_t)head->offset,
                             .length = head->length,
                             .from = (uint32_t)head->from,
                             .entries = head->entries};
    footer_maker_ref(tail, &ref);
    footer_maker_skip(tail);
}

/* The slot's last footer that is known, where the next start looks for it. */
static void footer_keep(const struct scan *scan, struct segment *s)
{
    const struct footer_maker *tail = &scan->depot->tail;
    bool some = scan->tail == scan->slot && tail->ref_count > 0;
    s->footer = some ? tail->refs[tail->ref_count - 1].offset : 0;
    s->footer_bytes = some ? tail->refs[tail->ref_count - 1].length : 0;
}

/* --- Damage ----------------------------------------------------------------------------------- */

/* Rot: noted, with an episode of the whole shard, unless it is known. A block is known by its
 * start, anything else by all of its extent: it may have grown. */
static int rot(struct scan *scan, uint64_t offset, uint64_t length, const char *what)
{
    struct depot *depot = scan->depot;
    const struct segment *s = slot_segment(scan, scan->slot);
    if (manifest_damage_known(&depot->manifest, s->id, offset, length))
        return 0;
    uint64_t episode;
    if (KHO_PLANTED(rot_forgotten))
        return 0;
    int error = depot_open_everywhere(depot, &depot->map, WIRE_EPISODE_ROT, scan->now, &episode);
    if (error != 0)
        return error;
    struct damage damage = {.segment = s->id,
                            .offset = offset,
                            .length = length,
                            .episode = episode,
                            .found_ms = scan->now.wall_ms};
    manifest_add_damage(&depot->manifest, &damage);
    /* A line for each of thousands would hide the rest of the log. */
    if (scan->damages++ < 16)
        world_event(depot->world, EVENT_ERROR,
                    "segment-%016llx offset %llu: %s that was durable is damaged; all partitions "
                    "answer unknown until 'kho repair' closes the episode",
                    (unsigned long long)s->id, (unsigned long long)offset, what);
    return 0;
}

static int block_rot(struct scan *scan, uint64_t offset, uint64_t length)
{
    note_fails(scan);
    const struct segment *s = slot_segment(scan, scan->slot);
    if (manifest_damage_known(&scan->depot->manifest, s->id, offset, kho_min(length, BLOCK_HEAD)))
        return 0;
    return rot(scan, offset, length, "a block");
}

static void footer_tell(struct scan *scan, uint64_t offset)
{
    const struct segment *s = slot_segment(scan, scan->slot);
    note_fails(scan);
    world_event(scan->depot->world, EVENT_WARNING,
                "segment-%016llx offset %llu: a footer is damaged; what it said is read from the "
                "blocks, no record is hit",
                (unsigned long long)s->id, (unsigned long long)offset);
}

/* What was known to be damaged here was read whole: it can be lost again, and that must be news. */
static void hale(struct scan *scan, uint64_t offset, uint64_t length)
{
    struct depot *depot = scan->depot;
    if (scan->enter.damage_count > 0 &&
        manifest_cut_damage(&depot->manifest, slot_segment(scan, scan->slot)->id, offset, length))
        depot->manifest_dirty = true;
}

/* Ends the log here: the segment is sealed behind its last whole commit, and what follows is
 * dropped. */
static int cut(struct scan *scan, uint64_t position, bool torn)
{
    uint64_t episode;
    struct depot *depot = scan->depot;
    struct segment *s = slot_segment(scan, scan->slot);
    scan->cut = true;
    s->sealed = !KHO_PLANTED(unsealed_after_cut);
    s->end = position;
    s->last = scan->highest;
    s->last_checksum = scan->predecessor;
    footer_keep(scan, s);
    depot->manifest_dirty = true;
    world_event(depot->world, torn ? EVENT_INFO : EVENT_WARNING,
                torn ? "segment-%016llx offset %llu: a commit that was never finished is dropped"
                     : "segment-%016llx offset %llu: the log ends with bytes that are neither a "
                       "whole commit nor a plainly torn one; the shard is suspect until 'kho "
                       "repair' closes the episode",
                (unsigned long long)s->id, (unsigned long long)position);
    slot_next(scan);
    return torn ? 0
                : depot_open_everywhere(depot, &depot->map, WIRE_EPISODE_SUSPECT, scan->now,
                                        &episode);
}

/* --- Records ---------------------------------------------------------------------------------- */

static int record_enter(struct scan *scan, const struct record *r, uint64_t epoch, uint64_t place)
{
    struct depot *depot = scan->depot;
    struct key_hash hash = key_hash(r->collection, r->key, r->key_len, depot->map.seed);
    uint32_t partition = depot_partition(depot, r, hash);
    struct index_entry entry = {.tag = key_tag(hash),
                                .version = r->version,
                                .tombstone = record_is_tombstone(r),
                                .place = place,
                                .value_bytes = r->raw_len};
    live_found(&depot->manifest, place, r->raw_len);
    record_note(scan, partition, &entry, r->collection);
    return enter_record(&scan->enter, r->collection, partition, &entry, epoch);
}

static int block_enter(struct scan *scan, const struct commit_head *commit,
                       const struct block_head *block, const uint8_t *body)
{
    const uint8_t *raw = body;
    uint64_t place = place_encode(scan->slot, block->offset, BLOCK_HEAD + block->stored_len);
    uint32_t offset = 0, count = 0;
    struct record r;
    int more = 1;
    struct segment *segment = slot_segment(scan, scan->slot);
    if (!segment->sealed)
        segment->stored += block_span(block->stored_len);
    if (block->codec != KHO_CODEC_NONE) {
        if (block_unpack(block, body, scan->scratch) != 0)
            return block_rot(scan, block->offset, BLOCK_HEAD + block->stored_len);
        raw = scan->scratch;
    }
    while ((more = block_next(raw, block->raw_len, &offset, &r)) == 1) {
        int error = record_enter(scan, &r, commit->epoch, place);
        if (error != 0)
            return error;
        count++;
    }
    if (more < 0 || count != block->records)
        return block_rot(scan, block->offset, BLOCK_HEAD + block->stored_len);
    return 0;
}

/* The next block head from *offset on, in steps of 64. False: none. */
static bool block_search(const struct scan *scan, const uint8_t *bytes,
                         const struct commit_head *commit, uint32_t *offset)
{
    for (uint32_t at = *offset + BLOCK_ALIGN; at + BLOCK_HEAD <= commit->length;
         at += BLOCK_ALIGN) {
        struct block_head block;
        uint32_t next = at;
        if (commit_next_block(bytes, commit, &scan->depot->manifest.identity, &next, &block) == 1) {
            *offset = at;
            return true;
        }
    }
    return false;
}

/* True if no stretch without a block's head can hold more than one block. */
static bool gaps_are_single(const struct scan *scan, const uint8_t *bytes,
                            const struct commit_head *commit)
{
    uint32_t offset = COMMIT_HEAD, good = 0, gaps = 0;
    struct block_head block;
    for (;;) {
        if (commit_next_block(bytes, commit, &scan->depot->manifest.identity, &offset, &block) == 1)
            good++;
        else if (block_search(scan, bytes, commit, &offset))
            gaps++;
        else
            break;
    }
    return good + gaps == commit->blocks || (gaps == 0 && good + 1 == commit->blocks);
}

/* Enters the good blocks of a commit; in one that counts though it is damaged, the bad ones are
 * noted. */
static int commit_enter(struct scan *scan, const uint8_t *bytes, const struct commit_head *commit)
{
    uint32_t offset = COMMIT_HEAD, at, found = 0;
    int error = 0;
    while (error == 0 && found < commit->blocks) {
        struct block_head block;
        at = offset;
        if (commit_next_block(bytes, commit, &scan->depot->manifest.identity, &offset, &block) !=
            1) {
            bool single = gaps_are_single(scan, bytes, commit);
            bool more = block_search(scan, bytes, commit, &offset);
            uint32_t end = more ? offset : commit->length;
            /* A known block at its start may have lost a neighbour since: then all counts. */
            error = single ? block_rot(scan, commit->offset + at, end - at)
                           : rot(scan, commit->offset + at, end - at, "a row of blocks");
            if (error != 0 || !more)
                return error;
            /* At least one block is gone with the gap. */
            found++;
            continue;
        }
        const uint8_t *body = bytes + at + BLOCK_HEAD;
        found++;
        if (block_body_matches(&block, body)) {
            hale(scan, block.offset, block_span(block.stored_len));
            error = block_enter(scan, commit, &block, body);
        } else {
            error = block_rot(scan, block.offset, BLOCK_HEAD + block.stored_len);
        }
    }
    return error;
}

/* --- Scan ------------------------------------------------------------------------------------- */

/* The log goes up to here. The survey may have found less: what it couldn't read may be read now,
 * and no sequence is given twice. */
static void reach(struct scan *scan, uint64_t sequence)
{
    scan->expected = sequence + 1;
    scan->highest = kho_max(scan->highest, sequence);
}

static void accept(struct scan *scan, const struct commit_head *head, struct kho_id checksum)
{
    reach(scan, head->sequence);
    scan->predecessor = checksum;
    scan->last_empty = head->blocks == 0;
    scan->position += head->length;
    gap_close(scan);
}

/* A valid head was found at the position: does it continue what is before it? 1: yes, or after rot;
 * 0: the log was cut; or an error. */
static int continues(struct scan *scan, const struct commit_head *head)
{
    uint64_t from = scan->gap != NO_GAP ? scan->gap : scan->position;
    bool chained =
        head->sequence == scan->expected && kho_id_equal(&head->predecessor, &scan->predecessor);
    if (chained && scan->gap == NO_GAP)
        return 1;
    if (!chained && (scan->expected > scan->durable || KHO_PLANTED(rot_truncated))) {
        bool torn =
            KHO_PLANTED(rot_truncated) || (head->sequence > scan->expected && !scan->gap_dirty);
        int error = cut(scan, from, torn);
        return error != 0 ? error : 0;
    }
    /* Between two commits that follow each other there is a footer, or nothing. */
    if (chained) {
        if (scan->gap_dirty)
            footer_tell(scan, from);
        return 1;
    }
    /* Where only the sequence has a gap, what is noted hides no block of the commit here. */
    int error = rot(scan, from, kho_max(scan->position - from, COMMIT_HEAD), "a commit");
    return error != 0 ? error : 1;
}

static int commit_scan(struct scan *scan, const struct commit_head *head, struct kho_id checksum)
{
    struct commit_check check;
    const uint8_t *bytes;
    int there = ahead_need(&scan->ahead, scan->position, head->length, &bytes);
    if (there != 1)
        return there == 0 ? 1 : there;
    int go_on = continues(scan, head);
    if (go_on != 1)
        return go_on;
    commit_check(bytes, head, &scan->depot->manifest.identity, &check);
    if (!check.whole && (head->sequence > scan->durable || KHO_PLANTED(rot_truncated)) &&
        !KHO_PLANTED(torn_tail_taken))
        return cut(scan, scan->gap != NO_GAP ? scan->gap : scan->position,
                   check.torn || KHO_PLANTED(rot_truncated));
    if (!check.padding)
        world_event(scan->depot->world, EVENT_WARNING,
                    "segment-%016llx offset %llu: bytes between the blocks of a commit changed; "
                    "no record is hit, but the disk loses bits",
                    (unsigned long long)head->segment, (unsigned long long)head->offset);
    commit_note(scan, head, check.heads && check.bad_blocks == 0);
    if (check.whole)
        hale(scan, head->offset, head->length);
    int error = commit_enter(scan, bytes, head);
    if (error == 0)
        accept(scan, head, checksum);
    return error;
}

/* A footer stands between commits or behind the last one. Damaged, it hurts no record: the blocks
 * say the same. */
static int footer_scan(struct scan *scan, const struct footer_head *head)
{
    struct footer footer;
    const uint8_t *bytes;
    int there = ahead_need(&scan->ahead, scan->position, head->length, &bytes);
    if (there != 1)
        return there == 0 ? 1 : there;
    bool good = footer_open(bytes, head, &footer) == 0;
    bool follows = scan->gap == NO_GAP && head->last + 1 == scan->expected &&
                   kho_id_equal(&head->predecessor, &scan->predecessor);
    if (!good)
        footer_tell(scan, scan->position);
    if (good && follows)
        footer_note(scan, head);
    else
        footer_maker_skip(tail_of(scan));
    scan->gap_footer |= scan->gap != NO_GAP;
    scan->position += head->length;
    return 0;
}

/* The next segment begins with the very commit that follows: whatever lies here behind the last one
 * is no commit, but the last footer, which may have been on its way when the power failed. */
static bool goes_on(const struct scan *scan)
{
    if (scan->slot + 1 >= slot_count(scan))
        return false;
    const struct segment *next = slot_segment(scan, scan->slot + 1);
    return next->open && !next->sealed && next->first.sequence == scan->expected &&
           kho_id_equal(&next->first.predecessor, &scan->predecessor);
}

/* The end of a segment whose commits were followed. */
static int segment_end(struct scan *scan)
{
    struct segment *s = slot_segment(scan, scan->slot);
    uint64_t end = scan->gap != NO_GAP ? scan->gap : scan->limit;
    /* Something is behind the end, where the log must not go on. */
    bool more = scan->gap != NO_GAP && (scan->gap_dirty || scan->gap_footer);
    int error = 0;
    if (s->sealed) {
        if (end < scan->limit && end == s->footer)
            footer_tell(scan, end);
        else if (end < scan->limit)
            error = rot(scan, end, scan->limit - end, "the end of a segment");
        scan->expected = s->last + 1;
        scan->predecessor = s->last_checksum;
    } else if (more && scan->expected > scan->durable && !goes_on(scan)) {
        return cut(scan, end, !scan->gap_dirty);
    } else {
        s->end = end;
        s->last = scan->expected - 1;
        s->last_checksum = scan->predecessor;
        if (more && goes_on(scan)) {
            footer_tell(scan, end);
            s->sealed = true;
            scan->depot->manifest_dirty = true;
        }
        footer_keep(scan, s);
        if (more && !s->sealed) {
            error = rot(scan, end, scan->limit - end, "the end of the log");
            s->sealed = true;
        }
    }
    slot_next(scan);
    return error;
}

/* A segment whose file is gone or another's. */
static int segment_missing(struct scan *scan)
{
    struct segment *s = slot_segment(scan, scan->slot);
    int error = rot(scan, 0, DAMAGE_TO_END, "a whole segment file");
    if (s->sealed) {
        scan->expected = s->last + 1;
        scan->predecessor = s->last_checksum;
    } else {
        scan->missing = true;
        s->sealed = true;
        s->end = segment_start(s->alignment);
        s->footer = s->footer_bytes = 0;
        s->last = scan->expected - 1;
        s->last_checksum = scan->predecessor;
        scan->depot->manifest_dirty = true;
    }
    slot_next(scan);
    return error;
}

/* Blocks are read from `position` up to the next stretch that a footer covered, or to the end. */
static void blocks_begin(struct scan *scan, uint64_t position)
{
    const struct restore *restore = &scan->restore;
    while (scan->mark < restore->mark_count && !restore->marks[scan->mark].good)
        scan->mark++;
    range_begin(scan, position,
                scan->mark < restore->mark_count ? restore->marks[scan->mark].from : scan->end);
}

static int footers_begin(struct scan *scan)
{
    struct segment *s = slot_segment(scan, scan->slot);
    if (!s->sealed)
        seen_confirm(scan, s);
    scan->end = s->sealed ? s->end : s->used;
    scan->step = SLOT_FOOTERS;
    restore_start(&scan->restore, scan->slot, s->footer, s->footer_bytes, scan->end);
    return enter_segment(&scan->enter, s);
}

/* The head of a segment: its damage hurts nothing, another's identity means another file. */
static int segment_begin(struct scan *scan)
{
    struct segment_head head;
    struct depot *depot = scan->depot;
    struct segment *s = slot_segment(scan, scan->slot);
    const uint8_t *bytes;
    if (scan->step == SLOT_NEW)
        range_begin(scan, 0, SEGMENT_HEAD);
    scan->step = SLOT_HEAD;
    int there = ahead_need(&scan->ahead, 0, SEGMENT_HEAD, &bytes);
    if (there != 1)
        return there == 0 ? 1 : there;
    int error = segment_head_decode(bytes, &depot->manifest.identity, &head);
    if (error == KHO_ECLUSTER || error == KHO_EINCARNATION || error == KHO_ESHARD ||
        (error == 0 && head.segment != s->id)) {
        world_event(depot->world, EVENT_ERROR,
                    "segment-%016llx is another folder's or shard's file: put its own back, or "
                    "have it repaired",
                    (unsigned long long)s->id);
        s->open = false;
        return 0;
    }
    if (error != 0)
        world_event(depot->world, EVENT_WARNING,
                    "segment-%016llx offset 0: the head is damaged; its commits name themselves",
                    (unsigned long long)s->id);
    return footers_begin(scan);
}

/* The last footer of the slot is being read, or had none. */
static int footers_step(struct scan *scan)
{
    int state = restore_run(&scan->restore);
    if (state != 0)
        return state;
    scan->step = SLOT_BLOCKS;
    scan->mark = 0;
    blocks_begin(scan, segment_start(slot_segment(scan, scan->slot)->alignment));
    return 0;
}

/* What lies before a footer that was used was read: the log goes on behind it. */
static int blocks_end(struct scan *scan)
{
    const struct restore_mark *m = &scan->restore.marks[scan->mark++];
    uint64_t from = scan->gap != NO_GAP ? scan->gap : scan->position;
    int error = 0;
    if (scan->expected < m->first)
        error = rot(scan, from, kho_max(scan->limit - from, COMMIT_HEAD), "a commit");
    else if (scan->gap_dirty)
        footer_tell(scan, from);
    struct footer_ref ref = {.offset = (uint32_t)m->offset,
                             .length = (uint32_t)(m->end - m->offset),
                             .from = (uint32_t)m->from,
                             .entries = m->entries};
    footer_maker_skip(tail_of(scan));
    footer_maker_ref(tail_of(scan), &ref);
    reach(scan, m->last);
    scan->predecessor = m->predecessor;
    scan->last_empty = false;
    blocks_begin(scan, m->end);
    return error;
}

/* What follows a cut: used segments are sealed as they are, and those whose file is gone;
 * untouched ones stay spare. */
static void segment_skip(struct scan *scan)
{
    struct segment *s = slot_segment(scan, scan->slot);
    if (!s->sealed) {
        s->sealed = s->touched || !s->open;
        s->end = segment_start(s->alignment);
        s->footer = s->footer_bytes = 0;
        s->last = scan->highest;
        s->last_checksum = scan->predecessor;
    }
    slot_next(scan);
}

static int scan_step(struct scan *scan)
{
    struct commit_head head;
    struct footer_head footer;
    struct kho_id checksum;
    const uint8_t *bytes;
    const struct segment *s = slot_segment(scan, scan->slot);
    if (scan->cut) {
        segment_skip(scan);
        return 0;
    }
    if (!s->open)
        return segment_missing(scan);
    if (scan->step <= SLOT_HEAD)
        return segment_begin(scan);
    if (scan->step == SLOT_FOOTERS)
        return footers_step(scan);
    if (scan->position >= scan->limit)
        return scan->mark < scan->restore.mark_count ? blocks_end(scan) : segment_end(scan);
    int there = ahead_need(&scan->ahead, scan->position, s->alignment, &bytes);
    if (there != 1)
        return there == 0 ? 1 : there;
    if (head_at(scan, bytes, &head, &checksum) && head.sequence >= scan->expected)
        return commit_scan(scan, &head, checksum);
    if (footer_at(scan, bytes, &footer))
        return footer_scan(scan, &footer);
    if (scan->gap == NO_GAP)
        scan->gap = scan->position;
    scan->gap_dirty = scan->gap_dirty || !all_zero(bytes, s->alignment);
    scan->position += s->alignment;
    return 0;
}

/* The last slot that holds or held something, or UINT32_MAX. */
static uint32_t tail_slot(const struct scan *scan)
{
    uint32_t slot = slot_count(scan);
    while (slot-- > 0)
        if (slot_segment(scan, slot)->touched || slot_segment(scan, slot)->sealed)
            return slot;
    return slot_count(scan) > 0 ? 0 : UINT32_MAX;
}

/* What was known to be durable and wasn't found anywhere is lost. A sealed tail accounts for all
 * sequences that were ever seen, so that none is given twice. */
static int scan_finish(struct scan *scan)
{
    uint32_t tail = tail_slot(scan);
    int error = 0;
    scan->finished = true;
    if (tail == UINT32_MAX)
        return 0;
    struct segment *s = slot_segment(scan, tail);
    if (!scan->cut && scan->expected <= scan->durable) {
        scan->slot = tail;
        error = rot(scan, s->end, DAMAGE_TO_END - s->end, "the end of the log");
        s->sealed = true;
    }
    if (scan->missing) {
        /* How far the log went is unknown: skip what it can't have reached. */
        scan->highest += 1ull << 32;
        for (uint32_t i = 0; i < slot_count(scan); i++)
            slot_segment(scan, i)->sealed |= slot_segment(scan, i)->touched;
    }
    if (s->sealed && s->last < scan->highest) {
        s->last = scan->highest;
        scan->depot->manifest_dirty = true;
    }
    return error;
}

int scan_run(struct scan *scan, struct kho_now now)
{
    scan->now = now;
    while (!scan->finished) {
        int state;
        if (scan->slot < slot_count(scan)) {
            state = scan->surveying ? survey_step(scan) : scan_step(scan);
        } else if (scan->surveying) {
            scan->surveying = false;
            scan->slot = 0;
            scan->step = SLOT_NEW;
            scan->expected = scan->depot->manifest.base + 1;
            scan->predecessor = scan->depot->manifest.base_checksum;
            state = 0;
        } else {
            state = scan_finish(scan);
        }
        if (state != 0)
            return state;
    }
    return ahead_idle(&scan->ahead) && restore_idle(&scan->restore) ? 0 : 1;
}
