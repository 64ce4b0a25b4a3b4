/* disk.h: a disk that carries out a store's ops in two steps, and knows what a power cut between
 * any two of them could leave.
 *
 * disk_submit() begins an op: what it changes is seen at once and pending: each sector, size and
 * name is a unit that a cut keeps or loses by itself. disk_complete() ends it: a durable write's
 * units are stable then; a sync's, all that had ended in its file before it began; a folder sync's,
 * the names. An allocation with zeros is as many pending sectors as held something. */
#ifndef KHO_TESTS_CRASH_DISK_H
#define KHO_TESTS_CRASH_DISK_H

#include "image.h"

enum { DISK_HANDLES = 64 };

enum unit_kind { UNIT_SECTOR = 1, UNIT_SIZE, UNIT_LINK, UNIT_RENAME, UNIT_UNLINK };

struct unit {
    uint8_t kind;
    bool ended;      /* its op has */
    bool log;        /* a sector of a write to a segment that has its name… */
    bool first;      /* …the first one of that write */
    bool zero;       /* nothing but zeros */
    uint16_t file;   /* of names: that which a LINK names */
    uint32_t sector; /* SECTOR */
    uint64_t op;     /* which op's */
    uint64_t when;   /* it ended, in events of this disk */
    uint64_t size;   /* SIZE */
    struct file_name name, target;
    uint8_t *bytes; /* SECTOR: IMAGE_SECTOR of them */
};

struct disk {
    struct image seen, stable;
    struct unit *pending; /* in order of their ops */
    uint32_t count, room;
    bool plain; /* nothing is pending, nor stable: what is seen is all there is */
    bool lies;  /* of what ends, each fourth thing isn't stable */
    uint64_t clock, ops, told;
    int handles[DISK_HANDLES]; /* file + 1, 0: closed */
};

void disk_init(struct disk *disk, const struct image *image, bool plain);
void disk_fini(struct disk *disk);
/* What a killed process leaves: all that had ended, and of the ops under way some whole, by `dice`.
 * None of it is stable that wasn't. */
void disk_killed(struct disk *to, const struct disk *from, struct kho_random *dice);
size_t disk_list(const struct disk *disk, struct file_found *ret);
/* True: the op changes what a cut may leave; its owner ends it with disk_complete(). False: it has
 * ended. */
bool disk_submit(struct disk *disk, struct op *op);
/* Ends an op that was submitted, its result set. */
void disk_complete(struct disk *disk, struct op *op);
/* Puts a pending unit on an image. */
void disk_apply(const struct unit *unit, struct image *image);

#endif
