/* log.c: commits on their way to the disk (log.h): gathered, closed, started.
 *
 * Taking a record: it is encoded into the raw block; a full raw block is packed behind the blocks
 * that the gathering commit has already; a record that doesn't fit a packed block becomes one of
 * its own. Starting a commit: its place in a segment is chosen, heads are encoded with it, the
 * write is pushed; a footer that is due follows it. Its end stands in log_land.c, the keys on their
 * way in log_look.c, the questions of room in log_room.c.
 *
 * It can fail in three ways: no room now (backpressure, -EAGAIN), no room on the disk (refused
 * before anything is taken), and a failed write (R4: nothing lands from there on). */
#include "log_inside.h"

#include "live.h"

#include <assert.h>

static_assert(sizeof(struct pending) <= 80, "a hundred thousand of them may be in flight");

static uint32_t commit_bytes(uint32_t slots)
{
    return slots * (LOG_COMMIT_BUFFER + LOG_COMMIT_RECORDS * (uint32_t)sizeof(struct pending) +
                    LOG_COMMIT_BLOCKS * (uint32_t)sizeof(struct commit_block));
}

/* --- Life ------------------------------------------------------------------------------------- */

static int commit_init(struct log *log, struct commit *commit, uint32_t slot)
{
    struct shard_world *world = log->depot->world;
    *commit = (struct commit){.slot = slot};
    queue_push(&log->free, &commit->link);
    commit->base = world_allocate(world, LOG_COMMIT_BUFFER, depot_page(log->depot));
    commit->blocks = world_allocate(world, LOG_COMMIT_BLOCKS * sizeof *commit->blocks, 0);
    commit->entries = world_allocate(world, LOG_COMMIT_RECORDS * sizeof *commit->entries, 0);
    bool ok = commit->base != NULL && commit->blocks != NULL && commit->entries != NULL;
    return ok ? 0 : -ENOMEM;
}

int log_init(struct log *log, struct depot *depot)
{
    struct shard_world *world = depot->world;
    uint32_t slots = depot->options.commits_max + 2;
    KHO_ASSERT(depot->options.commits_max >= 1 && slots <= LOG_SLOTS_MAX);
    /* At most a fifth of the memory. */
    while (slots > 3 && commit_bytes(slots) > depot->options.memory_max / 5)
        slots--;
    *log = (struct log){.depot = depot,
                        .slots = slots,
                        .flying_max = slots - 2,
                        .current = LOG_NO_SEGMENT,
                        .spare = LOG_NO_SEGMENT,
                        .landed_segment = LOG_NO_SEGMENT};
    queue_init(&log->free);
    queue_init(&log->ready);
    queue_init(&log->flying);
    log->commits = world_allocate(world, slots * sizeof *log->commits, 0);
    log->raw = world_allocate(world, BLOCK_RAW_MAX, 0);
    log->footer.bytes =
        (uint32_t)footer_bytes(FOOTER_ENTRIES_MAX, FOOTERS_MAX, depot->options.alignment);
    log->footer.buffer = world_allocate(world, log->footer.bytes, depot_page(depot));
    log->buckets = world_allocate(world, LOG_BUCKETS * sizeof *log->buckets, 0);
    if (log->commits != NULL)
        memset(log->commits, 0, slots * sizeof *log->commits); /* log_fini() looks at each */
    if (log->commits == NULL || log->raw == NULL || log->buckets == NULL ||
        log->footer.buffer == NULL)
        return -ENOMEM;
    memset(log->buckets, 0, LOG_BUCKETS * sizeof *log->buckets);
    for (uint32_t i = 0; i < slots; i++)
        if (commit_init(log, &log->commits[i], i) != 0)
            return -ENOMEM;
    return 0;
}

void log_buffer_release(struct log *log, struct commit *commit)
{
    if (commit->buffer != NULL && commit->buffer != commit->base)
        world_release(log->depot->world, commit->buffer, commit->buffer_bytes);
    commit->buffer = NULL;
}

void log_fini(struct log *log)
{
    if (log->depot == NULL)
        return;
    struct shard_world *world = log->depot->world;
    for (uint32_t i = 0; log->commits != NULL && i < log->slots; i++) {
        struct commit *c = &log->commits[i];
        log_buffer_release(log, c);
        world_release(world, c->base, LOG_COMMIT_BUFFER);
        world_release(world, c->blocks, LOG_COMMIT_BLOCKS * sizeof *c->blocks);
        world_release(world, c->entries, LOG_COMMIT_RECORDS * sizeof *c->entries);
    }
    world_release(world, log->commits, log->slots * sizeof *log->commits);
    world_release(world, log->raw, BLOCK_RAW_MAX);
    world_release(world, log->footer.buffer, log->footer.bytes);
    world_release(world, log->buckets, LOG_BUCKETS * sizeof *log->buckets);
    log->depot = NULL;
}

