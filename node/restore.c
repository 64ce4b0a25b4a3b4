/* restore.c: reads the footers of a segment, many at once, and merges them into the index
 * (restore.h).
 *
 *     list    the last footer alone: it says where the others are
 *     loads   all of them, in order, as far as memory allows; once half of that is there, it enters
 *             the index and makes room for more
 *
 * The merge looks for the lowest table that any footer at hand has entries of, and takes them from
 * all of these. What is more than can be gathered at once is taken by ranges of tags: as many as
 * leave half of that to each, on average. */
#include "restore.h"

#include "live.h"

enum { PHASE_LIST, PHASE_LOADS, PHASE_DONE };
enum { LOAD_READING, LOAD_READY };

int restore_init(struct restore *restore, struct depot *depot, struct enter *enter)
{
    *restore = (struct restore){.depot = depot, .enter = enter, .phase = PHASE_DONE};
    restore->marks = world_allocate(depot->world, FOOTERS_MAX * sizeof *restore->marks, 0);
    int error = gather_init(&restore->gather, depot->world);
    return restore->marks != NULL ? error : -ENOMEM;
}

static struct restore_load *load_at(struct restore *restore, uint32_t i)
{
    return &restore->loads[(restore->first_load + i) % RESTORE_LOADS];
}

static void load_release(struct restore *restore)
{
    struct restore_load *load = load_at(restore, 0);
    world_release(restore->depot->world, load->buffer, load->bytes);
    restore->held -= load->bytes;
    load->buffer = NULL;
    restore->first_load = (restore->first_load + 1) % RESTORE_LOADS;
    restore->load_count--;
}

void restore_fini(struct restore *restore)
{
    if (restore->depot == NULL)
        return;
    while (restore->load_count > 0)
        load_release(restore);
    gather_fini(&restore->gather);
    world_release(restore->depot->world, restore->marks, FOOTERS_MAX * sizeof *restore->marks);
    restore->depot = NULL;
}

static const struct segment *segment_of(const struct restore *restore)
{
    return manifest_segment(&restore->depot->manifest, restore->slot);
}

