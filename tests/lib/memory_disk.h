/* memory_disk.h: a folder in memory that carries out a store's file ops, for unit tests.
 *
 * A write is volatile until it was written durably or synced, a name until the folder was synced;
 * memory_disk_crash() forgets what is volatile. Failures are injected by kind and count. */
#ifndef KHO_TESTS_MEMORY_DISK_H
#define KHO_TESTS_MEMORY_DISK_H

#include "node/op.h"

enum { MEMORY_FILES = 64, MEMORY_HANDLES = 256 };

struct memory_file {
    bool named, stable_named; /* exists: now, after a crash */
    struct file_name name, stable_name;
    uint8_t *data, *stable;
    uint64_t size, used, stable_used, room;
};

struct memory_disk {
    struct memory_file files[MEMORY_FILES];
    int handles[MEMORY_HANDLES]; /* file + 1, 0: closed */
    uint64_t free_bytes;         /* what OP_SPACE says and OP_ALLOCATE has */
    uint64_t executed;           /* ops so far */
    uint32_t unlinked_early;     /* segments, while the manifest's name could still be lost */
    /* The `fail_after`-th op of fail_kind from now on ends with fail_error (0: it is carried out to
     * half, and reports that), and so do the next fail_count - 1. */
    uint8_t fail_kind;
    uint32_t fail_after, fail_count;
    int fail_error;
    int manifest_error; /* opening a new manifest ends with it; 0: it works */
    /* Reads that touch these bytes of a segment end with -EIO. */
    uint64_t bad_segment, bad_from, bad_to;
};

void memory_disk_init(struct memory_disk *disk);
void memory_disk_fini(struct memory_disk *disk);
/* Carries an op out and sets its result. */
void memory_disk_execute(struct memory_disk *disk, struct op *op);
/* Forgets what isn't stable, and all handles. */
void memory_disk_crash(struct memory_disk *disk);
/* Only part of a write reached the platter: its sectors that `mask` (cyclic bits) names. */
void memory_disk_tear(struct memory_disk *disk, const struct op *op, uint64_t mask);
size_t memory_disk_list(const struct memory_disk *disk, struct file_found *ret, size_t max);
/* A file by name, or NULL. Changes to both its copies are the caller's bit rot. */
struct memory_file *memory_disk_file(struct memory_disk *disk, enum file_kind kind, uint64_t id);
void memory_disk_flip(struct memory_file *file, uint64_t offset, uint8_t mask);
void memory_disk_fill(struct memory_file *file, uint64_t offset, uint64_t length, uint8_t byte);
void memory_disk_remove(struct memory_file *file);

#endif
