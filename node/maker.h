/* maker.h: makes segment files ahead of need.
 *
 * open segment-N.new, allocate its full size, write zeros (MAKER_CHUNK at a time, one write under
 * way), write the head, sync, rename, sync the folder. Only then is it given to the manifest, and
 * when that is durable to the log.
 *
 * Where a retired segment's file was kept (retire.h), it is renamed to segment-N.new and allocated
 * anew, by which it reads as zeros: the file system has its blocks already, and the disk, too. From
 * there on it is like a fresh one. At each step a crash leaves a file that the manifest calls
 * retired, a temporary one, or a made one that isn't listed: a start removes any of them.
 *
 * The zeros are paced by the log (maker_pace), since each delays the commits beside it: they are
 * written at full speed while the log is idle, else as its current segment fills. Where the log
 * needs the segment before they are all there, the rest stays allocated and unwritten: it reads as
 * zeros, too, so that torn is told from rotten as well; a synced write there costs about twice as
 * much (the file system's journal), which is less than to wait. */
#ifndef KHO_NODE_MAKER_H
#define KHO_NODE_MAKER_H

#include "depot.h"

enum { MAKER_CHUNK = 256 << 10 };

struct maker {
    struct depot *depot;
    uint8_t step; /* 0: idle */
    uint64_t id;
    uint64_t recycled;          /* the retired segment whose file it was; 0: a fresh one */
    uint64_t recycled_segments; /* since the start */
    uint32_t slot;              /* taken for it */
    int32_t file;
    uint64_t zeroed;       /* of the one under way */
    uint64_t zeroed_bytes; /* since the start */
    int error;
    uint64_t zeros_wanted; /* by now */
    bool hurry;            /* no more zeros */
    bool waiting;          /* between two chunks, for maker_pace() */
    bool stopping;
    bool made;           /* in the manifest, which isn't durable yet */
    uint64_t generation; /* of the manifest that will name it */
    uint8_t *buffer;     /* MAKER_CHUNK of zeros, while needed */
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
/* Lets zeros be written up to `zeros_wanted` bytes; `hurry`: no more of them. */
void maker_pace(struct maker *maker, uint64_t zeros_wanted, bool hurry, struct kho_now now);
/* Gives up what is being made: its temporary file is removed at the next start. */
void maker_stop(struct maker *maker);

#endif
