/* local.h: a cluster of three nodes on this machine, of the bench's own: started and stopped by the
 * command line ('kho local') that lies beside the bench's own program, or in PATH. */
#ifndef KHO_BENCH_LOCAL_H
#define KHO_BENCH_LOCAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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

/* Nodes with memory for that many records. `dir` NULL: a folder made in $TMPDIR or /var/tmp. 0, or
 * -1 with a sentence on stderr; then nothing is left running. */
int local_up(struct local *local, const char *dir, uint64_t records);
/* Stops the nodes and removes their data, unless the caller named the folder. */
void local_down(struct local *local);

#endif
