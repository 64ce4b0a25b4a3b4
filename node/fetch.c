/* fetch.c: blocks from the disk into the cache, or into pages (reader.h).
 *
 * The happy path: at the end of a turn the reads that wait are sorted by place. A fetch takes the
 * first of them and those behind it whose blocks lie in the same stretch of the segment, and reads
 * that stretch with one aligned read. When it has ended, each block is checked (head, identity,
 * place, hash of the body), unpacked into the cache, and its reads are answered. A read whose block
 * is under way already joins that fetch.
 *
 * Failure: a block that doesn't hold is damage (damage.c), and fails its own reads only. A stretch
 * that can't be read is read again block by block, which tells the bad one from its neighbours.
 * Errors of the moment (no memory, cancelled) fail the reads and nothing else. */
#include "damage.h"
#include "reader_inside.h"

/* Neighbours so far apart are still read at once: a read of its own costs as much as some 16 KiB.
 */
enum { FETCH_GAP = 8 << 10 };

/* --- Life ------------------------------------------------------------------------------------- */

static size_t span_of(const struct reader *reader, uint32_t block_bytes)
{
    uint32_t alignment = reader->depot->options.alignment;
    uint32_t bound = place_class_bytes(place_class_of(block_bytes));
    return kho_round_up(bound, alignment) + alignment;
}

static size_t buffer_bytes(const struct reader *reader, const struct fetch *f)
{
    return f->wide ? READER_WIDE_BYTES : reader->small_bytes;
}

static void page_free(struct reader *reader, struct page *page)
{
    struct shard_world *world = reader->depot->world;
    queue_remove(&page->link);
    world_release(world, page->memory, page->bytes);
    world_release(world, page, sizeof *page);
}

int fetches_init(struct reader *reader)
{
    struct shard_world *world = reader->depot->world;
    uint32_t alignment = reader->depot->options.alignment;
    uint32_t count = READER_FETCHES + READER_WIDE;
    reader->small_bytes = span_of(reader, BLOCK_HEAD + BLOCK_RAW_MAX);
    KHO_ASSERT(reader->small_bytes <= READER_WIDE_BYTES);
    reader->page.bytes = span_of(reader, BLOCK_HEAD + BLOCK_BODY_MAX);
    reader->page.memory = world_allocate(world, reader->page.bytes, alignment);
    reader->page.reserved = true;
    reader->fetches = world_allocate(world, count * sizeof *reader->fetches, 0);
    if (reader->fetches != NULL)
        memset(reader->fetches, 0, count * sizeof *reader->fetches); /* fetches_fini() looks */
    if (reader->page.memory == NULL || reader->fetches == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < count; i++) {
        struct fetch *f = &reader->fetches[i];
        f->wide = i >= READER_FETCHES;
        queue_init(&f->reads);
        queue_push(f->wide ? &reader->free_wide : &reader->free, &f->link);
        f->buffer = world_allocate(world, buffer_bytes(reader, f), alignment);
        if (f->buffer == NULL)
            return -ENOMEM;
    }
    return 0;
}

void fetches_fini(struct reader *reader)
{
    struct shard_world *world = reader->depot->world;
    uint32_t count = READER_FETCHES + READER_WIDE;
    for (uint32_t i = 0; reader->fetches != NULL && i < count; i++) {
        struct fetch *f = &reader->fetches[i];
        if (f->page != NULL)
            page_release(reader, f->page);
        world_release(world, f->buffer, buffer_bytes(reader, f));
    }
    /* Those of answers on their way, which nobody ends when a shard is dropped as in a crash. */
    struct queue *link;
    while ((link = queue_pop(&reader->pages)) != NULL)
        page_free(reader, KHO_CONTAINER_OF(link, struct page, link));
    world_release(world, reader->fetches, count * sizeof *reader->fetches);
    world_release(world, reader->page.memory, reader->page.bytes);
}

uint32_t reader_areas(const struct reader *reader, struct io_area *ret_areas)
{
    for (uint32_t i = 0; i < READER_AREAS_MAX; i++) {
        const struct fetch *f = &reader->fetches[i];
        ret_areas[i] = (struct io_area){f->buffer, buffer_bytes(reader, f)};
    }
    return READER_AREAS_MAX;
}

/* --- Pages ------------------------------------------------------------------------------------ */

void page_release(struct reader *reader, struct page *page)
{
    KHO_ASSERT(page->refs > 0);
    if (--page->refs > 0)
        return;
    if (page->reserved) {
        reader->page_taken = false;
        reader->starved = false;
        return;
    }
    page_free(reader, page);
}

