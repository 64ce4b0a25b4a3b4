/* depot.h: what the rooms inside the store share: options, the world, ops under way, the manifest
 * with its segment table, and the rule of R4.
 *
 * Every op of the store is pushed through depot_push(), which counts it; store_completed() counts
 * it down and hands it to the room that `op.purpose` names. */
#ifndef KHO_NODE_DEPOT_H
#define KHO_NODE_DEPOT_H

#include <kho/map.h>

#include "footer.h"
#include "index.h"
#include "manifest.h"
#include "op.h"
#include "shard.h"
#include "store.h"

#include <errno.h>

enum depot_purpose {
    PURPOSE_REPLACE = 1, /* context: struct replace */
    PURPOSE_MAKE,        /* the next segment */
    PURPOSE_COMMIT,      /* context: struct commit */
    PURPOSE_FOOTER,      /* context: struct log */
    PURPOSE_FETCH,       /* context: struct fetch */
    PURPOSE_RECOVER,
    PURPOSE_WINDOW, /* context: struct window, of a walk */
    PURPOSE_RETIRE,
    PURPOSE_AHEAD,   /* context: struct ahead, of recovery */
    PURPOSE_RESTORE, /* context: struct restore */
    PURPOSE_SPACE,
    PURPOSE_CLOSE
};

/* File handles: these three, then one a segment slot. */
enum { DEPOT_FILE_MANIFEST = 0, DEPOT_FILE_MAP = 1, DEPOT_FILE_STRAY = 2, DEPOT_FILE_FIRST = 3 };
static inline int32_t depot_segment_file(uint32_t slot)
{
    return (int32_t)(DEPOT_FILE_FIRST + slot);
}

struct depot {
    struct shard_options options;
    struct shard_world *world;
    struct manifest manifest;
    struct footer_maker tail; /* of the segment that is written to: what no footer covers yet */
    uint32_t ops;             /* under way */
    bool read_only;           /* R4: a write or sync failed, for good */
    bool folder_failed;       /* so did one of manifest or map: they aren't written again, either */
    bool manifest_dirty;      /* in memory it differs from what was written or is being written */
    uint64_t disk_free;       /* at the last look; UINT64_MAX: not looked yet */
    struct map map;           /* in force; bytes NULL: none */
    int self;                 /* this node's index in it, -1: not in it */
    uint64_t epoch;           /* the map's, 0: none */
    struct index *index;      /* made with the first map */
    bool no_space;            /* the next segment found no room */
    bool space_told;          /* an event said so, since the last segment was made */
    bool reserve_told;        /* an event said that less than the reserve is free */
    uint64_t values_unknown;
    uint64_t kept;        /* a retired segment whose file becomes another one; 0: none */
    bool recycling_fails; /* the file system can't make a file zeros again */
};

/* User writes are refused, or will be before long. */
static inline bool depot_short(const struct depot *depot)
{
    uint64_t near = depot->options.reserve_bytes + 2 * depot->options.segment_bytes;
    return depot->no_space || depot->disk_free < near;
}

/* Buffers for much at once begin with a page: otherwise the kernel cuts their requests within one.
 */
static inline uint32_t depot_page(const struct depot *depot)
{
    return (uint32_t)kho_max(depot->options.alignment, SEGMENT_PAGE);
}

static inline void depot_push(struct depot *depot, struct op *op, enum op_kind kind,
                              enum depot_purpose purpose, void *context)
{
    op->kind = (uint8_t)kind;
    op->owner = OP_OWNER_STORE;
    op->purpose = (uint8_t)purpose;
    op->context = context;
    op->result = 0;
    depot->ops++;
    world_push(depot->world, op);
}

/* Copies and decodes a map without putting it in force. -ENOMEM; codes of map_decode. The caller
 * adopts *ret_map or releases its bytes. */
int depot_map_copy(struct depot *depot, const uint8_t *bytes, size_t length, struct map *ret_map);
void depot_map_release(struct depot *depot, const struct map *map);
/* Makes the index for a first map, floors and bitmaps of the manifest included, and the cluster's
 * id. -ENOMEM; KHO_EFULL. */
int depot_map_first(struct depot *depot, const struct map *map);
/* Puts a copied map in force; the index is there. */
void depot_map_adopt(struct depot *depot, const struct map *map);
/* A readmission that the map tells and that wasn't handled yet opens a WIPED episode in all
 * partitions that the map gives this node. True if so; -ENOMEM through *ret_error. */
bool depot_readmitted(struct depot *depot, const struct map *map, struct kho_now now,
                      int *ret_error);
/* A folder without anything that gets its first map is made anew, or lost its files under an
 * incarnation that the map still names: where that map isn't the one in which it became a replica,
 * it may have held records. So it votes "unknown" until repair has brought them (R2): a WIPED
 * episode that began in the map's epoch. True if one was opened; -ENOMEM through *ret_error. */
bool depot_emptied(struct depot *depot, const struct map *map, struct kho_now now, int *ret_error);
/* The partition is this shard's, and this node a replica of it (where the map knows the node). */
bool depot_holds(const struct depot *depot, const struct map *map, uint32_t partition);
/* What is no replica's since any epoch. */
#define DEPOT_NEVER UINT64_MAX
/* The epoch since which this node is a replica of the partition, in either layout; DEPOT_NEVER: it
 * isn't one, and what it holds there counts for nothing; 0 where the map doesn't know the node. */
uint64_t depot_since(const struct depot *depot, const struct map *map, uint32_t partition);
/* The partition of a record, by its collection's placement. */
uint32_t depot_partition(const struct depot *depot, const struct record *record,
                         struct key_hash hash);
/* Opens an episode in all partitions that `map` lets it hold; *ret_id is 0 where there are none. 0;
 * -ENOMEM. */
int depot_open_everywhere(struct depot *depot, const struct map *map, uint8_t kind,
                          struct kho_now now, uint64_t *ret_id);

/* R4: no more writes, said once with its cause. */
void depot_fail(struct depot *depot, const char *what, uint64_t segment, uint64_t offset,
                int error);
/* What a person reads of a code: "EIO" has no sentence here, so the number is printed. */
const char *depot_error_text(int error, char *buffer, size_t size);

#endif
