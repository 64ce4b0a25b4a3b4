/* maker.c: makes the next segment, one step after the other (maker.h).
 *
 * No room on the disk (ENOSPC at any step) removes the temporary file again and sets
 * depot.no_space: the log refuses what has no place before anything is taken, and store.c tries
 * again when the disk has room. Any other failure of a write or sync is final for the shard (R4).
 */
#include "maker.h"

enum {
    STEP_IDLE,
    STEP_TAKE,
    STEP_OPEN,
    STEP_ALLOCATE,
    STEP_ZERO,
    STEP_HEAD,
    STEP_SYNC,
    STEP_RENAME,
    STEP_FOLDER,
    STEP_CLOSE,
    STEP_UNLINK
};

void maker_init(struct maker *maker, struct depot *depot)
{
    *maker = (struct maker){
        .depot = depot,
    };
}

static void buffer_release(struct maker *maker)
{
    world_release(maker->depot->world, maker->buffer, MAKER_CHUNK);
    maker->buffer = NULL;
}

void maker_fini(struct maker *maker)
{
    if (maker->depot != NULL)
        buffer_release(maker);
}

static void push(struct maker *maker, uint8_t step, enum op_kind kind)
{
    struct op *op = &maker->op;
    bool final = step == STEP_FOLDER;
    *op = (struct op){
        .file = maker->file,
        .conn = -1,
        .name = {.kind = FILE_SEGMENT, .temporary = !final, .id = maker->id},
        .target = {.kind = FILE_SEGMENT, .temporary = step == STEP_TAKE, .id = maker->id},
    };
    maker->step = step;
    if (step == STEP_TAKE)
        op->name = (struct file_name){.kind = FILE_SEGMENT, .id = maker->recycled};
    if (kind == OP_OPEN)
        op->flags = OP_OPEN_DIRECT | (maker->recycled == 0 ? OP_OPEN_CREATE : 0);
    if (kind == OP_WRITE) {
        op->data = maker->buffer;
        op->len = MAKER_CHUNK;
        op->offset = maker->zeroed;
    }
    if (step == STEP_ALLOCATE) {
        uint64_t size = maker->depot->options.segment_bytes;
        KHO_ASSERT(size <= UINT32_MAX);
        op->len = (uint32_t)size;
        op->flags =
            maker->recycled != 0 && !KHO_PLANTED(recycled_not_zeroed) ? OP_ALLOCATE_ZEROS : 0;
    }
    depot_push(maker->depot, op, kind, PURPOSE_MAKE, maker);
}

void maker_start(struct maker *maker)
{
    struct depot *depot = maker->depot;
    KHO_ASSERT(!maker_busy(maker) && !maker->made);
    maker->buffer = world_allocate(depot->world, MAKER_CHUNK, depot_page(depot));
    if (maker->buffer == NULL)
        return;
    if (manifest_take_slot(&depot->manifest, &maker->slot) != 0) {
        buffer_release(maker);
        return;
    }
    memset(maker->buffer, 0, MAKER_CHUNK);
    maker->id = depot->manifest.next_segment++;
    maker->file = depot_segment_file(maker->slot);
    maker->zeroed = 0;
    maker->zeros_wanted = MAKER_CHUNK;
    maker->hurry = false;
    maker->waiting = false;
    maker->error = 0;
    maker->recycled = depot->recycling_fails ? 0 : depot->kept;
    if (maker->recycled != 0)
        depot->kept = 0;
    if (maker->recycled != 0)
        push(maker, STEP_TAKE, OP_RENAME);
    else
        push(maker, STEP_OPEN, OP_OPEN);
}

/* Nothing was made. */
static void end(struct maker *maker)
{
    buffer_release(maker);
    manifest_free_slot(&maker->depot->manifest, maker->slot);
    maker->step = STEP_IDLE;
}

/* The retired file can't be had: if it is there it is given up, and a fresh one is made. */
static void take_fail(struct maker *maker, int error)
{
    struct depot *depot = maker->depot;
    char text[96];
    if (error != 0)
        world_event(depot->world, EVENT_WARNING,
                    "segment-%016llx can't be used again: %s; a new one is made",
                    (unsigned long long)maker->recycled,
                    depot_error_text(error, text, sizeof text));
    if (error != 0 && error != -ENOENT && depot->kept == 0) {
        depot->kept = maker->recycled;
        depot->recycling_fails = true;
    }
    end(maker);
}

/* Making zeros of a file is a help that not every file system gives: only the errors that would
 * meet a fresh file as well count. */
static bool zeros_unknown(int error)
{
    return error != 0 && error != -EIO && error != -ENOSPC && error != -EDQUOT;
}

