/* replace.c: replaces the manifest or the map whole (replace.h).
 *
 * open FILE.new, write, sync, rename over FILE, close, sync the folder: each step begins when the
 * one before has completed. A failure closes the handle and ends it; what it left behind is removed
 * at the next start. */
#include "replace.h"

enum { STEP_IDLE, STEP_OPEN, STEP_WRITE, STEP_SYNC, STEP_RENAME, STEP_CLOSE, STEP_FOLDER };

void replace_init(struct replace *replace, struct depot *depot, enum file_kind kind, int32_t file)
{
    *replace = (struct replace){
        .depot = depot, .name = {.kind = (uint8_t)kind, .temporary = true}, .file = file};
}

void replace_fini(struct replace *replace)
{
    if (replace->depot == NULL)
        return;
    world_release(replace->depot->world, replace->buffer, replace->buffer_bytes);
    replace->buffer = NULL;
    replace->buffer_bytes = 0;
}

uint8_t *replace_prepare(struct replace *replace, size_t length)
{
    struct depot *depot = replace->depot;
    size_t padded = kho_round_up(length, depot->options.alignment);
    KHO_ASSERT(!replace_busy(replace));
    if (padded > replace->buffer_bytes) {
        uint8_t *buffer = world_allocate(depot->world, padded, depot->options.alignment);
        if (buffer == NULL)
            return NULL;
        replace_fini(replace);
        replace->buffer = buffer;
        replace->buffer_bytes = padded;
    }
    memset(replace->buffer + length, 0, padded - length);
    replace->length = padded;
    return replace->buffer;
}

static void push(struct replace *replace, uint8_t step, enum op_kind kind)
{
    struct op *op = &replace->op;
    *op = (struct op){.file = replace->file, .conn = -1, .name = replace->name};
    replace->step = step;
    if (kind == OP_OPEN)
        op->flags = OP_OPEN_CREATE;
    if (kind == OP_RENAME) {
        op->target = replace->name;
        op->target.temporary = false;
    }
    if (kind == OP_WRITE) {
        op->data = replace->buffer;
        op->len = (uint32_t)replace->length;
    }
    depot_push(replace->depot, op, kind, PURPOSE_REPLACE, replace);
}

void replace_start(struct replace *replace)
{
    KHO_ASSERT(!replace_busy(replace));
    replace->error = 0;
    push(replace, STEP_OPEN, OP_OPEN);
}

static int fail(struct replace *replace, int error)
{
    if (replace->error == 0)
        replace->error = error;
    if (replace->step == STEP_OPEN || replace->step == STEP_CLOSE || replace->step == STEP_FOLDER) {
        replace->step = STEP_IDLE;
        return replace->error;
    }
    push(replace, STEP_CLOSE, OP_CLOSE_FILE);
    return 1;
}

int replace_completed(struct replace *replace, struct op *op)
{
    KHO_ASSERT(replace_busy(replace) && op == &replace->op);
    if (op->result < 0 && !(KHO_PLANTED(failed_sync_ignored) && op->kind == OP_SYNC))
        return fail(replace, op->result);
    if (op->kind == OP_WRITE && (uint32_t)op->result != op->len)
        return fail(replace, -EIO);
    switch (replace->step) {
    case STEP_OPEN:
        push(replace, STEP_WRITE, OP_WRITE);
        return 1;
    case STEP_WRITE:
        push(replace, STEP_SYNC, OP_SYNC);
        return 1;
    case STEP_SYNC:
        push(replace, STEP_RENAME, OP_RENAME);
        return 1;
    case STEP_RENAME:
        push(replace, STEP_CLOSE, OP_CLOSE_FILE);
        return 1;
    case STEP_CLOSE:
        if (replace->error != 0)
            return fail(replace, replace->error);
        if (KHO_PLANTED(folder_not_synced))
            return replace->step = STEP_IDLE;
        push(replace, STEP_FOLDER, OP_SYNC_FOLDER);
        return 1;
    default:
        KHO_ASSERT(replace->step == STEP_FOLDER);
        replace->step = STEP_IDLE;
        return 0;
    }
}