/* The reserved page, or one from the heap, or NULL: wait. */
static struct page *page_take(struct reader *reader, size_t bytes)
{
    struct shard_world *world = reader->depot->world;
    struct page *page = world_allocate(world, sizeof *page, 0);
    if (page != NULL) {
        *page = (struct page){.refs = 1, .bytes = bytes};
        page->memory = world_allocate(world, bytes, reader->depot->options.alignment);
        if (page->memory != NULL) {
            queue_push(&reader->pages, &page->link);
            return page;
        }
        world_release(world, page, sizeof *page);
    }
    if (reader->page_taken)
        return NULL;
    KHO_ASSERT(bytes <= reader->page.bytes);
    reader->page_taken = true;
    reader->page.refs = 1;
    return &reader->page;
}

/* --- Starting --------------------------------------------------------------------------------- */

static struct store_read *read_of(struct queue *link)
{
    return KHO_CONTAINER_OF(link, struct store_read, link);
}

/* The fetch that will have the block. What lies behind the last block that it was started for may
 * be written after the disk has been read. */
static struct fetch *fetch_find(struct reader *reader, const struct store_read *read)
{
    uint64_t offset = place_offset(read->place);
    QUEUE_FOREACH (link, &reader->active) {
        struct fetch *f = KHO_CONTAINER_OF(link, struct fetch, link);
        if (f->slot == place_slot(read->place) && offset >= f->first && offset <= f->last &&
            (f->first == f->last || !read->alone))
            return f;
    }
    return NULL;
}

/* The stretch of a segment that a fetch reads. */
struct stretch {
    uint32_t slot;
    uint64_t first, last; /* offsets of blocks */
    uint64_t from, to;    /* aligned */
};

static struct stretch stretch_of(const struct reader *reader, const struct store_read *read)
{
    const struct depot *depot = reader->depot;
    uint64_t alignment = depot->options.alignment, offset = place_offset(read->place);
    uint64_t end = kho_round_up(offset + read->bytes, alignment);
    uint32_t slot = place_slot(read->place);
    return (struct stretch){.slot = slot,
                            .first = offset,
                            .last = offset,
                            .from = offset & ~(alignment - 1),
                            .to = kho_min(end, manifest_segment(&depot->manifest, slot)->size)};
}

/* Takes the reads behind the first that waits into its stretch, as far as they are neighbours and
 * the stretch stays within `bytes`. Returns the link of the first that isn't in it. */
static struct queue *stretch_grow(const struct reader *reader, struct stretch *stretch,
                                  uint64_t bytes)
{
    struct queue *link = reader->waiting.next->next;
    for (; link != &reader->waiting && !read_of(link)->alone; link = link->next) {
        struct stretch one = stretch_of(reader, read_of(link));
        uint64_t to = kho_max(one.to, stretch->to);
        if (one.slot != stretch->slot || one.first < stretch->last ||
            one.from > stretch->to + FETCH_GAP || one.to - one.from > reader->small_bytes ||
            to - stretch->from > bytes)
            break;
        stretch->last = one.last;
        stretch->to = to;
    }
    return link;
}

/* Starts a fetch for the first reads that wait. False: no fetch or no memory is free now. */
static bool fetch_start(struct reader *reader)
{
    struct depot *depot = reader->depot;
    struct queue *first = reader->waiting.next, *end = first->next;
    struct stretch stretch = stretch_of(reader, read_of(first));
    bool large = stretch.to - stretch.from > reader->small_bytes;
    if (!large && !read_of(first)->alone)
        end =
            stretch_grow(reader, &stretch,
                         queue_empty(&reader->free_wide) ? reader->small_bytes : READER_WIDE_BYTES);
    bool wide = !large && stretch.to - stretch.from > reader->small_bytes;
    struct queue *free = wide || queue_empty(&reader->free) ? &reader->free_wide : &reader->free;
    if (queue_empty(free))
        return false;
    struct fetch *f = KHO_CONTAINER_OF(free->next, struct fetch, link);
    KHO_ASSERT(f->page == NULL && queue_empty(&f->reads) && stretch.to > stretch.from);
    if (large && (f->page = page_take(reader, stretch.to - stretch.from)) == NULL)
        return false;
    queue_remove(&f->link);
    queue_push(&reader->active, &f->link);
    while (reader->waiting.next != end)
        queue_push(&f->reads, queue_pop(&reader->waiting));
    f->slot = stretch.slot;
    f->first = stretch.first;
    f->last = stretch.last;
    f->op = (struct op){.file = manifest_segment(&depot->manifest, f->slot)->file,
                        .conn = -1,
                        .offset = stretch.from,
                        .data = f->page != NULL ? f->page->memory : f->buffer,
                        .len = (uint32_t)(stretch.to - stretch.from)};
    depot_push(depot, &f->op, OP_READ, PURPOSE_FETCH, f);
    reader->disk_reads++;
    return true;
}

