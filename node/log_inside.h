/* log_inside.h: what the files of the log share (log.c, log_look.c, log_room.c, log_land.c). */
#ifndef KHO_NODE_LOG_INSIDE_H
#define KHO_NODE_LOG_INSIDE_H

#include "log.h"

/* --- log.c ------------------------------------------------------------------------------------ */

/* Gives back a commit's buffer where it is larger than its own. */
void log_buffer_release(struct log *log, struct commit *commit);

/* --- log_look.c ------------------------------------------------------------------------------- */

/* Entry `entry` of the commit can be looked for from now on, or no more. */
void log_pending_insert(struct log *log, struct commit *commit, uint32_t entry);
void log_pending_remove(struct log *log, const struct pending *pending);

/* --- log_room.c ------------------------------------------------------------------------------- */

/* What is about to be placed in a segment. */
struct load {
    uint64_t bytes;   /* of commits */
    uint64_t records; /* in them */
    uint32_t commits;
};

/* What a commit that waits for its place needs at most. */
struct load log_load(const struct log *log, const struct commit *commit);
/* Whether it fits behind what the current segment has, footers included; or into the next one. */
bool log_fits_current(const struct log *log, const struct load *load);
bool log_fits_spare(const struct log *log, const struct load *load);
/* True if all that waits, and so much more, has its place in made segments. */
bool log_place_for(const struct log *log, uint64_t bytes, uint32_t records, bool copies);
/* The same as a code: 0; -EAGAIN; KHO_ENOSPACE. `copies`: what is kept for compaction counts, too.
 */
int log_place_check(const struct log *log, uint64_t bytes, uint32_t records, bool copies);
/* True if the gathering commit doesn't take so many records in so many blocks more, beside the raw
 * block. */
bool log_gather_full(const struct log *log, uint32_t records, uint32_t blocks);

/* Only where faults are planted (kho/planted.h). */
void log_show(struct log *log, struct commit *commit);

#endif
