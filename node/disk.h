/* disk.h: carries out the core's file ops on the ring. */
#ifndef KHO_NODE_DISK_H
#define KHO_NODE_DISK_H

#include "folder.h"
#include "op.h"
#include "uring.h"

struct disk;

/* The shard's folder and the ring are borrowed until disk_destroy(); ended ops go to `done` (of
 * struct op.link) with their results. NULL: no memory. */
struct disk *disk_create(struct uring *uring, const struct shard_folder *folder,
                         struct queue *done);
/* Takes NULL. The ring must have been destroyed: buffers under way would otherwise be touched. */
void disk_destroy(struct disk *disk);
/* Starts a file op (OP_OPEN to OP_SPACE). */
void disk_start(struct disk *disk, struct op *op, struct kho_now now);
/* When disk_tick() is wanted, monotonic ns: requests that the kernel had no memory for. */
uint64_t disk_deadline(const struct disk *disk);
void disk_tick(struct disk *disk, struct kho_now now);

#endif
