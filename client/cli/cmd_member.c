/* cmd_member.c: node add, drain, undrain, replace, remove, reweight, zone, home and balance: what
 * the nodes are, and the moving that follows from it.
 *
 * A change is decided together with its first round; then repair and further rounds take turns
 * until nothing is left to move (kho.h). So a change that was interrupted, or found another one
 * half done, goes on from there: running the same command again is always right. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "connect.h"
#include "print.h"
#include "progress.h"

struct moving {
    const struct args *args;
    struct connection *connection;
    struct progress progress;
    bool done;
    int status;
    struct kho_node_change_result change;
    struct kho_repair_result repair;
    uint64_t copied, copied_bytes, rounds;
};

static void changed_cb(struct kho *client, int status, const struct kho_node_change_result *result,
                       void *arg)
{
    struct moving *moving = arg;
    (void)client;
    moving->status = status;
    moving->change = *result;
    moving->done = true;
}

static int change(struct moving *moving, const struct kho_node_change *wanted)
{
    moving->done = false;
    int rc = kho_node_change(moving->connection->client, wanted, moving->connection->deadline_ms,
                             changed_cb, moving);
    if (rc == 0) {
        connection_wait(moving->connection, &moving->done);
        rc = moving->status;
    }
    return rc;
}

static void moved_cb(struct kho *client, int status, const struct kho_repair_result *result,
                     int done, void *arg)
{
    struct moving *moving = arg;
    (void)client;
    moving->repair = *result;
    moving->progress.total = result->partitions;
    progress_draw(&moving->progress, result->records_copied, result->bytes_copied,
                  result->partitions_done);
    moving->done = done != 0;
    moving->status = status;
}

/* Brings the round under way to its end. What repair has to say of others (a node that is away and
 * isn't needed, an episode elsewhere) doesn't stop the change. */
static int move(struct moving *moving)
{
    moving->done = false;
    progress_init(&moving->progress, "move", 0);
    int rc = kho_repair(moving->connection->client, NULL, moved_cb, moving, NULL);
    if (rc != 0)
        return rc;
    connection_wait(moving->connection, &moving->done);
    progress_clear(&moving->progress);
    moving->copied += moving->repair.records_copied;
    moving->copied_bytes += moving->repair.bytes_copied;
    if (moving->repair.partitions_moving == 0)
        return 0;
    return moving->status != 0 ? moving->status : KHO_EMOVING;
}

/* Rounds until nothing is left. */
static int balance(struct moving *moving)
{
    const struct kho_node_change next = {.struct_size = sizeof next, .verb = KHO_NODE_BALANCE};
    int rc = 0;
    while (rc == 0 && moving->change.partitions > 0) {
        moving->rounds++;
        rc = move(moving);
        if (rc == 0)
            rc = change(moving, &next);
        while (rc == KHO_EMOVING && (rc = move(moving)) == 0)
            rc = change(moving, &next);
    }
    return rc;
}

static int say_change(const struct kho_node_change *wanted, int rc)
{
    const char *name = wanted->name != NULL ? wanted->name : "";
    switch (rc) {
    case 0:
        return EXIT_DONE;
    case -ENOENT:
        say("the map has no node %s; 'kho status' shows the names", name);
        return EXIT_NOT_FOUND;
    case -EEXIST:
        say("the map has a node %s already, or that very node under another name; 'kho status' "
            "shows them",
            wanted->by != NULL ? wanted->by : name);
        return EXIT_OTHER;
    case -EBUSY:
        say("node %s holds partitions still; 'kho node drain %s' first", name, name);
        return EXIT_OTHER;
    case -EINVAL:
        say("node %s: a name has 1 to 32 of a-z 0-9 -, an address is HOST:PORT, and no fewer nodes "
            "may be left than each record has replicas",
            name);
        return EXIT_USAGE;
    case KHO_EMOVING:
        say("some partitions couldn't be moved: a node that is needed is out of reach, or records "
            "are damaged; 'kho status' shows which, and the same command goes on");
        return EXIT_UNAVAILABLE;
    case KHO_ECLUSTER:
        say("the node at %s belongs to another cluster; make its folder anew with 'kho-node init'",
            wanted->address != NULL ? wanted->address : "that address");
        return EXIT_OTHER;
    default:
        say("node %s: %s", name, kho_strerror(rc));
        return exit_of(rc);
    }
}

