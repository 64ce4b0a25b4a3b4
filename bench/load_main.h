/* load_main.h: the benches put, append, get and mixed. */
#ifndef KHO_BENCH_LOAD_MAIN_H
#define KHO_BENCH_LOAD_MAIN_H

#include "load_options.h"

/* 0: every record was right. 1: one wasn't, or something failed; said on stderr. */
int load_main(const struct load_options *options);

#endif
