/* vdisk.h: the inside of a simulated disk, shared by its files. */
#ifndef KHO_SIM_VDISK_H
#define KHO_SIM_VDISK_H

#include "disk.h"
#include "medium.h"

struct handle {
    struct inode *inode; /* NULL: closed */
    bool direct;
    uint32_t under_way;
    struct op *close; /* waits for those under way */
};

struct io {
    struct io *next;
    uint64_t id;
    struct op *op;
    struct op copy; /* as it was asked for */
    uint8_t *bytes; /* of a write */
    uint64_t asked; /* when, in the disk's own order */
    uint32_t part;  /* so much of it is done: the driver goes on with the rest */
    uint64_t noise; /* of a read: what its buffer holds meanwhile */
};

/* A commit that the disk said it had written, and hadn't. */
struct lost {
    struct lost *next;
    struct inode *inode;
    uint64_t offset;
    size_t len;
    uint64_t ended; /* when it was said to be done */
    bool proven;    /* a later commit tells that it was there */
    uint8_t bytes[];
};

struct vdisk {
    struct sim *sim;
    char name[16];
    uint32_t alignment;
    vdisk_done done;
    void *owner;
    struct kho_random pace, dice; /* how long ops take; what goes wrong */
    struct vdisk_faults faults;
    bool hurt;
    struct inode *inodes;
    struct dir seen, stable;
    struct change *changes;
    size_t change_count, change_room;
    struct handle *handles;
    size_t handle_count;
    struct io *ios;
    struct lost *losses;
    uint64_t ids, clock;
};

/* --- disk.c ----------------------------------------------------------------------------------- */

struct handle *vdisk_handle(struct vdisk *disk, const struct op *op);
void vdisk_change(struct vdisk *disk, struct change change);
void vdisk_io_free(struct vdisk *disk, struct io *io);
int32_t vdisk_run_open(struct vdisk *disk, const struct op *op);
int32_t vdisk_run_rename(struct vdisk *disk, const struct op *op);
int32_t vdisk_run_allocate(struct vdisk *disk, const struct op *op);

/* --- disk_fault.c ----------------------------------------------------------------------------- */

/* Carries out a write, or does with it what the faults say; returns the op's result. */
int32_t vdisk_write(struct vdisk *disk, const struct io *io, struct inode *inode);
int32_t vdisk_read(struct vdisk *disk, struct io *io, struct inode *inode);
/* True: only a first part of it is carried out now, so that the driver must go on with the rest. */
bool vdisk_part(struct vdisk *disk, struct io *io, struct inode *inode);
/* Before a cut: a commit that was lost, and that nothing proves to have been there, reaches the
 * disk after all. Nobody but other replicas could know of it, and two copies are all that W
 * promises. */
void vdisk_losses_settle(struct vdisk *disk);
void vdisk_losses_forget(struct vdisk *disk);

#endif
