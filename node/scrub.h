/* scrub.h: reads everything again at a low rate, so that rot is found while other replicas have
 * what it hit (R2).
 *
 * The segment whose last look is longest ago is read commit by commit and footer by footer, all
 * hashes are checked, and the time goes into the manifest. One that is written to is read as far as
 * it was written when the look began. The rate is what makes one pass over all take
 * options.scrub_ms; what was looked at within half of that waits. A last look in the future, by a
 * clock that was wrong, is none.
 *
 * A block whose body doesn't hold is damage at once (damage.h). Whatever else is broken (heads,
 * footers, padding) hurts no record now, but the next start would: so in either case the segment is
 * marked to be rewritten by compaction, which leaves the damage behind. */
#ifndef KHO_NODE_SCRUB_H
#define KHO_NODE_SCRUB_H

#include "cache.h"
#include "window.h"

enum { SCRUB_SLICE = 256 << 10 }; /* bytes a turn, then up to the end of the commit */

struct scrub {
    struct depot *depot;
    struct cache **cache; /* the reader's */
    struct window window;
    bool works, waits, failed;
    uint32_t slot;
    uint64_t segment; /* its id */
    uint64_t position, end;
    bool broken;      /* something in it */
    uint64_t next_ns; /* when to read on, or to look for a segment */
    uint64_t bytes;   /* since the start */
    uint64_t now_ms;  /* wall time of the last turn */
};

void scrub_init(struct scrub *scrub, struct depot *depot, struct cache **cache);
void scrub_fini(struct scrub *scrub);
void scrub_turn(struct scrub *scrub, struct kho_now now);
uint64_t scrub_deadline(const struct scrub *scrub);
/* A read ended. */
void scrub_completed(struct scrub *scrub, struct op *op);
/* How long ago the segment that waits longest was looked at, or made, in seconds. */
uint64_t scrub_age(const struct scrub *scrub);

#endif
