/* store_rig.h: a store over a disk in memory, driven turn by turn, for unit tests. */
#ifndef KHO_TESTS_STORE_RIG_H
#define KHO_TESTS_STORE_RIG_H

#include "memory_disk.h"
#include "node/store.h"

enum { RIG_PARTITIONS = 16, RIG_OPS = 256, RIG_SEED = 77 };

struct rig {
    struct memory_disk disk;
    struct shard_options options;
    struct shard_world world;
    struct store *store;
    struct kho_now now;
    bool reversed;                      /* the ops of a turn complete in reverse order */
    bool hold_commits;                  /* durable writes stay under way */
    bool hold_fetches;                  /* so do reads of blocks that reads of records wait for */
    bool (*holds)(const struct op *op); /* so do those of which it says so; NULL: none */
    bool packed; /* what saves an eighth is put compressed, as from a client */
    struct op *held[RIG_OPS];
    uint32_t held_count;
    uint64_t crash_at; /* no op is carried out once so many were */
    bool crashed;
    uint8_t map[16384];
    size_t map_bytes;
    char last_event[320]; /* the last warning or error */
};

void rig_init(struct rig *rig);
void rig_fini(struct rig *rig);
/* Creates a store on what the disk has, and starts it. */
void rig_start(struct rig *rig);
/* Turns until nothing is under way (held commits aside). */
void rig_run(struct rig *rig);
/* Time passes, then turns. */
void rig_pass(struct rig *rig, uint64_t ms);
/* Lets held commits complete, the last first if `reversed`. */
void rig_release(struct rig *rig);
void rig_stop(struct rig *rig);
/* Drops the store and what the disk had not made stable, and starts again. */
void rig_crash(struct rig *rig);
/* Drops the store without the disk forgetting anything, and starts again. */
void rig_kill(struct rig *rig);
/* A map of one node: this one. `since` of all partitions. */
void rig_map_build(struct rig *rig, uint64_t epoch, uint64_t readmitted, uint32_t since);
/* Sets it; returns the status once it ended. */
int rig_map_set(struct rig *rig);
/* Starts on an empty folder and brings map 1. */
void rig_ready(struct rig *rig);

struct rig_key {
    uint32_t collection, partition;
    struct key_hash hash;
    uint8_t key[64];
    uint16_t key_len;
};
struct rig_key rig_key(uint32_t collection, uint32_t number);
/* Such a value, to be free()d. */
uint8_t *rig_value(uint64_t seed, uint32_t len);
/* Writes a value of `len` bytes made from `seed` (`len` UINT32_MAX: a tombstone). */
int rig_put(struct rig *rig, const struct rig_key *key, uint64_t counter, uint64_t seed,
            uint32_t len, bool copy, uint64_t *ret_sequence);
/* Reads to the end, compares with the value of that seed and length. Returns the status; 1 if the
 * record's state, version or bytes differ. */
int rig_check(struct rig *rig, const struct rig_key *key, uint64_t counter, uint64_t seed,
              uint32_t len);
/* The state of a probe. */
uint8_t rig_probe(struct rig *rig, const struct rig_key *key, struct version *ret_version);
int rig_close_episodes(struct rig *rig);
#define RIG_TOMBSTONE UINT32_MAX

#endif
