/* reader.c: reads of records: index, cache, disk (reader.h).
 *
 * The happy path: the index names the block, the cache or one disk read brings it, head, identity,
 * place and body hash are checked, the record with the version that the index named is found in it
 * and its key compared. The read answers with what was visible when it began.
 *
 * Failure: a block that can't be read or doesn't hold is damage (R2): it is noted, all index
 * entries that point into it lose their value but keep their version, and an episode opens in
 * exactly their partitions. Errors of the moment (no memory, cancelled) fail the reads and nothing
 * else. */
#include "reader.h"

#include "place.h"

/* --- Life ------------------------------------------------------------------------------------- */

static size_t span_of(const struct reader *reader, uint32_t block_bytes)
{
    uint32_t alignment = reader->depot->options.alignment;
    uint32_t bound = place_class_bytes(place_class_of(block_bytes));
    return kho_round_up(bound, alignment) + alignment;
}

int reader_init(struct reader *reader, struct depot *depot, struct queue *done)
{
    struct shard_world *world = depot->world;
    uint32_t alignment = depot->options.alignment;
    *reader = (struct reader){.depot = depot, .done = done};
    queue_init(&reader->free);
    queue_init(&reader->active);
    queue_init(&reader->waiting);
    reader->small_bytes = span_of(reader, BLOCK_HEAD + BLOCK_RAW_MAX);
    reader->page.bytes = span_of(reader, BLOCK_HEAD + BLOCK_BODY_MAX);
    reader->page.memory = world_allocate(world, reader->page.bytes, alignment);
    reader->page.reserved = true;
    reader->fetches = world_allocate(world, READER_FETCHES * sizeof *reader->fetches, 0);
    if (reader->page.memory == NULL || reader->fetches == NULL)
        return -ENOMEM;
    memset(reader->fetches, 0, READER_FETCHES * sizeof *reader->fetches);
    for (uint32_t i = 0; i < READER_FETCHES; i++) {
        struct fetch *f = &reader->fetches[i];
        queue_init(&f->reads);
        queue_push(&reader->free, &f->link);
        f->small = world_allocate(world, reader->small_bytes, alignment);
        if (f->small == NULL)
            return -ENOMEM;
    }
    return cache_create(world, depot->options.memory_max / 8, &reader->cache);
}

static void page_release(struct reader *reader, struct page *page)
{
    KHO_ASSERT(page->refs > 0);
    if (--page->refs > 0)
        return;
    if (page->reserved) {
        reader->page_taken = false;
        reader->starved = false;
        return;
    }
    struct shard_world *world = reader->depot->world;
    world_release(world, page->memory, page->bytes);
    world_release(world, page, sizeof *page);
}

void reader_fini(struct reader *reader)
{
    if (reader->depot == NULL)
        return;
    struct shard_world *world = reader->depot->world;
    for (uint32_t i = 0; reader->fetches != NULL && i < READER_FETCHES; i++) {
        struct fetch *f = &reader->fetches[i];
        if (f->page != NULL)
            page_release(reader, f->page);
        world_release(world, f->small, reader->small_bytes);
    }
    world_release(world, reader->fetches, READER_FETCHES * sizeof *reader->fetches);
    world_release(world, reader->page.memory, reader->page.bytes);
    cache_destroy(reader->cache);
    reader->depot = NULL;
}

/* The reserved page, or one from the heap, or NULL: wait. */
static struct page *page_take(struct reader *reader, size_t bytes)
{
    struct shard_world *world = reader->depot->world;
    struct page *page = world_allocate(world, sizeof *page, 0);
    if (page != NULL) {
        *page = (struct page){.refs = 1, .bytes = bytes};
        page->memory = world_allocate(world, bytes, reader->depot->options.alignment);
        if (page->memory != NULL)
            return page;
        world_release(world, page, sizeof *page);
    }
    if (reader->page_taken)
        return NULL;
    KHO_ASSERT(bytes <= reader->page.bytes);
    reader->page_taken = true;
    reader->page.refs = 1;
    return &reader->page;
}

/* --- Finding the record ------------------------------------------------------------------------
 */

static bool tag_matches(const struct reader *reader, const struct record *r, struct key_tag tag)
{
    struct key_hash hash = key_hash(r->collection, r->key, r->key_len, reader->seed);
    return key_tag_compare(key_tag(hash), tag) == 0;
}

/* The record of that tag and version in an unpacked block. */
static bool block_find(const struct reader *reader, const uint8_t *raw, uint32_t raw_len,
                       uint32_t collection, struct version version, struct key_tag tag,
                       struct record *ret_record)
{
    uint32_t offset = 0;
    struct record r;
    while (block_next(raw, raw_len, &offset, &r) == 1)
        if (r.collection == collection && version_compare(r.version, version) == 0 &&
            tag_matches(reader, &r, tag)) {
            *ret_record = r;
            return true;
        }
    return false;
}