uint32_t log_areas(const struct log *log, struct io_area *ret_areas)
{
    for (uint32_t i = 0; i < log->slots; i++)
        ret_areas[i] = (struct io_area){log->commits[i].base, LOG_COMMIT_BUFFER};
    ret_areas[log->slots] = (struct io_area){log->footer.buffer, log->footer.bytes};
    return log->slots + 1;
}

/* --- Gathering -------------------------------------------------------------------------------- */

static void gather_open(struct log *log)
{
    struct commit *c = KHO_CONTAINER_OF(queue_pop(&log->free), struct commit, link);
    KHO_ASSERT(c->state == COMMIT_FREE);
    c->state = COMMIT_GATHERING;
    c->sequence = ++log->sequence;
    c->epoch = log->depot->epoch;
    c->buffer = c->base;
    c->buffer_bytes = LOG_COMMIT_BUFFER;
    c->used = COMMIT_HEAD;
    c->block_count = 0;
    c->entry_count = 0;
    c->landed = 0;
    c->weight = 0;
    log->gather = c;
}

/* Makes room for `bytes` more in the gathering commit's buffer. */
static int gather_grow(struct log *log, uint64_t bytes)
{
    struct shard_world *world = log->depot->world;
    uint32_t alignment = log->depot->options.alignment;
    struct commit *c = log->gather;
    uint64_t needed = kho_round_up(c->used + bytes, alignment) + segment_slack(alignment);
    if (needed <= c->buffer_bytes)
        return 0;
    KHO_ASSERT(needed <= COMMIT_BYTES_MAX);
    uint8_t *buffer = world_allocate(world, needed, depot_page(log->depot));
    if (buffer == NULL)
        return -ENOMEM;
    memcpy(buffer, c->buffer, c->used);
    log_buffer_release(log, c);
    c->buffer = buffer;
    c->buffer_bytes = (uint32_t)needed;
    return 0;
}

static void block_add(struct log *log, uint32_t collection, uint32_t raw_len, uint32_t stored_len,
                      uint32_t records, uint8_t codec)
{
    struct commit *c = log->gather;
    uint32_t end = c->used + (uint32_t)block_span(stored_len);
    uint32_t body_end = c->used + BLOCK_HEAD + stored_len;
    KHO_ASSERT(c->block_count < LOG_COMMIT_BLOCKS && body_end <= c->buffer_bytes);
    c->blocks[c->block_count++] =
        (struct commit_block){.offset = c->used,
                              .collection = collection,
                              .raw_len = raw_len,
                              .stored_len = stored_len,
                              .records = records,
                              .codec = codec,
                              .hash = hash128(c->buffer + c->used + BLOCK_HEAD, stored_len)};
    if (end > c->buffer_bytes)
        end = c->buffer_bytes;
    memset(c->buffer + body_end, 0, end - body_end);
    c->used = end;
}

/* Packs the raw block into the gathering commit, whose buffer has room: gather_take saw to it. */
static void raw_close(struct log *log)
{
    struct commit *c = log->gather;
    uint8_t codec;
    if (log->raw_records == 0)
        return;
    KHO_ASSERT(c->used + block_span(log->raw_used) <= c->buffer_bytes);
    uint32_t stored = block_pack(log->raw, log->raw_used, c->buffer + c->used + BLOCK_HEAD, &codec);
    block_add(log, log->raw_collection, log->raw_used, stored, log->raw_records, codec);
    log->raw_used = 0;
    log->raw_records = 0;
}

void log_cut(struct log *log)
{
    struct commit *c = log->gather;
    if (c == NULL)
        return;
    raw_close(log);
    log->gather = NULL;
    c->state = COMMIT_READY;
    queue_push(&log->ready, &c->link);
}

/* Puts the record's bytes into the gathering commit. */
static int gather_take(struct log *log, const struct record *record)
{
    struct commit *c = log->gather;
    uint32_t size = (uint32_t)record_size(record);
    /* What is in the raw block, and this record as a block of its own, at worst. */
    int error = gather_grow(log, block_span(BLOCK_RAW_MAX) + block_span(size));
    if (error != 0)
        return error;
    if (log->raw_used + size > BLOCK_RAW_MAX)
        raw_close(log);
    if (size > BLOCK_RAW_MAX) {
        record_encode(record, c->buffer + c->used + BLOCK_HEAD);
        block_add(log, record->collection, size, size, 1, KHO_CODEC_NONE);
        return 0;
    }
    if (log->raw_records == 0)
        log->raw_collection = record->collection;
    else if (log->raw_collection != record->collection)
        log->raw_collection = 0;
    record_encode(record, log->raw + log->raw_used);
    log->raw_used += size;
    log->raw_records++;
    return 0;
}

