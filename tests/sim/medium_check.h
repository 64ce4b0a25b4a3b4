/* medium_check.h: what the bytes on all disks must show, and what each shard says of them: the
 * verdict's part that trusts no node. */
#ifndef KHO_SIM_MEDIUM_CHECK_H
#define KHO_SIM_MEDIUM_CHECK_H

#include "medium_scan.h"
#include "workload.h"

/* All disks of a cluster at one moment. */
struct medium_view {
    struct medium_scan scans[VNET_NODES_MAX][NODE_SHARDS_MAX];
};

void medium_view_take(struct workload *workload, struct medium_view *ret_view);
void medium_view_fini(struct medium_view *view);

/* Each key's acknowledged version, or a newer one, is whole on the disks: of all R replicas where
 * `repaired`, else of W but for the weak one, whose disk may be damaged. Each version that is there
 * has the value that was written with it, and none is there of a write that ended as not applied.
 */
void medium_check_records(struct workload *workload, const struct medium_view *view, bool repaired);
/* A key as it is on some disk. */
struct medium_key {
    uint32_t collection;
    size_t len;
    uint8_t bytes[32];
};
/* Adds to `keys` (realloc'ed, `*count` of them) those of a disk that no client was told of. */
void medium_check_orphans(const struct workload *workload, const struct medium_scan *scan,
                          struct medium_key **keys, size_t *count);
/* The digests that each shard answers are those of what is on its disk. */
void medium_check_digests(struct workload *workload, const struct medium_view *view);
/* Each shard votes: no episode, not suspect, not read-only, in the newest epoch, and its durable
 * sequence hasn't gone back since the last time. */
void medium_check_votes(struct workload *workload);

#endif
