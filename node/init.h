/* init.h: `kho-node init`: makes a data folder. */
#ifndef KHO_NODE_INIT_H
#define KHO_NODE_INIT_H

#include "options.h"

/* The command's exit code. */
int init_run(const struct options *options);

#endif
