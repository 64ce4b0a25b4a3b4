/* quorum.h: the replicas of a collection in one partition, and what makes a majority of them: W
 * durable acknowledgements for a write, Q votes for a read, W + Q > R. A collection with the
 * cluster's number of replicas has the cluster's quorums; another number has the smallest
 * majorities of its own.
 *
 * Replicas are *columns*, numbered from 0, and sets of them are masks. While a layout changes there
 * are those of both layouts, up to twice R, and every majority has to be one in each (R5); else the
 * two masks are the same. */
#ifndef KHO_CLIENT_QUORUM_H
#define KHO_CLIENT_QUORUM_H

#include <kho/map.h>

#define COLUMNS_MAX (2 * KHO_MAP_REPLICAS_MAX)

/* A set of columns. */
typedef uint16_t columns_t;

/* Which columns are in which layout. */
struct layouts {
    columns_t now;    /* the table of the map in force */
    columns_t before; /* the previous one; the same as `now` where it doesn't change */
};

static inline columns_t column_bit(uint32_t k)
{
    return (columns_t)(1u << k);
}
static inline uint32_t columns_count(columns_t columns)
{
    return (uint32_t)__builtin_popcount(columns);
}
/* All columns of either layout. */
static inline columns_t layouts_all(struct layouts layouts)
{
    return layouts.now | layouts.before;
}
static inline bool layouts_joint(struct layouts layouts)
{
    return layouts.now != layouts.before;
}
/* Has each layout at least `need` of these columns? */
static inline bool layouts_have(struct layouts layouts, columns_t columns, uint32_t need)
{
    return columns_count(columns & layouts.now) >= need &&
           (!layouts_joint(layouts) || columns_count(columns & layouts.before) >= need);
}
/* Has each layout `votes` of Q that are no suspects, or has `told` all of it (R3)? */
static inline bool layout_voted(columns_t layout, columns_t votes, columns_t told, uint32_t quorum)
{
    return columns_count(votes & layout) >= quorum || (told & layout) == layout;
}
static inline bool layouts_voted(struct layouts layouts, columns_t votes, columns_t told,
                                 uint32_t quorum)
{
    return layout_voted(layouts.now, votes, told, quorum) &&
           (!layouts_joint(layouts) || layout_voted(layouts.before, votes, told, quorum));
}

/* The nodes of a partition's first `replicas` columns in either layout, by their index in the map:
 * those of the table in its order, then those of the previous layout only. Returns how many. */
static inline uint32_t layouts_nodes(const struct map *map, uint32_t partition, uint32_t replicas,
                                     uint16_t ret_nodes[COLUMNS_MAX], struct layouts *ret_layouts)
{
    const uint8_t *row = map->previous_count > 0 ? map_previous(map, partition) : NULL;
    uint32_t count = replicas;
    for (uint32_t k = 0; k < replicas; k++)
        ret_nodes[k] = map_replica(map, partition, k);
    *ret_layouts =
        (struct layouts){(columns_t)((1u << replicas) - 1), (columns_t)((1u << replicas) - 1)};
    if (row == NULL)
        return count;
    ret_layouts->before = 0;
    for (uint32_t k = 0; k < replicas; k++) {
        uint32_t column = 0;
        while (column < replicas && ret_nodes[column] != map_row_replica(row, k))
            column++;
        if (column == replicas) {
            column = count++;
            ret_nodes[column] = map_row_replica(row, k);
        }
        ret_layouts->before |= column_bit(column);
    }
    return count;
}

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
