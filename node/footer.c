/* footer.c: gathers the entries of a stretch, sorts and encodes them, and reads them back (layout:
 * footer.h).
 *
 * Making: entries are noted in the order of the log. A radix sort (tag, collection, partition, the
 * least significant first, each pass stable) brings them into order whatever they are; what the
 * bits that it looks at don't tell apart, one pass of insertion settles. Then each column is
 * written less its smallest value, in as few bytes as its largest needs.
 *
 * Reading: the head is checked before any of its lengths is used, the body's hash before its
 * content, and all entries before the first is handed out: so that walking them can't fail. */
#include "footer.h"

#include "store.h"

#include <assert.h>
#include <errno.h>

enum {
    AT_LENGTH = 52,
    AT_OFFSET = 56,
    AT_FROM = 64,
    AT_FIRST = 72,
    AT_LAST = 80,
    AT_EPOCH = 88,
    AT_ENTRIES = 96,
    AT_RUNS = 100,
    AT_FOOTERS = 104,
    AT_BODY = 108,
    AT_WIDTHS = 112,
    AT_WRITER_BASE = 116,
    AT_COUNTER_BASE = 120,
    AT_SIZE_BASE = 128,
    AT_PLACE_BASE = 132,
    AT_PREDECESSOR = 136,
    AT_RESERVED = 152,
    AT_BODY_HASH = 160,
    AT_CHECKSUM = 176,
    DIGIT_BITS = 13,
    DIGITS = 1 << DIGIT_BITS,
    PLACE_BITS = 28
};
static_assert(AT_CHECKSUM + 16 == FOOTER_HEAD, "the checksum ends the head");
static_assert(KHO_PARTITIONS_MAX <= DIGITS, "a partition is one digit");
static_assert(FOOTER_ENTRIES_MAX <= UINT16_MAX, "the length of a run");

/* The columns, in their order; the last four have a width and a base. */
enum { TAG_HIGH, TAG_LOW, COUNTER, WRITER, SIZE, PLACE, FIXED = COUNTER };
static_assert(PLACE + 1 == FOOTER_COLUMNS, "all columns are named");

static const uint8_t WIDTHS_MAX[FOOTER_COLUMNS - FIXED] = {8, 4, 4, 4};

/* --- Gathering -------------------------------------------------------------------------------- */

int footer_maker_init(struct footer_maker *maker, struct shard_world *world, uint32_t due)
{
    KHO_ASSERT(due >= 1 && due <= FOOTER_ENTRIES);
    *maker = (struct footer_maker){.world = world, .due = due};
    maker->entries = world_allocate(world, FOOTER_ENTRIES_MAX * sizeof *maker->entries, 0);
    maker->refs = world_allocate(world, FOOTERS_MAX * sizeof *maker->refs, 0);
    for (int i = 0; i < 2; i++)
        maker->order[i] = world_allocate(world, FOOTER_ENTRIES_MAX * sizeof(uint32_t), 0);
    maker->counters = world_allocate(world, DIGITS * sizeof *maker->counters, 0);
    bool ok = maker->entries != NULL && maker->refs != NULL && maker->order[0] != NULL &&
              maker->order[1] != NULL && maker->counters != NULL;
    return ok ? 0 : -ENOMEM;
}

void footer_maker_fini(struct footer_maker *maker)
{
    struct shard_world *world = maker->world;
    if (world == NULL)
        return;
    world_release(world, maker->entries, FOOTER_ENTRIES_MAX * sizeof *maker->entries);
    world_release(world, maker->refs, FOOTERS_MAX * sizeof *maker->refs);
    for (int i = 0; i < 2; i++)
        world_release(world, maker->order[i], FOOTER_ENTRIES_MAX * sizeof(uint32_t));
    world_release(world, maker->counters, DIGITS * sizeof *maker->counters);
    maker->world = NULL;
}

void footer_maker_reset(struct footer_maker *maker)
{
    footer_maker_skip(maker);
    maker->ref_count = 0;
}

void footer_maker_ref(struct footer_maker *maker, const struct footer_ref *ref)
{
    if (maker->ref_count < FOOTERS_MAX)
        maker->refs[maker->ref_count++] = *ref;
}

