/* local.h: a cluster of some nodes on this machine, of the bench's own: started and stopped by the
 * command line ('kho local') that lies beside the bench's own program, or in PATH. */
#ifndef KHO_BENCH_LOCAL_H
#define KHO_BENCH_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "process.h"

enum { LOCAL_NODES_MAX = 16 };

struct local {
    char kho[4096]; /* the program */
    char dir[4096]; /* the nodes' folders */
    bool temporary; /* `dir` was made here, and is removed at the end */
    bool up;
    char cluster[2048]; /* HOST:PORT,… */
    size_t node_count;
    struct {
        char name[64];
        pid_t pid;
    } nodes[LOCAL_NODES_MAX];
};

/* So many nodes, 1 to 9, of that much memory each ("2G"). `dir` NULL: a folder made in $TMPDIR or
 * /var/tmp. 0, or -1 with a sentence on stderr; then nothing is left running. */
int local_up(struct local *local, const char *dir, unsigned nodes, unsigned shards,
             const char *memory);
/* Memory for that many records, whose values the cache holds up to `cached_bytes`: text for
 * local_up in `to`, of at least 32 bytes. Returns `to`. */
char *local_memory(char *to, uint64_t records, uint64_t cached_bytes);
/* What the nodes have used together. */
struct process_usage local_usage(const struct local *local);
/* Stops the nodes and removes their data, unless the caller named the folder. */
void local_down(struct local *local);

#endif
