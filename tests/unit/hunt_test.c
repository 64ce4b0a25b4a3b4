/* hunt_test.c: does a hunt notice every way in which a run can break, go on with the other seeds,
 * resume where it stopped, and find the shortest story of a failure? On runs made up here. */
#include "tests/sim/hunt/hunt.h"
#include "tests/sim/hunt/reduce.h"

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEDS_MAX = 64 };
#ifdef __SANITIZE_ADDRESS__
enum { LEAKS_SHOW = 1 };
#else
enum { LEAKS_SHOW = 0 };
#endif
static void *volatile kept;
static uint32_t *times_run; /* by seed, shared with the processes of the runs */

static void whole(uint64_t seed, const struct limits *limits, struct events *events,
                  struct run_result *r)
{
    (void)limits;
    (void)events;
    times_run[seed]++;
    *r = (struct run_result){.seed = seed, .now_ns = 10 * SIM_S, .calls = 3, .records_ok = 5};
    r->faults[SIM_FAULT_kill] = 2;
}

static void breaks_all_ways(uint64_t seed, const struct limits *limits, struct events *events,
                            struct run_result *r)
{
    whole(seed, limits, events, r);
    if (seed == 3)
        abort();
    if (seed == 5)
        for (volatile unsigned i = 0;; i++)
            ;
    if (seed == 7) {
        r->broke = true;
        snprintf(r->failure, sizeof r->failure, "key 4: lost");
    }
    if (seed == 8) {
        kept = malloc(100);
        kept = NULL;
    }
    if (seed == 9) {
        fprintf(stderr, "==1==ERROR: something is wrong\nmore of it\n");
        _exit(1);
    }
}

static struct hunt_options options(run_call run, uint64_t to)
{
    struct hunt_options o;
    hunt_options_init(&o);
    o.to = to;
    o.jobs = 2;
    o.bound_s = 1;
    o.run = run;
    memset(times_run, 0, SEEDS_MAX * sizeof *times_run);
    return o;
}

static const char *failure_of(const struct counts *c, uint64_t seed)
{
    for (size_t i = 0; i < c->violation_count; i++)
        if (c->violations[i].seed == seed)
            return c->violations[i].failure;
    return NULL;
}

static void every_way_to_break(void **state)
{
    (void)state;
    struct counts c;
    struct hunt_options o = options(breaks_all_ways, 12);
    counts_init(&c, 1);
    assert_int_equal(hunt(&o, &c), 1);
    assert_int_equal(c.seeds, 12);
    assert_int_equal(c.next, 13);
    assert_int_equal(c.violation_count, 4 + LEAKS_SHOW);
    assert_true(!LEAKS_SHOW || strstr(failure_of(&c, 8), "memory leaks") != NULL);
    assert_non_null(strstr(failure_of(&c, 3), "crashed: Aborted"));
    assert_non_null(strstr(failure_of(&c, 5), "hasn't ended after 1 s"));
    assert_string_equal(failure_of(&c, 7), "key 4: lost");
    assert_non_null(strstr(failure_of(&c, 9), "exited with 1: ==1==ERROR: something is wrong"));
    for (uint64_t seed = 1; seed <= 12; seed++)
        assert_true(times_run[seed] >= 1);
    counts_fini(&c);
}

static void silent_classes(void **state)
{
    (void)state;
    struct counts c;
    struct hunt_options o = options(whole, 4);
    counts_init(&c, 1);
    assert_int_equal(hunt(&o, &c), 0);
    counts_fini(&c);
    counts_init(&c, 1);
    o.all_classes = true;
    assert_int_equal(hunt(&o, &c), 1);
    assert_int_equal(counts_silent(&c), SIM_FAULT_COUNT - 1);
    counts_fini(&c);
}

static char path[64];

static void resumes(void **state)
{
    (void)state;
    struct counts c;
    struct hunt_options o = options(whole, 10);
    snprintf(path, sizeof path, "hunt_test.%d.state", (int)getpid());
    o.state = path;
    counts_init(&c, 1);
    assert_int_equal(hunt(&o, &c), 0);
    counts_fini(&c);
    o.to = 20;
    counts_init(&c, 1);
    assert_int_equal(hunt(&o, &c), 0);
    assert_int_equal(c.seeds, 20);
    assert_int_equal(c.calls, 60);
    assert_int_equal(c.records_ok, 100);
    assert_int_equal(c.faults[SIM_FAULT_kill], 40);
    assert_true(c.simulated_s > 199.9 && c.simulated_s < 200.1);
    for (uint64_t seed = 1; seed <= 20; seed++)
        assert_int_equal(times_run[seed], 1);
    counts_fini(&c);
    /* Another range isn't mixed with it. */
    o.from = 2;
    counts_init(&c, 2);
    assert_int_equal(hunt(&o, &c), 2);
    counts_fini(&c);
    unlink(path);
}

/* Stopped while seeds before others hadn't ended: those alone are run again. */
static void resumes_with_gaps(void **state)
{
    (void)state;
    static const uint64_t ended[] = {1, 2, 5, 8};
    struct counts c;
    counts_init(&c, 1);
    for (size_t i = 0; i < 4; i++)
        counts_add(&c, &(struct run_result){
                           .seed = ended[i], .broke = ended[i] == 5, .failure = "key 1: \"lost\""});
    assert_int_equal(c.next, 3);
    assert_int_equal(counts_save(&c, path), 0);
    counts_fini(&c);
    struct hunt_options o = options(whole, 9);
    o.state = path;
    counts_init(&c, 1);
    assert_int_equal(hunt(&o, &c), 1); /* what it found before still counts */
    assert_int_equal(c.seeds, 9);
    assert_int_equal(c.next, 10);
    assert_int_equal(c.violation_count, 1);
    assert_string_equal(failure_of(&c, 5), "key 1: \"lost\"");
    for (uint64_t seed = 1; seed <= 9; seed++)
        assert_int_equal(times_run[seed], seed == 1 || seed == 2 || seed == 5 || seed == 8 ? 0 : 1);
    counts_fini(&c);
    unlink(path);
}