bool footer_maker_takes(const struct footer_maker *maker, uint64_t epoch, uint32_t records)
{
    return !maker->begun || (maker->epoch == epoch && records <= FOOTER_ENTRIES_MAX - maker->count);
}

void footer_maker_commit(struct footer_maker *maker, uint64_t offset, uint64_t sequence,
                         uint64_t epoch)
{
    if (maker->begun) {
        KHO_ASSERT(maker->epoch == epoch);
        return;
    }
    maker->begun = true;
    maker->from = offset;
    maker->first = sequence;
    maker->epoch = epoch;
}

void footer_maker_add(struct footer_maker *maker, const struct footer_entry *entry)
{
    KHO_ASSERT(maker->begun && maker->count < FOOTER_ENTRIES_MAX);
    maker->entries[maker->count++] = *entry;
}

void footer_maker_skip(struct footer_maker *maker)
{
    maker->count = 0;
    maker->begun = false;
}

bool footer_due(const struct footer_maker *maker, uint64_t position)
{
    return maker->begun && (maker->count >= maker->due || position - maker->from >= FOOTER_STRETCH);
}

/* --- Sorting ---------------------------------------------------------------------------------- */

enum digit { DIGIT_TAG_LOW, DIGIT_TAG_HIGH, DIGIT_COLLECTION, DIGIT_PARTITION };

static inline uint32_t digit_of(const struct footer_entry *e, enum digit digit)
{
    switch (digit) {
    case DIGIT_TAG_LOW:
        return (uint32_t)(e->tag.high >> (64 - 2 * DIGIT_BITS)) % DIGITS;
    case DIGIT_TAG_HIGH:
        return (uint32_t)(e->tag.high >> (64 - DIGIT_BITS));
    case DIGIT_COLLECTION:
        return e->collection % DIGITS;
    default:
        return e->partition % DIGITS;
    }
}

static void sort_pass(struct footer_maker *maker, enum digit digit)
{
    const uint32_t *from = maker->order[0];
    uint32_t *to = maker->order[1], *counters = maker->counters, sum = 0;
    memset(counters, 0, DIGITS * sizeof *counters);
    for (uint32_t i = 0; i < maker->count; i++)
        counters[digit_of(&maker->entries[i], digit)]++;
    for (uint32_t d = 0; d < DIGITS; d++) {
        uint32_t n = counters[d];
        counters[d] = sum;
        sum += n;
    }
    for (uint32_t i = 0; i < maker->count; i++)
        to[counters[digit_of(&maker->entries[from[i]], digit)]++] = from[i];
    maker->order[1] = maker->order[0];
    maker->order[0] = to;
}

static int entry_compare(const struct footer_entry *a, const struct footer_entry *b)
{
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    if (a->collection != b->collection)
        return a->collection < b->collection ? -1 : 1;
    return key_tag_compare(a->tag, b->tag);
}

static void entries_sort(struct footer_maker *maker)
{
    bool collections = false;
    for (uint32_t i = 0; i < maker->count; i++) {
        maker->order[0][i] = i;
        collections |= maker->entries[i].collection != maker->entries[0].collection;
    }
    sort_pass(maker, DIGIT_TAG_LOW);
    sort_pass(maker, DIGIT_TAG_HIGH);
    if (collections)
        sort_pass(maker, DIGIT_COLLECTION);
    sort_pass(maker, DIGIT_PARTITION);
    /* Nearly all is in order now: two keys that share 26 bits of their hash are rare. */
    uint32_t *order = maker->order[0];
    for (uint32_t i = 1; i < maker->count; i++) {
        uint32_t moved = order[i], to = i;
        const struct footer_entry *e = &maker->entries[moved];
        for (; to > 0 && entry_compare(&maker->entries[order[to - 1]], e) > 0; to--)
            order[to] = order[to - 1];
        order[to] = moved;
    }
}

/* --- Encoding --------------------------------------------------------------------------------- */

static inline uint64_t size_of(const struct footer_entry *e)
{
    return (uint64_t)e->value_bytes * 2 + e->tombstone;
}

/* The bytes that the values from 0 to `range` need. */
static uint8_t width_for(uint64_t range)
{
    return range == 0 ? 0 : (uint8_t)((71 - __builtin_clzll(range)) / 8);
}