/* Ends an attempt: closes the handle if it was opened, then removes the file. */
static void abandon(struct maker *maker, int error)
{
    struct depot *depot = maker->depot;
    uint8_t step = maker->step;
    maker->error = error;
    if (step == STEP_TAKE) {
        take_fail(maker, error);
        return;
    }
    if (step == STEP_ALLOCATE && maker->recycled != 0 && zeros_unknown(error)) {
        depot->recycling_fails = true;
        error = 0;
    }
    if (error == -ENOSPC || error == -EDQUOT) {
        if (!depot->space_told)
            world_event(depot->world, EVENT_WARNING,
                        "no room for segment-%016llx of %llu bytes: writes are refused until the "
                        "disk has room",
                        (unsigned long long)maker->id,
                        (unsigned long long)depot->options.segment_bytes);
        depot->no_space = true;
        depot->space_told = true;
    } else if (error != 0 && !depot->read_only) {
        depot_fail(depot, "making", maker->id, maker->zeroed, error);
    }
    if (step == STEP_OPEN) {
        end(maker);
        return;
    }
    push(maker, STEP_CLOSE, OP_CLOSE_FILE);
}

static void head_write(struct maker *maker, struct kho_now now)
{
    struct depot *depot = maker->depot;
    struct segment_head head = {.segment = maker->id,
                                .size = depot->options.segment_bytes,
                                .created_ms = now.wall_ms,
                                .alignment = depot->options.alignment};
    maker->zeroed = 0;
    segment_head_encode(&head, &depot->manifest.identity, maker->buffer);
    push(maker, STEP_HEAD, OP_WRITE);
}

/* The next chunk of zeros, or what comes behind the last one, or a pause. */
static void zero_next(struct maker *maker, struct kho_now now)
{
    maker->waiting = false;
    if ((KHO_PLANTED(recycled_not_zeroed) && maker->recycled != 0) || maker->hurry ||
        maker->zeroed >= maker->depot->options.segment_bytes)
        head_write(maker, now);
    else if (maker->zeroed < maker->zeros_wanted)
        push(maker, STEP_ZERO, OP_WRITE);
    else
        maker->waiting = true;
}

void maker_pace(struct maker *maker, uint64_t zeros_wanted, bool hurry, struct kho_now now)
{
    maker->zeros_wanted = zeros_wanted;
    maker->hurry = maker->hurry || hurry;
    if (maker->waiting)
        zero_next(maker, now);
}

static void step_after_close(struct maker *maker)
{
    if (maker->step == STEP_CLOSE && !maker->stopping) {
        push(maker, STEP_UNLINK, OP_UNLINK);
        return;
    }
    end(maker);
}

static void made(struct maker *maker, struct kho_now now, struct segment *ret_segment)
{
    struct depot *depot = maker->depot;
    buffer_release(maker);
    maker->step = STEP_IDLE;
    if (maker->recycled != 0)
        manifest_retired_gone(&depot->manifest, maker->recycled);
    maker->recycled_segments += maker->recycled != 0;
    *ret_segment = (struct segment){
        .id = maker->id,
        .size = depot->options.segment_bytes,
        .alignment = depot->options.alignment,
        .end = segment_start(depot->options.alignment),
        .checked_ms = now.wall_ms,
        .file = maker->file,
        .open = true,
    };
}

bool maker_completed(struct maker *maker, struct op *op, struct kho_now now,
                     struct segment *ret_segment)
{
    KHO_ASSERT(op == &maker->op && maker_busy(maker));
    if (maker->step == STEP_CLOSE || maker->step == STEP_UNLINK) {
        step_after_close(maker);
        return false;
    }
    int error = op->result < 0 ? op->result : 0;
    if (error == 0 && op->kind == OP_WRITE && (uint32_t)op->result != op->len)
        error = -EIO;
    if (error != 0 || maker->stopping) {
        abandon(maker, error);
        return false;
    }
    switch (maker->step) {
    case STEP_TAKE:
        push(maker, STEP_OPEN, OP_OPEN);
        return false;
    case STEP_OPEN:
        push(maker, STEP_ALLOCATE, OP_ALLOCATE);
        return false;
    case STEP_ALLOCATE:
        push(maker, STEP_ZERO, OP_WRITE);
        return false;
    case STEP_ZERO:
        maker->zeroed += MAKER_CHUNK;
        maker->zeroed_bytes += MAKER_CHUNK;
        zero_next(maker, now);
        return false;
    case STEP_HEAD:
        push(maker, STEP_SYNC, OP_SYNC);
        return false;
    case STEP_SYNC:
        push(maker, STEP_RENAME, OP_RENAME);
        return false;
    case STEP_RENAME:
        push(maker, STEP_FOLDER, OP_SYNC_FOLDER);
        return false;
    default:
        KHO_ASSERT(maker->step == STEP_FOLDER);
    }
    made(maker, now, ret_segment);
    return true;
}

void maker_stop(struct maker *maker)
{
    maker->stopping = true;
    if (maker->waiting) {
        maker->waiting = false;
        abandon(maker, 0);
    }
}
