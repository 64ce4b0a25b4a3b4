/* medium.h: what a simulated disk is made of: files of sectors and a folder, as they are seen and
 * as they are stable. `now` is the disk's own count of events. */
#ifndef KHO_SIM_MEDIUM_H
#define KHO_SIM_MEDIUM_H

#include "node/op.h"
#include "sim.h"

enum { MEDIUM_SECTOR = 512, CHUNK = 16 << 10, CHUNK_SECTORS = CHUNK / MEDIUM_SECTOR };

struct chunk {
    uint8_t seen[CHUNK];
    uint8_t stable[CHUNK];
    uint64_t written[CHUNK_SECTORS];
    uint32_t bad; /* bit set of sectors that can't be read until they are written anew */
};
_Static_assert(CHUNK_SECTORS <= 32, "a bit a sector");

struct inode {
    struct inode *next;
    uint32_t handles;
    uint64_t size, stable_size;
    uint64_t sized; /* when the size last changed without being stable, 0: stable */
    bool zeroed; /* since the last cut it was made to read as zeros: what was there may come back */
    struct chunk **chunks;
    size_t chunk_count;
};

struct entry {
    struct file_name name;
    struct inode *inode;
};

/* A change of the folder that isn't stable: `from` (an inode appears where it is NULL) to `to`. */
enum change_kind { CHANGE_CREATE = 1, CHANGE_RENAME, CHANGE_UNLINK };
struct change {
    enum change_kind kind;
    struct file_name name, to;
    struct inode *inode;
    uint64_t when;
};

struct dir {
    struct entry *entries;
    size_t count, room;
};

void inode_size(struct inode *inode, uint64_t size, bool stable, uint64_t now);
void inode_write(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len,
                 bool stable, uint64_t now);
/* All of it reads as zeros. */
void inode_zero(struct inode *inode, uint64_t now);
size_t inode_read(const struct inode *inode, uint64_t offset, uint8_t *to, size_t len);
/* Behind the last byte that isn't zero. */
uint64_t inode_used(const struct inode *inode);
/* The sectors of the range can't be read until they are written anew. */
void inode_spoil(struct inode *inode, uint64_t offset, size_t len);
bool inode_spoilt(const struct inode *inode, uint64_t offset, size_t len);
/* What was written up to `when` becomes stable. */
void inode_sync(struct inode *inode, uint64_t when);
/* The power goes: of each sector (or of each eight) that isn't stable, the seen or the stable bytes
 * stay; `whole`: all seen or all stable. */
void inode_cut(struct inode *inode, struct sim *sim, struct kho_random *dice, bool whole);
struct inode *inode_copy(const struct inode *inode);
/* Changes bytes in both states, as rot does. */
void inode_poke(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len);
void inode_free(struct inode *inode);

bool name_equal(const struct file_name *a, const struct file_name *b);
struct entry *dir_find(struct dir *dir, const struct file_name *name);
void dir_change(struct dir *dir, const struct change *change);
void dir_assign(struct dir *to, const struct dir *from);
void dir_free(struct dir *dir);
bool dir_holds(const struct dir *dir, const struct inode *inode);

#endif
