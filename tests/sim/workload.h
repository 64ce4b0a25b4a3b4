/* workload.h: one seeded run: a cluster, clients that write and read, faults, and the verdict.
 *
 * The seed draws the plan: sizes, rates, and which faults are on at all (few at a time find more
 * than all at once); each draw and each fault has dice of its own. A run has a few rounds of two
 * phases: while faults come, safety alone is demanded; then everything is healed and all must be
 * live again, whole and equal, before the next round.
 *
 * What is injected stays within what R = 3 must survive: at any moment one node at most is down,
 * cut off or fails (or the whole site, whose disks keep what they acknowledged), and in each round
 * the disks of one node at most, the weak one, may rot or lie: the same one in each round, once
 * something of that is on them. A run *beyond* damages those of a
 * second one, too: then no call may end with wrong bytes, an old value or a false "not found", but
 * errors are allowed, and nothing has to heal. */
#ifndef KHO_SIM_WORKLOAD_H
#define KHO_SIM_WORKLOAD_H

#include "answer.h"
#include "cluster.h"
#include "history.h"

enum { WORKLOAD_BATCH_MAX = 80, WORKLOAD_CLIENTS_MAX = 4 };

/* What a run leaves out, to find the shortest one that still fails. Zeros: nothing. */
struct limits {
    bool without[SIM_FAULT_COUNT];
    uint32_t calls_max; /* of each round; 0: as drawn */
    uint32_t rounds_max;
};

struct plan {
    uint32_t rounds;
    uint32_t clients, keys, calls, depth, batch_max;
    uint32_t deadline_ms;
    uint64_t think_ns;
    uint64_t rest_ns; /* between rounds */
    uint32_t scale;   /* of the time between faults and calls */
    uint64_t value_max;
    uint32_t read_ppm, delete_ppm, append_ppm, stat_ppm; /* the rest are puts */
    uint32_t retry_ppm;                                  /* of writes in doubt, by their token */
    uint32_t list_ppm;                                   /* of calls: listings of many pages */
    uint32_t admins;                                     /* at once */
    bool full;                                           /* nodes whose memory is used up */
    bool churn;  /* large values over and over: segments die and are used again */
    bool mill;   /* and the power goes whenever one is */
    bool beyond; /* two weak nodes */
};

/* A key that is in use. */
struct slot {
    uint8_t bytes[32];
    size_t len;
    uint32_t history_key;
    bool event; /* appended */
};

/* A fault's own part of a run. */
struct trouble {
    struct workload *workload;
    enum sim_fault fault;
    struct kho_random dice;
    bool on;
    uint64_t every_ns; /* on average */
    uint64_t times;    /* this round */
    uint64_t before;   /* the round: so many came about */
};

/* How much was checked beside the histories: X(name, what it counts). */
#define WORKLOAD_CHECKED(X)                                                                        \
    X(blocks, "blocks found on disks")                                                             \
    X(records, "records found on disks")                                                           \
    X(keys, "keys sought on disks")                                                                \
    X(digests, "digests made from disks")                                                          \
    X(digests_older, "digests but for given-up ones")                                              \
    X(votes, "votes of shards")                                                                    \
    X(lists, "listings while writes go on")                                                        \
    X(listed, "records that they told")                                                            \
    X(refused_full, "new keys refused as full")                                                    \
    X(updates_full, "updates and deletes at the bound")                                            \
    X(memory, "looks at a shard's memory")

struct checked {
#define WORKLOAD_CHECKED_FIELD(name, text) uint64_t name;
    WORKLOAD_CHECKED(WORKLOAD_CHECKED_FIELD)
#undef WORKLOAD_CHECKED_FIELD
};

/* What a shard said when all was healed last. */
struct remembered {
    struct kho_id incarnation;
    uint64_t durable;
};

struct workload {
    struct sim *sim;
    struct cluster *cluster;
    struct history history;
    struct limits limits;
    struct plan plan;
    struct trouble troubles[SIM_FAULT_COUNT];
    struct kho_random dice[WORKLOAD_CLIENTS_MAX]; /* of what each client does */
    struct kho_random admin_dice, list_dice;
    struct slot *slots;
    size_t slot_count, slot_room;
    struct kho_id *value_hashes; /* by value id */
    uint64_t value_count, value_room;
    uint32_t calls_left, calls_under_way;
    uint64_t calls_made;
    uint64_t round;         /* counts from 1 */
    bool quiet;             /* no more faults */
    bool idle;              /* all calls have ended */
    uint32_t admin_calls;   /* of admin.c under way: repairs and the like */
    uint32_t collections;   /* made so far */
    uint32_t wiped;         /* times that the weak node's folder was made anew, this round */
    bool readmit;           /* it waits to be let in */
    int32_t weak;           /* the node whose disks may be damaged */
    int32_t weaker;         /* another one; -1: none, but in a run beyond */
    int32_t clock;          /* the node whose clock may be far off */
    uint64_t trouble_count; /* of nodes, so far */
    uint64_t calm_until;    /* no new one until then, but for planned crashes */
    int32_t troubled;       /* the node that is down or worse, -1: none */
    int32_t swapped[2];     /* nodes with each other's folders, -1: none */
    int32_t cloned;         /* a node on a copy of another's folder, -1: none */
    uint64_t asleep_until;  /* a round lasts until a long pause is over */
    uint64_t ops_ok, ops_failed, ops_doubtful;
    uint64_t reads_damaged;       /* that ended with a typed error of damage */
    uint64_t compacted, recycled; /* segments, since the nodes' last start */
    struct checked checked;
    struct remembered remembered[VNET_NODES_MAX][NODE_SHARDS_MAX];
    uint64_t epoch;     /* the newest that a node had when all was healed */
    uint32_t weak_ever; /* a bit a node */
};

