/* placement_many_test.c: does the table stay balanced, spread over zones and nearly at rest, in
 * clusters of 3 to 10,000 nodes that grow, shrink, lose a zone and change their weights?
 *
 * Bounds: fullest over share at most 1.03 with 100 or more cells a node; moved cells at most 1.05
 * times what the shares require; never two of a zone in a row while there are `width` zones.
 *
 * With few nodes or zones a single change may need more than the shares say, since the rows leave
 * no choice: a node that was in each of them and grows can only take what another has, who then has
 * to be given something. So up to 47 nodes the bound of 1.05 holds for all changes together. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/placement.h"
#include "client/placement_share.h"

enum { WIDTH = 3, CELLS_A_NODE = 100, FEW = 48 };

struct scene {
    struct map_node *nodes;
    uint32_t count, capacity;
    uint32_t partitions;
    uint16_t *table;
    struct kho_random random;
};

static uint64_t g_tables, g_cells, g_moved[2], g_required[2];
static uint32_t g_fullest;

static void scene_init(struct scene *s, uint32_t capacity, uint64_t seed)
{
    *s = (struct scene){.capacity = capacity, .partitions = 1};
    while ((uint64_t)s->partitions * WIDTH < (uint64_t)capacity * CELLS_A_NODE)
        s->partitions *= 2;
    s->nodes = calloc(capacity, sizeof *s->nodes);
    s->table = calloc((size_t)s->partitions * WIDTH, sizeof *s->table);
    assert_non_null(s->nodes);
    assert_non_null(s->table);
    kho_random_init(&s->random, seed);
}

static void scene_fini(struct scene *s)
{
    free(s->nodes);
    free(s->table);
}

/* A node in one of `zones` zones (0: its own), of weight 50 to 150 or all equal. */
static void scene_add(struct scene *s, uint32_t zones, bool varied)
{
    struct map_node *node = &s->nodes[s->count];
    assert_true(s->count < s->capacity);
    snprintf(node->name, sizeof node->name, "n%u", s->count);
    if (zones > 0)
        snprintf(node->zone, sizeof node->zone, "z%u",
                 (unsigned)kho_random_below(&s->random, zones));
    node->weight = varied ? 50 + (uint32_t)kho_random_below(&s->random, 101) : 100;
    node->state = MAP_NODE_UP;
    s->count++;
}

static void assert_rows(const struct scene *s, const struct shares *shares)
{
    for (uint32_t p = 0; p < s->partitions; p++) {
        const uint16_t *row = s->table + (size_t)p * WIDTH;
        for (uint32_t k = 0; k < WIDTH; k++) {
            uint32_t same = 0;
            assert_true(row[k] < s->count);
            assert_int_not_equal(shares->zone[row[k]], UINT32_MAX);
            for (uint32_t j = 0; j < WIDTH; j++) {
                assert_true(j == k || row[j] != row[k]);
                same += shares->zone[row[j]] == shares->zone[row[k]];
            }
            assert_true(same <= shares->per_row);
        }
    }
    assert_true(shares->per_row == 1 || shares->zone_count < WIDTH);
}