/* The commit that gathers: the one at hand, or a fresh one where that is full. NULL: none is free
 * now. `records` of them will be put in, as `blocks` more blocks. */
static struct commit *gather_at_hand(struct log *log, uint32_t records, uint32_t blocks,
                                     struct kho_now now)
{
    if (log->gather != NULL && log_gather_full(log, records, blocks)) {
        log_cut(log);
        log_pump(log, false, now);
    }
    if (log->gather == NULL) {
        if (queue_empty(&log->free))
            return NULL;
        gather_open(log);
    }
    return log->gather;
}

static void pending_add(struct log *log, struct commit *c, uint32_t block, uint32_t partition,
                        struct key_tag tag, const struct record *record, bool reserved)
{
    c->entries[c->entry_count] = (struct pending){
        .collection = record->collection,
        .partition = partition,
        .tag = tag,
        .version = record->version,
        .hash = record->hash,
        .value_bytes = record->raw_len,
        .block = (uint16_t)block,
        .tombstone = record_is_tombstone(record),
        .reserved = reserved,
    };
    c->weight += live_weight(record->raw_len);
    log_pending_insert(log, c, c->entry_count++);
}

int log_take(struct log *log, uint32_t partition, struct key_tag tag, const struct record *record,
             bool reserved, struct kho_now now, uint64_t *ret_sequence)
{
    uint32_t size = (uint32_t)record_size(record);
    int error = log_place_check(log, block_span(size) + BLOCK_ALIGN, 1, false);
    if (error != 0)
        return error;
    struct commit *c = gather_at_hand(log, 1, 1, now);
    if (c == NULL)
        return -EAGAIN;
    if (gather_take(log, record) != 0)
        return log->flying_count > 0 ? -EAGAIN : KHO_EFULL;
    /* Small records are in the block that will be packed next, large ones in the last closed. */
    uint32_t block = c->block_count - (size > BLOCK_RAW_MAX);
    pending_add(log, c, block, partition, tag, record, reserved);
    *ret_sequence = c->sequence;
    return 0;
}

int log_take_block(struct log *log, const struct store_entry *entries, uint32_t count,
                   const uint8_t *stored, uint32_t stored_len, uint32_t raw_len, struct kho_now now,
                   uint64_t *ret_sequence)
{
    KHO_ASSERT(stored_len < raw_len && raw_len <= BLOCK_RAW_MAX);
    int error = log_place_check(log, block_span(stored_len) + BLOCK_ALIGN, count, false);
    if (error != 0)
        return error;
    struct commit *c = gather_at_hand(log, count, 2, now);
    if (c == NULL || gather_grow(log, block_span(BLOCK_RAW_MAX) + block_span(stored_len)) != 0)
        return -EAGAIN;
    raw_close(log);
    uint32_t collection = entries[0].record.collection;
    for (uint32_t i = 0; i < count; i++) {
        const struct store_entry *e = &entries[i];
        if (e->record.collection != collection)
            collection = 0;
        pending_add(log, c, c->block_count, e->partition, key_tag(e->hash), &e->record, e->new_key);
    }
    memcpy(c->buffer + c->used + BLOCK_HEAD, stored, stored_len);
    block_add(log, collection, raw_len, stored_len, count, KHO_CODEC_LZ4);
    *ret_sequence = c->sequence;
    return 0;
}

/* --- Copies ----------------------------------------------------------------------------------- */

bool log_copies_welcome(const struct log *log)
{
    return !log->depot->read_only && log->flying_count < log->flying_max &&
           queue_empty(&log->ready) && (log->gather != NULL || !queue_empty(&log->free));
}

