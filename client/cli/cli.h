/* cli.h: what the commands of `kho` share: how a command describes itself, and the exit codes. */
#ifndef KHO_CLI_CLI_H
#define KHO_CLI_CLI_H

#include "args.h"

/* What the program exits with; `kho help` prints them. */
enum exit_code {
    EXIT_DONE = 0,
    EXIT_NOT_FOUND = 1,
    EXIT_USAGE = 2,
    EXIT_UNAVAILABLE = 3,
    EXIT_IN_DOUBT = 4,
    EXIT_DAMAGE = 5,
    EXIT_OTHER = 6 /* another failure: a file, a full disk, a refusal */
};

struct command {
    const char *words;                   /* "put", "collection create" */
    const char *arguments;               /* "COLLECTION KEY" */
    const char *summary;                 /* a line of the list of commands */
    const char *details;                 /* paragraphs of its own help, or NULL */
    const struct option_spec *options;   /* of its own, ended by a zeroed one; or NULL */
    int words_min;                       /* arguments wanted */
    int words_max;                       /* -1: any number */
    int (*run)(const struct args *args); /* returns an enum exit_code; has printed what is wrong */
};

extern const struct command command_put;
extern const struct command command_get;
extern const struct command command_stat;
extern const struct command command_del;
extern const struct command command_append;
extern const struct command command_ls;
extern const struct command command_import;
extern const struct command command_export;
extern const struct command command_collection_create;
extern const struct command command_collection_ls;
extern const struct command command_status;
extern const struct command command_verify;
extern const struct command command_repair;
extern const struct command command_cluster_init;
extern const struct command command_node_readmit;
extern const struct command command_node_add;
extern const struct command command_node_balance;
extern const struct command command_node_drain;
extern const struct command command_node_home;
extern const struct command command_node_remove;
extern const struct command command_node_undrain;
extern const struct command command_node_replace;
extern const struct command command_node_reweight;
extern const struct command command_node_zone;
extern const struct command command_local_up;
extern const struct command command_local_down;
extern const struct command command_local_status;
extern const struct command command_local_stop;
extern const struct command command_local_kill;
extern const struct command command_local_start;

/* Shared by `ls` without a collection. */
int collection_ls_run(const struct args *args);

#endif
