/* store_inside.h: the parts of a store, for the files that make up its door (store.c,
 * store_write.c, store_ask.c, store_map.c). */
#ifndef KHO_NODE_STORE_INSIDE_H
#define KHO_NODE_STORE_INSIDE_H

#include "compact.h"
#include "log.h"
#include "maker.h"
#include "mapset.h"
#include "reader.h"
#include "recover.h"
#include "scrub.h"

/* Somebody who waits for the manifest, then an answer on its way. */
struct waiter {
    struct queue link;
    struct store_done done;
    uint64_t generation;
};

struct store {
    struct depot depot;
    struct log log;
    struct reader reader;
    struct maker maker;
    struct recover recover;
    struct compact compact;
    struct scrub scrub;
    struct mapset mapset;
    struct replace manifest_file;
    uint64_t manifest_writing; /* generation under way */
    uint64_t manifest_retry_ns;
    enum store_phase phase;
    bool recovered, closing;
    struct queue waiters; /* struct waiter */
    struct queue ended;   /* struct waiter, answers to be fetched */
    struct queue reads;   /* struct store_read, done */
    struct op space_op;
    bool space_busy;
    uint64_t space_ns; /* when to look next */
    uint64_t started_ns, recovery_ms;
    uint64_t memory_max; /* the world's, which is higher during recovery */
    struct op *close_ops;
    uint32_t close_count;
};

/* An answer for store_next_done(). */
static inline void store_finish(struct store *store, struct waiter *waiter, int status)
{
    waiter->done.status = status;
    queue_push(&store->ended, &waiter->link);
}
/* The index is there: the rooms that use it learn of it. */
void store_index_ready(struct store *store);
/* The change of the map has ended: the new one is in force, or the old one goes on. */
void store_map_ended(struct store *store, int status);

#endif