void restore_start(struct restore *restore, uint32_t slot, uint32_t offset, uint32_t length,
                   uint64_t limit)
{
    KHO_ASSERT(restore->load_count == 0 && restore->reading == 0);
    restore->slot = slot;
    restore->limit = limit;
    restore->phase = length > 0 ? PHASE_LIST : PHASE_DONE;
    restore->mark_count = length > 0;
    restore->next = 0;
    restore->marks[0] = (struct restore_mark){.offset = offset, .end = offset + (uint64_t)length};
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* Starts the read of one more footer. False: no memory. */
static bool load_start(struct restore *restore)
{
    const struct depot *depot = restore->depot;
    const struct restore_mark *mark = &restore->marks[restore->next];
    uint32_t alignment = depot->options.alignment;
    uint64_t from = mark->offset & ~(alignment - 1ull);
    uint64_t to = kho_round_up(mark->end, alignment);
    struct restore_load *load = load_at(restore, restore->load_count);
    uint8_t *buffer = world_allocate(depot->world, to - from, depot_page(depot));
    if (buffer == NULL)
        return false;
    *load = (struct restore_load){.mark = restore->next++,
                                  .state = LOAD_READING,
                                  .buffer = buffer,
                                  .bytes = (uint32_t)(to - from)};
    restore->load_count++;
    restore->held += load->bytes;
    restore->reading++;
    load->op = (struct op){.file = segment_of(restore)->file,
                           .conn = -1,
                           .offset = from,
                           .data = load->buffer,
                           .len = load->bytes};
    depot_push(restore->depot, &load->op, OP_READ, PURPOSE_RESTORE, restore);
    return true;
}

/* -ENOMEM: there isn't room for one. */
static int loads_start(struct restore *restore)
{
    while (restore->next < restore->mark_count && restore->load_count < RESTORE_LOADS) {
        const struct restore_mark *mark = &restore->marks[restore->next];
        if (restore->load_count > 0 && restore->held + (mark->end - mark->offset) > RESTORE_BYTES)
            break;
        if (!load_start(restore))
            return restore->load_count > 0 ? 0 : -ENOMEM;
    }
    return 0;
}

void restore_completed(struct restore *restore, struct op *op)
{
    struct restore_load *load = KHO_CONTAINER_OF(op, struct restore_load, op);
    KHO_ASSERT(load->state == LOAD_READING && restore->reading > 0);
    restore->reading--;
    restore->bytes_read += op->len;
    load->state = LOAD_READY;
}

/* --- Checking --------------------------------------------------------------------------------- */

/* True if all entries are of partitions that the map has. */
static bool partitions_valid(const struct depot *depot, const struct footer *footer)
{
    struct footer_cursor cursor;
    footer_begin(&cursor, footer);
    while (footer_run(&cursor))
        if (cursor.partition >= depot->map.partitions)
            return false;
    return true;
}

/* Checks what was read where a footer should be, and opens it. */
static bool load_open(const struct restore *restore, struct restore_load *load)
{
    const struct depot *depot = restore->depot;
    const struct restore_mark *mark = &restore->marks[load->mark];
    const uint8_t *bytes = load->buffer + (mark->offset - load->op.offset);
    struct footer_head head;
    if (load->op.result < 0 || (uint32_t)load->op.result < load->bytes ||
        mark->end - mark->offset < FOOTER_HEAD)
        return false;
    return footer_head_decode(bytes, &depot->manifest.identity, &head) == 0 &&
           head.segment == segment_of(restore)->id && head.offset == mark->offset &&
           head.length == mark->end - mark->offset && mark->end <= restore->limit &&
           footer_open(bytes, &head, &load->footer) == 0 && partitions_valid(depot, &load->footer);
}

/* The last footer is there: fills the marks. */
static void list_take(struct restore *restore)
{
    struct restore_load *load = load_at(restore, 0);
    restore->next = 0;
    restore->mark_count = 0;
    if (load_open(restore, load)) {
        uint32_t footers = load->footer.head.footers;
        for (uint32_t i = 0; i <= footers; i++) {
            struct footer_ref ref = {.offset = (uint32_t)load->footer.head.offset,
                                     .length = load->footer.head.length,
                                     .from = (uint32_t)load->footer.head.from};
            if (i < footers)
                ref = footer_ref_at(&load->footer, i);
            restore->marks[i] = (struct restore_mark){
                .from = ref.from, .offset = ref.offset, .end = (uint64_t)ref.offset + ref.length};
        }
        restore->mark_count = footers + 1;
    }
    load_release(restore);
}

/* --- Merging ---------------------------------------------------------------------------------- */

static uint64_t table_of(const struct footer_cursor *cursor)
{
    return (uint64_t)cursor->partition << 32 | cursor->collection;
}

/* The lowest table that the first `count` loads have entries of, and how many. UINT64_MAX: none. */
static uint64_t table_lowest(struct restore *restore, uint32_t count, uint32_t *ret_entries)
{
    uint64_t lowest = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct footer_cursor *cursor = &load_at(restore, i)->cursor;
        if (cursor->footer == NULL || table_of(cursor) > lowest)
            continue;
        if (table_of(cursor) < lowest)
            *ret_entries = 0;
        lowest = table_of(cursor);
        *ret_entries += cursor->left;
    }
    return lowest;
}

/* Puts what was gathered, whose tags share their first bits. */
static int gathered_put(struct restore *restore, uint64_t table, uint32_t shared)
{
    uint32_t count;
    if (restore->gather.count == 0)
        return 0;
    const struct index_entry *entries = gather_sort(&restore->gather, shared, &count);
    return enter_table(restore->enter, (uint32_t)table, (uint32_t)(table >> 32), entries, count);
}

/* Takes a footer's next entry, and gathers it if it counts. */
static void gathered_add(struct restore *restore, struct footer_cursor *cursor)
{
    struct footer_entry e;
    footer_take(cursor, &e);
    uint64_t place = place_in_slot(restore->slot, e.place);
    live_found(&restore->depot->manifest, place, e.value_bytes);
    restore->enter->records++;
    if (!enter_counts(restore->enter, e.partition, cursor->footer->head.epoch) ||
        (KHO_PLANTED(deletes_not_restored) && e.tombstone))
        return;
    bool damaged = enter_damaged(restore->enter, place_offset(place));
    *gather_next(&restore->gather) = (struct index_entry){.tag = e.tag,
                                                          .version = e.version,
                                                          .tombstone = e.tombstone,
                                                          .place = damaged ? PLACE_UNKNOWN : place,
                                                          .value_bytes = e.value_bytes};
}

