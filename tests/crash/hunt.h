/* hunt.h: what the cuts of a story leave, each state recovered by the code that ships and looked
 * at.
 *
 * At each moment of a story the pending units (disk.h) are grouped to items, sectors by 512 bytes
 * or by 4 KiB, and each choice of items is a state: all subsets where they are few, else all
 * prefixes, all single omissions, all single survivors, subsets of the names alone, and random
 * subsets. A process that is killed is among them: everything that had ended, and a subset of what
 * was under way.
 *
 * Now and then the process is killed only, and what the next one has answered must be there after a
 * cut that takes all that isn't stable (R1).
 *
 * A state's id, ROUND:MOMENT:GRAIN:CHOICE, makes it again. */
#ifndef KHO_TESTS_CRASH_HUNT_H
#define KHO_TESTS_CRASH_HUNT_H

#include "life.h"

struct hunt_id {
    uint64_t round, moment, choice;
    uint32_t grain; /* 0: 512 bytes, 1: 4 KiB */
};

struct hunt {
    const char *story;
    uint64_t seed;
    uint64_t wanted; /* distinct states */
    bool lies;       /* the disk says now and then that something is stable which isn't */
    bool replay;
    struct hunt_id only; /* replay: that one */

    /* Of the round. */
    bool open;  /* moments count */
    bool tells; /* what a store answers counts as acknowledged from then on */
    bool dry;   /* they are only counted */
    struct shelf shelf;
    struct shard_options options;
    struct hunt_id at;
    uint64_t budget; /* choices tried at a moment… */
    uint64_t every;  /* …of which each so manieth is cut */

    uint64_t *known; /* hashes of states, open addressing; 0: free */
    uint64_t *levels;
    uint64_t known_room;

    uint64_t moments, tries, distinct, suspects, recoveries, twice, second_lives, kills, violations;
    uint64_t most; /* choices at one moment */
};

typedef void hunt_tell(struct hunt *hunt, struct life *life, struct kho_random *dice);
/* Tells the story in rounds until enough states were tried, or rounds bring nothing new. */
void hunt_run(struct hunt *hunt, hunt_tell *tell);
void hunt_fini(struct hunt *hunt);

#endif
