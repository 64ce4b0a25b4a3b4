/* life.h: a store that lives on a disk of disk.h, one step at a time: each begin and each end of an
 * op is a moment at which the power may fail. */
#ifndef KHO_TESTS_CRASH_LIFE_H
#define KHO_TESTS_CRASH_LIFE_H

#include "disk.h"
#include "shelf.h"

enum { LIFE_FLYING = 64 };

struct life {
    struct disk disk;
    struct shard_options options;
    struct shard_world world;
    struct store *store;
    struct shelf *shelf; /* lent; NULL: nothing is acknowledged */
    struct kho_now now;
    struct kho_random dice;
    struct op *flying[LIFE_FLYING];
    uint32_t flying_count;
    uint8_t slow; /* ops of that purpose end after all others; 0: none do */
    bool map_busy;
    /* The power may fail here. False: it did, nothing is done any more. */
    bool (*moment)(struct life *life, void *argument);
    void *argument;
    bool over;
    bool tell; /* events go to stderr */
};

void life_options(struct shard_options *options, uint32_t alignment, uint32_t commits_max);
/* Starts on what the image holds. `plain`: the disk keeps no pending units. */
void life_start(struct life *life, const struct shard_options *options, const struct image *image,
                bool plain, uint64_t seed);
/* On a disk, which becomes the life's own. */
void life_start_on(struct life *life, const struct shard_options *options, struct disk *disk,
                   uint64_t seed);
void life_fini(struct life *life);
/* Until nothing is under way. */
void life_run(struct life *life);
/* Until it serves or has failed. */
void life_recover(struct life *life);
/* Begins what waits, ends one op. False: nothing was under way. */
bool life_step(struct life *life);
void life_pass(struct life *life, uint64_t ms);
/* Stops in good order and starts again on the same disk. */
void life_restart(struct life *life);
/* Sets the map of that epoch. */
void life_map(struct life *life, uint64_t epoch);
bool life_read(struct life *life, struct store_read *read);

#endif
