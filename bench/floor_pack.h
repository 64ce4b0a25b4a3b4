/* floor_pack.h: the bare work of small records on the core: what no log can do without. */
#ifndef KHO_BENCH_FLOOR_PACK_H
#define KHO_BENCH_FLOOR_PACK_H

#include <stdint.h>

#include "herd.h"

struct pack_figures {
    double seconds;
    uint64_t raw_bytes, packed_bytes;
};

/* Each record of the herd has its key and value hashed and compared, and its bytes copied into a
 * block; blocks of 16 KiB are compressed and hashed. Nothing is looked up, stored or synced. False:
 * a hash differs. */
bool floor_pack(const struct herd *herd, struct pack_figures *ret_figures);

#endif