/* Balances from the table in force (or anew) and checks all bounds. */
static void balance(struct scene *s, bool anew)
{
    struct shares shares;
    size_t cells = (size_t)s->partitions * WIDTH;
    uint16_t *next = calloc(cells, sizeof *next);
    uint32_t *before = calloc(s->count, sizeof *before), *after = calloc(s->count, sizeof *after);
    uint32_t *want = calloc(s->count, sizeof *want), *zones = calloc(s->count, sizeof *zones);
    assert_non_null(next);
    assert_int_equal(
        placement_balance(s->nodes, s->count, s->partitions, WIDTH, anew ? NULL : s->table, next),
        0);
    assert_int_equal(shares_init(&shares, s->nodes, s->count, s->partitions, WIDTH), 0);
    uint64_t moved = 0, required = 0, forced = 0;
    for (size_t i = 0; i < cells; i++) {
        after[next[i]]++;
        if (anew)
            continue;
        moved += next[i] != s->table[i];
        /* What stood at a node that may hold nothing any more has to move whatever the shares. */
        if (shares.zone[s->table[i]] == UINT32_MAX)
            forced++;
        else
            before[s->table[i]]++;
    }
    assert_int_equal(shares_round(&shares, before, want, zones), 0);
    for (uint32_t i = 0; i < s->count; i++)
        required += want[i] > before[i] ? want[i] - before[i] : 0;
    memcpy(s->table, next, cells * sizeof *next);
    assert_rows(s, &shares);
    uint32_t fullest = placement_fullest(s->nodes, s->count, s->partitions, WIDTH, s->table);
    for (uint32_t i = 0; i < s->count; i++)
        if (shares.node_parts[i] < CELLS_A_NODE * SHARES_ONE) /* a cell is more than 1 % there */
            assert_true(after[i] <= shares.node_parts[i] / SHARES_ONE + 1);
        else
            assert_true(after[i] * UINT64_C(1000) * SHARES_ONE <= 1030 * shares.node_parts[i]);
    if (!anew) {
        bool few = s->count < FEW;
        assert_true(required >= forced);
        assert_true(moved <= (few ? 2 : 1) * required + required / 20 + 1);
        g_moved[few] += moved;
        g_required[few] += required;
    }
    g_fullest = (uint32_t)kho_max(g_fullest, fullest);
    g_tables++;
    g_cells += cells;
    shares_fini(&shares);
    free(next);
    free(before);
    free(after);
    free(want);
    free(zones);
}

/* A life: a tenth more nodes, one after the other where few; weights; drains; a zone lost. */
static void live(uint32_t nodes, uint32_t zones, bool varied, uint64_t seed)
{
    struct scene s;
    scene_init(&s, nodes + nodes / 10 + 2, seed);
    for (uint32_t i = 0; i < nodes; i++)
        scene_add(&s, zones, varied);
    balance(&s, true);
    balance(&s, false); /* nothing changed: nothing moves */
    scene_add(&s, zones, varied);
    balance(&s, false);
    while (s.count < s.capacity)
        scene_add(&s, zones, varied);
    balance(&s, false);
    s.nodes[kho_random_below(&s.random, s.count)].weight *= 2;
    balance(&s, false);
    if (s.count > WIDTH + 1) {
        s.nodes[kho_random_below(&s.random, s.count)].state = MAP_NODE_DRAINING;
        balance(&s, false);
    }
    uint32_t left = 0;
    for (uint32_t i = 0; i < s.count; i++)
        left += s.nodes[i].state == MAP_NODE_UP && strcmp(s.nodes[i].zone, "z0") != 0;
    for (uint32_t i = 0; zones > WIDTH && left >= WIDTH && i < s.count; i++)
        if (strcmp(s.nodes[i].zone, "z0") == 0)
            s.nodes[i].state = MAP_NODE_OUT;
    balance(&s, false);
    scene_fini(&s);
}

static void test_small(void **state)
{
    (void)state;
    for (uint32_t nodes = 3; nodes <= 24; nodes++)
        for (uint32_t zones = 0; zones <= 6; zones++)
            for (uint32_t varied = 0; varied < 2; varied++)
                live(nodes, zones, varied != 0, nodes * 100 + zones * 2 + varied);
}

static void test_middle(void **state)
{
    (void)state;
    static const uint32_t nodes[] = {48, 100, 333, 1000};
    for (size_t i = 0; i < KHO_COUNT_OF(nodes); i++) {
        live(nodes[i], 0, true, i);
        live(nodes[i], 3, false, i);
        live(nodes[i], 5, true, i);
        live(nodes[i], 40, true, i);
    }
}

static void test_ten_thousand(void **state)
{
    (void)state;
    live(10000, 12, true, 1);
}

static int told(void **state)
{
    (void)state;
    print_message("%llu tables of %llu cells; fullest over share %u.%03u\n",
                  (unsigned long long)g_tables, (unsigned long long)g_cells, g_fullest / 1000,
                  g_fullest % 1000);
    for (int few = 0; few < 2; few++) {
        print_message("%s %u nodes: moved %llu, required %llu\n", few ? "fewer than" : "from", FEW,
                      (unsigned long long)g_moved[few], (unsigned long long)g_required[few]);
        assert_true(g_moved[few] * 100 <= g_required[few] * 105);
    }
    assert_true(g_tables > 1000);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small),
        cmocka_unit_test(test_middle),
        cmocka_unit_test(test_ten_thousand),
    };
    return cmocka_run_group_tests(tests, NULL, told);
}
