/* hanoi.h: the bench 'hanoi'. */
#ifndef KHO_BENCH_HANOI_H
#define KHO_BENCH_HANOI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hanoi_options {
    double scale; /* 1: 6,018,769 citizens, and what belongs to them */
    uint64_t seed;
    size_t batch, inflight;
    const char *dir;     /* of the nodes; NULL: a temporary one */
    const char *cluster; /* "HOST:PORT,…" of an empty cluster to use instead of nodes of its own */
    const char *json;    /* where the report goes; NULL: nowhere */
};

/* 0: everything compared equal. 1: it didn't, or something failed; said on stderr. */
int hanoi_run(const struct hanoi_options *options);

#endif
