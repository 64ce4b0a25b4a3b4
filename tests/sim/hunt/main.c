/* main.c: kho-sim, seeded runs of both cores. */
#include "hunt.h"
#include "reduce.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <unistd.h>

static const char help[] =
    "kho-sim SEED               one run; if it breaks a promise, the shortest story of it\n"
    "kho-sim --replay SEED      the same run twice: both must have the same trace\n"
    "kho-sim --seeds A..[B]     all runs from A to B, or on and on\n"
    "\n"
    "  --without FAULT,...      leaves faults out (all: all of them)\n"
    "  --only FAULT,...         leaves all others out\n"
    "  --rounds N, --calls N    no more rounds, no more calls of a round than that\n"
    "with SEED:\n"
    "  --story                  prints the whole trace\n"
    "with --seeds:\n"
    "  --jobs N                 so many processes (default: the cores)\n"
    "  --minutes N              begins no further seed after so long\n"
    "  --bound SECONDS          a seed that takes more of a processor is a violation (default: "
    "120)\n"
    "  --state FILE             goes on from where this program stopped, and adds up its counts\n"
    "  --json FILE              the summary as rows\n"
    "  --all-classes            a fault class that never fired is a failure\n"
    "\n"
    "Exit: 0 all promises held; 1 one was broken (the command that shows it is printed); 2 "
    "usage.\n";

struct options {
    struct hunt_options hunt;
    bool story, replay, range;
    uint64_t seed;
};

static void print_result(const struct run_result *r)
{
    printf("seed %llu trace %016llx: %llu ok, %llu failed, %llu in doubt, %.1f s, %llu steps;",
           (unsigned long long)r->seed, (unsigned long long)r->trace,
           (unsigned long long)r->records_ok, (unsigned long long)r->records_failed,
           (unsigned long long)r->records_doubtful, (double)r->now_ns / 1e9,
           (unsigned long long)r->steps);
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        if (r->faults[i] > 0)
            printf(" %s %llu", sim_fault_name((enum sim_fault)i), (unsigned long long)r->faults[i]);
    if (r->compacted > 0)
        printf(" compacted %llu", (unsigned long long)r->compacted);
    if (r->recycled > 0)
        printf(" recycled %llu", (unsigned long long)r->recycled);
#define CHECKED_PRINT(name, text) printf(" " #name " %llu", (unsigned long long)r->checked.name);
    printf("; checked");
    WORKLOAD_CHECKED(CHECKED_PRINT)
#undef CHECKED_PRINT
    if (r->gave_up > 0)
        printf(" (%llu searches gave up)", (unsigned long long)r->gave_up);
    printf("\n");
    if (r->broke)
        printf("seed %llu BROKE: %s\n", (unsigned long long)r->seed, r->failure);
    fflush(stdout);
}

/* --- The ways to run -------------------------------------------------------------------------- */

static int run_story_of(const struct options *o)
{
    struct run_result r;
    run_story(o->seed, &o->hunt.limits, &r);
    print_result(&r);
    return r.broke;
}

/* In a process of its own. */
static void run_one(const struct options *o, struct run_result *ret)
{
    struct apart apart = {0};
    if (apart_init(&apart) != 0 ||
        apart_start(&apart, run_seed, o->seed, &o->hunt.limits, EVENTS_NO_KEY) != 0) {
        fprintf(stderr, "kho-sim: no process for the run\n");
        exit(2);
    }
    while (!apart_ended(&apart, o->hunt.bound_s, ret)) {
        int signal = apart_wait(1);
        if (signal == SIGINT || signal == SIGTERM) {
            apart_fini(&apart);
            exit(128 + signal);
        }
    }
    apart_fini(&apart);
    print_result(ret);
}

static int run_and_tell(const struct options *o)
{
    struct run_result found;
    struct reduction r;
    run_one(o, &found);
    if (!found.broke)
        return 0;
    if (reduce(&r, run_seed, &found, &o->hunt.limits))
        reduce_print(&r, stdout);
    else
        printf("it doesn't break when it is run again\n");
    reduce_fini(&r);
    return 1;
}

static int run_twice(const struct options *o)
{
    struct run_result first, second;
    run_one(o, &first);
    run_one(o, &second);
    if (first.trace != second.trace)
        printf("seed %llu isn't replayed: traces %016llx and %016llx\n",
               (unsigned long long)o->seed, (unsigned long long)first.trace,
               (unsigned long long)second.trace);
    return first.broke || second.broke || first.trace != second.trace;
}

static int run_range(const struct options *o)
{
    struct counts counts;
    counts_init(&counts, o->hunt.from);
    int code = hunt(&o->hunt, &counts);
    counts_fini(&counts);
    return code;
}

/* --- Options ---------------------------------------------------------------------------------- */

static int usage(const char *wrong, const char *what)
{
    fprintf(stderr, "kho-sim: %s '%s'; see kho-sim --help\n", wrong, what);
    return 2;
}

/* `rest` NULL: nothing may follow. */
static bool number(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    char *end;
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    if (ret_rest != NULL)
        *ret_rest = end;
    return errno == 0 && end != text && *text >= '0' && *text <= '9' &&
           (ret_rest != NULL || *end == '\0');
}

static bool positive(const char *text, double *ret_number)
{
    char *end;
    *ret_number = strtod(text, &end);
    return end != text && *end == '\0' && *ret_number > 0 && *ret_number < 1e9;
}

