/* hunt.c: gives out seeds to processes and takes in what they tell. */
#include "hunt.h"

#include "reduce.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

enum { SAVE_EVERY_S = 10 };

struct hunters {
    const struct hunt_options *o;
    struct counts *counts;
    struct apart aparts[HUNT_JOBS_MAX];
    uint64_t upcoming;
    double begun_s, said_s, saved_s, real_before_s;
    int signals; /* that asked for the end */
    struct run_result broken[HUNT_STORIES_MAX];
    unsigned broken_count;
};

void hunt_options_init(struct hunt_options *options)
{
    *options =
        (struct hunt_options){.from = 1, .to = 1, .jobs = 1, .bound_s = 120, .run = run_seed};
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void progress(struct hunters *h, bool last)
{
    double now = now_s();
    if (!isatty(STDERR_FILENO) || (!last && now - h->said_s < 0.5))
        return;
    h->said_s = now;
    if (last)
        fprintf(stderr, "\r\033[K");
    else
        fprintf(stderr, "\r\033[K%llu seeds, %zu violations, %.1f simulated hours, %.0f s",
                (unsigned long long)h->counts->seeds, h->counts->violation_count,
                h->counts->simulated_s / 3600, now - h->begun_s);
    fflush(stderr);
}

static int save(struct hunters *h)
{
    h->saved_s = now_s();
    h->counts->real_s = h->real_before_s + h->saved_s - h->begun_s;
    return h->o->state != NULL ? counts_save(h->counts, h->o->state) : 0;
}

/* The first ones that differ become stories in the end. */
static void broken_keep(struct hunters *h, const struct run_result *r)
{
    for (unsigned i = 0; i < h->broken_count; i++)
        if (failure_same(h->broken[i].failure, r->failure))
            return;
    if (h->broken_count < HUNT_STORIES_MAX)
        h->broken[h->broken_count++] = *r;
}

static void take(struct hunters *h, const struct run_result *r)
{
    counts_add(h->counts, r);
    if (!r->broke)
        return;
    progress(h, true);
    printf("seed %llu BROKE: %s\n", (unsigned long long)r->seed, r->failure);
    fflush(stdout);
    broken_keep(h, r);
}

/* The next seed that nobody has run; false: there is none, or time is up. */
static bool give(struct hunters *h, uint64_t *ret_seed)
{
    bool over = h->o->minutes > 0 && now_s() - h->begun_s >= h->o->minutes * 60;
    while (h->upcoming <= h->o->to && counts_has(h->counts, h->upcoming))
        h->upcoming++;
    if (over || h->signals > 0 || h->upcoming > h->o->to)
        return false;
    *ret_seed = h->upcoming++;
    return true;
}

/* How many are under way. */
static unsigned turn(struct hunters *h)
{
    unsigned under_way = 0;
    for (unsigned i = 0; i < h->o->jobs; i++) {
        struct apart *apart = &h->aparts[i];
        struct run_result r;
        uint64_t seed;
        if (apart_ended(apart, h->o->bound_s, &r))
            take(h, &r);
        if (apart->pid == 0 && give(h, &seed) &&
            apart_start(apart, h->o->run, seed, &h->o->limits, EVENTS_NO_KEY) != 0) {
            fprintf(stderr, "kho-sim: no process for seed %llu\n", (unsigned long long)seed);
            exit(2);
        }
        under_way += apart->pid != 0;
    }
    return under_way;
}

static void stories(struct hunters *h)
{
    for (unsigned i = 0; i < h->broken_count && h->signals < 2; i++) {
        struct reduction r;
        if (reduce(&r, h->o->run, &h->broken[i], &h->o->limits))
            reduce_print(&r, stdout);
        else
            printf("\nseed %llu doesn't break when it is run again: %s\n",
                   (unsigned long long)h->broken[i].seed, h->broken[i].failure);
        reduce_fini(&r);
    }
    if (h->broken_count > 0)
        printf("\n");
}

static int verdict_print(struct hunters *h)
{
    const struct counts *c = h->counts;
    int code = c->violation_count > 0;
    printf("seeds from %llu; all below %llu have ended\n", (unsigned long long)c->from,
           (unsigned long long)c->next);
    counts_print(c, stdout);
    if (h->o->all_classes && counts_silent(c) > 0) {
        printf("%u fault classes never fired\n", counts_silent(c));
        code = 1;
    }
    if (h->o->json != NULL && counts_report(c, h->o->json) != 0)
        code = kho_max(code, 2);
    return code;
}

int hunt(const struct hunt_options *options, struct counts *counts)
{
    struct hunters h = {.o = options, .counts = counts, .upcoming = options->from};
    if (options->state != NULL && counts_load(counts, options->state) < 0)
        return 2;
    for (size_t i = 0; i < counts->violation_count; i++)
        printf("seed %llu BROKE before: %s\n", (unsigned long long)counts->violations[i].seed,
               counts->violations[i].failure);
    h.begun_s = h.saved_s = now_s();
    h.real_before_s = counts->real_s;
    for (unsigned i = 0; i < options->jobs; i++)
        if (apart_init(&h.aparts[i]) != 0)
            return 2;
    int code = 0;
    while (turn(&h) > 0 && h.signals < 2) {
        int number = apart_wait(0.5);
        h.signals += number == SIGINT || number == SIGTERM;
        if (now_s() - h.saved_s > SAVE_EVERY_S && save(&h) != 0)
            code = 2;
        progress(&h, false);
    }
    for (unsigned i = 0; i < options->jobs; i++)
        apart_fini(&h.aparts[i]);
    progress(&h, true);
    if (save(&h) != 0)
        code = 2;
    stories(&h);
    return kho_max(code, verdict_print(&h));
}
