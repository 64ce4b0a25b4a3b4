/* floor.h: what the disk gives to bare requests: the yardstick beside which 'engine' measures kho.
 *
 * As fio does it: direct I/O on files that are written already (or on a new one), registered
 * buffers and files, one submit and one wait a turn, so many requests in flight. Writes are synced
 * (RWF_DSYNC), as kho's are. */
#ifndef KHO_BENCH_FLOOR_H
#define KHO_BENCH_FLOOR_H

#include <stdbool.h>
#include <stdint.h>

struct floor;

enum { FLOOR_ALIGNMENT = 4096 };

/* A file of its own: `path`, made and written whole with bytes that don't compress. `bytes` is
 * rounded down to MiB. 0, or -1 with a sentence on stderr. */
int floor_make(const char *path, uint64_t bytes, struct floor **ret_floor);
/* The same, but its blocks are allocated only, and nothing was ever written there. */
int floor_make_new(const char *path, uint64_t bytes, struct floor **ret_floor);
/* The files of `folder` whose names begin with `prefix` and have no dot, to read them as they lie
 * there. */
int floor_open(const char *folder, const char *prefix, struct floor **ret_floor);
/* Takes NULL. The files stay. */
void floor_close(struct floor *floor);

struct floor_plan {
    bool write;     /* synced */
    bool random;    /* else one after the other, round and round… */
    bool once;      /* …or up to the end of the last file at most */
    uint32_t bytes; /* of a request, a multiple of FLOOR_ALIGNMENT, at most 16 MiB + 64 KiB */
    uint32_t depth; /* requests in flight, 1 to 256 */
    uint64_t seed;
    double seconds;
};

struct floor_figures {
    uint64_t requests;
    double seconds;
    uint64_t p50_ns; /* of a request, from its submission to its end */
};

int floor_run(struct floor *floor, const struct floor_plan *plan,
              struct floor_figures *ret_figures);

#endif
