/* retire.c: takes a segment off the list, and its file out of the folder (retire.h).
 *
 * A file of full size is kept for the maker (depot.kept) where none is and the disk has room; where
 * the disk grows short, it is unlinked after all. Until the maker has it under another name, the
 * manifest calls it retired: a start removes it.
 *
 * Reads that began before the last record left the segment may still name it: they end before the
 * file is closed and the slot is used again. A file that can't be unlinked stays among the retired
 * ones for the next start; a folder that can't be synced is final (R4). */
#include "retire.h"

enum { STEP_IDLE, STEP_LISTED, STEP_CLOSE, STEP_UNLINK, STEP_FOLDER };

void retire_init(struct retire *retire, struct depot *depot, struct reader *reader)
{
    *retire = (struct retire){.depot = depot, .reader = reader};
}

int retire_start(struct retire *retire, uint32_t slot)
{
    struct depot *depot = retire->depot;
    const struct segment *segment = manifest_segment(&depot->manifest, slot);
    KHO_ASSERT(!retire_busy(retire) && segment->live_records == 0);
    retire->id = segment->id;
    retire->whole = segment->open && !segment->rewrite &&
                    segment->size == depot->options.segment_bytes &&
                    !manifest_has_damage(&depot->manifest, segment->id);
    int error = manifest_retire(&depot->manifest, slot);
    if (error != 0)
        return error;
    retire->step = STEP_LISTED;
    retire->slot = slot;
    retire->durable = false;
    retire->generation = depot->manifest.generation + 1;
    depot->manifest_dirty = true;
    return 0;
}

void retire_logged(struct retire *retire, uint64_t generation)
{
    if (retire->step == STEP_LISTED && retire->generation <= generation)
        retire->durable = true;
}

static void push(struct retire *retire, uint8_t step, enum op_kind kind)
{
    retire->step = step;
    retire->op = (struct op){.file = depot_segment_file(retire->slot),
                             .conn = -1,
                             .name = {.kind = FILE_SEGMENT, .id = retire->id}};
    depot_push(retire->depot, &retire->op, kind, PURPOSE_RETIRE, retire);
}

static bool worth_keeping(const struct retire *retire)
{
    const struct depot *depot = retire->depot;
    return retire->whole && depot->kept == 0 && !depot->recycling_fails && !depot->read_only &&
           !depot_short(depot);
}

/* Nothing names the slot any more. True: it has ended. */
static bool file_end(struct retire *retire)
{
    manifest_free_slot(&retire->depot->manifest, retire->slot);
    retire->segments++;
    if (!worth_keeping(retire)) {
        push(retire, STEP_UNLINK, OP_UNLINK);
        return false;
    }
    retire->depot->kept = retire->id;
    retire->step = STEP_IDLE;
    return true;
}

static void kept_push(struct retire *retire, uint8_t step, enum op_kind kind)
{
    retire->kept_step = step;
    retire->kept_op =
        (struct op){.file = -1, .conn = -1, .name = {.kind = FILE_SEGMENT, .id = retire->kept_id}};
    depot_push(retire->depot, &retire->kept_op, kind, PURPOSE_RETIRE, retire);
}

/* What was kept goes where the disk is short, or it can't be used. */
static void kept_drop(struct retire *retire)
{
    struct depot *depot = retire->depot;
    bool unwanted = depot_short(depot) || depot->recycling_fails;
    if (depot->kept == 0 || depot->read_only || !unwanted || retire->kept_step != STEP_IDLE)
        return;
    retire->kept_id = depot->kept;
    depot->kept = 0;
    kept_push(retire, STEP_UNLINK, OP_UNLINK);
}

void retire_turn(struct retire *retire)
{
    struct reader *reader = retire->reader;
    kept_drop(retire);
    if (retire->step != STEP_LISTED || (!retire->durable && !KHO_PLANTED(retired_unlogged)) ||
        reader_names(reader, retire->slot))
        return;
    struct segment *segment = manifest_segment(&retire->depot->manifest, retire->slot);
    if (segment->users > 0)
        return;
    /* The last reads that named it may have found damage after it left the list. */
    retire->whole = retire->whole && !segment->rewrite;
    cache_forget_segment(reader->cache, retire->slot);
    if (segment->open) {
        segment->open = false;
        push(retire, STEP_CLOSE, OP_CLOSE_FILE);
    } else {
        file_end(retire);
    }
}

static void unlink_failed(struct retire *retire, uint64_t id, int result)
{
    char text[96];
    world_event(retire->depot->world, EVENT_WARNING,
                "segment-%016llx isn't needed any more but can't be removed: %s; the next start "
                "tries again",
                (unsigned long long)id, depot_error_text(result, text, sizeof text));
}

static void folder_synced(struct retire *retire, uint64_t id, int result)
{
    struct depot *depot = retire->depot;
    if (result == 0)
        manifest_retired_gone(&depot->manifest, id);
    else if (!depot->read_only)
        depot_fail(depot, "syncing the folder without", id, 0, result);
}

static bool kept_completed(struct retire *retire, int result)
{
    if (retire->kept_step == STEP_UNLINK && (result == 0 || result == -ENOENT)) {
        kept_push(retire, STEP_FOLDER, OP_SYNC_FOLDER);
        return false;
    }
    if (retire->kept_step == STEP_UNLINK)
        unlink_failed(retire, retire->kept_id, result);
    else
        folder_synced(retire, retire->kept_id, result);
    retire->kept_step = STEP_IDLE;
    return true;
}

bool retire_completed(struct retire *retire, struct op *op)
{
    int result = op->result;
    if (op == &retire->kept_op)
        return kept_completed(retire, result);
    KHO_ASSERT(op == &retire->op);
    switch (retire->step) {
    case STEP_CLOSE:
        return file_end(retire);
    case STEP_UNLINK:
        if (result == 0 || result == -ENOENT) {
            push(retire, STEP_FOLDER, OP_SYNC_FOLDER);
            return false;
        }
        unlink_failed(retire, retire->id, result);
        break;
    default:
        KHO_ASSERT(retire->step == STEP_FOLDER);
        folder_synced(retire, retire->id, result);
    }
    retire->step = STEP_IDLE;
    return true;
}
