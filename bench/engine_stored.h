/* engine_stored.h: the data set of the rows on what is stored: citizens 0 to `records` - 1, in a
 * data folder that its writer left as a crash leaves it. */
#ifndef KHO_BENCH_ENGINE_STORED_H
#define KHO_BENCH_ENGINE_STORED_H

#include "engine.h"
#include "engine_node.h"
#include "floor.h"

struct stored {
    struct engine *engine;
    char path[ENGINE_PATH_MAX];
    uint64_t records, memory;
    /* Of the first records, as READ asks for them: STORED_ASK bytes each. */
    uint8_t *asks;
    uint64_t ask_count;
    bool small;          /* the node's cache could hold it: it is opened anew for each round */
    struct floor *floor; /* the segments as they lie there */
    struct node node;
};

enum { STORED_ASK = WIRE_READ_ASK + HERD_KEY };

/* What the writer found out. */
struct stored_figures {
    double memory_bytes;   /* resident, a record, over the empty node */
    double block_bytes;    /* of blocks and commits with their padding, a record */
    double footer_bytes;   /* of footers, a record */
    double lz4_bytes;      /* of the same entries in bare blocks, a record */
    double records_second; /* while it wrote */
};

/* Writes the data set in a process of its own, which ends without stopping the node. */
int stored_fill(struct engine *engine, const char *path, uint64_t records, uint64_t memory,
                struct stored_figures *ret_figures);

/* Groups over an open data set: the store's reads, and a whole shard's. */
int engine_read(struct stored *stored);
int engine_serve(struct stored *stored);

#endif