static void print_plan(const struct args *args, const struct kho_node_change_result *r)
{
    static const char *const titles[] = {">PARTITIONS", ">REPLICAS",    ">RECORDS", ">BYTES",
                                         ">AT RISK",    ">FULLEST NOW", ">THEN",    ">IN ROUND 1"};
    struct table table;
    struct small_text text;
    if (args_flag(args, "json")) {
        print_json(json_pack("{s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:I}", "partitions",
                             (json_int_t)r->partitions + r->partitions_left, "replicas",
                             (json_int_t)r->replicas, "records", (json_int_t)r->records, "bytes",
                             (json_int_t)r->bytes, "at_risk", (json_int_t)r->replicas_at_risk,
                             "fullest", r->fullest / 1000.0, "fullest_after",
                             r->fullest_after / 1000.0, "first_round", (json_int_t)r->partitions),
                   true);
        return;
    }
    table_init(&table, titles, sizeof titles / sizeof titles[0]);
    table_add(&table, human_count(r->partitions + (uint64_t)r->partitions_left, &text));
    table_add(&table, human_count(r->replicas, &text));
    table_add(&table, human_count(r->records, &text));
    table_add(&table, human_bytes(r->bytes, &text));
    table_add_marked(&table, human_count(r->replicas_at_risk, &text),
                     r->replicas_at_risk > 0 ? MARK_BAD : MARK_NONE);
    table_addf(&table, "%.3f", r->fullest / 1000.0);
    table_addf(&table, "%.3f", r->fullest_after / 1000.0);
    table_add(&table, human_count(r->partitions, &text));
    table_print(&table);
    table_fini(&table);
}

static void print_done(const struct moving *moving, const char *what)
{
    struct small_text records, bytes;
    if (args_flag(moving->args, "json")) {
        print_json(json_pack("{s:s, s:I, s:I, s:I, s:I}", "status", "ok", "epoch",
                             (json_int_t)moving->change.epoch, "rounds", (json_int_t)moving->rounds,
                             "records_copied", (json_int_t)moving->copied, "bytes_copied",
                             (json_int_t)moving->copied_bytes),
                   false);
        return;
    }
    printf("%s: %s records (%s) were copied, epoch %llu\n", what,
           human_count(moving->copied, &records), human_bytes(moving->copied_bytes, &bytes),
           (unsigned long long)moving->change.epoch);
}

/* Carries a change out, with all that follows. */
static int run(const struct args *args, struct kho_node_change *wanted, const char *what)
{
    struct moving moving = {.args = args};
    int code;
    wanted->struct_size = sizeof *wanted;
    wanted->plan = args_flag(args, "plan");
    moving.connection = connection_open(args, &code);
    if (moving.connection == NULL)
        return code;
    int rc = change(&moving, wanted);
    while (rc == KHO_EMOVING && !wanted->plan && (rc = move(&moving)) == 0)
        rc = change(&moving, wanted);
    if (rc == 0 && !wanted->plan)
        rc = balance(&moving);
    if (rc == 0 && wanted->verb == KHO_NODE_REPLACE && !wanted->plan) {
        const struct kho_node_change gone = {
            .struct_size = sizeof gone, .verb = KHO_NODE_REMOVE, .name = wanted->name};
        rc = change(&moving, &gone);
    }
    connection_close(moving.connection);
    if (rc == 0 && wanted->plan)
        print_plan(args, &moving.change);
    else if (rc == 0)
        print_done(&moving, what);
    return say_change(wanted, rc);
}

static bool take_weight(const struct args *args, unsigned *ret_weight)
{
    uint64_t weight = 0;
    if (!args_number(args, "weight", 1, 1000000, &weight))
        return false;
    *ret_weight = (unsigned)weight;
    return true;
}

static int add_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_ADD,
                                     .name = args->words[0],
                                     .address = args->words[1],
                                     .zone = args_text(args, "zone")};
    return take_weight(args, &wanted.weight) ? run(args, &wanted, "added") : EXIT_USAGE;
}

static int replace_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_REPLACE,
                                     .name = args->words[0],
                                     .by = args->words[1],
                                     .address = args->words[2],
                                     .zone = args_text(args, "zone")};
    return take_weight(args, &wanted.weight) ? run(args, &wanted, "replaced") : EXIT_USAGE;
}

static int drain_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_DRAIN, .name = args->words[0]};
    return run(args, &wanted, "drained");
}

static int undrain_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_UNDRAIN, .name = args->words[0]};
    return run(args, &wanted, "takes its share again");
}

static int remove_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_REMOVE, .name = args->words[0]};
    return run(args, &wanted, "removed");
}

