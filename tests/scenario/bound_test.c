/* bound_test.c: does the simulator bring nodes to the bound of their memory, and tell when one
 * passes it, or refuses there what it must take? */
#include "tests/sim/workload.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

/* A run of one round without faults whose nodes' memory is used up before it begins: the first
 * seed that draws such a plan. */
static void run_begin(struct sim *sim, struct workload *w)
{
    struct limits limits = {.calls_max = 60, .rounds_max = 1};
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        limits.without[i] = true;
    for (uint64_t seed = 1;; seed++) {
        struct plan plan;
        struct cluster_options options;
        assert_true(seed < 1000);
        sim_init(sim, seed, false);
        plan_draw(sim, &plan, &options);
        if (plan.full)
            break;
        sim_fini(sim);
    }
    workload_run_limited(w, sim, &limits);
    assert_string_equal(sim->failure, "");
}

static void run_end(struct sim *sim, struct workload *w)
{
    workload_fini(w);
    sim_fini(sim);
}

/* New keys were refused, updates and deletes taken, and the memory was looked at all the time. */
static void test_full(void **state)
{
    (void)state;
    struct sim sim;
    struct workload *w = calloc(1, sizeof *w);
    assert_non_null(w);
    run_begin(&sim, w);
    assert_true(w->checked.refused_full > 0);
    assert_true(w->checked.updates_full >= 8);
    assert_true(w->checked.memory > 1000);
    run_end(&sim, w);
    free(w);
}

/* A shard that uses more than its bound is told at its next turn. */
static void test_bound_passed(void **state)
{
    (void)state;
    struct sim sim;
    struct workload *w = calloc(1, sizeof *w);
    assert_non_null(w);
    run_begin(&sim, w);
    cluster_run(w->cluster, SIM_S);
    assert_false(sim.failed);
    w->cluster->nodes[1].memory_max =
        node_stat(&w->cluster->nodes[1], STAT_memory_bytes) / w->cluster->options.shards -
        (1 << 20);
    workload_put_all(w, &w->cluster->clients[0]);
    cluster_run(w->cluster, SIM_S);
    assert_true(sim.failed);
    assert_non_null(strstr(sim.failure, "its bound is"));
    run_end(&sim, w);
    free(w);
}

/* An update that is refused once all is healed is told: here two nodes are down, and a third node
 * that takes it isn't enough. */
static void test_refused_update(void **state)
{
    (void)state;
    struct sim sim;
    struct workload *w = calloc(1, sizeof *w);
    assert_non_null(w);
    run_begin(&sim, w);
    workload_put(w, &w->cluster->clients[0], &w->slots[0], true);
    assert_false(sim.failed);
    for (uint32_t i = 1; i < w->cluster->options.nodes; i++)
        node_kill(&w->cluster->nodes[i]);
    workload_put(w, &w->cluster->clients[0], &w->slots[0], false);
    assert_true(sim.failed);
    assert_non_null(strstr(sim.failure, "a put of key 0 fails"));
    run_end(&sim, w);
    free(w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_bound_passed),
        cmocka_unit_test(test_refused_update),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