/* A range of tags, by their first bits. */
struct range {
    uint32_t bits;
    uint64_t value;
};

static bool range_has(const struct range *range, const struct footer_cursor *cursor)
{
    struct key_tag tag;
    return footer_peek(cursor, 0, &tag) &&
           (range->bits == 0 || tag.high >> (64 - range->bits) == range->value);
}

/* Enters what the first `count` loads have of a range of a table. */
static int range_merge(struct restore *restore, uint32_t count, uint64_t table,
                       const struct range *range)
{
    for (uint32_t i = 0; i < count; i++) {
        struct footer_cursor *cursor = &load_at(restore, i)->cursor;
        if (cursor->footer == NULL || table_of(cursor) != table)
            continue;
        while (range_has(range, cursor)) {
            gathered_add(restore, cursor);
            if (restore->gather.count < GATHER_ENTRIES)
                continue;
            int error = gathered_put(restore, table, range->bits);
            if (error != 0)
                return error;
        }
    }
    return gathered_put(restore, table, range->bits);
}

/* Enters what the first `count` loads have of the lowest table. 1: done; 0: no more; or an
 * error. */
static int table_merge(struct restore *restore, uint32_t count)
{
    uint32_t entries = 0;
    uint64_t table = table_lowest(restore, count, &entries);
    struct range range = {0};
    if (table == UINT64_MAX)
        return 0;
    if (entries > GATHER_ENTRIES)
        while (entries >> range.bits > GATHER_ENTRIES / 2)
            range.bits++;
    for (; range.value < 1u << range.bits; range.value++) {
        int error = range_merge(restore, count, table, &range);
        if (error != 0)
            return error;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct footer_cursor *cursor = &load_at(restore, i)->cursor;
        if (cursor->footer != NULL && table_of(cursor) == table && !footer_run(cursor))
            cursor->footer = NULL;
    }
    return 1;
}

/* Enters the first `count` loads into the index. */
static int loads_merge(struct restore *restore, uint32_t count)
{
    struct segment *segment = manifest_segment(&restore->depot->manifest, restore->slot);
    for (uint32_t i = 0; i < count; i++) {
        struct restore_load *load = load_at(restore, i);
        struct restore_mark *mark = &restore->marks[load->mark];
        const struct footer_head *head = &load->footer.head;
        mark->good = load_open(restore, load) && head->from == mark->from;
        load->cursor.footer = NULL;
        if (!mark->good)
            continue;
        mark->first = head->first;
        mark->last = head->last;
        mark->predecessor = head->predecessor;
        if (!segment->sealed)
            segment->stored += mark->offset - mark->from;
        mark->entries = head->entries;
        footer_begin(&load->cursor, &load->footer);
        if (!footer_run(&load->cursor))
            load->cursor.footer = NULL;
    }
    int state = 1;
    while (state == 1)
        state = table_merge(restore, count);
    for (uint32_t i = 0; i < count; i++)
        load_release(restore);
    return state;
}

/* How many of the first loads are there: as many as are worth a merge, or 0: wait. */
static uint32_t loads_there(struct restore *restore)
{
    uint64_t bytes = 0;
    uint32_t i = 0;
    while (i < restore->load_count && load_at(restore, i)->state == LOAD_READY)
        bytes += load_at(restore, i++)->bytes;
    bool enough = bytes >= RESTORE_BYTES / 2 || i >= RESTORE_LOADS / 2;
    return enough || i == restore->load_count ? i : 0;
}

int restore_run(struct restore *restore)
{
    while (restore->phase != PHASE_DONE) {
        int error = loads_start(restore);
        if (error != 0)
            return error;
        uint32_t count = loads_there(restore);
        if (restore->load_count == 0) {
            restore->phase = PHASE_DONE;
        } else if (count == 0) {
            return 1;
        } else if (restore->phase == PHASE_LIST) {
            list_take(restore);
            restore->phase = PHASE_LOADS;
        } else if ((error = loads_merge(restore, count)) != 0) {
            return error;
        }
    }
    return 0;
}
