/* reader.c: reads and their answers: index, cache, and the way to a fetch (reader.h).
 *
 * The happy path: the index names the block, the cache has it or a fetch brings it, the record with
 * the version that the index named is found in it and its key compared. The read answers with what
 * was visible when it began. Many reads at once go through the steps together, so that what each
 * step touches is on its way from memory while the others take theirs.
 *
 * Failure: a whole block that lacks the record, or has it under another key of the same hash, is
 * told, and the answer is unknown; damaged blocks are fetch.c's. */
#include "reader_inside.h"

#include <assert.h>

/* --- Life ------------------------------------------------------------------------------------- */

int reader_init(struct reader *reader, struct depot *depot, struct queue *done)
{
    *reader = (struct reader){.depot = depot, .done = done};
    struct queue *heads[] = {&reader->free,  &reader->free_wide, &reader->active,
                             &reader->fresh, &reader->waiting,   &reader->pages};
    for (size_t i = 0; i < KHO_COUNT_OF(heads); i++)
        queue_init(heads[i]);
    int error = fetches_init(reader);
    if (error != 0)
        return error;
    uint64_t most = depot->options.memory_max - depot->options.memory_max / 4;
    return cache_create(depot->world, most, &reader->cache);
}

void reader_fini(struct reader *reader)
{
    if (reader->depot == NULL)
        return;
    fetches_fini(reader);
    cache_destroy(reader->cache);
    reader->depot = NULL;
}

/* --- Answers ---------------------------------------------------------------------------------- */

static bool tag_matches(const struct reader *reader, const struct record *r, struct key_tag tag)
{
    struct key_hash hash = key_hash(r->collection, r->key, r->key_len, reader->seed);
    return key_tag_compare(key_tag(hash), tag) == 0;
}

static bool key_matches(const struct reader *reader, const struct store_read *read,
                        const struct record *r)
{
    if (read->key_len == 0)
        return tag_matches(reader, r, key_tag(read->hash));
    return r->key_len == read->key_len && memcmp(r->key, read->key, r->key_len) == 0;
}

static void read_found(struct store_read *read, const struct record *r)
{
    read->status = 0;
    read->state = record_is_tombstone(r) ? WIRE_TOMBSTONE : WIRE_PRESENT;
    read->record = *r;
}

/* The block lacks the read's record; `collides`: but it has one with the same version and hash. */
static void read_lost(struct reader *reader, struct store_read *read, bool collides)
{
    struct depot *depot = reader->depot;
    unsigned long long id = manifest_segment(&depot->manifest, place_slot(read->place))->id;
    unsigned long long offset = place_offset(read->place);
    if (collides)
        world_event(depot->world, EVENT_ERROR,
                    "segment-%016llx offset %llu: two keys of collection %u share the hash "
                    "%016llx: the value of one is unknown; report it",
                    id, offset, read->collection, (unsigned long long)read->hash.high);
    else
        world_event(depot->world, EVENT_ERROR,
                    "segment-%016llx offset %llu: the block is whole but lacks the record that the "
                    "index has there; the value is unknown",
                    id, offset);
    read->status = collides ? KHO_ECOLLISION : KHO_EUNKNOWN;
    read->state = WIRE_VALUE_UNKNOWN;
}

void read_answer_packed(struct reader *reader, struct store_read *read,
                        const struct directory *directory)
{
    struct directory_search search =
        directory_search(directory, read->collection, read->record.version);
    bool collides = false;
    struct record r;
    while (directory_next(directory, &search, &r)) {
        if (key_matches(reader, read, &r)) {
            read_found(read, &r);
            return;
        }
        collides = collides || tag_matches(reader, &r, key_tag(read->hash));
    }
    read_lost(reader, read, collides);
}

void read_answer_large(struct reader *reader, struct store_read *read, const uint8_t *raw,
                       uint32_t raw_len)
{
    struct record r;
    bool collides = false;
    if (record_decode(raw, raw_len, &r) > 0 && r.collection == read->collection &&
        version_compare(r.version, read->record.version) == 0) {
        if (key_matches(reader, read, &r)) {
            read_found(read, &r);
            return;
        }
        collides = tag_matches(reader, &r, key_tag(read->hash));
    }
    read_lost(reader, read, collides);
}

void read_finish(struct reader *reader, struct store_read *read)
{
    KHO_ASSERT(reader->pending > 0);
    reader->pending--;
    queue_remove(&read->link);
    queue_push(reader->done, &read->link);
}

static const struct directory *directory_of(const struct cache_block *block)
{
    return (const struct directory *)(const void *)block->data;
}

static bool queue_names(const struct queue *reads, uint32_t slot)
{
    QUEUE_FOREACH (link, reads)
        if (place_slot(KHO_CONTAINER_OF(link, struct store_read, link)->place) == slot)
            return true;
    return false;
}

bool reader_names(const struct reader *reader, uint32_t slot)
{
    QUEUE_FOREACH (link, &reader->active)
        if (KHO_CONTAINER_OF(link, struct fetch, link)->slot == slot)
            return true;
    return queue_names(&reader->fresh, slot) || queue_names(&reader->waiting, slot);
}

