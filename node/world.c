/* world.c: what the rooms of a shard share: memory within its bound, the outbox, the events.
 *
 * The bound counts what was asked for, not what the heap adds to it. An allocation fails when it
 * would pass the bound or when the heap has none; the callers decide what that means to them. */
#include "store.h"

#include <stdarg.h>

void world_init(struct shard_world *world, uint64_t memory_max, uint64_t seed)
{
    memset(world, 0, sizeof *world);
    queue_init(&world->outbox);
    world->memory_max = memory_max;
    kho_random_init(&world->random, seed);
}

void *world_allocate(struct shard_world *world, size_t size, size_t alignment)
{
    void *memory = NULL;
    if (world->memory_bytes > world->memory_max || size > world->memory_max - world->memory_bytes)
        return NULL;
    if (alignment == 0)
        memory = malloc(size > 0 ? size : 1);
    else if (posix_memalign(&memory, alignment, size > 0 ? size : 1) != 0)
        memory = NULL;
    if (memory != NULL)
        world->memory_bytes += size;
    return memory;
}

void world_release(struct shard_world *world, void *memory, size_t size)
{
    if (memory == NULL)
        return;
    KHO_ASSERT(world->memory_bytes >= size);
    world->memory_bytes -= size;
    free(memory);
}

void world_event(struct shard_world *world, enum event_level level, const char *format, ...)
{
    uint32_t max = KHO_COUNT_OF(world->events);
    if (world->event_count == max) {
        world->event_head = (world->event_head + 1) % max;
        world->event_count--;
        world->events_lost++;
    }
    struct event *event = &world->events[(world->event_head + world->event_count) % max];
    world->event_count++;
    event->level = (uint8_t)level;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(event->text, sizeof event->text, format, arguments);
    va_end(arguments);
}

void world_push(struct shard_world *world, struct op *op)
{
    queue_push(&world->outbox, &op->link);
}