/* Fills the read's result from an unpacked block that stays pinned. */
static void read_answer(struct reader *reader, struct store_read *read, const uint8_t *raw,
                        uint32_t raw_len)
{
    struct record r;
    struct version version = read->record.version;
    struct depot *depot = reader->depot;
    uint64_t id = manifest_segment(&depot->manifest, place_slot(read->place))->id;
    if (!block_find(reader, raw, raw_len, read->collection, version, key_tag(read->hash), &r)) {
        world_event(depot->world, EVENT_ERROR,
                    "segment-%016llx offset %llu: the block is whole but lacks the record that the "
                    "index has there; the value is unknown",
                    (unsigned long long)id, (unsigned long long)place_offset(read->place));
        read->status = KHO_EUNKNOWN;
        read->state = WIRE_VALUE_UNKNOWN;
        return;
    }
    if (read->key_len > 0 &&
        (r.key_len != read->key_len || memcmp(r.key, read->key, r.key_len) != 0)) {
        world_event(depot->world, EVENT_ERROR,
                    "segment-%016llx offset %llu: two keys of collection %u share the hash "
                    "%016llx: the value of one is unknown; report it",
                    (unsigned long long)id, (unsigned long long)place_offset(read->place),
                    read->collection, (unsigned long long)read->hash.high);
        read->status = KHO_ECOLLISION;
        read->state = WIRE_VALUE_UNKNOWN;
        return;
    }
    read->status = 0;
    read->state = record_is_tombstone(&r) ? WIRE_TOMBSTONE : WIRE_PRESENT;
    read->record = r;
}

bool reader_cached_hash(struct reader *reader, uint64_t place, struct key_tag tag,
                        const struct record *record, struct kho_id *ret_hash)
{
    struct record r;
    struct cache_block *block = cache_get(reader->cache, place_block(place));
    if (block == NULL)
        return false;
    bool found = block_find(reader, block->data, block->data_bytes, record->collection,
                            record->version, tag, &r);
    if (found)
        *ret_hash = r.hash;
    cache_unpin(reader->cache, block);
    return found;
}

/* --- Fetching --------------------------------------------------------------------------------- */

static struct fetch *fetch_find(struct reader *reader, uint64_t place)
{
    QUEUE_FOREACH (link, &reader->active) {
        struct fetch *f = KHO_CONTAINER_OF(link, struct fetch, link);
        if (place_block(f->place) == place_block(place))
            return f;
    }
    return NULL;
}

/* Starts the fetch of a read's block. False: no fetch or no memory is free now. */
static bool fetch_start(struct reader *reader, struct store_read *read)
{
    struct depot *depot = reader->depot;
    const struct segment *segment = manifest_segment(&depot->manifest, place_slot(read->place));
    uint64_t alignment = depot->options.alignment, offset = place_offset(read->place);
    if (queue_empty(&reader->free))
        return false;
    struct fetch *f = KHO_CONTAINER_OF(reader->free.next, struct fetch, link);
    uint64_t from = offset & ~(alignment - 1);
    uint64_t to = kho_round_up(offset + place_bytes(read->place), alignment);
    if (to > segment->size)
        to = segment->size;
    KHO_ASSERT(f->page == NULL && to > from);
    if (to - from > reader->small_bytes && (f->page = page_take(reader, to - from)) == NULL)
        return false;
    queue_remove(&f->link);
    queue_push(&reader->active, &f->link);
    queue_push(&f->reads, &read->link);
    f->place = read->place;
    f->skip = (uint32_t)(offset - from);
    f->op = (struct op){.file = segment->file,
                        .conn = -1,
                        .offset = from,
                        .data = f->page != NULL ? f->page->memory : f->small,
                        .len = (uint32_t)(to - from)};
    depot_push(depot, &f->op, OP_READ, PURPOSE_FETCH, f);
    reader->disk_reads++;
    return true;
}

/* A read that missed the cache: joins a fetch, starts one, or waits. */
static void read_fetch(struct reader *reader, struct store_read *read)
{
    struct fetch *f = fetch_find(reader, read->place);
    if (f != NULL) {
        queue_push(&f->reads, &read->link);
        return;
    }
    if (!fetch_start(reader, read))
        queue_push(&reader->waiting, &read->link);
}

static bool read_cached(struct reader *reader, struct store_read *read)
{
    struct cache_block *block = cache_get(reader->cache, place_block(read->place));
    if (block == NULL)
        return false;
    reader->cache_hits++;
    read->pin = block;
    read_answer(reader, read, block->data, block->data_bytes);
    return true;
}

