/* bucket.c: a bucket's entries: found by their prints, added at the end, split by a bit.
 *
 * Failure: growth and splitting take their cells before they change anything. Removal gives memory
 * back where that needs none: a bucket that can't move to a smaller cell stays where it is. */
#include "bucket.h"

#include <assert.h>
#include <kho/error.h>

enum { ENTRY_VERSION = 8, ENTRY_WRITER = 16, ENTRY_PLACE = 20, ENTRY_VALUE = 26 };
#define TOMBSTONE_BIT (1ull << 63)

static_assert(ENTRY_VALUE + 3 == INDEX_ENTRY_BYTES, "an entry is as long as it says");
static_assert((int)BUCKET_ENTRIES_MAX < (int)CELL_DIRECTORY, "a count names no directory");
static_assert(BUCKET_ENTRIES_MAX % 8 == 0 && BUCKET_STEP * (1 + INDEX_ENTRY_BYTES) >= 8,
              "prints are read eight at once, within the cell");
static_assert(BUCKET_PRINTS % CELL_UNIT == 0, "buckets are whole units");
static_assert(BUCKET_STEP * (1 + INDEX_ENTRY_BYTES) % CELL_UNIT == 0, "of all rooms");
static_assert(72 - BUCKET_DEPTH_MAX <= 6, "a bucket of the greatest depth can't be too full");

static uint32_t bucket_pool(uint32_t room)
{
    KHO_ASSERT(room % BUCKET_STEP == 0 && room <= BUCKET_ENTRIES_MAX);
    return room / BUCKET_STEP;
}

/* --- One entry -------------------------------------------------------------------------------- */

/* Where an entry begins, from the bucket on. */
static inline size_t entry_offset(const uint8_t *bucket, uint32_t i)
{
    return BUCKET_PRINTS + bucket[BUCKET_ROOM] + (size_t)i * INDEX_ENTRY_BYTES;
}

static inline uint64_t tag_rest(struct key_tag tag)
{
    return tag.high << 8 | tag.low;
}

static void entry_pack(const struct index_entry *entry, uint8_t *to)
{
    uint64_t counter = entry->version.counter;
    uint32_t value_bytes = (uint32_t)kho_min(entry->value_bytes, INDEX_VALUE_MAX);
    KHO_ASSERT(counter >= 1 && counter <= KHO_COUNTER_MAX);
    KHO_ASSERT(entry->place <= PLACE_UNKNOWN);
    KHO_ASSERT(entry->value_bytes <= KHO_VALUE_MAX);
    kho_store64(to, tag_rest(entry->tag));
    kho_store64(to + ENTRY_VERSION, counter | (entry->tombstone ? TOMBSTONE_BIT : 0));
    kho_store32(to + ENTRY_WRITER, entry->version.writer);
    kho_store32(to + ENTRY_PLACE, (uint32_t)entry->place);
    kho_store16(to + ENTRY_PLACE + 4, (uint16_t)(entry->place >> 32));
    kho_store16(to + ENTRY_VALUE, (uint16_t)value_bytes);
    to[ENTRY_VALUE + 2] = (uint8_t)(value_bytes >> 16);
}

/* `top`: the first 8 bits. */
static struct key_tag entry_tag(const uint8_t *from, uint8_t top)
{
    uint64_t rest = kho_load64(from);
    return (struct key_tag){.high = (uint64_t)top << 56 | rest >> 8, .low = (uint8_t)rest};
}

static void entry_unpack(const uint8_t *from, uint8_t top, struct index_entry *ret_entry)
{
    uint64_t counter = kho_load64(from + ENTRY_VERSION);
    ret_entry->tag = entry_tag(from, top);
    ret_entry->version = (struct version){.counter = counter & ~TOMBSTONE_BIT,
                                          .writer = kho_load32(from + ENTRY_WRITER)};
    ret_entry->tombstone = (counter & TOMBSTONE_BIT) != 0;
    ret_entry->place = kho_load32(from + ENTRY_PLACE) | (uint64_t)kho_load16(from + ENTRY_PLACE + 4)
                                                            << 32;
    ret_entry->value_bytes = kho_load16(from + ENTRY_VALUE) | (uint32_t)from[ENTRY_VALUE + 2] << 16;
}

