/* share.c: the serving side's memory, accounted apart from the rest of the shard.
 *
 * Happy path: a reply buffer is taken from the spare ones of its size, filled, sent, given back.
 * A few spare ones of each size are kept; the others return to the heap. Fails only where the heap
 * does, or where the bound says no to work that wasn't admitted yet. */
#include "share.h"

#include <errno.h>

/* A quarter of the shard's memory, within these: the least holds one value of 16 MiB on its way in
 * beside some hundred connections; more than the most helps nobody. */
static const uint64_t SHARE_MIN = 22u << 20, SHARE_MAX = 256u << 20;
static const uint32_t SHARE_SPARE_MAX[SHARE_BUFFER_KINDS] = {64, 32, 4};
static const uint32_t SHARE_SIZES[SHARE_BUFFER_KINDS] = {SHARE_BUFFER_SMALL, SHARE_BUFFER_MIDDLE,
                                                         SHARE_BUFFER_LARGE};

int share_init(struct share *share, struct shard_world *world)
{
    uint64_t max = world->memory_max / 4;
    max = kho_min(kho_max(max, SHARE_MIN), SHARE_MAX);
    if (world->memory_bytes + max > world->memory_max)
        return -ENOMEM;
    memset(share, 0, sizeof *share);
    share->world = world;
    share->max = max;
    share->large_max = max * 3 / 4;
    for (int i = 0; i < SHARE_BUFFER_KINDS; i++)
        queue_init(&share->spare[i]);
    world->memory_bytes += max;
    return 0;
}

void share_fini(struct share *share)
{
    if (share->world == NULL)
        return;
    for (int i = 0; i < SHARE_BUFFER_KINDS; i++)
        QUEUE_FOREACH_SAFE (link, &share->spare[i])
            free(KHO_CONTAINER_OF(link, struct reply_buffer, link));
    share->world->memory_bytes -= share->max;
    share->world = NULL;
}

bool share_has(const struct share *share, uint64_t bytes, bool reserved)
{
    uint64_t max = reserved ? share->max : share->max - share->max / 8;
    return share->used + bytes <= max;
}

void *share_allocate_admitted(struct share *share, size_t size)
{
    void *memory = malloc(size > 0 ? size : 1);
    if (memory != NULL)
        share->used += size;
    return memory;
}

void *share_allocate(struct share *share, size_t size)
{
    return share_has(share, size, true) ? share_allocate_admitted(share, size) : NULL;
}

void share_release(struct share *share, void *memory, size_t size)
{
    if (memory == NULL)
        return;
    KHO_ASSERT(share->used >= size);
    share->used -= size;
    free(memory);
}

struct reply_buffer *share_buffer(struct share *share, uint32_t bytes, bool stream)
{
    KHO_ASSERT(bytes <= SHARE_BUFFER_LARGE);
    int kind = bytes > SHARE_BUFFER_MIDDLE ? 2 : bytes > SHARE_BUFFER_SMALL || stream ? 1 : 0;
    struct queue *link = queue_pop(&share->spare[kind]);
    struct reply_buffer *buffer;
    if (link != NULL) {
        share->spare_count[kind]--;
        buffer = KHO_CONTAINER_OF(link, struct reply_buffer, link);
    } else {
        buffer = malloc(sizeof *buffer + SHARE_SIZES[kind]);
        if (buffer == NULL)
            return NULL;
    }
    queue_init(&buffer->link);
    buffer->size = SHARE_SIZES[kind];
    buffer->len = 0;
    share->used += buffer->size;
    return buffer;
}

void share_buffer_release(struct share *share, struct reply_buffer *buffer)
{
    if (buffer == NULL)
        return;
    KHO_ASSERT(share->used >= buffer->size);
    share->used -= buffer->size;
    int kind = buffer->size == SHARE_BUFFER_LARGE ? 2 : buffer->size == SHARE_BUFFER_MIDDLE ? 1 : 0;
    if (share->spare_count[kind] >= SHARE_SPARE_MAX[kind]) {
        free(buffer);
        return;
    }
    share->spare_count[kind]++;
    queue_push_front(&share->spare[kind], &buffer->link);
}
