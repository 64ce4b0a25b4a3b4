/* workload.h: one seeded run: a cluster, clients that write and read, faults, and the verdict.
 *
 * The seed draws the plan: sizes, rates, and which faults are on at all (few at a time find more
 * than all at once). Then two phases: while faults come, safety alone is demanded; then everything
 * is healed and all must be live again, whole and equal. */
#ifndef KHO_SIM_WORKLOAD_H
#define KHO_SIM_WORKLOAD_H

#include "answer.h"
#include "cluster.h"
#include "history.h"

enum { WORKLOAD_BATCH_MAX = 80 };

struct plan {
    uint32_t clients, keys, calls, depth, batch_max;
    uint32_t deadline_ms;
    uint64_t think_ns;
    uint64_t value_max;
    uint32_t read_ppm, delete_ppm, append_ppm, stat_ppm; /* the rest are puts */
    uint32_t retry_ppm;                                  /* of writes in doubt, by their token */
    uint64_t fault_interval_ns;                          /* 0: no faults */
    uint32_t faults;                                     /* bit set of enum sim_fault */
    int32_t weak;                                        /* the node whose disk may be damaged */
};

/* A key that is in use. */
struct slot {
    uint8_t bytes[32];
    size_t len;
    uint32_t history_key;
    bool event; /* appended */
};

struct workload {
    struct sim *sim;
    struct cluster *cluster;
    struct history history;
    struct plan plan;
    struct slot *slots;
    size_t slot_count, slot_room;
    struct kho_id *value_hashes; /* by value id */
    uint64_t value_count, value_room;
    uint32_t calls_left, calls_under_way;
    bool quiet;           /* no more faults */
    bool idle;            /* all calls have ended */
    uint32_t admin_calls; /* of admin.c under way: repairs and the like */
    uint32_t collections; /* made so far */
    uint32_t wiped;       /* times that the weak node's folder was made anew */
    bool readmit;         /* it waits to be let in */
    int32_t troubled;     /* the node that is down or worse, -1: none */
    uint64_t ops_ok, ops_failed, ops_doubtful;
    uint64_t compacted, recycled; /* segments, since the nodes' last start */
};

/* The plan and the cluster that a seed stands for. */
void plan_draw(struct sim *sim, struct plan *ret_plan, struct cluster_options *ret_options);
/* Runs both phases; the verdict is sim->failed. */
void workload_run(struct workload *workload, struct sim *sim);
void workload_fini(struct workload *workload);

/* --- calls.c: what the clients do ------------------------------------------------------------- */

void workload_begin(struct workload *workload);
/* The bytes of a value, `*ret_len` of them; owned by the caller. */
uint8_t *value_make(const struct workload *workload, uint64_t id, size_t *ret_len);
/* The id of a value that was read, after a comparison of all its bytes; 0 and a failed run if no
 * write ever wrote it. */
uint64_t value_check(struct workload *workload, const struct slot *slot, const uint8_t *bytes,
                     size_t len);
/* Adds what one record of a get told to the history op. */
void read_end(struct workload *workload, const struct slot *slot, size_t op,
              const struct kho_result *result, bool stat);

/* --- trouble.c: what happens to nodes, disks and connections ---------------------------------- */

void trouble_begin(struct workload *workload);
/* Ends all faults; nodes come up. */
void trouble_heal(struct workload *workload);

/* --- admin.c: what an admin does while faults go on ------------------------------------------- */

void admin_repair(struct workload *workload);
void admin_collection(struct workload *workload);
/* The weak node's folder is made anew, and the node let in again as soon as it works. */
void admin_wipe(struct workload *workload);
/* Lets it in now, waiting for it. */
void admin_readmit(struct workload *workload, struct client_end *end);

/* --- verdict.c: what must hold in the end ----------------------------------------------------- */

void verdict(struct workload *workload);

#endif