/* The first 8 bits of an entry's tag: what the bucket has of them, and the rest from the print. */
static uint8_t entry_top(const uint8_t *bucket, uint32_t i)
{
    uint8_t print = bucket[BUCKET_PRINTS + i];
    return bucket[BUCKET_DEPTH] >= 8
               ? bucket[BUCKET_TOP]
               : (uint8_t)(bucket[BUCKET_TOP] | print >> bucket[BUCKET_DEPTH]);
}

void bucket_get(const uint8_t *bucket, uint32_t i, struct index_entry *ret_entry)
{
    KHO_ASSERT(i < bucket_count(bucket));
    entry_unpack(bucket + entry_offset(bucket, i), entry_top(bucket, i), ret_entry);
}

void bucket_set(uint8_t *bucket, uint32_t i, const struct index_entry *entry)
{
    uint8_t *at = bucket + entry_offset(bucket, i);
    KHO_ASSERT(i < bucket_count(bucket) && kho_load64(at) == tag_rest(entry->tag));
    entry_pack(entry, at);
}

void bucket_repoint(uint8_t *bucket, uint32_t i, uint64_t place)
{
    uint8_t *at = bucket + entry_offset(bucket, i);
    KHO_ASSERT(i < bucket_count(bucket) && place <= PLACE_UNKNOWN);
    kho_store32(at + ENTRY_PLACE, (uint32_t)place);
    kho_store16(at + ENTRY_PLACE + 4, (uint16_t)(place >> 32));
}

/* --- Finding ---------------------------------------------------------------------------------- */

/* Of eight prints those equal to `print`: the top bit of their bytes. A byte above an equal one may
 * be marked, too; the entry tells. */
static inline uint64_t prints_equal(const uint8_t *prints, uint8_t print)
{
    const uint64_t ones = UINT64_C(0x0101010101010101);
    uint64_t x = kho_load64(prints) ^ (ones * print);
    return (x - ones) & ~x & (ones << 7);
}

/* The next entry from *i on whose print may be that one, *i behind it; count: none. */
static inline uint32_t print_next(const uint8_t *bucket, uint8_t print, uint32_t *word,
                                  uint64_t *marks)
{
    uint32_t count = bucket_count(bucket);
    while (*marks == 0) {
        if (*word >= count)
            return count;
        *marks = prints_equal(bucket + BUCKET_PRINTS + *word, print);
        *word += 8;
    }
    uint32_t i = *word - 8 + (uint32_t)__builtin_ctzll(*marks) / 8;
    *marks &= *marks - 1;
    return i < count ? i : count;
}

uint32_t bucket_find(const uint8_t *bucket, struct key_tag tag)
{
    uint8_t print = tag_bits(tag, bucket[BUCKET_DEPTH]);
    uint32_t count = bucket_count(bucket), word = 0, i;
    uint64_t marks = 0;
    while ((i = print_next(bucket, print, &word, &marks)) < count)
        if (kho_load64(bucket + entry_offset(bucket, i)) == tag_rest(tag) &&
            bucket[BUCKET_PRINTS + i] == print)
            return i;
    return count;
}

void bucket_prefetch_prints(const uint8_t *bucket)
{
    enum { PRINTS_LIKELY = BUCKET_ENTRIES_MAX * 5 / 8 }; /* how many isn't known before they come */
    __builtin_prefetch(bucket);
    __builtin_prefetch(bucket + BUCKET_PRINTS + PRINTS_LIKELY - 1);
}

void bucket_prefetch_entry(const uint8_t *bucket, struct key_tag tag)
{
    uint8_t print = tag_bits(tag, bucket[BUCKET_DEPTH]);
    uint32_t word = 0;
    uint64_t marks = 0;
    uint32_t i = print_next(bucket, print, &word, &marks);
    if (i == bucket_count(bucket))
        return;
    const uint8_t *entry = bucket + entry_offset(bucket, i);
    __builtin_prefetch(entry);
    __builtin_prefetch(entry + INDEX_ENTRY_BYTES - 1);
}

void bucket_prefetch_whole(const uint8_t *bucket)
{
    enum { LINE = 64 };
    const uint8_t *end = bucket + entry_offset(bucket, bucket_count(bucket));
    for (const uint8_t *line = bucket; line < end; line += LINE)
        __builtin_prefetch(line);
}