static void widths_choose(const struct footer_maker *maker, struct footer_head *head)
{
    uint64_t low[4] = {UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX}, high[4] = {0};
    for (uint32_t i = 0; i < maker->count; i++) {
        const struct footer_entry *e = &maker->entries[i];
        const uint64_t values[4] = {e->version.counter, e->version.writer, size_of(e), e->place};
        for (int k = 0; k < 4; k++) {
            low[k] = kho_min(low[k], values[k]);
            high[k] = kho_max(high[k], values[k]);
        }
    }
    for (int k = 0; k < 4; k++) {
        if (maker->count == 0)
            low[k] = 0;
        head->widths[k] = width_for(high[k] - low[k]);
    }
    head->counter_base = low[0];
    head->writer_base = (uint32_t)low[1];
    head->size_base = (uint32_t)low[2];
    head->place_base = (uint32_t)low[3];
}

static uint8_t *refs_encode(const struct footer_maker *maker, uint8_t *to)
{
    for (uint32_t i = 0; i < maker->ref_count; i++, to += FOOTER_REF) {
        kho_store32(to, maker->refs[i].offset);
        kho_store32(to + 4, maker->refs[i].length);
        kho_store32(to + 8, maker->refs[i].from);
        kho_store32(to + 12, maker->refs[i].entries);
    }
    return to;
}

static uint8_t *runs_encode(const struct footer_maker *maker, uint8_t *to)
{
    uint32_t length = 0;
    for (uint32_t i = 0; i < maker->count; i += length, to += FOOTER_RUN) {
        const struct footer_entry *e = &maker->entries[maker->order[0][i]];
        for (length = 1; i + length < maker->count; length++) {
            const struct footer_entry *next = &maker->entries[maker->order[0][i + length]];
            if (next->partition != e->partition || next->collection != e->collection)
                break;
        }
        kho_store32(to, e->collection);
        kho_store16(to + 4, (uint16_t)e->partition);
        kho_store16(to + 6, (uint16_t)length);
    }
    return to;
}

/* Where the columns begin; ret_columns[FOOTER_COLUMNS] is the end of the body. */
static void columns_find(const uint8_t *start, const struct footer_head *head,
                         const uint8_t *ret_columns[FOOTER_COLUMNS + 1])
{
    for (int k = 0; k < FOOTER_COLUMNS; k++) {
        uint32_t width = k == TAG_HIGH ? 8 : k == TAG_LOW ? 1 : head->widths[k - FIXED];
        ret_columns[k] = start;
        start += (size_t)width * head->entries + FOOTER_SLACK;
    }
    ret_columns[FOOTER_COLUMNS] = start;
}

/* A value of `width` bytes is stored as 8: what it overwrites behind it is written next, or
 * slack. */
static void columns_encode(const struct footer_maker *maker, const struct footer_head *head,
                           uint8_t *start)
{
    const uint8_t *found[FOOTER_COLUMNS + 1];
    uint8_t *columns[FOOTER_COLUMNS];
    const uint8_t *w = head->widths;
    columns_find(start, head, found);
    for (int k = 0; k < FOOTER_COLUMNS; k++)
        columns[k] = start + (found[k] - start);
    for (size_t i = 0; i < head->entries; i++) {
        const struct footer_entry *e = &maker->entries[maker->order[0][i]];
        kho_store64(columns[TAG_HIGH] + 8 * i, e->tag.high);
        columns[TAG_LOW][i] = e->tag.low;
        kho_store64(columns[COUNTER] + w[0] * i, e->version.counter - head->counter_base);
        kho_store64(columns[WRITER] + w[1] * i, e->version.writer - head->writer_base);
        kho_store64(columns[SIZE] + w[2] * i, size_of(e) - head->size_base);
        kho_store64(columns[PLACE] + w[3] * i, e->place - head->place_base);
    }
    for (int k = 1; k <= FOOTER_COLUMNS; k++)
        memset(start + (found[k] - start) - FOOTER_SLACK, 0, FOOTER_SLACK);
}

