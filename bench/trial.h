/* trial.h: entries packed into blocks as a node packs them, but with a dictionary, and unpacked
 * again. */
#ifndef KHO_BENCH_TRIAL_H
#define KHO_BENCH_TRIAL_H

#include "entries.h"

/* LZ4 looks back no further. */
enum { TRIAL_DICTIONARY_MAX = 64 << 10 };

struct trial {
    const uint8_t *dictionary;
    size_t dictionary_len; /* 0: none; at most TRIAL_DICTIONARY_MAX */
    uint32_t block_bytes;  /* uncompressed, at most; an entry that is larger has its own block */
    int acceleration;      /* LZ4's, 1: as the node has it */
};

struct trial_figures {
    uint64_t raw_bytes;
    uint64_t packed_bytes; /* of the blocks' bodies */
    uint64_t disk_bytes;   /* with their heads and the padding between them */
    double pack_seconds, unpack_seconds;
};

/* No entry is larger than KHO_BLOCK_RAW_MAX. 0; -ENOMEM; -EBADMSG: what was unpacked isn't what was
 * packed. */
int trial_run(const struct trial *trial, const struct entries *entries,
              struct trial_figures *ret_figures);

#endif
