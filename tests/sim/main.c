/* main.c: kho-sim, seeded runs of both cores.
 *
 *   kho-sim SEED [--story]     one run; with its story, line by line
 *   kho-sim --seeds A..B       all runs from A to B
 *   kho-sim --replay SEED      the same run twice: both must have the same trace
 *
 * Exit: 0 all promises held; 1 one was broken (the command that shows it is printed); 2 usage. */
#include "workload.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

static volatile uint64_t seed_now;

static void say_seed(void)
{
    /* Only what a signal handler may call. */
    char text[64] = "\nto see it again: kho-sim ";
    char digits[24];
    size_t n = 0, len = strlen(text);
    uint64_t seed = seed_now;
    do
        digits[n++] = (char)('0' + seed % 10);
    while ((seed /= 10) > 0);
    while (n > 0)
        text[len++] = digits[--n];
    static const char rest[] = " --story\n";
    memcpy(text + len, rest, sizeof rest);
    ssize_t written = write(STDERR_FILENO, text, len + sizeof rest - 1);
    (void)written;
}

static void on_abort(int number)
{
    say_seed();
    signal(number, SIG_DFL);
    raise(number);
}

/* The address sanitizer's, called before its report; without it, never. */
void __asan_on_error(void);
void __asan_on_error(void)
{
    say_seed();
}

static bool run(uint64_t seed, bool story, bool quiet, uint64_t *ret_trace)
{
    struct sim sim;
    struct workload *w = calloc(1, sizeof *w);
    KHO_ASSERT(w != NULL);
    seed_now = seed;
    sim_init(&sim, seed, story);
    workload_run(w, &sim);
    bool held = !sim.failed;
    *ret_trace = sim.trace;
    if (!quiet || !held) {
        printf("seed %llu trace %016llx: %llu ok, %llu failed, %llu in doubt, %.1f s, %llu steps;",
               (unsigned long long)seed, (unsigned long long)sim.trace,
               (unsigned long long)w->ops_ok, (unsigned long long)w->ops_failed,
               (unsigned long long)w->ops_doubtful, (double)sim.now_ns / 1e9,
               (unsigned long long)sim.steps);
        for (int i = 0; i < SIM_FAULT_COUNT; i++)
            if (sim.faults[i] > 0)
                printf(" %s %llu", sim_fault_name((enum sim_fault)i),
                       (unsigned long long)sim.faults[i]);
        if (w->compacted > 0)
            printf(" compacted %llu", (unsigned long long)w->compacted);
        if (w->recycled > 0)
            printf(" recycled %llu", (unsigned long long)w->recycled);
        if (w->history.unjudged > 0)
            printf(" (%u searches gave up)", w->history.unjudged);
        printf("\n");
    }
    if (!held)
        printf("seed %llu BROKE: %s\nto see it again: kho-sim %llu --story\n",
               (unsigned long long)seed, sim.failure, (unsigned long long)seed);
    fflush(stdout);
    sim.story = false;
    workload_fini(w);
    sim_fini(&sim);
    free(w);
    return held;
}

static bool number(const char *text, uint64_t *ret_number, const char **ret_rest)
{
    char *end;
    errno = 0;
    *ret_number = strtoull(text, &end, 10);
    *ret_rest = end;
    return errno == 0 && end != text;
}

static int usage(void)
{
    fprintf(stderr, "usage: kho-sim SEED [--story] | --seeds A..B | --replay SEED\n");
    return 2;
}

static int run_range(const char *range)
{
    uint64_t from, to, trace, broken = 0;
    const char *rest;
    if (!number(range, &from, &rest) || strncmp(rest, "..", 2) != 0 ||
        !number(rest + 2, &to, &rest) || *rest != '\0' || to < from)
        return usage();
    for (uint64_t seed = from; seed <= to; seed++)
        broken += !run(seed, false, false, &trace);
    printf("%llu of %llu seeds broke a promise\n", (unsigned long long)broken,
           (unsigned long long)to - from + 1);
    return broken > 0;
}

static int run_twice(uint64_t seed)
{
    uint64_t first, second;
    bool held = run(seed, false, false, &first);
    held &= run(seed, false, false, &second);
    if (first != second)
        printf("seed %llu isn't replayed: traces %016llx and %016llx\n", (unsigned long long)seed,
               (unsigned long long)first, (unsigned long long)second);
    return !held || first != second;
}

int main(int argc, char **argv)
{
    uint64_t seed, trace;
    const char *rest;
    signal(SIGABRT, on_abort);
    if (argc == 3 && strcmp(argv[1], "--seeds") == 0)
        return run_range(argv[2]);
    if (argc == 3 && strcmp(argv[1], "--replay") == 0 && number(argv[2], &seed, &rest))
        return *rest == '\0' ? run_twice(seed) : usage();
    if (argc < 2 || argc > 3 || !number(argv[1], &seed, &rest) || *rest != '\0' ||
        (argc == 3 && strcmp(argv[2], "--story") != 0))
        return usage();
    return !run(seed, argc == 3, false, &trace);
}