/* --- The shortest story ----------------------------------------------------------------------- */

static bool crashes;

/* Breaks with kill and latent, from the second round and the 17th call on. */
static void breaks_with_two_faults(uint64_t seed, const struct limits *limits,
                                   struct events *events, struct run_result *r)
{
    uint32_t rounds = limits->rounds_max > 0 ? kho_min(limits->rounds_max, 4) : 4;
    uint32_t calls = limits->calls_max > 0 ? kho_min(limits->calls_max, 300) : 300;
    *r = (struct run_result){.seed = seed, .steps = 1, .rounds = rounds, .calls_drawn = calls};
    for (int i = 0; i < SIM_FAULT_COUNT; i += 2)
        r->faults[i] = !limits->without[i];
    r->faults[SIM_FAULT_latent] = !limits->without[SIM_FAULT_latent];
    r->faults[SIM_FAULT_kill] = !limits->without[SIM_FAULT_kill];
    r->broke = rounds >= 2 && calls >= 17 && r->faults[SIM_FAULT_latent] > 0 &&
               r->faults[SIM_FAULT_kill] > 0;
    if (!r->broke)
        return;
    snprintf(r->failure, sizeof r->failure, "key 4: lost by %u calls", calls);
    events_listen(events, 5, "n2.0: phase 1");
    events_listen(events, 6, "n2.0: read file 1");
    events_listen(events, 7, "client 1: verb 1 key 4 value 2");
    events_listen(events, 8, "client 1: verb 1 key 5 value 2");
    if (crashes) {
        *r = (struct run_result){0}; /* a run tells at its end */
        abort();
    }
}

static void shortest(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct reduction r;
        struct run_result found;
        struct limits none = {0};
        struct apart apart;
        crashes = i == 1;
        assert_int_equal(apart_init(&apart), 0);
        assert_int_equal(apart_start(&apart, breaks_with_two_faults, 11, &none, EVENTS_NO_KEY), 0);
        while (!apart_ended(&apart, 10, &found))
            apart_wait(1);
        apart_fini(&apart);
        assert_true(found.broke);
        assert_true(reduce(&r, breaks_with_two_faults, &found, &none));
        assert_true(r.result.broke);
        assert_true(r.runs <= REDUCE_RUNS_MAX + 1);
        assert_int_equal(r.limits.rounds_max, 2);
        assert_false(r.limits.without[SIM_FAULT_kill]);
        assert_false(r.limits.without[SIM_FAULT_latent]);
        for (int f = 0; f < SIM_FAULT_COUNT; f += 2)
            assert_true(r.limits.without[f] || f == SIM_FAULT_kill || f == SIM_FAULT_latent);
        assert_int_equal(r.limits.calls_max, 17);
        const struct events *e = apart_events(&r.apart);
        assert_int_equal(e->count, 1); /* reads don't matter */
        assert_string_equal(e->lines[0].text, "n2.0: phase 1");
        assert_int_equal(e->key_count, crashes ? 0 : 1);
        reduce_print(&r, stdout);
        reduce_fini(&r);
    }
}

static void not_again(void **state)
{
    (void)state;
    struct reduction r;
    struct limits none = {0};
    struct run_result found = {.seed = 2, .broke = true, .failure = "key 4: lost"};
    assert_false(reduce(&r, whole, &found, &none));
    reduce_fini(&r);
}

static void commands(void **state)
{
    (void)state;
    char text[1024];
    struct limits l = {.rounds_max = 2, .calls_max = 17};
    run_command(5, &l, text, sizeof text);
    assert_string_equal(text, "kho-sim 5 --rounds 2 --calls 17");
    l = (struct limits){0};
    l.without[SIM_FAULT_kill] = l.without[SIM_FAULT_flip] = true;
    run_command(5, &l, text, sizeof text);
    assert_string_equal(text, "kho-sim 5 --without kill,flip");
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        l.without[i] = i != SIM_FAULT_cut;
    run_command(5, &l, text, sizeof text);
    assert_string_equal(text, "kho-sim 5 --only cut");
    l.without[SIM_FAULT_cut] = true;
    run_command(5, &l, text, sizeof text);
    assert_string_equal(text, "kho-sim 5 --without all");
}

static void messages(void **state)
{
    (void)state;
    assert_true(failure_same("n1 turns a probe away: -5, 12", "n2 turns a probe away: -17, 3"));
    assert_true(failure_same("key 3: lost", "key 12: another value"));
    assert_false(failure_same("verify fails (1, 2)", "repair fails (1, 2)"));
    assert_int_equal(events_key("replica n1 of key 30: state 2"), 30);
    assert_int_equal(events_key("n1 doesn't stop"), EVENTS_NO_KEY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_way_to_break),
        cmocka_unit_test(silent_classes),
        cmocka_unit_test(resumes),
        cmocka_unit_test(resumes_with_gaps),
        cmocka_unit_test(shortest),
        cmocka_unit_test(not_again),
        cmocka_unit_test(commands),
        cmocka_unit_test(messages),
    };
    times_run = mmap(NULL, SEEDS_MAX * sizeof *times_run, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (times_run == MAP_FAILED)
        return 1;
    apart_prepare();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