int log_copy(struct log *log, uint32_t collection, const uint8_t *raw, uint32_t raw_len,
             const struct log_copy *copies, uint32_t count, struct kho_now now,
             uint64_t *ret_sequence)
{
    uint8_t codec;
    int error = log_place_check(log, block_span(raw_len) + BLOCK_ALIGN, count, true);
    if (error != 0)
        return error;
    struct commit *c = gather_at_hand(log, count, 2, now);
    if (c == NULL || gather_grow(log, block_span(BLOCK_RAW_MAX) + block_span(raw_len)) != 0)
        return -EAGAIN;
    raw_close(log);
    uint32_t stored = block_pack(raw, raw_len, c->buffer + c->used + BLOCK_HEAD, &codec);
    for (uint32_t i = 0; i < count; i++) {
        const struct log_copy *copy = &copies[i];
        c->entries[c->entry_count++] = (struct pending){.collection = collection,
                                                        .partition = copy->partition,
                                                        .tag = copy->tag,
                                                        .version = copy->version,
                                                        .from = copy->from,
                                                        .value_bytes = copy->value_bytes,
                                                        .block = (uint16_t)c->block_count,
                                                        .copy = true,
                                                        .tombstone = copy->tombstone};
        c->weight += live_weight(copy->value_bytes);
    }
    block_add(log, collection, raw_len, stored, count, codec);
    *ret_sequence = c->sequence;
    return 0;
}

/* --- Footers ---------------------------------------------------------------------------------- */

/* Notes a commit that has its place: a footer will say what is in it. */
static void tail_note(struct log *log, const struct commit *c)
{
    struct footer_maker *tail = &log->depot->tail;
    footer_maker_commit(tail, c->offset, c->sequence, c->epoch);
    for (uint32_t i = 0; i < c->entry_count; i++) {
        const struct pending *p = &c->entries[i];
        const struct commit_block *b = &c->blocks[p->block];
        uint64_t place = place_encode(0, c->offset + b->offset, BLOCK_HEAD + b->stored_len);
        struct footer_entry entry = {.collection = p->collection,
                                     .partition = p->partition,
                                     .tag = p->tag,
                                     .version = p->version,
                                     .value_bytes = p->value_bytes,
                                     .place = (uint32_t)place,
                                     .tombstone = p->tombstone};
        footer_maker_add(tail, &entry);
    }
}

/* Writes the footer of what is in the tail. False: one is under way still. */
static bool footer_start(struct log *log)
{
    struct depot *depot = log->depot;
    struct log_footer *f = &log->footer;
    struct segment *segment = manifest_segment(&depot->manifest, log->current);
    if (depot->tail.ref_count == FOOTERS_MAX) {
        footer_maker_skip(&depot->tail); /* a start reads the blocks */
        return true;
    }
    if (f->flying && !KHO_PLANTED(footer_buffer_reused))
        return false;
    struct footer_head head = {.segment = segment->id,
                               .offset = log->position,
                               .last = segment->last,
                               .predecessor = log->predecessor};
    footer_encode(&depot->tail, &depot->manifest.identity, segment->alignment, &head, f->buffer);
    f->flying = true;
    f->segment = log->current;
    f->op = (struct op){.flags = OP_WRITE_DURABLE,
                        .file = segment->file,
                        .conn = -1,
                        .offset = log->position,
                        .data = f->buffer,
                        .len = head.length};
    log->position += head.length;
    KHO_ASSERT(log->position <= segment->size);
    depot_push(depot, &f->op, OP_WRITE, PURPOSE_FOOTER, log);
    return true;
}

/* --- Starting --------------------------------------------------------------------------------- */

static void switch_segment(struct log *log)
{
    struct manifest *manifest = &log->depot->manifest;
    KHO_ASSERT(log->spare != LOG_NO_SEGMENT && !log->depot->tail.begun);
    if (log->current != LOG_NO_SEGMENT) {
        struct segment *old = manifest_segment(manifest, log->current);
        old->end = log->position;
        old->last_checksum = log->predecessor;
    }
    log->current = log->spare;
    log->spare = LOG_NO_SEGMENT;
    log->position = segment_start(manifest_segment(manifest, log->current)->alignment);
    footer_maker_reset(&log->depot->tail);
}

/* Chooses the place of a commit, behind a footer where one has to be before it. False: no segment
 * has room, or that footer can't be written yet. */
static bool choose_place(struct log *log, struct commit *c)
{
    struct depot *depot = log->depot;
    const struct load load = log_load(log, c);
    bool fits = log_fits_current(log, &load), spare_fits = log_fits_spare(log, &load);
    if (!fits && !spare_fits)
        return false;
    /* Compaction takes sealed segments only: what is broken shall be one soon. */
    if (spare_fits && log->current != LOG_NO_SEGMENT &&
        manifest_segment(&depot->manifest, log->current)->rewrite)
        fits = false;
    if (depot->tail.begun && (!fits || !footer_maker_takes(&depot->tail, c->epoch, c->entry_count)))
        if (!footer_start(log))
            return false;
    if (!fits)
        switch_segment(log);
    c->segment = log->current;
    c->offset = log->position;
    log->position =
        segment_unit_end(c->offset, c->used, depot->options.alignment, c->used >= SEGMENT_LARGE);
    c->length = (uint32_t)(log->position - c->offset);
    struct segment *segment = manifest_segment(&depot->manifest, log->current);
    segment->stored += c->used - COMMIT_HEAD;
    segment->weight += c->weight;
    segment->last = c->sequence;
    return true;
}