void bucket_prefetch_growth(const struct cells *cells, const uint8_t *bucket)
{
    uint32_t count = bucket_count(bucket);
    if (count == bucket[BUCKET_ROOM]) {
        bucket_prefetch_whole(bucket);
        if (count < BUCKET_ENTRIES_MAX)
            cells_prefetch_next(cells, bucket_pool(count + BUCKET_STEP));
        return;
    }
    __builtin_prefetch(bucket + entry_offset(bucket, count), 1);
    __builtin_prefetch(bucket + entry_offset(bucket, count + 1) - 1, 1);
}

/* The lowest print above `print`; if there is none, 255. */
static uint8_t print_above(const uint8_t *bucket, uint8_t print)
{
    const uint8_t *prints = bucket + BUCKET_PRINTS;
    uint8_t least = UINT8_MAX;
    for (uint32_t i = 0; i < bucket_count(bucket); i++) {
        uint8_t above = prints[i] > print ? prints[i] : UINT8_MAX;
        least = above < least ? above : least;
    }
    return least;
}

/* The entry with the lowest tag at or above `from` among those with that print. They share the
 * first 8 bits, so the rest orders them. */
static uint32_t least_with_print(const uint8_t *bucket, uint8_t print, uint64_t from)
{
    uint32_t count = bucket_count(bucket), least = count, word = 0, i;
    uint64_t marks = 0, least_rest = 0;
    while ((i = print_next(bucket, print, &word, &marks)) < count) {
        uint64_t rest = kho_load64(bucket + entry_offset(bucket, i));
        if (bucket[BUCKET_PRINTS + i] != print || rest < from)
            continue;
        if (least == count || rest < least_rest) {
            least = i;
            least_rest = rest;
        }
    }
    return least;
}

uint32_t bucket_next(const uint8_t *bucket, struct key_tag from)
{
    uint8_t print = tag_bits(from, bucket[BUCKET_DEPTH]);
    uint32_t i = least_with_print(bucket, print, tag_rest(from));
    if (i < bucket_count(bucket) || print == UINT8_MAX)
        return i;
    return least_with_print(bucket, print_above(bucket, print), 0);
}

/* --- Making and ending ------------------------------------------------------------------------ */

/* A bucket without entries that has room for so many at least. */
static cell_ref bucket_make(struct cells *cells, cell_ref owner, uint32_t depth, uint8_t top,
                            uint32_t entries)
{
    uint32_t room = (uint32_t)kho_round_up(entries, BUCKET_STEP);
    cell_ref ref = cells_take(cells, bucket_pool(room), owner);
    if (ref == 0)
        return 0;
    uint8_t *bucket = cell_at(cells, ref);
    memset(bucket + CELL_KIND, 0, BUCKET_PRINTS + room - CELL_KIND);
    bucket[BUCKET_DEPTH] = (uint8_t)depth;
    bucket[BUCKET_TOP] = top;
    bucket[BUCKET_ROOM] = (uint8_t)room;
    return ref;
}

cell_ref bucket_create(struct cells *cells, cell_ref owner, uint32_t depth, uint8_t top)
{
    return bucket_make(cells, owner, depth, top, 0);
}

void bucket_destroy(struct cells *cells, cell_ref ref)
{
    cells_give(cells, ref, bucket_pool(cell_at(cells, ref)[BUCKET_ROOM]));
}

/* --- Growing and shrinking -------------------------------------------------------------------- */

/* Moves a bucket to a cell with room for `entries`. 0: no memory, and nothing happened. */
static cell_ref bucket_resize(struct cells *cells, cell_ref ref, uint32_t entries)
{
    const uint8_t *from = cell_at(cells, ref);
    uint32_t count = bucket_count(from);
    KHO_ASSERT(count <= entries);
    cell_ref to_ref =
        bucket_make(cells, cell_owner(from), from[BUCKET_DEPTH], from[BUCKET_TOP], entries);
    if (to_ref == 0)
        return 0;
    uint8_t *to = cell_at(cells, to_ref);
    to[BUCKET_COUNT] = (uint8_t)count;
    memcpy(to + BUCKET_PRINTS, from + BUCKET_PRINTS, count);
    memcpy(to + entry_offset(to, 0), from + entry_offset(from, 0),
           (size_t)count * INDEX_ENTRY_BYTES);
    bucket_destroy(cells, ref);
    cells_moved(cells, ref, to_ref);
    return to_ref;
}

