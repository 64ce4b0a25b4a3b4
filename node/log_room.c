/* log_room.c: whether there is room: in the gathering commit, in segments, for footers (log.h).
 *
 * What is taken has its place in made segments before it is taken, with the footers that it will
 * need, so that nothing taken can ever lack it. No room now is -EAGAIN; none on the disk is
 * KHO_ENOSPACE. */
#include "log_inside.h"

static uint64_t commit_bound(const struct log *log, const struct commit *commit)
{
    uint64_t bytes = commit->used;
    if (commit == log->gather && log->raw_records > 0)
        bytes += block_span(log->raw_used);
    bytes = kho_round_up(bytes, log->depot->options.alignment);
    return bytes >= SEGMENT_LARGE ? bytes + segment_slack(log->depot->options.alignment) : bytes;
}

struct load log_load(const struct log *log, const struct commit *commit)
{
    return (struct load){
        .bytes = commit_bound(log, commit), .records = commit->entry_count, .commits = 1};
}

/* True if so much more fits behind `position`, with the footers of it all: one behind each commit
 * at most, and one before them. `tail`: what the segment has already that waits for its footer, or
 * NULL. */
static bool segment_fits(const struct segment *segment, const struct footer_maker *tail,
                         uint64_t position, const struct load *load)
{
    uint64_t records = load->records;
    uint32_t footers = load->commits;
    if (tail != NULL) {
        records += tail->count;
        footers += tail->ref_count;
    }
    footers = (uint32_t)kho_min(footers, FOOTERS_MAX);
    uint64_t footer = footer_bytes(records, footers, segment->alignment) +
                      load->commits * footer_bytes(0, footers, segment->alignment);
    return position + load->bytes + footer <= segment->size;
}

bool log_fits_current(const struct log *log, const struct load *load)
{
    const struct depot *depot = log->depot;
    return log->current != LOG_NO_SEGMENT &&
           segment_fits(manifest_segment(&depot->manifest, log->current), &depot->tail,
                        log->position, load);
}

bool log_fits_spare(const struct log *log, const struct load *load)
{
    if (log->spare == LOG_NO_SEGMENT)
        return false;
    const struct segment *spare = manifest_segment(&log->depot->manifest, log->spare);
    return segment_fits(spare, NULL, segment_start(spare->alignment), load);
}

static void load_add(const struct log *log, const struct commit *commit, struct load *load)
{
    const struct load more = log_load(log, commit);
    load->bytes += more.bytes;
    load->records += more.records;
    load->commits += more.commits;
}

/* R4: where no segment can be made, the last one that was is for compaction, which makes room. */
static bool spare_kept(const struct log *log)
{
    return log->depot->no_space && log->depot->options.reserve_bytes > 0;
}

/* Whether all that waits, and `bytes` and `records` more, have their place in made segments: then
 * nothing that is taken can ever lack it. `copies`: what is kept for compaction counts, too. */
bool log_place_for(const struct log *log, uint64_t bytes, uint32_t records, bool copies)
{
    uint32_t alignment = log->depot->options.alignment;
    /* What is new may need a commit of its own: a head, and rounding up. */
    struct load load = {.bytes =
                            kho_round_up(bytes, alignment) + alignment + segment_slack(alignment),
                        .records = records,
                        .commits = 1};
    QUEUE_FOREACH (link, &log->ready)
        load_add(log, KHO_CONTAINER_OF(link, struct commit, link), &load);
    if (log->gather != NULL)
        load_add(log, log->gather, &load);
    bool kept = !copies && spare_kept(log);
    if (kept && log->spare == LOG_NO_SEGMENT)
        return false;
    return log_fits_current(log, &load) || (!kept && log_fits_spare(log, &load));
}

int log_place_check(const struct log *log, uint64_t bytes, uint32_t records, bool copies)
{
    if (log_place_for(log, bytes, records, copies))
        return 0;
    return log->depot->no_space ? KHO_ENOSPACE : -EAGAIN;
}

bool log_gather_full(const struct log *log, uint32_t records, uint32_t blocks)
{
    const struct commit *c = log->gather;
    return c->used + log->raw_used >= LOG_COMMIT_TARGET ||
           c->entry_count + records > LOG_COMMIT_RECORDS ||
           c->block_count + 1 + blocks > LOG_COMMIT_BLOCKS;
}

int log_room(const struct log *log, uint64_t bytes, uint32_t records)
{
    /* Two neighbouring packed blocks hold more than 16 KiB together. */
    uint64_t blocks = kho_min(records, bytes / (BLOCK_RAW_MAX / 2) + 2);
    uint64_t bound = bytes + blocks * (BLOCK_HEAD + BLOCK_ALIGN);
    const struct commit *c = log->gather;
    bool fits = c != NULL && c->used + log->raw_used + bound < LOG_COMMIT_TARGET &&
                c->entry_count + records <= LOG_COMMIT_RECORDS &&
                c->block_count + blocks + 2 <= LOG_COMMIT_BLOCKS;
    if (!fits && queue_empty(&log->free))
        return -EAGAIN;
    /* Record by record it may be rounded up once more. */
    return log_place_check(log, bound + log->depot->options.alignment, records, false);
}

/* --- The next segment ------------------------------------------------------------------------- */

bool log_wants_segment(const struct log *log)
{
    if (log->spare != LOG_NO_SEGMENT || log->depot->read_only)
        return false;
    if (log->current == LOG_NO_SEGMENT)
        return true;
    const struct segment *segment = manifest_segment(&log->depot->manifest, log->current);
    return log->position >= segment->size / 8 || !queue_empty(&log->ready);
}

/* True if a commit waits that the current segment has no room for. */
static bool ready_lacks_place(const struct log *log)
{
    if (queue_empty(&log->ready))
        return false;
    const struct commit *c = KHO_CONTAINER_OF(log->ready.next, struct commit, link);
    const struct load load = log_load(log, c);
    return !log_fits_current(log, &load);
}

uint64_t log_zeros_wanted(const struct log *log, uint64_t size)
{
    /* The first one: nothing else is written, so the disk is free. */
    if (log->current == LOG_NO_SEGMENT)
        return size;
    const struct segment *segment = manifest_segment(&log->depot->manifest, log->current);
    uint64_t begin = segment->size / 8, end = segment->size - segment->size / 8;
    if (log->position >= end || ready_lacks_place(log))
        return LOG_SEGMENT_AT_ONCE;
    if (log_idle(log))
        return size;
    /* All are there when five eighths of the current one are used. */
    uint64_t used = log->position > begin ? log->position - begin : 0;
    return kho_min(size, used * size / (segment->size / 2) + size / 64);
}