static struct kho_id encode_blocks(struct log *log, struct commit *c, uint64_t segment)
{
    struct kho_id heads_hash = {{0}};
    for (uint32_t i = 0; i < c->block_count; i++) {
        const struct commit_block *b = &c->blocks[i];
        struct block_head head = {.sequence = c->sequence,
                                  .segment = segment,
                                  .offset = c->offset + b->offset,
                                  .collection = b->collection,
                                  .raw_len = b->raw_len,
                                  .stored_len = b->stored_len,
                                  .records = b->records,
                                  .codec = b->codec,
                                  .body_hash = b->hash};
        block_head_encode(&head, &log->depot->manifest.identity, c->buffer + b->offset);
        commit_hash_head(&heads_hash, c->buffer + b->offset);
    }
    return heads_hash;
}

static bool commit_start(struct log *log, struct commit *c, struct kho_now now)
{
    if (!choose_place(log, c))
        return false;
    const struct segment *segment = manifest_segment(&log->depot->manifest, c->segment);
    KHO_ASSERT(c->length <= c->buffer_bytes);
    memset(c->buffer + c->used, 0, c->length - c->used);
    struct commit_head head = {.sequence = c->sequence,
                               .segment = segment->id,
                               .offset = c->offset,
                               .durable = log->durable,
                               .epoch = c->epoch,
                               .written_ms = now.wall_ms,
                               .blocks = c->block_count,
                               .length = c->length,
                               .records = c->entry_count,
                               .predecessor = log->predecessor};
    head.heads_hash = encode_blocks(log, c, segment->id);
    /* The first sector holds the head, so it isn't zero whatever the fields are. */
    head.zero_sectors = zero_sectors(c->buffer + SECTOR, c->length - SECTOR);
    commit_head_encode(&head, &log->depot->manifest.identity, c->buffer, &log->predecessor);
    c->state = COMMIT_FLYING;
    queue_push(&log->flying, &c->link);
    log->flying_count++;
    c->op = (struct op){.flags = KHO_PLANTED(commit_not_synced) ? 0 : OP_WRITE_DURABLE,
                        .file = segment->file,
                        .conn = -1,
                        .offset = c->offset,
                        .data = c->buffer,
                        .len = c->length};
    depot_push(log->depot, &c->op, OP_WRITE, PURPOSE_COMMIT, c);
    tail_note(log, c);
    if (KHO_PLANTED(index_before_durable))
        log_show(log, c);
    if (footer_due(&log->depot->tail, log->position))
        footer_start(log);
    return true;
}

void log_pump(struct log *log, bool seal, struct kho_now now)
{
    while (!log->depot->read_only && log->flying_count < log->flying_max) {
        if (queue_empty(&log->ready)) {
            if (!seal || log->gather == NULL)
                return;
            log_cut(log);
        }
        struct commit *c = KHO_CONTAINER_OF(log->ready.next, struct commit, link);
        queue_remove(&c->link);
        if (!commit_start(log, c, now)) {
            queue_push_front(&log->ready, &c->link);
            return;
        }
    }
}

bool log_idle(const struct log *log)
{
    if (!queue_empty(&log->flying) || log->footer.flying)
        return false;
    return log->depot->read_only || (log->gather == NULL && queue_empty(&log->ready));
}

bool log_wants_mark(const struct log *log)
{
    return log_idle(log) && !log->depot->read_only && log->durable != log->marked;
}

void log_mark(struct log *log, struct kho_now now)
{
    KHO_ASSERT(log_wants_mark(log));
    if (queue_empty(&log->free) || !log_place_for(log, COMMIT_HEAD, 0, true)) {
        log->marked = log->durable; /* no room: the manifest will say it when the segment ends */
        return;
    }
    gather_open(log);
    log->marked = log->gather->sequence;
    log_pump(log, true, now);
}

/* --- Segments --------------------------------------------------------------------------------- */

void log_give_segment(struct log *log, uint32_t slot)
{
    KHO_ASSERT(log->spare == LOG_NO_SEGMENT);
    log->spare = slot;
    if (log->current == LOG_NO_SEGMENT)
        switch_segment(log);
}
