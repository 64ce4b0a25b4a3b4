/* batch.h: some records of an import on their way: asked for (stat), written where they differ
 * (put), written again with their tokens where that ended in doubt. */
#ifndef KHO_CLI_BATCH_H
#define KHO_CLI_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kho/kho.h>

#include "format.h"

enum { BATCH_BYTES_MAX = 1 << 20, BATCH_TRIES_MAX = 4 };

enum slot_state {
    SLOT_WAITING, /* to be asked for or written */
    SLOT_STORED,
    SLOT_SKIPPED,  /* the cluster has it already */
    SLOT_REPEATED, /* a later record of the same key took its place */
    SLOT_FAILED    /* status says why */
};

struct slot {
    size_t key, key_len; /* offsets into the batch's bytes */
    size_t value, value_len;
    uint64_t line;
    enum slot_state state;
    int status;
    bool has_token;
    struct kho_token token;
};

struct batch {
    struct batch *next; /* in the owner's list of those that wait for room */
    void *owner;
    uint64_t first; /* the number of its first record in the import */
    uint64_t last;
    struct slot *slots;
    size_t count, capacity;
    uint8_t *bytes;
    size_t used, room;
    struct kho_item *items; /* of the call under way, and the slots they stand for */
    size_t *slot_of;
    size_t item_count;
    bool asked; /* the stat is over */
    unsigned tries;
};

struct batch *batch_create(void *owner, size_t capacity, uint64_t first);
void batch_destroy(struct batch *batch);
/* Copies a record in. */
void batch_add(struct batch *batch, const struct format_record *record, uint64_t number);
bool batch_full(const struct batch *batch);

/* Gathers the waiting slots into items. 0: none waits. */
size_t batch_gather(struct batch *batch);
/* Takes the answers to a stat of those items: equal ones are skipped. */
void batch_take_stat(struct batch *batch, const struct kho_result *results, size_t count);
/* Takes the answers to a put: what is in doubt waits again, with its token, until its tries are
 * over. */
void batch_take_put(struct batch *batch, const struct kho_result *results, size_t count);
/* Whether a failure means that going on with other records is of no use. */
bool batch_failure_is_general(int status);

#endif