static void fetches_start(struct reader *reader)
{
    while (!queue_empty(&reader->waiting) && !reader->starved) {
        struct store_read *read = read_of(reader->waiting.next);
        if (read_cached(reader, read)) {
            read_finish(reader, read);
            continue;
        }
        struct fetch *f = fetch_find(reader, read);
        if (f != NULL)
            queue_push(&f->reads, queue_pop(&reader->waiting));
        else if (!fetch_start(reader))
            return;
    }
}

/* --- The end of a turn ------------------------------------------------------------------------ */

/* Merges two rising queues of reads into `ret`. */
static void reads_merge(struct queue *ret, struct queue *a, struct queue *b)
{
    while (!queue_empty(a) && !queue_empty(b)) {
        bool first = read_of(a->next)->place <= read_of(b->next)->place;
        queue_push(ret, queue_pop(first ? a : b));
    }
    queue_append_all(ret, a);
    queue_append_all(ret, b);
}

/* Sorts by place; equal ones stay in their order. Run i holds 2^i reads, or none. */
static void reads_sort(struct queue *reads)
{
    enum { RUNS = 24 };
    struct queue runs[RUNS], carry, *link;
    for (int i = 0; i < RUNS; i++)
        queue_init(&runs[i]);
    while ((link = queue_pop(reads)) != NULL) {
        int i = 0;
        queue_init(&carry);
        queue_push(&carry, link);
        for (; i < RUNS - 1 && !queue_empty(&runs[i]); i++) {
            struct queue merged;
            queue_init(&merged);
            reads_merge(&merged, &runs[i], &carry);
            queue_append_all(&carry, &merged);
        }
        queue_append_all(&runs[i], &carry);
    }
    for (int i = 0; i < RUNS; i++) {
        struct queue merged;
        queue_init(&merged);
        reads_merge(&merged, &runs[i], reads);
        queue_append_all(reads, &merged);
    }
}

void reader_turn_end(struct reader *reader)
{
    reads_sort(&reader->fresh);
    queue_append_all(&reader->waiting, &reader->fresh);
    fetches_start(reader);
    cache_shrink(reader->cache);
}

/* --- Completion ------------------------------------------------------------------------------- */

static void damage_found(struct reader *reader, uint64_t place, int error, struct kho_now now)
{
    cache_forget(reader->cache, place_block(place));
    damage_note(reader->depot, place_slot(place), place_offset(place), BLOCK_HEAD, error, now);
}

static void reads_fail(struct reader *reader, struct queue *reads, int error, bool damaged)
{
    while (!queue_empty(reads)) {
        struct store_read *read = read_of(reads->next);
        read->status = damaged && error != -EIO ? KHO_EDAMAGED : error;
        read->state = WIRE_VALUE_UNKNOWN;
        if (KHO_PLANTED(damage_as_absent) && damaged)
            read->status = read->state = WIRE_ABSENT;
        read_finish(reader, read);
    }
}

/* Checks the block at `place` in what was read. 0, or how it is damaged. */
static int fetch_check(const struct reader *reader, const struct fetch *f, uint64_t place,
                       struct block_head *ret_head)
{
    const struct depot *depot = reader->depot;
    const struct segment *segment = manifest_segment(&depot->manifest, f->slot);
    uint32_t got = (uint32_t)f->op.result, skip = (uint32_t)(place_offset(place) - f->op.offset);
    const uint8_t *block = f->op.data + skip;
    if (got < skip + BLOCK_HEAD)
        return KHO_EMALFORMED;
    int error = block_head_decode(block, &depot->manifest.identity, ret_head);
    if (error != 0)
        return error;
    if (ret_head->segment != segment->id || ret_head->offset != place_offset(place) ||
        skip + BLOCK_HEAD + ret_head->stored_len > got)
        return KHO_EMALFORMED;
    /* What came into a page is used where it lies, so it can't be packed. */
    if (f->page != NULL && ret_head->codec != KHO_CODEC_NONE)
        return KHO_EMALFORMED;
    return block_body_matches(ret_head, block + BLOCK_HEAD) ? 0 : KHO_ECHECKSUM;
}

/* Neither cache nor heap has memory, and the reserved page is taken: what is read again for these
 * waits until that comes back. */
static void reads_starve(struct reader *reader, struct queue *reads)
{
    queue_append_all(&reader->waiting, reads);
    reader->starved = true;
}

static void answer_cached(struct reader *reader, struct queue *reads, struct cache_block *block)
{
    while (!queue_empty(reads)) {
        struct store_read *read = read_of(reads->next);
        /* A pin of its own: published blocks are found, others are these reads' to share. */
        block->pins++;
        read->pin = block;
        read_answer_packed(reader, read, (const struct directory *)(const void *)block->data);
        read_finish(reader, read);
    }
}

