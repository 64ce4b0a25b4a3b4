/* medium_scan.h: what the disks of a node hold, found by reading their bytes.
 *
 * A parser of its own, written from the head comments of manifest.h, block.h, record.h and piece.h
 * and sharing no code with the node that wrote the bytes: it takes the live segments from the
 * manifest, finds every whole block in them wherever it lies, and every record in those. What no
 * read could get (a spoilt sector, a hash that doesn't hold) isn't there. */
#ifndef KHO_SIM_MEDIUM_SCAN_H
#define KHO_SIM_MEDIUM_SCAN_H

#include "disk.h"
#include <kho/version.h>

struct medium_record {
    uint32_t collection;
    uint32_t key_at, key_len; /* in the scan's `keys` */
    bool tombstone;
    uint32_t value_len; /* uncompressed */
    struct version version;
    struct kho_id hash;       /* of the value, computed here */
    uint64_t segment, offset; /* of its block: the first one found */
};

/* Whose blocks count. */
struct medium_owner {
    struct kho_id cluster, incarnation;
    uint32_t shard;
};

struct medium_scan {
    struct medium_record *records; /* sorted by collection, key, version; each version once */
    size_t count, room;
    uint8_t *keys;
    size_t keys_len, keys_room;
    uint64_t segments, blocks;
    uint64_t broken; /* block heads that hold, with a body that doesn't */
    uint64_t copies; /* records found, those found again included */
    /* What must never be: the first of it, as a sentence; else empty. */
    char wrong[160];
};

/* Frees with medium_scan_fini(). False: there is no manifest that holds, and nothing was found. */
bool medium_scan_disk(struct medium_scan *ret_scan, const struct vdisk *disk,
                      const struct medium_owner *owner);
void medium_scan_fini(struct medium_scan *scan);

/* The newest version of a key that is there whole, or NULL. */
const struct medium_record *medium_scan_newest(const struct medium_scan *scan, uint32_t collection,
                                               const void *key, size_t key_len);
/* True for the newest version of its key. */
bool medium_scan_is_newest(const struct medium_scan *scan, size_t i);

#endif
