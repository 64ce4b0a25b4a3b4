/* cluster.h: nodes on their disks and clients, driven over their outboxes on virtual time.
 *
 * A node is what survives it (disks, incarnation, clock) and, while it is up, its shards, which
 * take their turns together and hand maps to each other. A client is its core. The cluster carries
 * out all ops, delivers what ends, and takes turns as the drivers do.
 */
#ifndef KHO_SIM_CLUSTER_H
#define KHO_SIM_CLUSTER_H

#include "client/client.h"
#include "disk.h"
#include "net.h"
#include "node/shard.h"
#include "sim.h"

/* "records" and "events". */
enum { CLUSTER_COLLECTIONS = 2, CLUSTER_BALLAST_MAX = 128, NODE_SHARDS_MAX = 3 };

struct cluster_options {
    uint32_t nodes, clients;
    uint32_t shards; /* of each node, 1 to NODE_SHARDS_MAX */
    uint32_t partitions;
    uint32_t ballast; /* further collections of the first map, "ballast-<i>" */
    uint8_t replicas, write_quorum, read_quorum;
    uint32_t alignment;
    uint32_t commits_max;
    uint32_t footer_entries;
    uint32_t idle_mark_ms;
    uint64_t segment_bytes, compact_rate, scrub_ms, memory_max, reserve_bytes;
    uint32_t compact_dead_percent;
    uint32_t deadline_ms; /* of the clients */
    uint32_t hedge_ms;
    uint64_t inflight_bytes_max, holdback_bytes_max;
    struct vnet_options net;
    bool map; /* make a map, and bring it to the nodes, at creation */
};

struct cluster;

struct node_shard {
    struct node *node;
    uint32_t number;
    struct vdisk *disk;
    struct shard *shard; /* NULL: the node is down */
    struct queue ended;  /* ops to report */
    uint64_t turns;
    int32_t zeros_under_way; /* a file that was zeroed and isn't synced, + 1; 0: none */
};

struct node {
    struct cluster *cluster;
    uint32_t index;
    char name[16];
    struct kho_id incarnation;
    struct node_shard shards[NODE_SHARDS_MAX];
    uint32_t shard_count;
    struct vdisk *disk;               /* the first shard's */
    uint8_t shard_of[VNET_CONNS_MAX]; /* by handle of a connection */
    bool up;
    bool map_due;           /* shards behind are about to be brought the newest map */
    uint64_t map_spread_at; /* then pushes are answered though a shard is behind */
    uint64_t life;          /* counts the starts */
    uint64_t memory_max;    /* of each shard, since the last one */
    bool silent;            /* down without answering: no power */
    bool stopping;
    uint32_t crash_after; /* crashes once it asked for so many more ops; 0: doesn't */
    uint8_t crash_kind;   /* of this kind; 0: of any */
    bool crash_power;     /* its power goes; else it is killed */
    bool crash_due;
    bool zeros_awaited;    /* its power goes before what it had zeroed is stable, if it may */
    uint64_t asleep_until; /* stopped by a signal */
    int64_t skew_ms;
    bool turn_due;
    uint64_t tick_at;
    char failure[320];       /* the last error among its events */
    uint64_t refused_failed; /* times it couldn't start */
    struct kho_random dice;
    /* While it runs on a copy of another's folder. */
    bool cloned;
    struct vdisk *own_disks[NODE_SHARDS_MAX];
    struct kho_id own_incarnation;
};

struct client_end {
    struct cluster *cluster;
    uint32_t index;
    struct client *client; /* NULL: down */
    uint64_t life;
    int64_t skew_ms;
    bool turn_due;
    uint64_t tick_at;
    struct queue ended;
    struct queue answers; /* under way */
    struct kho_random dice;
};

struct cluster {
    struct sim *sim;
    struct cluster_options options;
    struct kho_random random; /* ids and seeds of what starts */
    uint64_t wall_ms;         /* at the start of virtual time */
    struct vnet *net;
    struct node nodes[VNET_NODES_MAX];
    struct client_end clients[VNET_CLIENTS_MAX];
    uint32_t client_count;
    /* Asks whether a node may crash now, as was planned; it will be down behind it. NULL: never. */
    bool (*may_crash)(void *owner, struct node *node);
    uint64_t memory_looks; /* at what a shard uses, which stays within its bound */
    void *owner;
    struct vdisk **given_back; /* copies of disks, which events may still know */
    size_t given_back_count;
    struct kho_id id;
    uint64_t map_seed;
    uint8_t *map; /* the first one's bytes */
    size_t map_len;
    char seeds[256];
};

void cluster_options_init(struct cluster_options *options);
/* Nodes started; with `map` it runs until all of them hold it. */
struct cluster *cluster_create(struct sim *sim, const struct cluster_options *options);
void cluster_destroy(struct cluster *cluster);
/* The bytes of a map of this cluster (owned by the caller, free), with the nodes' present
 * incarnations. */
uint8_t *cluster_map_make(struct cluster *cluster, uint64_t epoch, size_t *ret_len);

/* --- Nodes ------------------------------------------------------------------------------------ */

/* The process ends without a word: killed, or with the machine's power. */
void node_kill(struct node *node);
void node_power_cut(struct node *node);
/* Asks it to stop (SIGTERM); it is down when it has. */
void node_stop(struct node *node);
/* Starts it on what its disk holds. */
void node_start(struct node *node);
/* Its folder is made anew: an empty disk and another incarnation. It must be down. */
void node_wipe(struct node *node);
/* Two nodes that are down get each other's folders. */
void node_folders_swap(struct node *a, struct node *b);
/* A node that is down gets a copy of another's folder, as that one is; then its own again. */
void node_folder_clone(struct node *node, const struct node *from);
void node_folder_own(struct node *node);
void node_sleep(struct node *node, uint64_t ns);
bool node_serving(const struct node *node);
/* Runs until it serves, or has failed to within `ns`. */
bool node_wait_serving(struct node *node, uint64_t ns);
struct kho_now node_now(const struct node *node);
/* Of all its shards together. */
uint64_t node_stat(const struct node *node, enum wire_stat stat);

/* --- Clients ---------------------------------------------------------------------------------- */

/* A further client; returns its index. */
uint32_t cluster_client_add(struct cluster *cluster);
void client_end_start(struct client_end *end);
/* Gone without a word, and all its calls with it. */
void client_end_crash(struct client_end *end);
struct kho_now client_end_now(const struct client_end *end);
/* To be called after a call was submitted: its step comes soon. */
void client_end_turn_soon(struct client_end *end);

void cluster_run(struct cluster *cluster, uint64_t ns);

#endif