/* Answers from a page: `directory` NULL, a large record. */
static void answer_paged(struct reader *reader, struct queue *reads, struct page *page,
                         const struct directory *directory, const uint8_t *raw, uint32_t raw_len)
{
    while (!queue_empty(reads)) {
        struct store_read *read = read_of(reads->next);
        page->refs++;
        read->pin = page;
        read->paged = true;
        if (directory != NULL)
            read_answer_packed(reader, read, directory);
        else
            read_answer_large(reader, read, raw, raw_len);
        read_finish(reader, read);
    }
}

/* A large record. */
static void answer_large(struct reader *reader, struct queue *reads, struct fetch *f,
                         const uint8_t *body, uint32_t raw_len)
{
    if (f->page != NULL) {
        answer_paged(reader, reads, f->page, NULL, body, raw_len);
        return;
    }
    /* One that just fitted into a small buffer. */
    struct page *page = page_take(reader, raw_len);
    if (page == NULL) {
        reads_starve(reader, reads);
        return;
    }
    memcpy(page->memory, body, raw_len);
    answer_paged(reader, reads, page, NULL, page->memory, raw_len);
    page_release(reader, page);
}

/* A packed block: unpacked into the cache, or into a page where the cache has no memory. */
static void answer_packed(struct reader *reader, struct queue *reads, uint64_t place,
                          const struct block_head *head, const uint8_t *body, struct kho_now now)
{
    size_t bytes = directory_bytes(head->records, head->raw_len);
    struct cache_block *block = cache_add(reader->cache, place_block(place), (uint32_t)bytes);
    struct page *page = block == NULL ? page_take(reader, bytes) : NULL;
    if (block == NULL && page == NULL) {
        reads_starve(reader, reads);
        return;
    }
    struct directory *directory =
        directory_init(block != NULL ? block->data : page->memory, head->records, head->raw_len);
    int error = block_unpack(head, body, directory_raw(directory));
    if (error != 0) {
        damage_found(reader, place, error, now);
        reads_fail(reader, reads, error, true);
    } else {
        directory_fill(directory);
        if (block != NULL) {
            cache_publish(reader->cache, block);
            answer_cached(reader, reads, block);
        } else {
            answer_paged(reader, reads, page, directory, NULL, 0);
        }
    }
    if (block != NULL)
        cache_unpin(reader->cache, block);
    if (page != NULL)
        page_release(reader, page);
}

/* Answers all reads of the block that the first one is of. */
static void fetch_block(struct reader *reader, struct fetch *f, struct kho_now now)
{
    struct queue reads;
    struct block_head head;
    uint64_t place = read_of(f->reads.next)->place;
    queue_init(&reads);
    QUEUE_FOREACH_SAFE (link, &f->reads) {
        if (place_block(read_of(link)->place) != place_block(place))
            continue;
        queue_remove(link);
        queue_push(&reads, link);
    }
    /* Another fetch may have brought it meanwhile. */
    struct cache_block *block = cache_get(reader->cache, place_block(place), true);
    if (block != NULL) {
        answer_cached(reader, &reads, block);
        cache_unpin(reader->cache, block);
        return;
    }
    int error = fetch_check(reader, f, place, &head);
    const uint8_t *body = f->op.data + (place_offset(place) - f->op.offset) + BLOCK_HEAD;
    if (error != 0) {
        damage_found(reader, place, error, now);
        reads_fail(reader, &reads, error, true);
    } else if (head.raw_len > BLOCK_RAW_MAX || f->page != NULL) {
        answer_large(reader, &reads, f, body, head.raw_len);
    } else {
        answer_packed(reader, &reads, place, &head, body, now);
    }
}

/* The stretch couldn't be read: its blocks are read one by one. */
static void fetch_divide(struct reader *reader, struct fetch *f)
{
    QUEUE_FOREACH (link, &f->reads)
        read_of(link)->alone = true;
    queue_append_all(&f->reads, &reader->waiting);
    queue_append_all(&reader->waiting, &f->reads);
}

void reader_completed(struct reader *reader, struct op *op, struct kho_now now)
{
    struct fetch *f = op->context;
    KHO_ASSERT(&f->op == op);
    int result = op->result;
    if (result == -EIO && f->first != f->last) {
        fetch_divide(reader, f);
    } else if (result < 0) {
        if (result == -EIO)
            damage_found(reader, read_of(f->reads.next)->place, result, now);
        reads_fail(reader, &f->reads, result, result == -EIO);
    }
    while (!queue_empty(&f->reads) && !reader->starved)
        fetch_block(reader, f, now);
    queue_append_all(&reader->waiting, &f->reads);
    if (f->page != NULL)
        page_release(reader, f->page);
    f->page = NULL;
    queue_remove(&f->link);
    queue_push(f->wide ? &reader->free_wide : &reader->free, &f->link);
}