static int reweight_run(const struct args *args)
{
    char *end;
    unsigned long weight = strtoul(args->words[1], &end, 10);
    struct kho_node_change wanted = {
        .verb = KHO_NODE_SET, .name = args->words[0], .weight = (unsigned)weight};
    if (*end != '\0' || weight < 1 || weight > 1000000) {
        say("a weight is a number from 1 to 1000000, not '%s'", args->words[1]);
        return EXIT_USAGE;
    }
    return run(args, &wanted, "reweighted");
}

static int zone_run(const struct args *args)
{
    struct kho_node_change wanted = {
        .verb = KHO_NODE_SET, .name = args->words[0], .zone = args->words[1]};
    return run(args, &wanted, "moved to its zone");
}

static int home_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_HOME, .name = args->words[0]};
    wanted.force = args_flag(args, "force");
    return run(args, &wanted, "made the home");
}

static int balance_run(const struct args *args)
{
    struct kho_node_change wanted = {.verb = KHO_NODE_BALANCE};
    return run(args, &wanted, "balanced");
}

#define PLAN                                                                                       \
    {                                                                                              \
        "plan", NULL, "change nothing: tell what would be moved"                                   \
    }

static const struct option_spec come_options[] = {
    {"zone", "ZONE", "where it stands (default: a zone of its own; replace: that of the old one)"},
    {"weight", "N", "its share beside the others' (default 100; replace: that of the old one)"},
    PLAN,
    {NULL, NULL, NULL},
};
static const struct option_spec plan_options[] = {PLAN, {NULL, NULL, NULL}};
static const struct option_spec home_options[] = {
    {"force", NULL, "the present home is lost for good"},
    {NULL, NULL, NULL},
};

#define AGAIN                                                                                      \
    "  Services go on reading and writing meanwhile. Where it was interrupted, the same command\n" \
    "  goes on; 'kho repair' also brings what is under way to its end."

const struct command command_node_add = {
    .words = "node add",
    .arguments = "NAME HOST:PORT",
    .summary = "take a running node without a map into the cluster, and give it its share",
    .details = AGAIN,
    .options = come_options,
    .words_min = 2,
    .words_max = 2,
    .run = add_run,
};
const struct command command_node_replace = {
    .words = "node replace",
    .arguments = "OLD NEW HOST:PORT",
    .summary = "give all that a node holds, or held, to a new one in its place",
    .details = "  The old one may be lost for good: then the other replicas are copied from. It\n"
               "  leaves the map at the end.\n\n" AGAIN,
    .options = come_options,
    .words_min = 3,
    .words_max = 3,
    .run = replace_run,
};
const struct command command_node_drain = {
    .words = "node drain",
    .arguments = "NAME",
    .summary = "give all that a node holds to the others, so that it can be removed",
    .details = AGAIN,
    .options = plan_options,
    .words_min = 1,
    .words_max = 1,
    .run = drain_run,
};
const struct command command_node_undrain = {
    .words = "node undrain",
    .arguments = "NAME",
    .summary = "let a node that drains, or is drained, take its share again",
    .details = AGAIN,
    .options = plan_options,
    .words_min = 1,
    .words_max = 1,
    .run = undrain_run,
};
const struct command command_node_remove = {
    .words = "node remove",
    .arguments = "NAME",
    .summary = "take a node that holds nothing any more out of the map",
    .words_min = 1,
    .words_max = 1,
    .run = remove_run,
};
const struct command command_node_reweight = {
    .words = "node reweight",
    .arguments = "NAME WEIGHT",
    .summary = "change a node's share beside the others'",
    .details = AGAIN,
    .options = plan_options,
    .words_min = 2,
    .words_max = 2,
    .run = reweight_run,
};
const struct command command_node_zone = {
    .words = "node zone",
    .arguments = "NAME ZONE",
    .summary = "say where a node stands: no two replicas of a record share a zone",
    .details = AGAIN,
    .options = plan_options,
    .words_min = 2,
    .words_max = 2,
    .run = zone_run,
};
const struct command command_node_home = {
    .words = "node home",
    .arguments = "NAME",
    .summary = "let another node decide the changes of the map from now on",
    .details =
        "  --force is for a home that is lost for good: the other nodes are told without its "
        "word.\n"
        "  That must be true: a home that still runs somewhere, cut off from here, could decide\n"
        "  another map of the same epoch, and the two sides would refuse each other.",
    .options = home_options,
    .words_min = 1,
    .words_max = 1,
    .run = home_run,
};
const struct command command_node_balance = {
    .words = "node balance",
    .arguments = "",
    .summary = "move partitions until every node holds its share",
    .details = AGAIN,
    .options = plan_options,
    .words_min = 0,
    .words_max = 0,
    .run = balance_run,
};