int bucket_reserve(struct cells *cells, cell_ref *ref, uint32_t entries)
{
    if (entries <= cell_at(cells, *ref)[BUCKET_ROOM])
        return 0;
    cell_ref larger = bucket_resize(cells, *ref, entries);
    if (larger == 0)
        return KHO_EFULL;
    *ref = larger;
    return 0;
}

void bucket_append(uint8_t *bucket, const struct index_entry *entry)
{
    uint32_t count = bucket_count(bucket);
    KHO_ASSERT(count < bucket[BUCKET_ROOM]);
    entry_pack(entry, bucket + entry_offset(bucket, count));
    bucket[BUCKET_PRINTS + count] = tag_bits(entry->tag, bucket[BUCKET_DEPTH]);
    bucket[BUCKET_COUNT] = (uint8_t)(count + 1);
}

int bucket_add(struct cells *cells, cell_ref ref, const struct index_entry *entry)
{
    int rc = bucket_reserve(cells, &ref, bucket_count(cell_at(cells, ref)) + 1);
    if (rc == 0)
        bucket_append(cell_at(cells, ref), entry);
    return rc;
}

void bucket_remove(struct cells *cells, cell_ref ref, uint32_t i)
{
    uint8_t *bucket = cell_at(cells, ref);
    KHO_ASSERT(i < bucket_count(bucket));
    uint32_t last = bucket_count(bucket) - 1;
    if (i != last) {
        memcpy(bucket + entry_offset(bucket, i), bucket + entry_offset(bucket, last),
               INDEX_ENTRY_BYTES);
        bucket[BUCKET_PRINTS + i] = bucket[BUCKET_PRINTS + last];
    }
    bucket[BUCKET_PRINTS + last] = 0;
    bucket[BUCKET_COUNT] = (uint8_t)last;
    /* One step stays free, so that entries that come and go cost no moves. */
    if (last + 2 * BUCKET_STEP <= bucket[BUCKET_ROOM])
        (void)bucket_resize(cells, ref, last);
}

/* --- Splitting -------------------------------------------------------------------------------- */

/* Copies the entries whose next bit is `bit` to another bucket, one bit deeper, that has room. */
static void half_copy(const uint8_t *bucket, uint8_t bit, uint8_t *half)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < bucket_count(bucket); i++) {
        if (bucket[BUCKET_PRINTS + i] >> 7 != bit)
            continue;
        const uint8_t *entry = bucket + entry_offset(bucket, i);
        struct key_tag tag = entry_tag(entry, entry_top(bucket, i));
        memcpy(half + entry_offset(half, count), entry, INDEX_ENTRY_BYTES);
        half[BUCKET_PRINTS + count] = tag_bits(tag, half[BUCKET_DEPTH]);
        count++;
    }
    KHO_ASSERT(count <= half[BUCKET_ROOM]);
    half[BUCKET_COUNT] = (uint8_t)count;
}

int bucket_split(struct cells *cells, cell_ref ref, const uint32_t more[2], cell_ref ret_halves[2])
{
    const uint8_t *bucket = cell_at(cells, ref);
    uint32_t depth = bucket[BUCKET_DEPTH], ones = 0, count = bucket_count(bucket);
    uint8_t low = bucket[BUCKET_TOP], high = depth < 8 ? low | (uint8_t)(0x80u >> depth) : low;
    KHO_ASSERT(depth < BUCKET_DEPTH_MAX);
    for (uint32_t i = 0; i < count; i++)
        ones += bucket[BUCKET_PRINTS + i] >> 7;
    uint32_t rooms[2] = {(uint32_t)kho_min(count - ones + more[0], BUCKET_ENTRIES_MAX),
                         (uint32_t)kho_min(ones + more[1], BUCKET_ENTRIES_MAX)};
    cell_ref first = bucket_make(cells, cell_owner(bucket), depth + 1, low, rooms[0]);
    if (first == 0)
        return KHO_EFULL;
    cell_ref second = bucket_make(cells, cell_owner(bucket), depth + 1, high, rooms[1]);
    if (second == 0) {
        bucket_destroy(cells, first);
        return KHO_EFULL;
    }
    half_copy(bucket, 0, cell_at(cells, first));
    half_copy(bucket, 1, cell_at(cells, second));
    bucket_destroy(cells, ref);
    ret_halves[0] = first;
    ret_halves[1] = second;
    return 0;
}