static bool small(const char *text, uint32_t *ret_number)
{
    uint64_t value;
    if (!number(text, &value, NULL) || value < 1 || value > UINT32_MAX)
        return false;
    *ret_number = (uint32_t)value;
    return true;
}

static bool range(const char *text, struct hunt_options *o)
{
    const char *rest;
    if (!number(text, &o->from, &rest) || strncmp(rest, "..", 2) != 0)
        return false;
    if (rest[2] == '\0') {
        o->to = UINT64_MAX - 1;
        return true;
    }
    return number(rest + 2, &o->to, NULL) && o->to >= o->from;
}

static bool fault_by_name(const char *name, size_t len, int *ret_fault)
{
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        const char *other = sim_fault_name((enum sim_fault)i);
        if (strlen(other) == len && strncmp(name, other, len) == 0) {
            *ret_fault = i;
            return true;
        }
    }
    fprintf(stderr, "kho-sim: there is no fault '%.*s'; there are:", (int)len, name);
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        fprintf(stderr, " %s", sim_fault_name((enum sim_fault)i));
    fprintf(stderr, "\n");
    return false;
}

/* Leaves out what is named, or with `only` the rest. */
static bool faults_take(const char *names, bool only, struct limits *limits)
{
    bool all = strcmp(names, "all") == 0;
    int fault;
    for (int i = 0; i < SIM_FAULT_COUNT && (all || only); i++)
        limits->without[i] = all ? !only : true;
    while (!all && *names != '\0') {
        size_t len = strcspn(names, ",");
        if (!fault_by_name(names, len, &fault))
            return false;
        limits->without[fault] = !only;
        names += len + (names[len] == ',');
    }
    return true;
}

enum {
    ALL_CLASSES = 1,
    BOUND,
    CALLS,
    HELP,
    JOBS,
    JSON,
    MINUTES,
    ONLY,
    REPLAY,
    ROUNDS,
    SEEDS,
    STATE,
    STORY,
    WITHOUT
};

static const struct option longs[] = {{"all-classes", no_argument, NULL, ALL_CLASSES},
                                      {"bound", required_argument, NULL, BOUND},
                                      {"calls", required_argument, NULL, CALLS},
                                      {"help", no_argument, NULL, HELP},
                                      {"jobs", required_argument, NULL, JOBS},
                                      {"json", required_argument, NULL, JSON},
                                      {"minutes", required_argument, NULL, MINUTES},
                                      {"only", required_argument, NULL, ONLY},
                                      {"replay", no_argument, NULL, REPLAY},
                                      {"rounds", required_argument, NULL, ROUNDS},
                                      {"seeds", required_argument, NULL, SEEDS},
                                      {"state", required_argument, NULL, STATE},
                                      {"story", no_argument, NULL, STORY},
                                      {"without", required_argument, NULL, WITHOUT},
                                      {NULL, 0, NULL, 0}};

static bool option_take(int option, const char *value, struct options *o)
{
    struct hunt_options *h = &o->hunt;
    switch (option) {
    case ALL_CLASSES:
        return h->all_classes = true;
    case BOUND:
        return positive(value, &h->bound_s);
    case CALLS:
        return small(value, &h->limits.calls_max);
    case JOBS:
        return small(value, &h->jobs) && h->jobs <= HUNT_JOBS_MAX;
    case JSON:
        h->json = value;
        return true;
    case MINUTES:
        return positive(value, &h->minutes);
    case REPLAY:
        return o->replay = true;
    case ROUNDS:
        return small(value, &h->limits.rounds_max);
    case SEEDS:
        return o->range = range(value, h);
    case STATE:
        h->state = value;
        return true;
    case STORY:
        return o->story = true;
    case ONLY:
        return faults_take(value, true, &h->limits);
    default:
        return faults_take(value, false, &h->limits);
    }
}

static bool limited(const struct limits *limits)
{
    static const struct limits none;
    return memcmp(limits, &none, sizeof none) != 0;
}

/* 0: go on; else exit with it, -1: with 0. */
static int options_parse(int argc, char **argv, struct options *o)
{
    hunt_options_init(&o->hunt);
    o->hunt.jobs = (unsigned)kho_min(kho_max(sysconf(_SC_NPROCESSORS_ONLN), 1), HUNT_JOBS_MAX);
    opterr = 0;
    for (int option; (option = getopt_long(argc, argv, "", longs, NULL)) != -1;) {
        if (option == HELP) {
            fputs(help, stdout);
            return -1;
        }
        if (option == '?')
            return usage("can't use", argv[optind - 1]);
        if (!option_take(option, optarg, o))
            return usage("can't use", optarg != NULL ? optarg : "");
    }
    if (o->range)
        return optind < argc ? usage("with --seeds there is no", argv[optind])
               : o->story    ? usage("with --seeds there is no", "--story")
               : o->replay   ? usage("with --seeds there is no", "--replay")
               : o->hunt.state != NULL && limited(&o->hunt.limits)
                   ? usage("a limited range has no", "--state")
                   : 0;
    if (optind + 1 != argc)
        return usage("wants a seed, not", optind < argc ? argv[optind + 1] : "");
    return number(argv[optind], &o->seed, NULL) ? 0 : usage("no seed:", argv[optind]);
}

int main(int argc, char **argv)
{
    struct options o = {0};
    int code = options_parse(argc, argv, &o);
    if (code != 0)
        return kho_max(code, 0);
    if (o.story)
        return run_story_of(&o);
    apart_prepare();
    return o.range ? run_range(&o) : o.replay ? run_twice(&o) : run_and_tell(&o);
}
