/* restore.c: reads the footers of a segment, many at once, and merges them into the index
 * (restore.h).
 *
 *     list    the last footer alone: it says where the others are
 *     loads   all of them, in order, as far as memory allows; once half of that is there, it enters
 *             the index and makes room for more
 *
 * The merge looks for the lowest table that any footer at hand has entries of, and takes them from
 * all of these, in the order of the log. Entries wait in a short queue between being fetched
 * towards the cache and being put. */
#include "restore.h"

#include "live.h"

enum { PHASE_LIST, PHASE_LOADS, PHASE_DONE };
enum { LOAD_READING, LOAD_READY };

int restore_init(struct restore *restore, struct depot *depot, struct enter *enter)
{
    *restore = (struct restore){.depot = depot, .enter = enter, .phase = PHASE_DONE};
    restore->marks = world_allocate(depot->world, FOOTERS_MAX * sizeof *restore->marks, 0);
    return restore->marks != NULL ? 0 : -ENOMEM;
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
    uint8_t *buffer = world_allocate(depot->world, to - from, alignment);
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

static int put_first(struct restore *restore)
{
    const struct footer_entry *e = &restore->ahead[restore->ahead_at];
    struct index_entry entry = {.tag = e->tag,
                                .version = e->version,
                                .tombstone = e->tombstone,
                                .place = place_in_slot(restore->slot, e->place),
                                .value_bytes = e->value_bytes};
    uint64_t epoch = restore->ahead_epoch[restore->ahead_at];
    live_found(&restore->depot->manifest, entry.place, entry.value_bytes);
    if (enter_damaged(restore->enter, place_offset(entry.place)))
        entry.place = PLACE_UNKNOWN;
    restore->ahead_at = (restore->ahead_at + 1) % RESTORE_AHEAD;
    restore->ahead_count--;
    return enter_record(restore->enter, e->collection, e->partition, &entry, epoch);
}

/* Puts an entry, later: what the index will touch for it is fetched meanwhile. */
static int put_later(struct restore *restore, struct footer_cursor *cursor)
{
    int error = restore->ahead_count == RESTORE_AHEAD ? put_first(restore) : 0;
    uint32_t at = (restore->ahead_at + restore->ahead_count) % RESTORE_AHEAD;
    struct footer_entry *e = &restore->ahead[at];
    footer_take(cursor, e);
    restore->ahead_epoch[at] = cursor->footer->head.epoch;
    restore->ahead_count++;
    index_prefetch(restore->depot->index, e->collection, e->partition, e->tag, 1);
    return error;
}

static uint64_t table_of(const struct footer_cursor *cursor)
{
    return (uint64_t)cursor->partition << 32 | cursor->collection;
}

/* Enters what the first `count` loads have of the lowest table. 1: done; 0: no more; or an
 * error. */
static int table_merge(struct restore *restore, uint32_t count)
{
    uint64_t table = UINT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        const struct footer_cursor *cursor = &load_at(restore, i)->cursor;
        if (cursor->footer != NULL && table_of(cursor) < table)
            table = table_of(cursor);
    }
    if (table == UINT64_MAX)
        return 0;
    for (uint32_t i = 0; i < count; i++) {
        struct footer_cursor *cursor = &load_at(restore, i)->cursor;
        if (cursor->footer == NULL || table_of(cursor) != table)
            continue;
        while (cursor->left > 0) {
            int error = put_later(restore, cursor);
            if (error != 0)
                return error;
        }
        if (!footer_run(cursor))
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
    while (state == 0 && restore->ahead_count > 0)
        state = put_first(restore);
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
