/* mix.h: the core workloads of YCSB (Cooper et al., "Benchmarking cloud serving systems with YCSB",
 * SoCC 2010), by their letters. */
#ifndef KHO_BENCH_MIX_H
#define KHO_BENCH_MIX_H

#include "pick.h"

/* Shares of the operations, in per cent. */
struct mix {
    char letter;
    unsigned read, update, insert, scan, modify;
    enum pick_kind pick; /* which records */
};

/* NULL: there is none of that letter. */
const struct mix *mix_find(const char *letter);

#endif
