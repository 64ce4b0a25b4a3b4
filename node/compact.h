/* compact.h: gives the disk back what overwritten and deleted records took.
 *
 * Once the dead share of the sealed segments passes options.compact_dead_percent, or the disk runs
 * short, the segment with the most dead bytes is walked block by block. A record is wanted if the
 * index names it at this very place, or names its version but lost the value. Wanted ones are
 * copied into full blocks, each of one collection, that go out with the commits of the turn
 * (log_copy); when they land, the index is repointed where it still names the old place. Then the
 * segment retires (retire.h).
 *
 *     idle -> copying -> flushing (blocks that aren't full) -> landing -> settling -> idle
 *
 * Versions and digests stay what they are; tombstones are copied like all else (R7). A commit's
 * epoch may only rise with a copy, and what the index has is valid in the present one (R5).
 *
 * Recovery: until the manifest without the segment is durable, a start finds both copies, which say
 * the same.
 *
 * Damage (R2): what can't be read in the segment is passed over. Whatever the index still names
 * there when the copies have landed has lost its value: an episode in exactly its partitions. Then
 * nothing is left to be read in the segment, and it retires like any other: the manifest that
 * doesn't list it holds the episode. Where no episode can be opened, the segment stays.
 *
 * Pace: options.compact_rate bytes of sources a second, a slice a turn, and none while commits wait
 * for a place in flight; as fast as it goes while the disk is short or the dead share far above
 * what starts it, since writes outrun it then. */
#ifndef KHO_NODE_COMPACT_H
#define KHO_NODE_COMPACT_H

#include "log.h"
#include "retire.h"
#include "walk.h"

enum {
    COMPACT_OUTS = 8,          /* collections whose blocks are being filled */
    COMPACT_SLICE = 128 << 10, /* bytes of the source a turn */
    COMPACT_COPIES = BLOCK_RAW_MAX / (KHO_RECORD_HEAD + 1)
};

/* A block of copies that is being filled. */
struct compact_out {
    uint32_t collection;
    uint32_t used, count;
    uint8_t *raw; /* BLOCK_RAW_MAX */
    struct log_copy *copies;
};

struct compact {
    struct depot *depot;
    struct log *log;
    struct retire retire;
    struct walk walk;
    uint8_t phase;
    bool urgent;       /* no pacing */
    bool starved;      /* no segment has room for copies */
    uint32_t victim;   /* slot */
    uint32_t resume;   /* offset in the block under way: what is before it was copied */
    uint64_t sequence; /* the highest that carries copies */
    uint64_t look_ns;  /* when to look for a victim */
    uint32_t newest;   /* segment at the last look */
    uint64_t next_ns;  /* when the next slice may be walked */
    uint8_t *memory;   /* of outs and scratch, while it works */
    uint8_t *scratch;  /* an unpacked block */
    struct compact_out outs[COMPACT_OUTS];
    uint64_t segments, bytes_in, bytes_out; /* since the start */
};

void compact_init(struct compact *compact, struct depot *depot, struct log *log,
                  struct reader *reader);
void compact_fini(struct compact *compact);
/* Goes on, at the end of a turn, before the log seals. */
void compact_turn(struct compact *compact, struct kho_now now);
/* When it wants a turn without being asked; UINT64_MAX: not at all. */
uint64_t compact_deadline(const struct compact *compact);
/* A read of its walk ended. */
void compact_completed(struct compact *compact, struct op *op);
/* What the sealed segments take, and how much of it is dead. */
void compact_dead(const struct compact *compact, uint64_t *ret_dead, uint64_t *ret_total);

#endif