static void head_encode(const struct footer_head *head, const struct identity *identity,
                        uint8_t *to)
{
    memset(to, 0, FOOTER_HEAD);
    unit_head_begin(to, FOOTER_MAGIC, head->segment, identity);
    kho_store32(to + AT_LENGTH, head->length);
    kho_store64(to + AT_OFFSET, head->offset);
    kho_store64(to + AT_FROM, head->from);
    kho_store64(to + AT_FIRST, head->first);
    kho_store64(to + AT_LAST, head->last);
    kho_store64(to + AT_EPOCH, head->epoch);
    kho_store32(to + AT_ENTRIES, head->entries);
    kho_store32(to + AT_RUNS, head->runs);
    kho_store32(to + AT_FOOTERS, head->footers);
    kho_store32(to + AT_BODY, head->body);
    memcpy(to + AT_WIDTHS, head->widths, sizeof head->widths);
    kho_store32(to + AT_WRITER_BASE, head->writer_base);
    kho_store64(to + AT_COUNTER_BASE, head->counter_base);
    kho_store32(to + AT_SIZE_BASE, head->size_base);
    kho_store32(to + AT_PLACE_BASE, head->place_base);
    memcpy(to + AT_PREDECESSOR, head->predecessor.bytes, 16);
    memcpy(to + AT_BODY_HASH, head->body_hash.bytes, 16);
    struct kho_id checksum = hash128(to, AT_CHECKSUM);
    memcpy(to + AT_CHECKSUM, checksum.bytes, 16);
}

void footer_encode(struct footer_maker *maker, const struct identity *identity, uint32_t alignment,
                   struct footer_head *head, uint8_t *to)
{
    const uint8_t *columns[FOOTER_COLUMNS + 1];
    KHO_ASSERT(maker->begun && maker->ref_count < FOOTERS_MAX);
    KHO_ASSERT(maker->from < head->offset && maker->first <= head->last);
    head->from = maker->from;
    head->first = maker->first;
    head->epoch = maker->epoch;
    head->entries = maker->count;
    head->footers = maker->ref_count;
    entries_sort(maker);
    widths_choose(maker, head);
    uint8_t *body = to + FOOTER_HEAD;
    uint8_t *runs = refs_encode(maker, body);
    uint8_t *start = runs_encode(maker, runs);
    head->runs = (uint32_t)(start - runs) / FOOTER_RUN;
    columns_find(start, head, columns);
    columns_encode(maker, head, start);
    head->body = (uint32_t)(columns[FOOTER_COLUMNS] - body);
    uint64_t end =
        segment_unit_end(head->offset, FOOTER_HEAD + (uint64_t)head->body, alignment, true);
    head->length = (uint32_t)(end - head->offset);
    KHO_ASSERT(head->length <= footer_bytes(maker->count, maker->ref_count, alignment));
    memset(body + head->body, 0, head->length - FOOTER_HEAD - head->body);
    head->body_hash = hash128(body, head->body);
    head_encode(head, identity, to);
    struct footer_ref ref = {.offset = (uint32_t)head->offset,
                             .length = head->length,
                             .from = (uint32_t)head->from,
                             .entries = head->entries};
    footer_maker_ref(maker, &ref);
    footer_maker_skip(maker);
}

/* --- Checking --------------------------------------------------------------------------------- */

static bool head_valid(const struct footer_head *h)
{
    for (int k = 0; k < 4; k++)
        if (h->widths[k] > WIDTHS_MAX[k])
            return false;
    return h->offset < SEGMENT_BYTES_MAX && h->offset % SECTOR == 0 && h->from < h->offset &&
           h->from % SECTOR == 0 && h->first >= 1 && h->first <= h->last && h->last <= RISING_MAX &&
           h->epoch <= RISING_MAX && h->entries <= FOOTER_ENTRIES_MAX && h->runs <= h->entries &&
           (h->runs > 0) == (h->entries > 0) && h->footers < FOOTERS_MAX &&
           h->length % SECTOR == 0 && h->length <= FOOTER_BYTES_MAX && h->body <= h->length &&
           h->length - h->body >= FOOTER_HEAD;
}

