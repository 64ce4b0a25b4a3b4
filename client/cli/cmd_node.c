/* cmd_node.c: node readmit: takes a node back whose data folder was made anew. */
#include <errno.h>

#include "cli.h"
#include "connect.h"
#include "print.h"

static int readmit_run(const struct args *args)
{
    const char *name = args->words[0];
    int code;
    struct connection *connection = connection_open(args, &code);
    if (connection == NULL)
        return code;
    struct waited_status waited = {.done = false};
    int rc = kho_node_readmit(connection->client, name, connection->deadline_ms, waited_status_cb,
                              &waited);
    if (rc == 0) {
        connection_wait(connection, &waited.done);
        rc = waited.status;
    }
    connection_close(connection);
    if (rc == -ENOENT) {
        say("the map has no node %s; 'kho status' shows the names", name);
        return EXIT_NOT_FOUND;
    }
    if (rc == -EALREADY) {
        say("node %s is the one that the map names; there is nothing to readmit", name);
        return EXIT_DONE;
    }
    if (rc != 0)
        say("node %s: %s", name, kho_strerror(rc));
    else if (args_flag(args, "json"))
        print_json(json_pack("{s:s, s:s}", "node", name, "status", "ok"), false);
    else
        printf("node %s is readmitted, empty; run 'kho repair' now\n", name);
    return exit_of(rc);
}

const struct command command_node_readmit = {
    .words = "node readmit",
    .arguments = "NAME",
    .summary = "take a node back whose data folder was made anew",
    .details =
        "  The map then names its new incarnation, with every partition of it as damaged until\n"
        "  'kho repair' has brought back what it lost.",
    .words_min = 1,
    .words_max = 1,
    .run = readmit_run,
};
