/* reduce.c: leaves out one thing after another, and keeps what still fails. */
#include "reduce.h"

#include <ctype.h>
#include <signal.h>
#include <time.h>

/* Of the runs, so many at most look for faults that can be left out. Where a process died and told
 * nothing of its plan, it had at most so many rounds and calls. */
enum { FAULT_RUNS_MAX = 42, ROUNDS_UNKNOWN = 5, CALLS_UNKNOWN = 400, PASSES_MAX = 4 };

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static const char *skip_number(const char *at)
{
    while (isxdigit((unsigned char)*at) || *at == '.' || *at == '-')
        at++;
    return at;
}

bool failure_same(const char *a, const char *b)
{
    if (strncmp(a, "key ", 4) == 0 && strncmp(b, "key ", 4) == 0)
        return true;
    for (;;) {
        if (isdigit((unsigned char)*a) && isdigit((unsigned char)*b)) {
            a = skip_number(a);
            b = skip_number(b);
        }
        if (*a != *b)
            return false;
        if (*a == '\0')
            return true;
        a++;
        b++;
    }
}

static bool spent(const struct reduction *r)
{
    return r->runs >= r->runs_max || now_s() * 1e9 > (double)r->until_ns;
}

/* Makes the run; false if it can't be made. */
static bool run_once(struct reduction *r, const struct limits *limits, struct run_result *ret)
{
    r->runs++;
    if (apart_start(&r->apart, r->run, r->seed, limits, events_key(r->result.failure)) != 0)
        return false;
    double left = kho_max((double)r->until_ns / 1e9 - now_s(), 1.0);
    while (!apart_ended(&r->apart, left, ret)) {
        int number = apart_wait(0.1);
        if (number == SIGINT || number == SIGTERM)
            r->until_ns = 0; /* what was found so far will do */
    }
    return true;
}

/* Keeps the limits if the run still fails with them. */
static bool try(struct reduction *r, const struct limits *limits)
{
    struct run_result result;
    if (spent(r) || !run_once(r, limits, &result) || !result.broke ||
        !(r->any || failure_same(result.failure, r->first)))
        return false;
    r->limits = *limits;
    r->result = result;
    return true;
}

static void fewer_rounds(struct reduction *r)
{
    /* Those after the failure weren't begun; a process that died couldn't say how many were. */
    struct limits limits = r->limits;
    if (r->result.rounds > 0)
        limits.rounds_max = r->limits.rounds_max = r->result.rounds;
    else if (limits.rounds_max == 0)
        limits.rounds_max = ROUNDS_UNKNOWN;
    while (limits.rounds_max > 1) {
        limits.rounds_max--;
        if (!try(r, &limits))
            break;
    }
}

/* Groups of the faults that fired, each half as large as before, down to one. */
static void fewer_faults(struct reduction *r)
{
    int fired[SIM_FAULT_COUNT], count = 0;
    bool died = r->result.steps == 0;
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        if ((r->result.faults[i] > 0 || died) && !r->limits.without[i])
            fired[count++] = i;
    r->runs_max = kho_min(r->runs + FAULT_RUNS_MAX, REDUCE_RUNS_MAX);
    for (int size = count; size > 0; size /= 2)
        for (int from = 0; from < count; from += size) {
            struct limits limits = r->limits;
            int more = 0;
            for (int i = from; i < from + size && i < count; i++) {
                more += !limits.without[fired[i]];
                limits.without[fired[i]] = true;
            }
            if (more > 0)
                (void)try(r, &limits);
        }
    r->runs_max = REDUCE_RUNS_MAX;
}

static void fewer_calls(struct reduction *r)
{
    uint32_t enough = r->result.calls_drawn, few = 0;
    if (enough == 0)
        enough = r->limits.calls_max > 0 ? r->limits.calls_max : CALLS_UNKNOWN;
    while (enough > few + 1) {
        struct limits limits = r->limits;
        limits.calls_max = few + (enough - few) / 2;
        if (try(r, &limits))
            enough = limits.calls_max;
        else
            few = limits.calls_max;
    }
}

bool reduce(struct reduction *r, run_call run, const struct run_result *found,
            const struct limits *limits)
{
    struct limits none = {0};
    *r = (struct reduction){.seed = found->seed,
                            .run = run,
                            .runs_max = REDUCE_RUNS_MAX,
                            .limits = limits != NULL ? *limits : none,
                            .result = *found,
                            .until_ns = (uint64_t)((now_s() + REDUCE_SECONDS_MAX) * 1e9)};
    if (apart_init(&r->apart) != 0)
        return false;
    snprintf(r->first, sizeof r->first, "%s", found->failure);
    struct limits asked = r->limits, before;
    for (int pass = 0; pass < PASSES_MAX && !spent(r); pass++) {
        before = r->limits;
        fewer_rounds(r);
        fewer_faults(r);
        fewer_calls(r);
        r->any = memcmp(&asked.without, &r->limits.without, sizeof asked.without) == 0 &&
                 asked.calls_max == r->limits.calls_max;
        if (!r->any && memcmp(&before, &r->limits, sizeof before) == 0)
            break;
    }
    /* Once more, with the events of the key that it is about now. */
    struct run_result last;
    r->until_ns = kho_max(r->until_ns, (uint64_t)((now_s() + REDUCE_SECONDS_MAX) * 1e9));
    if (!run_once(r, &r->limits, &last) || !last.broke)
        return false;
    r->result = last;
    return true;
}

void reduce_print(const struct reduction *r, FILE *to)
{
    char command[1024], said[3000];
    run_command(r->seed, &r->limits, command, sizeof command);
    fprintf(to, "\nseed %llu, the shortest story of %u runs: %s\n", (unsigned long long)r->seed,
            r->runs, r->result.failure);
    events_print(apart_events(&r->apart), to);
    if (apart_said(&r->apart, said, sizeof said)) {
        int lines = 0;
        fprintf(to, "the process said\n");
        for (char *line = strtok(said, "\n"); line != NULL && lines < 20;
             line = strtok(NULL, "\n"), lines++)
            fprintf(to, "  %s\n", line);
    }
    fprintf(to, "to see it again: %s\n", command);
}

void reduce_fini(struct reduction *r)
{
    apart_fini(&r->apart);
}
