/* disk.h: a node's disk, which outlives the node.
 *
 * It keeps two states of each file's sectors and of the folder: what a read sees, and what is
 * stable. A write is stable once its RWF_DSYNC write has completed, or an OP_SYNC that was asked
 * for after it completed has; creations, renames and unlinks once an OP_SYNC_FOLDER has. At a power
 * cut each sector that isn't stable is there or not, as the seed says; a killed process loses no
 * completed write, and those under way are there or not as a whole. */
#ifndef KHO_SIM_DISK_H
#define KHO_SIM_DISK_H

#include "node/op.h"
#include "sim.h"

struct vdisk;

enum vdisk_cut { VDISK_KILL = 1, VDISK_POWER };

/* Rates of what may go wrong, in parts per million. All may change at any time. */
struct vdisk_faults {
    uint32_t read_error;
    uint32_t write_error; /* what is on the disk then, nobody knows */
    uint32_t sync_error;
    uint32_t lost_write, misdirected_write; /* of commits of the log */
    uint32_t misdirected_read;              /* of segments */
    uint32_t short_io;                      /* the driver has to go on with the rest */
    uint32_t slow;                          /* up to some seconds */
    bool gentle;                            /* a power cut tears one write at most, and plainly */
    uint32_t garbage;   /* at a power cut: a sector holds neither its old nor its new bytes */
    bool full;          /* the space is limited, which counts when it is asked for */
    uint64_t space_max; /* bytes of the file system */
    uint64_t write_ns, read_ns;
};

typedef void (*vdisk_done)(void *owner, struct op *op);

struct vdisk *vdisk_create(struct sim *sim, const char *name, uint32_t alignment, vdisk_done done,
                           void *owner);
void vdisk_destroy(struct vdisk *disk);
/* All files are gone, and ops under way end nowhere. */
void vdisk_wipe(struct vdisk *disk);
struct vdisk_faults *vdisk_faults(struct vdisk *disk);
/* Takes one op of the store. It ends later through `done`, unless the disk is cut before. */
void vdisk_submit(struct vdisk *disk, struct op *op);
/* The node is gone: ops under way end nowhere, handles are closed. */
void vdisk_cut(struct vdisk *disk, enum vdisk_cut cut);
/* What the folder holds. At most `max` are written; returns how many there are. */
size_t vdisk_list(const struct vdisk *disk, struct file_found *ret_files, size_t max);
/* True while an op of the store is under way. */
bool vdisk_busy(const struct vdisk *disk);

/* The bytes of a file, in what a read sees and in what is stable. vdisk_peek returns the bytes
 * there were, -1 without such a file; vdisk_poke returns false for bytes that aren't there. */
int64_t vdisk_peek(const struct vdisk *disk, struct file_name name, uint64_t offset, uint8_t *to,
                   size_t len);
bool vdisk_poke(struct vdisk *disk, struct file_name name, uint64_t offset, const uint8_t *bytes,
                size_t len);

uint64_t vdisk_space_used(const struct vdisk *disk);
/* Behind the last byte of the file that isn't zero. */
uint64_t vdisk_used(const struct vdisk *disk, struct file_name name);
/* The sectors of these bytes can't be read until they are written anew. */
bool vdisk_spoil(struct vdisk *disk, struct file_name name, uint64_t offset, size_t len);
/* True if one of them can't. */
bool vdisk_spoilt(const struct vdisk *disk, struct file_name name, uint64_t offset, size_t len);

/* Something was done to what is on it, or it lied: damage may be found. */
bool vdisk_hurt(const struct vdisk *disk);
/* Something was, by others than the disk's own faults. */
void vdisk_harm(struct vdisk *disk);
/* Completions go to another owner from now on. */
void vdisk_owner(struct vdisk *disk, void *owner);
/* A copy of what the disk holds, as another disk. */
struct vdisk *vdisk_clone(const struct vdisk *disk, const char *name);

#endif