bool reader_cached_hash(struct reader *reader, uint64_t place, struct key_tag tag,
                        const struct record *record, struct kho_id *ret_hash)
{
    struct cache_block *block = cache_get(reader->cache, place_block(place), true);
    bool found = false;
    if (block == NULL)
        return false;
    const struct directory *directory = directory_of(block);
    struct directory_search search =
        directory_search(directory, record->collection, record->version);
    struct record r;
    while (!found && directory_next(directory, &search, &r))
        found = tag_matches(reader, &r, tag);
    if (found)
        *ret_hash = r.hash;
    cache_unpin(reader->cache, block);
    return found;
}

/* --- Reads ------------------------------------------------------------------------------------ */

/* Pins the read's block: false where the cache doesn't have it. */
static bool read_pin(struct reader *reader, struct store_read *read)
{
    read->pin = cache_get(reader->cache, place_block(read->place), read->sweep);
    return read->pin != NULL;
}

bool read_cached(struct reader *reader, struct store_read *read)
{
    if (!read_pin(reader, read))
        return false;
    reader->cache_hits++;
    read_answer_packed(reader, read, directory_of(read->pin));
    return true;
}

static void read_unknown(struct store_read *read, uint8_t state, struct version version)
{
    read->status = KHO_EUNKNOWN;
    read->state = state;
    read->record.version = version;
}

/* The most that the stored block of an entry can be: what is too large to be packed with others is
 * a block alone, so the value's length tells it more closely than the place's class. */
static uint32_t read_bytes(const struct store_read *read, const struct index_entry *entry)
{
    uint32_t bytes = place_bytes(entry->place);
    if (entry->value_bytes < BLOCK_RAW_MAX)
        return bytes;
    /* The length of exactly 16 MiB counts as one less in the index. */
    uint32_t key = read->key_len > 0 ? read->key_len : KHO_KEY_MAX;
    uint32_t alone = BLOCK_HEAD + KHO_RECORD_HEAD + key + entry->value_bytes + 1;
    return (uint32_t)kho_min(bytes, alone);
}

/* True where the index alone has the answer; else the place is known. */
static bool read_look(struct reader *reader, struct store_read *read)
{
    struct index_entry entry;
    read->status = 0;
    read->state = WIRE_ABSENT;
    read->record = (struct record){.collection = read->collection};
    read->pin = NULL;
    read->paged = false;
    read->alone = false;
    if (manifest_hides(&reader->depot->manifest, read->partition) != 0 &&
        !KHO_PLANTED(hidden_partition_votes)) {
        read_unknown(read, WIRE_UNKNOWN, (struct version){0});
        return true;
    }
    if (reader->index == NULL ||
        !index_get(reader->index, read->collection, read->partition, key_tag(read->hash), &entry))
        return true;
    if (entry.place == PLACE_UNKNOWN) {
        read_unknown(read, WIRE_VALUE_UNKNOWN, entry.version);
        return true;
    }
    read->record.version = entry.version;
    read->place = entry.place;
    read->bytes = read_bytes(read, &entry);
    return false;
}

bool reader_read(struct reader *reader, struct store_read *read)
{
    reader->reads++;
    queue_init(&read->link);
    if (read_look(reader, read) || read_cached(reader, read))
        return true;
    reader->pending++;
    queue_push(&reader->fresh, &read->link);
    return false;
}

/* The reads that wait for a block which the cache has, of `wanted`: their blocks are pinned, and
 * what will be read of them is on its way from memory. */
static uint32_t reads_pin(struct reader *reader, struct store_read *reads, uint32_t wanted)
{
    uint32_t pinned = 0;
    for (uint32_t rest = wanted; rest != 0; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        cache_prefetch(reader->cache, place_block(reads[i].place), 1);
    }
    for (uint32_t rest = wanted; rest != 0; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        if (!read_pin(reader, &reads[i]))
            continue;
        pinned |= 1u << i;
        directory_prefetch(directory_of(reads[i].pin), reads[i].record.version, 0);
    }
    for (uint32_t rest = pinned; rest != 0; rest &= rest - 1) {
        uint32_t i = (uint32_t)__builtin_ctz(rest);
        directory_prefetch(directory_of(reads[i].pin), reads[i].record.version, 1);
    }
    return pinned;
}

uint32_t reader_read_cached(struct reader *reader, struct store_read *reads, uint32_t count)
{
    static_assert(STORE_READS_CACHED <= 32, "a bit each");
    KHO_ASSERT(count <= STORE_READS_CACHED);
    uint32_t done = 0, looked = 0;
    for (uint32_t step = 0; reader->index != NULL && step < INDEX_PREFETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++)
            index_prefetch(reader->index, reads[i].collection, reads[i].partition,
                           key_tag(reads[i].hash), step);
    for (uint32_t i = 0; i < count; i++) {
        if (read_look(reader, &reads[i])) {
            done |= 1u << i;
            continue;
        }
        looked |= 1u << i;
        cache_prefetch(reader->cache, place_block(reads[i].place), 0);
    }
    uint32_t pinned = reads_pin(reader, reads, looked);
    for (uint32_t rest = pinned; rest != 0; rest &= rest - 1) {
        struct store_read *read = &reads[__builtin_ctz(rest)];
        read_answer_packed(reader, read, directory_of(read->pin));
    }
    reader->cache_hits += (uint32_t)__builtin_popcount(pinned);
    done |= pinned;
    reader->reads += (uint32_t)__builtin_popcount(done);
    return done;
}

void reader_end(struct reader *reader, struct store_read *read)
{
    if (read->pin == NULL)
        return;
    if (read->paged)
        page_release(reader, read->pin);
    else
        cache_unpin(reader->cache, read->pin);
    read->pin = NULL;
}
