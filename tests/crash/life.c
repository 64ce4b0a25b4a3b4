/* life.c: turns of a store, op by op (life.h). */
#include "life.h"

#include "node/depot.h"

#include <stdio.h>

void life_options(struct shard_options *options, uint32_t alignment, uint32_t commits_max)
{
    struct rig rig;
    rig_init(&rig);
    *options = rig.options;
    rig_fini(&rig);
    options->segment_bytes = 1u << 20;
    options->alignment = alignment;
    options->commits_max = commits_max;
    options->memory_max = 64u << 20;
    options->footer_entries = 9;
    options->compact_dead_percent = 50;
}

static void moment(struct life *life)
{
    if (!life->over && life->moment != NULL && !life->moment(life, life->argument))
        life->over = true;
}

static void events(struct life *life)
{
    struct shard_world *world = &life->world;
    while (world->event_count > 0) {
        if (life->tell)
            fprintf(stderr, "  %s\n", world->events[world->event_head].text);
        world->event_head = (world->event_head + 1) % KHO_COUNT_OF(world->events);
        world->event_count--;
    }
}

static void begin(struct life *life, const struct shard_options *options)
{
    struct file_found files[IMAGE_ENTRIES];
    life->options = *options;
    world_init(&life->world, options->memory_max, options->seed);
    int error = store_create(options, &life->world, &life->store);
    KHO_ASSERT(error == 0);
    store_start(life->store, files, disk_list(&life->disk, files), life->now);
}

void life_start_on(struct life *life, const struct shard_options *options, struct disk *disk,
                   uint64_t seed)
{
    memset(life, 0, sizeof *life);
    life->disk = *disk;
    memset(disk, 0, sizeof *disk);
    life->now = (struct kho_now){.mono_ns = 1000000000, .wall_ms = 1700000000000};
    kho_random_init(&life->dice, seed);
    begin(life, options);
}

void life_start(struct life *life, const struct shard_options *options, const struct image *image,
                bool plain, uint64_t seed)
{
    struct disk disk;
    disk_init(&disk, image, plain);
    life_start_on(life, options, &disk, seed);
}

static void drop(struct life *life)
{
    store_destroy(life->store);
    life->store = NULL;
    life->flying_count = 0;
    KHO_ASSERT(life->world.memory_bytes == 0);
}

void life_fini(struct life *life)
{
    drop(life);
    disk_fini(&life->disk);
}

/* --- Steps ------------------------------------------------------------------------------------ */

static void ended(struct life *life, struct op *op)
{
    struct store_done done;
    store_completed(life->store, op, life->now);
    while (life->map_busy && store_next_done(life->store, &done)) {
        KHO_ASSERT(done.kind == STORE_DONE_MAP && done.status == 0);
        life->map_busy = false;
    }
    if (life->shelf != NULL && shelf_acknowledge(life->shelf, life->store))
        moment(life);
}

/* Ops go to the disk; those that leave nothing to lose end at once. */
static void pump(struct life *life)
{
    struct queue *link;
    store_turn_end(life->store, life->now);
    while (!life->over && (link = queue_pop(&life->world.outbox)) != NULL) {
        struct op *op = KHO_CONTAINER_OF(link, struct op, link);
        if (disk_submit(&life->disk, op)) {
            KHO_ASSERT(life->flying_count < LIFE_FLYING);
            life->flying[life->flying_count++] = op;
            moment(life);
        } else {
            ended(life, op);
        }
    }
    events(life);
}

bool life_step(struct life *life)
{
    if (life->over)
        return false;
    pump(life);
    if (life->over || life->flying_count == 0)
        return false;
    uint64_t at = kho_random_next(&life->dice) % life->flying_count;
    for (uint32_t i = 0; i < life->flying_count && life->flying[at]->purpose == life->slow; i++)
        at = (at + 1) % life->flying_count;
    struct op *op = life->flying[at];
    life->flying[at] = life->flying[--life->flying_count];
    disk_complete(&life->disk, op);
    moment(life);
    if (!life->over)
        ended(life, op);
    return !life->over;
}

void life_run(struct life *life)
{
    while (life_step(life))
        ;
    /* What an end asked for at last. */
    if (!life->over && !queue_empty(&life->world.outbox))
        life_run(life);
}

void life_recover(struct life *life)
{
    while (store_phase(life->store) == STORE_STARTING && life_step(life))
        ;
    events(life);
}

void life_pass(struct life *life, uint64_t ms)
{
    if (life->over)
        return;
    life->now.mono_ns += ms * 1000000;
    life->now.wall_ms += ms;
    store_tick(life->store, life->now);
    life_run(life);
}

void life_restart(struct life *life)
{
    if (life->over)
        return;
    store_stop(life->store, life->now);
    life_run(life);
    if (life->over)
        return;
    KHO_ASSERT(store_phase(life->store) == STORE_STOPPED);
    drop(life);
    begin(life, &life->options);
    life_run(life);
    KHO_ASSERT(life->over || store_phase(life->store) == STORE_READY);
}

void life_map(struct life *life, uint64_t epoch)
{
    bool done = false;
    if (life->over)
        return;
    rig_map_build(&life->shelf->face, epoch, 0, 1);
    int status = store_map_set(life->store, life->shelf->face.map, life->shelf->face.map_bytes,
                               life, 0, life->now, &done);
    KHO_ASSERT(status == 0);
    life->map_busy = !done;
}

bool life_read(struct life *life, struct store_read *read)
{
    struct store_done done;
    if (store_read(life->store, read, life->now))
        return true;
    for (uint32_t i = 0; i < 1000; i++) {
        pump(life);
        if (store_next_done(life->store, &done))
            return done.kind == STORE_DONE_READ && done.read == read;
    }
    return false;
}
