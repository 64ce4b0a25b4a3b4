/* medium.h: what a simulated disk is made of: files of sectors and a folder, as they are seen and
 * as they are stable. `now` is the disk's own count of events. */
#ifndef KHO_SIM_MEDIUM_H
#define KHO_SIM_MEDIUM_H

#include "node/op.h"
#include "sim.h"

enum { SECTOR = 512, CHUNK = 64 << 10, CHUNK_SECTORS = CHUNK / SECTOR, ENTRIES_MAX = 512 };

struct chunk {
    uint8_t seen[CHUNK];
    uint8_t stable[CHUNK];
    uint64_t written[CHUNK_SECTORS];
};

struct inode {
    struct inode *next;
    uint32_t handles;
    uint64_t size, stable_size;
    uint64_t sized; /* when the size last changed without being stable, 0: stable */
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
    struct entry entries[ENTRIES_MAX];
    size_t count;
};

void inode_size(struct inode *inode, uint64_t size, bool stable, uint64_t now);
void inode_write(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len,
                 bool stable, uint64_t now);
/* All of it reads as zeros. */
void inode_zero(struct inode *inode, uint64_t now);
size_t inode_read(const struct inode *inode, uint64_t offset, uint8_t *to, size_t len);
/* What was written up to `when` becomes stable. */
void inode_sync(struct inode *inode, uint64_t when);
/* The power goes: of each sector that isn't stable, the seen or the stable bytes stay; `whole`: all
 * seen or all stable. */
void inode_cut(struct inode *inode, struct sim *sim, bool whole);
/* Changes bytes in both states, as rot does. */
void inode_poke(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len);
void inode_free(struct inode *inode);

bool name_equal(const struct file_name *a, const struct file_name *b);
struct entry *dir_find(struct dir *dir, const struct file_name *name);
void dir_change(struct dir *dir, const struct change *change);
bool dir_holds(const struct dir *dir, const struct inode *inode);

#endif
