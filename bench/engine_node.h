/* engine_node.h: one shard's store on the node's own ring and disk driver, without sockets: what
 * kho-node does a turn, with the bench in the place of the connections.
 *
 *     node_turn_begin(node);           the time, and what has ended
 *     store_write(…), store_read(…)    the bench's part
 *     node_turn_end(node, wait);       commits, ops, one submit, and a wait if nothing is left to
 * do
 */
#ifndef KHO_BENCH_ENGINE_NODE_H
#define KHO_BENCH_ENGINE_NODE_H

#include "disk.h"
#include "folder.h"
#include "herd.h"
#include "shard.h"
#include "store.h"
#include "uring.h"

enum { NODE_PARTITIONS = KHO_PARTITIONS_DEFAULT };
#define NODE_SEED ((uint64_t)0x6B686F)

struct node {
    struct folder folder;
    struct uring *uring;
    struct disk *disk;
    struct queue done;  /* ended ops that the store hasn't got yet */
    uint64_t under_way; /* ops taken and not handed back */
    struct shard_options options;
    struct shard_world world; /* the store's */
    struct store *store;      /* or… */
    struct shard *shard;
    struct queue sockets; /* ops for connections, for the bench to carry out */
    struct kho_now now;
};

/* Makes a data folder at `path`, which isn't there or is empty, with segments of 32 to 256 MiB. All
 * of these: 0, or -1 with a sentence on stderr. */
int node_init(const char *path, uint32_t segment_mib);
/* Opens the folder, recovers, and puts a map in force that gives all partitions to this node, where
 * there is none. `memory` bounds the node's. *ret_seconds: from the start until it serves; or NULL.
 */
int node_open(struct node *node, const char *path, uint64_t memory, double *ret_seconds);
/* A store that never compacts. */
int node_open_still(struct node *node, const char *path, uint64_t memory);
/* As a whole shard; the folder has a map. */
int node_open_shard(struct node *node, const char *path, uint64_t memory);
/* Stops a store in order. */
int node_close(struct node *node);
/* Drops it as a crash does, but for the ops under way, which end first. */
void node_drop(struct node *node);

void node_turn_begin(struct node *node);
/* `wait`: for what is under way, if anything is. */
int node_turn_end(struct node *node, bool wait);
/* An op of `sockets` has ended: the shard gets it in the next turn. */
static inline void node_socket_ended(struct node *node, struct op *op, int32_t result)
{
    op->result = result;
    queue_push(&node->done, &op->link);
}
/* Turns until nothing is under way. */
int node_settle(struct node *node);
uint64_t node_stat(const struct node *node, enum wire_stat stat);

/* Where a record belongs, as the serving side finds it. */
static inline uint32_t node_place(const struct record *record, struct key_hash *ret_hash)
{
    *ret_hash = key_hash(record->collection, record->key, record->key_len, NODE_SEED);
    return key_partition(record->collection, record->key, record->key_len, NODE_SEED,
                         KHO_NO_SEPARATOR, NODE_PARTITIONS, *ret_hash);
}

#endif