int footer_head_decode(const uint8_t *from, const struct identity *identity,
                       struct footer_head *ret_head)
{
    int error = unit_head_check(from, FOOTER_MAGIC, AT_CHECKSUM, FOOTER_FORMAT, identity);
    if (error != 0)
        return error;
    struct footer_head h = {
        .segment = kho_load64(from + 8),
        .length = kho_load32(from + AT_LENGTH),
        .offset = kho_load64(from + AT_OFFSET),
        .from = kho_load64(from + AT_FROM),
        .first = kho_load64(from + AT_FIRST),
        .last = kho_load64(from + AT_LAST),
        .epoch = kho_load64(from + AT_EPOCH),
        .entries = kho_load32(from + AT_ENTRIES),
        .runs = kho_load32(from + AT_RUNS),
        .footers = kho_load32(from + AT_FOOTERS),
        .body = kho_load32(from + AT_BODY),
        .writer_base = kho_load32(from + AT_WRITER_BASE),
        .counter_base = kho_load64(from + AT_COUNTER_BASE),
        .size_base = kho_load32(from + AT_SIZE_BASE),
        .place_base = kho_load32(from + AT_PLACE_BASE),
    };
    memcpy(h.widths, from + AT_WIDTHS, sizeof h.widths);
    memcpy(h.predecessor.bytes, from + AT_PREDECESSOR, 16);
    memcpy(h.body_hash.bytes, from + AT_BODY_HASH, 16);
    if (!head_valid(&h) || !all_zero(from + AT_RESERVED, AT_BODY_HASH - AT_RESERVED))
        return KHO_EMALFORMED;
    *ret_head = h;
    return 0;
}

static bool refs_valid(const struct footer *footer)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < footer->head.footers; i++) {
        struct footer_ref r = footer_ref_at(footer, i);
        if (r.from < end || r.offset <= r.from || r.length < FOOTER_HEAD ||
            r.length > FOOTER_BYTES_MAX)
            return false;
        end = (uint64_t)r.offset + r.length;
    }
    return end <= footer->head.from;
}

static inline uint64_t value_at(const struct footer *footer, int column, size_t i)
{
    int k = column - FIXED;
    return kho_load64(footer->columns[column] + footer->head.widths[k] * i) & footer->masks[k];
}

static bool entry_valid(const struct footer *footer, size_t i)
{
    const struct footer_head *h = &footer->head;
    uint64_t counter = value_at(footer, COUNTER, i) + h->counter_base;
    uint64_t size = value_at(footer, SIZE, i) + h->size_base;
    uint64_t place = value_at(footer, PLACE, i) + h->place_base;
    uint64_t offset = (place >> 6) * BLOCK_ALIGN;
    return counter >= 1 && counter <= KHO_COUNTER_MAX && counter >= h->counter_base &&
           value_at(footer, WRITER, i) + h->writer_base <= UINT32_MAX &&
           size / 2 <= KHO_VALUE_MAX && (size % 2 == 0 || size == 1) && place >> PLACE_BITS == 0 &&
           offset > h->from && offset < h->offset;
}

static struct key_tag tag_at(const struct footer *footer, size_t i)
{
    return (struct key_tag){.high = kho_load64(footer->columns[TAG_HIGH] + 8 * i),
                            .low = footer->columns[TAG_LOW][i]};
}

static bool runs_valid(const struct footer *footer)
{
    uint64_t before = 0;
    uint32_t at = 0;
    for (uint32_t r = 0; r < footer->head.runs; r++) {
        const uint8_t *run = footer->runs + (size_t)r * FOOTER_RUN;
        uint64_t table = (uint64_t)kho_load16(run + 4) << 32 | kho_load32(run);
        uint32_t count = kho_load16(run + 6);
        if ((r > 0 && table <= before) || kho_load16(run + 4) >= KHO_PARTITIONS_MAX || count == 0 ||
            count > footer->head.entries - at)
            return false;
        for (uint32_t i = 0; i < count; i++, at++)
            if (!entry_valid(footer, at) ||
                (i > 0 && key_tag_compare(tag_at(footer, at - 1), tag_at(footer, at)) > 0))
                return false;
        before = table;
    }
    return at == footer->head.entries;
}

static bool slack_valid(const uint8_t *const columns[FOOTER_COLUMNS + 1])
{
    for (int k = 1; k <= FOOTER_COLUMNS; k++)
        if (kho_load64(columns[k] - FOOTER_SLACK) != 0)
            return false;
    return true;
}

