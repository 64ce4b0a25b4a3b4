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

/* What was kept goes where the disk is short. */
static void kept_drop(struct retire *retire)
{
    struct depot *depot = retire->depot;
    if (depot->kept == 0 || depot->read_only || !depot_short(depot))
        return;
    retire->id = depot->kept;
    depot->kept = 0;
    push(retire, STEP_UNLINK, OP_UNLINK);
}

void retire_turn(struct retire *retire)
{
    struct reader *reader = retire->reader;
    if (retire->step == STEP_IDLE)
        kept_drop(retire);
    if (retire->step != STEP_LISTED || !retire->durable || reader_names(reader, retire->slot))
        return;
    struct segment *segment = manifest_segment(&retire->depot->manifest, retire->slot);
    if (segment->users > 0)
        return;
    cache_forget_segment(reader->cache, retire->slot);
    retire->whole =
        segment->open && !segment->rewrite && segment->size == retire->depot->options.segment_bytes;
    if (segment->open) {
        segment->open = false;
        push(retire, STEP_CLOSE, OP_CLOSE_FILE);
    } else {
        file_end(retire);
    }
}

bool retire_completed(struct retire *retire, struct op *op)
{
    struct depot *depot = retire->depot;
    char text[96];
    int result = op->result;
    KHO_ASSERT(op == &retire->op);
    switch (retire->step) {
    case STEP_CLOSE:
        return file_end(retire);
    case STEP_UNLINK:
        if (result == 0 || result == -ENOENT) {
            push(retire, STEP_FOLDER, OP_SYNC_FOLDER);
            return false;
        }
        world_event(depot->world, EVENT_WARNING,
                    "segment-%016llx isn't needed any more but can't be removed: %s; the next "
                    "start tries again",
                    (unsigned long long)retire->id, depot_error_text(result, text, sizeof text));
        break;
    default:
        KHO_ASSERT(retire->step == STEP_FOLDER);
        if (result == 0)
            manifest_retired_gone(&depot->manifest, retire->id);
        else if (!depot->read_only)
            depot_fail(depot, "syncing the folder without", retire->id, 0, result);
    }
    retire->step = STEP_IDLE;
    return true;
}
