/* scan.h: reads the log after a start and judges what it finds (R3).
 *
 * First a survey of the segments that weren't sealed: the commit heads in them, which say what is
 * known to be durable. Then a scan of all segments in order: what their footers say enters the
 * index, and of what no good footer covers each commit is checked and its records
 * enter the index, and depot.tail what no footer says yet. What is missing or broken at or below
 * the known durable sequence is rot: noted, an episode opened, never cut off. Above it, the first
 * thing that isn't whole ends the log: what is plainly torn is dropped; anything else makes the
 * shard suspect. */
#ifndef KHO_NODE_SCAN_H
#define KHO_NODE_SCAN_H

#include "ahead.h"
#include "restore.h"

struct scan {
    struct depot *depot;
    struct ahead ahead;
    struct enter enter;
    struct restore restore;
    bool surveying, finished;
    uint32_t slot;
    uint8_t step;             /* with the slot */
    uint32_t mark;            /* the footer that the blocks being read lie before */
    uint64_t end;             /* of what is read of the slot */
    uint64_t position, limit; /* of the blocks that are read */
    uint64_t durable;         /* known */
    uint64_t highest;         /* sequence seen or accounted for */
    uint64_t expected;
    struct kho_id predecessor;
    uint64_t gap; /* where what isn't a commit begins, UINT64_MAX: nowhere */
    bool gap_dirty;
    bool gap_footer;  /* a whole footer lies in it: of commits that aren't there */
    uint32_t tail;    /* the slot whose records depot.tail has */
    bool noting;      /* what is in the commit at hand is noted there */
    bool cut;         /* the log ended: what follows is sealed or unused */
    bool missing;     /* an unsealed segment is gone: how far it went is unknown */
    bool last_empty;  /* the last commit is a mark */
    uint8_t *scratch; /* BLOCK_RAW_MAX */
    uint32_t damages; /* found now */
    uint64_t total_bytes;
    struct kho_now now;
};

int scan_init(struct scan *scan, struct depot *depot);
void scan_fini(struct scan *scan);
void scan_start(struct scan *scan, struct kho_now now);
/* Goes on until it waits for a read (1), is finished (0), or has to give up (an error). */
int scan_run(struct scan *scan, struct kho_now now);

#endif