int footer_open(const uint8_t *bytes, const struct footer_head *head, struct footer *ret_footer)
{
    const uint8_t *columns[FOOTER_COLUMNS + 1];
    const uint8_t *body = bytes + FOOTER_HEAD;
    struct footer f = {.head = *head, .refs = body};
    uint64_t row = 9;
    for (int k = 0; k < 4; k++) {
        row += head->widths[k];
        f.masks[k] = head->widths[k] == 8 ? UINT64_MAX : (1ull << head->widths[k] * 8) - 1;
    }
    uint64_t needed = (uint64_t)head->footers * FOOTER_REF + (uint64_t)head->runs * FOOTER_RUN +
                      row * head->entries + (uint64_t)FOOTER_COLUMNS * FOOTER_SLACK;
    if (needed != head->body)
        return KHO_EMALFORMED;
    struct kho_id hash = hash128(body, head->body);
    if (!kho_id_equal(&hash, &head->body_hash))
        return KHO_ECHECKSUM;
    f.runs = body + (size_t)head->footers * FOOTER_REF;
    columns_find(f.runs + (size_t)head->runs * FOOTER_RUN, head, columns);
    memcpy(f.columns, columns, sizeof f.columns);
    if (!slack_valid(columns) || !refs_valid(&f) || !runs_valid(&f) ||
        !all_zero(body + head->body, head->length - FOOTER_HEAD - head->body))
        return KHO_EMALFORMED;
    *ret_footer = f;
    return 0;
}

struct footer_ref footer_ref_at(const struct footer *footer, uint32_t i)
{
    const uint8_t *ref = footer->refs + (size_t)i * FOOTER_REF;
    return (struct footer_ref){.offset = kho_load32(ref),
                               .length = kho_load32(ref + 4),
                               .from = kho_load32(ref + 8),
                               .entries = kho_load32(ref + 12)};
}

/* --- Walking ---------------------------------------------------------------------------------- */

void footer_begin(struct footer_cursor *cursor, const struct footer *footer)
{
    *cursor = (struct footer_cursor){.footer = footer};
}

/* The ends of a run's columns: where the run before it ended is in the cache already. */
static void run_prefetch(const struct footer_cursor *cursor)
{
    const struct footer *f = cursor->footer;
    size_t last = (size_t)cursor->at + cursor->left - 1;
    __builtin_prefetch(f->columns[TAG_HIGH] + 8 * last);
    __builtin_prefetch(f->columns[TAG_LOW] + last);
    for (int k = FIXED; k < FOOTER_COLUMNS; k++)
        __builtin_prefetch(f->columns[k] + f->head.widths[k - FIXED] * last);
}

bool footer_run(struct footer_cursor *cursor)
{
    if (cursor->run == cursor->footer->head.runs)
        return false;
    const uint8_t *run = cursor->footer->runs + (size_t)cursor->run++ * FOOTER_RUN;
    cursor->at += cursor->left;
    cursor->collection = kho_load32(run);
    cursor->partition = kho_load16(run + 4);
    cursor->left = kho_load16(run + 6);
    run_prefetch(cursor);
    return true;
}

void footer_take(struct footer_cursor *cursor, struct footer_entry *ret_entry)
{
    const struct footer *f = cursor->footer;
    size_t i = cursor->at++;
    KHO_ASSERT(cursor->left > 0);
    cursor->left--;
    uint64_t size = value_at(f, SIZE, i) + f->head.size_base;
    *ret_entry = (struct footer_entry){
        .collection = cursor->collection,
        .partition = cursor->partition,
        .tag = tag_at(f, i),
        .version = {.counter = value_at(f, COUNTER, i) + f->head.counter_base,
                    .writer = (uint32_t)value_at(f, WRITER, i) + f->head.writer_base},
        .value_bytes = (uint32_t)(size / 2),
        .place = (uint32_t)value_at(f, PLACE, i) + f->head.place_base,
        .tombstone = size % 2 != 0,
    };
}

bool footer_peek(const struct footer_cursor *cursor, uint32_t ahead, struct key_tag *ret_tag)
{
    if (ahead >= cursor->left)
        return false;
    *ret_tag = tag_at(cursor->footer, (size_t)cursor->at + ahead);
    return true;
}
