/* window.c: bounded reads of a file for recovery (window.h). */
#include "window.h"

void window_init(struct window *window, struct depot *depot)
{
    *window = (struct window){.depot = depot, .file = -1};
}

void window_fini(struct window *window)
{
    if (window->depot != NULL)
        world_release(window->depot->world, window->buffer, window->room);
    window->buffer = NULL;
    window->room = 0;
}

void window_open(struct window *window, int32_t file, uint64_t size)
{
    window->file = file;
    window->size = size;
    window->offset = 0;
    window->length = 0;
    window->holes = false;
    window->careful = false;
}

static int room_make(struct window *window, size_t needed)
{
    struct shard_world *world = window->depot->world;
    if (needed <= window->room)
        return 0;
    needed = needed < WINDOW_READ ? WINDOW_READ : needed;
    uint8_t *buffer = world_allocate(world, needed, depot_page(window->depot));
    if (buffer == NULL)
        return -ENOMEM;
    if (window->length > 0)
        memcpy(buffer, window->buffer, window->length);
    world_release(world, window->buffer, window->room);
    window->buffer = buffer;
    window->room = needed;
    return 0;
}

static void push(struct window *window)
{
    size_t len = window->wanted - window->length;
    if (window->careful)
        len = kho_min(len, window->depot->options.alignment);
    window->op = (struct op){.file = window->file,
                             .conn = -1,
                             .offset = window->offset + window->length,
                             .data = window->buffer + window->length,
                             .len = (uint32_t)len};
    depot_push(window->depot, &window->op, OP_READ, PURPOSE_WINDOW, window);
}

int window_need(struct window *window, uint64_t offset, size_t length, const uint8_t **ret_bytes)
{
    uint64_t alignment = window->depot->options.alignment, end = offset + length;
    KHO_ASSERT(end <= window->size);
    if (offset >= window->offset && end <= window->offset + window->length) {
        *ret_bytes = window->buffer + (offset - window->offset);
        return 1;
    }
    /* The start moves to the bytes asked for; what is behind them already is kept. */
    uint64_t start = offset & ~(alignment - 1);
    uint64_t stop = kho_max(kho_round_up(end, alignment), start + WINDOW_READ);
    stop = kho_min(stop, kho_round_up(window->size, alignment));
    if (start >= window->offset && start < window->offset + window->length) {
        size_t kept = (size_t)(window->offset + window->length - start);
        memmove(window->buffer, window->buffer + (start - window->offset), kept);
        window->length = kept;
    } else {
        window->length = 0;
    }
    window->offset = start;
    int error = room_make(window, (size_t)(stop - start));
    if (error != 0)
        return error;
    window->wanted = (size_t)(stop - start);
    window->careful = false;
    push(window);
    return 0;
}

bool window_completed(struct window *window, struct op *op)
{
    KHO_ASSERT(op == &window->op);
    if (op->result < 0 && op->len > window->depot->options.alignment) {
        window->careful = true;
        push(window);
        return false;
    }
    size_t got = op->result < 0 ? 0 : (size_t)op->result;
    if (got < op->len) {
        memset(op->data + got, WINDOW_HOLE, op->len - got);
        window->holes = true;
    }
    window->bytes_read += op->len;
    window->length += op->len;
    if (window->length < window->wanted) {
        push(window);
        return false;
    }
    return true;
}
