/* stories.c: create, append, seal, checkpoint, compact, recycle.
 *
 * Each tells the way to what it is about with the hunt closed, opens it, and makes sure that what
 * it is about did happen. */
#include "stories.h"

#include "node/store_inside.h"

#include <assert.h>

enum { KEYS = SHELF_KEYS - 1, BIG = 60000 };

static uint32_t below(struct kho_random *dice, uint32_t bound)
{
    return (uint32_t)(kho_random_next(dice) % bound);
}

static void put(struct hunt *hunt, struct life *life, uint32_t key, uint32_t len)
{
    for (uint32_t i = 0; i < 1000 && !life->over; i++) {
        if (shelf_put(&hunt->shelf, life->store, life->now, key, len))
            return;
        life_run(life);
        life_pass(life, 1);
    }
    KHO_ASSERT(life->over);
}

static uint32_t small(struct kho_random *dice)
{
    uint32_t kind = below(dice, 8);
    if (kind == 0)
        return RIG_TOMBSTONE;
    return kind == 1 ? 1500 + below(dice, 3000) : 10 + below(dice, 600);
}

/* A few small records, of which some may still be on their way at the end. */
static void burst(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    uint32_t count = 1 + below(dice, 3);
    for (uint32_t i = 0; i < count && !life->over; i++)
        put(hunt, life, below(dice, KEYS), small(dice));
    for (uint32_t i = below(dice, 4); i > 0 && !life->over; i--)
        life_step(life);
}

static void begin(struct life *life)
{
    life_run(life);
    life_map(life, 1);
    life_run(life);
}

static uint64_t stat_of(const struct life *life, enum wire_stat stat)
{
    uint64_t stats[STAT_COUNT] = {0};
    store_stats(life->store, stats);
    return stats[stat];
}

/* --- An empty folder -------------------------------------------------------------------------- */

static void create(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    hunt->open = true;
    begin(life);
    for (uint32_t i = 0; i < 3; i++)
        burst(hunt, life, dice);
    life_run(life);
    life_pass(life, 60);
    life_restart(life);
    KHO_ASSERT(life->over || hunt->shelf.acknowledged > 0);
}

/* --- Commits ---------------------------------------------------------------------------------- */

static void append(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    begin(life);
    for (uint32_t i = 0; i < KEYS; i += 2)
        put(hunt, life, i, 50);
    life_run(life);
    hunt->open = true;
    uint64_t before = hunt->shelf.acknowledged;
    for (uint32_t i = 0; i < 24 && !life->over; i++) {
        burst(hunt, life, dice);
        if (below(dice, 6) == 0)
            life_pass(life, 60);
    }
    life_run(life);
    KHO_ASSERT(life->over || hunt->shelf.acknowledged >= before + 24);
}

/* --- From one segment to the next ------------------------------------------------------------- */

static void fill(struct hunt *hunt, struct life *life, uint64_t position)
{
    for (uint32_t i = 0; life->store->log.position < position && !life->over; i++) {
        put(hunt, life, i % 5, BIG);
        life_run(life);
    }
}

static void seal(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    begin(life);
    put(hunt, life, 6, 300);
    life_run(life);
    fill(hunt, life, (1u << 20) - 160000);
    uint32_t first = life->store->log.current;
    hunt->open = true;
    for (uint32_t i = 0; i < 60 && !life->over && life->store->log.current == first; i++) {
        burst(hunt, life, dice);
        put(hunt, life, below(dice, KEYS), 4000 + below(dice, 8000));
    }
    for (uint32_t i = 0; i < 6 && !life->over; i++)
        burst(hunt, life, dice);
    life_run(life);
    KHO_ASSERT(life->over || life->store->log.current != first);
}

/* --- The manifest, the map, footers ----------------------------------------------------------- */

static void checkpoint(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    uint32_t footers = 0;
    begin(life);
    hunt->open = true;
    for (uint64_t epoch = 2; epoch < 6 && !life->over; epoch++) {
        for (uint32_t i = 0; i < 4 && !life->over; i++)
            burst(hunt, life, dice);
        if (!life->over)
            life_map(life, epoch);
        for (uint32_t i = 0; i < 2 && !life->over; i++)
            burst(hunt, life, dice);
        life_run(life);
        footers += life->store->log.footer_bytes_landed > 0;
        /* A start writes the manifest, and so does a stop. */
        if (epoch % 2 == 1)
            life_restart(life);
    }
    KHO_ASSERT(life->over || footers > 0);
}

/* --- Dead bytes ------------------------------------------------------------------------------- */

/* Segments most of which is dead; among it what still counts, deletes too. */
static void overwrite(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    begin(life);
    for (uint32_t i = 0; i < 48 && !life->over; i++) {
        if (i < 20)
            put(hunt, life, i, i % 5 == 4 ? RIG_TOMBSTONE : 200 + below(dice, 900));
        put(hunt, life, i % 3, BIG);
        life_run(life);
    }
}

static void compaction_on(struct life *life)
{
    life->options.compact_rate = 1ull << 30;
    life->store->depot.options.compact_rate = life->options.compact_rate;
}

static void compact(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    overwrite(hunt, life, dice);
    compaction_on(life);
    hunt->open = true;
    for (uint32_t i = 0; i < 100 && !life->over && stat_of(life, STAT_compacted_segments) < 2;
         i++) {
        if (i % 2 == 0)
            burst(hunt, life, dice);
        life_pass(life, 20);
    }
    for (uint32_t i = 0; i < 10 && !life->over; i++)
        life_pass(life, 20);
    KHO_ASSERT(life->over || stat_of(life, STAT_compacted_segments) >= 2);
}

/* --- A retired file becomes a new segment ----------------------------------------------------- */

static void recycle(struct hunt *hunt, struct life *life, struct kho_random *dice)
{
    overwrite(hunt, life, dice);
    compaction_on(life);
    for (uint32_t i = 0; i < 200 && life->store->depot.kept == 0; i++)
        life_pass(life, 20);
    KHO_ASSERT(life->over || life->store->depot.kept != 0);
    hunt->open = true;
    uint64_t recycled = stat_of(life, STAT_recycled_segments);
    for (uint32_t i = 0; !life->over && stat_of(life, STAT_recycled_segments) == recycled; i++) {
        KHO_ASSERT(i < 100);
        put(hunt, life, i % 3, BIG);
        life_run(life);
    }
    /* The log goes on in it. */
    uint32_t before = life->over ? 0 : life->store->log.current;
    hunt->open = false;
    for (uint32_t i = 0; i < 40 && !life->over && life->store->log.current == before; i++) {
        put(hunt, life, i % 3, BIG);
        life_run(life);
    }
    hunt->open = true;
    for (uint32_t i = 0; i < 10 && !life->over; i++)
        burst(hunt, life, dice);
    life_run(life);
}

const struct story stories[] = {
    {"create", create},         {"append", append},   {"seal", seal},
    {"checkpoint", checkpoint}, {"compact", compact}, {"recycle", recycle},
};
static_assert(KHO_COUNT_OF(stories) == STORIES, "all of them");
