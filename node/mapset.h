/* mapset.h: puts a decided map in force (R5): what it means for this folder is persisted first (a
 * readmission's WIPED episode, the cluster's id), then the map, then it counts. */
#ifndef KHO_NODE_MAPSET_H
#define KHO_NODE_MAPSET_H

#include "replace.h"

struct mapset {
    struct depot *depot;
    struct replace file;
    bool busy;
    bool manifest_first; /* waits for the manifest of `generation` */
    uint64_t generation;
    struct map map; /* the new one, copied */
};

void mapset_init(struct mapset *mapset, struct depot *depot);
void mapset_fini(struct mapset *mapset);
/* As store_map_set(). */
int mapset_start(struct mapset *mapset, const uint8_t *bytes, size_t length, struct kho_now now,
                 bool *ret_done);
/* The manifest was written (0) or couldn't be. True: the change has ended, with *ret_status. */
bool mapset_manifest(struct mapset *mapset, uint64_t generation, int status, int *ret_status);
/* An op of `file` completed. True: ended; with status 0, mapset->map is durable: adopt it. */
bool mapset_completed(struct mapset *mapset, struct op *op, int *ret_status);

#endif
