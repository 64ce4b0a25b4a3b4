/* placement_test.c: the assignment table is balanced, spread over zones and the same everywhere. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/placement.h"

enum { PARTITIONS = 1024, NODES_MAX = 16 };

struct scene {
    struct map_node nodes[NODES_MAX];
    uint32_t count;
    uint16_t table[PARTITIONS * KHO_MAP_REPLICAS_MAX];
};

/* Nodes of weight 100, the zones dealt out in turn; no zones: zones 0. */
static void scene_nodes(struct scene *s, uint32_t count, uint32_t zones)
{
    memset(s, 0, sizeof *s);
    s->count = count;
    for (uint32_t i = 0; i < count; i++) {
        snprintf(s->nodes[i].name, sizeof s->nodes[i].name, "n%u", i);
        s->nodes[i].weight = 100;
        s->nodes[i].state = MAP_NODE_UP;
        if (zones > 0)
            snprintf(s->nodes[i].zone, sizeof s->nodes[i].zone, "z%u", i % zones);
    }
}

static uint32_t scene_load(const struct scene *s, uint32_t width, uint32_t columns, uint32_t node)
{
    uint32_t load = 0;
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (uint32_t k = 0; k < columns; k++)
            load += s->table[p * width + k] == node;
    return load;
}

static void assert_distinct(const struct scene *s, uint32_t width)
{
    for (uint32_t p = 0; p < PARTITIONS; p++)
        for (uint32_t k = 0; k < width; k++)
            for (uint32_t j = 0; j < k; j++)
                assert_int_not_equal(s->table[p * width + k], s->table[p * width + j]);
}

static void test_balanced_in_every_prefix(void **state)
{
    /* Seven equal nodes hold nearly the same number of partitions in the first one, two and three
     * columns. */
    (void)state;
    static struct scene s;
    scene_nodes(&s, 7, 0);
    assert_int_equal(placement_balance(s.nodes, s.count, PARTITIONS, 3, NULL, s.table), 0);
    assert_distinct(&s, 3);
    for (uint32_t columns = 1; columns <= 3; columns++)
        for (uint32_t i = 0; i < s.count; i++)
            assert_in_range(scene_load(&s, 3, columns, i), PARTITIONS * columns / 7 - 3,
                            PARTITIONS * columns / 7 + 3);
}

static void test_shares_after_weights(void **state)
{
    /* A node of double weight holds twice as much. */
    (void)state;
    static struct scene s;
    scene_nodes(&s, 6, 0);
    s.nodes[2].weight = 200;
    assert_int_equal(placement_balance(s.nodes, s.count, PARTITIONS, 3, NULL, s.table), 0);
    uint32_t share = PARTITIONS * 3 / 7;
    for (uint32_t i = 0; i < s.count; i++) {
        uint32_t want = i == 2 ? 2 * share : share;
        assert_in_range(scene_load(&s, 3, 3, i), want - 8, want + 8);
    }
}

static void test_distinct_zones_while_they_last(void **state)
{
    /* With three zones every partition stands in all three; with two, in both before one repeats.
     */
    (void)state;
    static struct scene s;
    for (uint32_t zones = 2; zones <= 3; zones++) {
        scene_nodes(&s, 9, zones);
        assert_int_equal(placement_balance(s.nodes, s.count, PARTITIONS, 3, NULL, s.table), 0);
        assert_distinct(&s, 3);
        for (uint32_t p = 0; p < PARTITIONS; p++) {
            uint32_t seen = 0;
            for (uint32_t k = 0; k < 3; k++)
                seen |= 1u << (s.table[p * 3 + k] % zones);
            assert_int_equal(seen, (1u << zones) - 1);
        }
    }
}

static void test_many_partners(void **state)
{
    /* A node shares its partitions with all others, so that its loss spreads over all. */
    (void)state;
    static struct scene s;
    scene_nodes(&s, 8, 0);
    assert_int_equal(placement_balance(s.nodes, s.count, PARTITIONS, 2, NULL, s.table), 0);
    for (uint32_t a = 0; a < s.count; a++)
        for (uint32_t b = a + 1; b < s.count; b++) {
            uint32_t together = 0;
            for (uint32_t p = 0; p < PARTITIONS; p++)
                together += (s.table[p * 2] == a && s.table[p * 2 + 1] == b) ||
                            (s.table[p * 2] == b && s.table[p * 2 + 1] == a);
            assert_in_range(together, 10, 80);
        }
}

static void test_same_input_same_table(void **state)
{
    /* Two admins who compute it get the same bytes. */
    (void)state;
    static struct scene a, b;
    scene_nodes(&a, 5, 3);
    scene_nodes(&b, 5, 3);
    assert_int_equal(placement_balance(a.nodes, a.count, PARTITIONS, 3, NULL, a.table), 0);
    assert_int_equal(placement_balance(b.nodes, b.count, PARTITIONS, 3, NULL, b.table), 0);
    assert_memory_equal(a.table, b.table, sizeof a.table);
}

static void test_who_leaves_holds_nothing(void **state)
{
    /* Draining nodes, nodes that are out and those without weight get no partition; where too few
     * are left, it is an error. */
    (void)state;
    static struct scene s;
    scene_nodes(&s, 6, 0);
    s.nodes[0].state = MAP_NODE_DRAINING;
    s.nodes[1].state = MAP_NODE_OUT;
    s.nodes[2].weight = 0;
    assert_int_equal(placement_balance(s.nodes, s.count, PARTITIONS, 3, NULL, s.table), 0);
    for (uint32_t i = 0; i < 3; i++)
        assert_int_equal(scene_load(&s, 3, 3, i), 0);
    s.table[0] = 77;
    assert_int_equal(placement_balance(s.nodes, s.count, PARTITIONS, 4, NULL, s.table), -EINVAL);
    assert_int_equal(s.table[0], 77);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_balanced_in_every_prefix),
        cmocka_unit_test(test_shares_after_weights),
        cmocka_unit_test(test_distinct_zones_while_they_last),
        cmocka_unit_test(test_many_partners),
        cmocka_unit_test(test_same_input_same_table),
        cmocka_unit_test(test_who_leaves_holds_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