static bool read_unknown(struct store_read *read, uint8_t state, struct version version)
{
    read->status = KHO_EUNKNOWN;
    read->state = state;
    read->record = (struct record){.collection = read->collection, .version = version};
    return true;
}

bool reader_read(struct reader *reader, struct store_read *read, struct kho_now now)
{
    struct index_entry entry;
    (void)now;
    reader->reads++;
    read->status = 0;
    read->state = WIRE_ABSENT;
    read->record = (struct record){.collection = read->collection};
    read->pin = NULL;
    read->buffer = NULL;
    queue_init(&read->link);
    if (manifest_hides(&reader->depot->manifest, read->partition) != 0)
        return read_unknown(read, WIRE_UNKNOWN, (struct version){0});
    if (reader->index == NULL ||
        !index_get(reader->index, read->collection, read->partition, key_tag(read->hash), &entry))
        return true;
    if (entry.place == PLACE_UNKNOWN)
        return read_unknown(read, WIRE_VALUE_UNKNOWN, entry.version);
    read->record.version = entry.version;
    read->place = entry.place;
    if (read_cached(reader, read))
        return true;
    reader->pending++;
    read_fetch(reader, read);
    return false;
}

void reader_end(struct reader *reader, struct store_read *read)
{
    if (read->pin == NULL)
        return;
    if (read->buffer != NULL)
        page_release(reader, read->pin);
    else
        cache_unpin(reader->cache, read->pin);
    read->pin = NULL;
    read->buffer = NULL;
    reader_pump(reader);
}

void reader_pump(struct reader *reader)
{
    while (!queue_empty(&reader->waiting) && !reader->starved) {
        struct store_read *read = KHO_CONTAINER_OF(reader->waiting.next, struct store_read, link);
        queue_remove(&read->link);
        if (read_cached(reader, read)) {
            reader->pending--;
            queue_push(reader->done, &read->link);
            continue;
        }
        struct fetch *f = fetch_find(reader, read->place);
        if (f != NULL) {
            queue_push(&f->reads, &read->link);
        } else if (!fetch_start(reader, read)) {
            queue_push_front(&reader->waiting, &read->link);
            return;
        }
    }
}

/* --- Damage ----------------------------------------------------------------------------------- */

struct damage_scan {
    struct reader *reader;
    struct episode *episode;
    uint64_t block;
    uint64_t now_ms;
    uint32_t entries;
    bool lost; /* no episode could be opened */
};

static bool damage_entry(void *arg, uint32_t collection, uint32_t partition,
                         struct index_entry *entry)
{
    struct damage_scan *scan = arg;
    struct depot *depot = scan->reader->depot;
    (void)collection;
    if (entry->place == PLACE_UNKNOWN || place_block(entry->place) != scan->block)
        return false;
    if (scan->episode == NULL && !scan->lost)
        scan->episode = manifest_open_episode(&depot->manifest, WIRE_EPISODE_ROT, depot->epoch,
                                              scan->now_ms, true);
    if (scan->episode != NULL)
        manifest_episode_set(&depot->manifest, scan->episode, partition);
    else
        scan->lost = true;
    scan->entries++;
    depot->values_unknown++;
    entry->place = PLACE_UNKNOWN;
    return true;
}

/* Notes a damaged block: its entries keep their versions and lose their values. */
static void damage_note(struct reader *reader, uint64_t place, int error, struct kho_now now)
{
    struct depot *depot = reader->depot;
    const struct segment *segment = manifest_segment(&depot->manifest, place_slot(place));
    struct damage_scan scan = {
        .reader = reader, .block = place_block(place), .now_ms = now.wall_ms};
    char text[96];
    cache_forget(reader->cache, place_block(place));
    index_scan(reader->index, damage_entry, &scan);
    struct damage damage = {.segment = segment->id,
                            .offset = place_offset(place),
                            .length = BLOCK_HEAD, /* the block that begins there */
                            .episode = scan.episode != NULL ? scan.episode->id : 0,
                            .found_ms = now.wall_ms};
    /* Without an episode it must be found again at the next start. */
    if (!scan.lost &&
        !manifest_damage_known(&depot->manifest, damage.segment, damage.offset, damage.length))
        manifest_add_damage(&depot->manifest, &damage);
    depot->manifest_dirty = true;
    world_event(depot->world, EVENT_ERROR,
                "segment-%016llx offset %llu: damaged block: %s; %u records have lost their value "
                "here, episode %llu: run 'kho repair'",
                (unsigned long long)segment->id, (unsigned long long)damage.offset,
                depot_error_text(error, text, sizeof text), scan.entries,
                (unsigned long long)damage.episode);
}