/* The plan and the cluster that a seed stands for. */
void plan_draw(struct sim *sim, struct plan *ret_plan, struct cluster_options *ret_options);
/* Runs all rounds; the verdict is sim->failed. `limits` may be NULL. */
void workload_run(struct workload *workload, struct sim *sim);
void workload_run_limited(struct workload *workload, struct sim *sim, const struct limits *limits);
void workload_fini(struct workload *workload);

/* --- calls.c: what the clients do ------------------------------------------------------------- */

/* The keys of the records, once a run. */
void workload_keys(struct workload *workload);
void workload_begin(struct workload *workload);
/* A call of a client has ended; the client thinks of the next one. */
void workload_call_over(struct workload *workload, uint32_t client);
/* The bytes of a value, `*ret_len` of them; owned by the caller. */
uint8_t *value_make(const struct workload *workload, uint64_t id, size_t *ret_len);
/* The id of a value that was read, after a comparison of all its bytes; 0 and a failed run if no
 * write ever wrote it. */
uint64_t value_check(struct workload *workload, const struct slot *slot, const uint8_t *bytes,
                     size_t len);
/* A client puts or deletes a key, which must succeed. */
void workload_put(struct workload *workload, struct client_end *end, const struct slot *slot,
                  bool del);
/* Puts each record once, with nothing wrong any more: all of them must succeed. */
void workload_put_all(struct workload *workload, struct client_end *end);
/* Adds what one record of a get told to the history op. */
void read_end(struct workload *workload, const struct slot *slot, size_t op,
              const struct kho_result *result, bool stat);

/* --- trouble.c: which faults come when ------------------------------------------------------- */

/* Draws which faults are on, once a run. */
void troubles_draw(struct workload *workload);
/* Faults come from now on. */
void trouble_begin(struct workload *workload);
/* Ends all faults; nodes come up. */
void trouble_heal(struct workload *workload);

/* --- trouble_node.c, trouble_disk.c: what they do -------------------------------------------- */

/* One that takes a node down, or away, for a while; nothing if there is such a one already. */
void trouble_node(struct trouble *trouble);
void trouble_node_init(struct workload *workload);
/* The power of a node goes when it next has a file zeroed. */
void trouble_stale(struct trouble *trouble);
/* That of the weak node goes in the middle of a write. */
void trouble_garbage(struct trouble *trouble);
/* One that damages, or has the disks of a weak node lie. */
void trouble_disk(struct trouble *trouble);
/* A node's disks as they should be, but for what is on them. */
void disk_heal(struct node *node);
void node_up(struct workload *workload, struct node *node);
/* Folders go back to where they belong; the nodes are down behind it. */
void folders_return(struct workload *workload);
bool node_weak(const struct workload *workload, const struct node *node);

/* --- admin.c: what an admin does while faults go on ------------------------------------------- */

void admin_repair(struct workload *workload);
void admin_collection(struct workload *workload);
/* The weak node's folder is made anew, and the node let in again as soon as it works. */
void admin_wipe(struct workload *workload);
/* Lets it in now, waiting for it. */
void admin_readmit(struct workload *workload, struct client_end *end);
/* Changes what some node holds, where there are more nodes than replicas. */
void admin_member(struct workload *workload);
/* The newest map that some node holds. NULL: nobody has one. */
const struct map *workload_map(const struct workload *workload);
/* Replica k of a partition in that map, as an index of the cluster's nodes. */
uint32_t workload_replica(const struct workload *workload, uint32_t partition, uint32_t k);

/* --- memory.c: nodes whose memory is used up -------------------------------------------------- */

void memory_plan(struct plan *plan, struct cluster_options *options);
/* New keys are refused behind it by some node. */
void memory_fill(struct workload *workload);
/* Faults are over: what all replicas have can be updated and deleted. */
void memory_check(struct workload *workload, struct client_end *end);
/* All nodes start anew with more of it. */
void memory_raise(struct workload *workload);

/* --- verdict.c: what must hold in the end ----------------------------------------------------- */

void verdict(struct workload *workload);
/* What the k-th replica of a key says of it, told to the story, too. 0 or an error. */
int verdict_probe(struct workload *workload, const struct slot *slot, uint32_t k,
                  struct wire_probe_answer *ret_answer);
/* Of a run beyond what can be survived. */
void verdict_beyond(struct workload *workload);

#endif
