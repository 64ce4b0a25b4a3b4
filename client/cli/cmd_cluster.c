/* cmd_cluster.c: cluster init: makes a cluster of running nodes that have no map yet, and keeps a
 * copy of its first map in a file. */
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "cluster.h"
#include "print.h"

/* "A B C" and "A,B C" alike: one list with commas. */
static char *join(const struct args *args)
{
    size_t len = 1;
    for (size_t i = 0; i < args->word_count; i++)
        len += strlen(args->words[i]) + 1;
    char *list = must(calloc(1, len));
    for (size_t i = 0; i < args->word_count; i++) {
        if (i > 0)
            strcat(list, ",");
        strcat(list, args->words[i]);
    }
    return list;
}

static int init_run(const struct args *args)
{
    uint64_t partitions = 0, replicas = 0, write_quorum = 0, read_quorum = 0;
    uint32_t deadline_ms = 10000;
    if (!args_number(args, "partitions", 1, 8192, &partitions) ||
        !args_number(args, "replicas", 1, 7, &replicas) ||
        !args_number(args, "write-quorum", 1, 7, &write_quorum) ||
        !args_number(args, "read-quorum", 1, 7, &read_quorum) ||
        !args_duration(args, "deadline", &deadline_ms))
        return EXIT_USAGE;
    char *addresses = join(args);
    struct kho_cluster_plan plan = {
        .struct_size = sizeof plan,
        .addresses = addresses,
        .names = args_text(args, "names"),
        .zones = args_text(args, "zones"),
        .partitions = (uint32_t)partitions,
        .replicas = (unsigned)replicas,
        .write_quorum = (unsigned)write_quorum,
        .read_quorum = (unsigned)read_quorum,
    };
    const char *map = args_text(args, "map");
    int rc = cluster_init_at(&plan, deadline_ms, map != NULL ? map : "kho.map");
    if (rc == 0 && args_flag(args, "json"))
        print_json(json_pack("{s:s, s:s, s:s}", "status", "ok", "addresses", addresses, "map",
                             map != NULL ? map : "kho.map"),
                   false);
    else if (rc == 0)
        printf("the cluster is made; its first map is in %s\nexport KHO_CLUSTER=%s\n",
               map != NULL ? map : "kho.map", addresses);
    free(addresses);
    return exit_of(rc);
}

static const struct option_spec init_options[] = {
    {"names", "A,B,C", "the nodes' names (default a,b,c,…)"},
    {"zones", "X,Y,Z", "the nodes' zones (default: each its own)"},
    {"replicas", "R", "how many nodes hold each record (default 3, or all if fewer)"},
    {"write-quorum", "W", "acknowledgements of a write (default: a majority)"},
    {"read-quorum", "Q", "answers of a read (default: the fewest that overlap)"},
    {"partitions", "P", "a power of two, fixed for ever (default 4096)"},
    {"map", "FILE", "where a copy of the first map goes (default kho.map)"},
    {NULL, NULL, NULL},
};

const struct command command_cluster_init = {
    .words = "cluster init",
    .arguments = "HOST:PORT…",
    .summary = "make a cluster of running nodes that have no map yet",
    .details =
        "  The first node becomes the home of the map: later changes are decided there. A node\n"
        "  that belongs to a cluster already is refused.",
    .options = init_options,
    .words_min = 1,
    .words_max = -1,
    .run = init_run,
};
