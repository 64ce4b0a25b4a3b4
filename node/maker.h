/* maker.h: makes segment files ahead of need.
 *
 * open segment-N.new, allocate its full size, write zeros (1 MiB at a time, one write under way),
 * write the head, sync, rename, sync the folder. Only then is it given to the manifest, and when
 * that is durable to the log. */
#ifndef KHO_NODE_MAKER_H
#define KHO_NODE_MAKER_H

#include "depot.h"

struct maker {
    struct depot *depot;
    uint8_t step; /* 0: idle */
    uint64_t id;
    uint32_t slot; /* taken for it */
    int32_t file;
    uint64_t zeroed;       /* of the one under way */
    uint64_t zeroed_bytes; /* since the start */
    int error;
    bool stopping;
    bool made;           /* in the manifest, which isn't durable yet */
    uint64_t generation; /* of the manifest that will name it */
    uint8_t *buffer;     /* 1 MiB of zeros, while needed */
    struct op op;
};

void maker_init(struct maker *maker, struct depot *depot);
void maker_fini(struct maker *maker);
static inline bool maker_busy(const struct maker *maker)
{
    return maker->step != 0;
}
/* Begins a segment. A lack of memory is met by trying again later. */
void maker_start(struct maker *maker);
/* True: a file is made and synced, *ret_segment describes it. */
bool maker_completed(struct maker *maker, struct op *op, struct kho_now now,
                     struct segment *ret_segment);
/* Gives up what is being made: its temporary file is removed at the next start. */
void maker_stop(struct maker *maker);

#endif