/* --- Completion ------------------------------------------------------------------------------- */

static void read_finish(struct reader *reader, struct store_read *read)
{
    reader->pending--;
    queue_remove(&read->link);
    queue_push(reader->done, &read->link);
}

static void fetch_fail(struct reader *reader, struct fetch *f, int error, bool damaged,
                       struct kho_now now)
{
    if (damaged)
        damage_note(reader, f->place, error, now);
    while (!queue_empty(&f->reads)) {
        struct store_read *read = KHO_CONTAINER_OF(f->reads.next, struct store_read, link);
        read->status = damaged && error != -EIO ? KHO_EDAMAGED : error;
        read->state = WIRE_VALUE_UNKNOWN;
        read_finish(reader, read);
    }
}

/* Checks the block that was read. 0, or how it is damaged. */
static int fetch_check(const struct reader *reader, const struct fetch *f, uint32_t got,
                       struct block_head *ret_head)
{
    const struct depot *depot = reader->depot;
    const struct segment *segment = manifest_segment(&depot->manifest, place_slot(f->place));
    const uint8_t *block = f->op.data + f->skip;
    if (got < f->skip + BLOCK_HEAD)
        return KHO_EMALFORMED;
    int error = block_head_decode(block, &depot->manifest.identity, ret_head);
    if (error != 0)
        return error;
    if (ret_head->segment != segment->id || ret_head->offset != place_offset(f->place) ||
        f->skip + BLOCK_HEAD + ret_head->stored_len > got)
        return KHO_EMALFORMED;
    /* What came into a page is used where it lies, so it can't be packed. */
    if (f->page != NULL && ret_head->codec != KHO_CODEC_NONE)
        return KHO_EMALFORMED;
    return block_body_matches(ret_head, block + BLOCK_HEAD) ? 0 : KHO_ECHECKSUM;
}

/* Answers all reads of a fetch from a page or a cache block. */
static void fetch_answer(struct reader *reader, struct fetch *f, struct cache_block *block,
                         const uint8_t *raw, uint32_t raw_len)
{
    while (!queue_empty(&f->reads)) {
        struct store_read *read = KHO_CONTAINER_OF(f->reads.next, struct store_read, link);
        if (block != NULL) {
            /* A pin of its own: published blocks are found, others are this fetch's to share. */
            block->pins++;
            read->pin = block;
        } else {
            f->page->refs++;
            read->pin = f->page;
            read->buffer = f->page->memory;
        }
        read_answer(reader, read, raw, raw_len);
        read_finish(reader, read);
    }
}

/* A block in the small buffer: unpacked into the cache, or into a page where the cache has no
 * memory. */
static void fetch_unpack(struct reader *reader, struct fetch *f, const struct block_head *head,
                         struct kho_now now)
{
    const uint8_t *body = f->op.data + f->skip + BLOCK_HEAD;
    struct cache_block *block = cache_add(reader->cache, place_block(f->place), head->raw_len);
    if (block == NULL && f->page == NULL)
        f->page = page_take(reader, kho_round_up(head->raw_len, 64));
    if (block == NULL && f->page == NULL) {
        /* The reserved page is taken: what it is read again for waits until it comes back. */
        queue_append_all(&reader->waiting, &f->reads);
        reader->starved = true;
        return;
    }
    uint8_t *raw = block != NULL ? block->data : f->page->memory;
    int error = block_unpack(head, body, raw);
    if (error != 0) {
        fetch_fail(reader, f, error, true, now);
    } else {
        if (block != NULL)
            cache_publish(reader->cache, block);
        fetch_answer(reader, f, block, raw, head->raw_len);
    }
    if (block != NULL)
        cache_unpin(reader->cache, block);
}

void reader_completed(struct reader *reader, struct op *op, struct kho_now now)
{
    struct fetch *f = op->context;
    struct block_head head;
    KHO_ASSERT(&f->op == op);
    int result = op->result;
    if (result < 0) {
        fetch_fail(reader, f, result, result == -EIO, now);
    } else {
        int error = fetch_check(reader, f, (uint32_t)result, &head);
        if (error != 0)
            fetch_fail(reader, f, error, true, now);
        else if (f->page == NULL)
            fetch_unpack(reader, f, &head, now);
        else
            fetch_answer(reader, f, NULL, op->data + f->skip + BLOCK_HEAD, head.raw_len);
    }
    if (f->page != NULL)
        page_release(reader, f->page);
    f->page = NULL;
    queue_remove(&f->link);
    queue_push(&reader->free, &f->link);
    reader_pump(reader);
}
