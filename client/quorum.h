/* quorum.h: how many replicas make a majority for a collection: W durable acknowledgements for a
 * write, Q votes for a read, W + Q > R. A collection with the cluster's number of replicas has the
 * cluster's quorums; another number has the smallest majorities of its own. */
#ifndef KHO_CLIENT_QUORUM_H
#define KHO_CLIENT_QUORUM_H

#include <kho/map.h>

static inline uint8_t quorum_write(const struct map *map, uint32_t replicas)
{
    return replicas == map->replicas ? map->write_quorum : (uint8_t)(replicas / 2 + 1);
}
static inline uint8_t quorum_read(const struct map *map, uint32_t replicas)
{
    return replicas == map->replicas ? map->read_quorum
                                     : (uint8_t)(replicas - quorum_write(map, replicas) + 1);
}

#endif
