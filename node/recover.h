/* recover.h: from the files of a folder to a shard that knows what it has.
 *
 * Removes temporary files, reads manifest and map, opens the segments, syncs those that weren't
 * sealed and the folder (what was read must not vanish after it counted, R1), scans the log. One op
 * at a time, but for the scan's reads. */
#ifndef KHO_NODE_RECOVER_H
#define KHO_NODE_RECOVER_H

#include "scan.h"

struct recover {
    struct depot *depot;
    struct scan scan;
    uint8_t phase;
    struct file_found *files;
    size_t file_count, at;
    uint8_t step;
    uint8_t *buffer;
    size_t buffer_bytes;
    bool fresh; /* nothing was there */
    bool unlinked;
    bool unlink_failed; /* a file that isn't wanted is still there */
    struct op op;
};

int recover_init(struct recover *recover, struct depot *depot);
void recover_fini(struct recover *recover);
/* Copies the list. 1: under way; 0: done; or the error that ends it (an event says why). */
int recover_start(struct recover *recover, const struct file_found *files, size_t count,
                  struct kho_now now);
/* A completion of PURPOSE_RECOVER, PURPOSE_AHEAD or PURPOSE_RESTORE; as recover_start. */
int recover_completed(struct recover *recover, struct op *op, struct kho_now now);
void recover_progress(const struct recover *recover, uint64_t *ret_done, uint64_t *ret_total);

#endif
