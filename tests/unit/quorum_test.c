/* quorum_test.c: what makes a majority while a layout changes: one in each of the two, and nothing
 * less (R5). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "client/quorum.h"

enum { NODES = 6, R = 3 };

struct made {
    struct map_node nodes[NODES];
    uint16_t table[2 * R];
    uint32_t since[2 * R];
    uint8_t row[64];
    uint8_t *bytes;
    struct map map;
};

/* Partition 0 is on 0, 1, 3 and was on `before`; partition 1 doesn't change. */
static void make(struct made *m, const uint16_t before[R])
{
    static const uint16_t table[2 * R] = {0, 1, 3, 0, 1, 2};
    memset(m, 0, sizeof *m);
    for (uint32_t i = 0; i < NODES; i++) {
        struct map_node *n = &m->nodes[i];
        snprintf(n->name, sizeof n->name, "n%u", i);
        snprintf(n->address, sizeof n->address, "h%u", i);
        n->incarnation.bytes[0] = (uint8_t)(i + 1);
        n->port = 1;
        n->shards = 1;
        n->weight = 1;
        n->state = MAP_NODE_UP;
    }
    memcpy(m->table, table, sizeof table);
    kho_store32(m->row, 0);
    for (uint32_t k = 0; k < R; k++)
        kho_store16(m->row + 4 + k * 2, before[k]);
    struct map_parts parts = {.cluster = {{1}},
                              .epoch = 2,
                              .partitions = 2,
                              .replicas = R,
                              .write_quorum = 2,
                              .read_quorum = 2,
                              .width = R,
                              .node_count = NODES,
                              .nodes = m->nodes,
                              .table = m->table,
                              .since = m->since,
                              .previous = m->row,
                              .previous_count = 1};
    m->bytes = malloc(map_size(&parts));
    assert_non_null(m->bytes);
    map_encode(&parts, m->bytes);
    assert_int_equal(map_decode(m->bytes, map_size(&parts), &m->map), 0);
}

/* The columns: those of the table, then the previous layout's own; a partition that doesn't change
 * has one layout. */
static void columns(void **state)
{
    struct made m;
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    (void)state;
    make(&m, (const uint16_t[]){2, 1, 0});
    assert_int_equal(layouts_nodes(&m.map, 0, R, nodes, &layouts), 4);
    assert_int_equal(nodes[3], 2);
    assert_int_equal(layouts.now, 7);
    assert_int_equal(layouts.before, 11); /* columns 0, 1 and 3 */
    assert_int_equal(layouts_all(layouts), 15);
    assert_int_equal(layouts_nodes(&m.map, 1, R, nodes, &layouts), 3);
    assert_false(layouts_joint(layouts));
    /* A collection of fewer replicas has the first of either row. */
    assert_int_equal(layouts_nodes(&m.map, 0, 1, nodes, &layouts), 2);
    assert_int_equal(nodes[1], 2);
    assert_int_equal(layouts.now, 1);
    assert_int_equal(layouts.before, 2);
    free(m.bytes);
    make(&m, (const uint16_t[]){2, 4, 5});
    assert_int_equal(layouts_nodes(&m.map, 0, R, nodes, &layouts), 6);
    assert_int_equal(layouts.before, 56);
    free(m.bytes);
}

/* Every set of columns, against the rule counted node by node. */
static void majorities(void **state)
{
    static const uint16_t befores[][R] = {{2, 1, 0}, {2, 4, 5}, {0, 1, 3}, {3, 4, 5}};
    (void)state;
    for (size_t b = 0; b < KHO_COUNT_OF(befores); b++) {
        struct made m;
        uint16_t nodes[COLUMNS_MAX];
        struct layouts layouts;
        uint32_t held = 0;
        make(&m, befores[b]);
        uint32_t count = layouts_nodes(&m.map, 0, R, nodes, &layouts);
        for (uint32_t set = 0; set < 1u << count; set++) {
            uint32_t now = 0, before = 0;
            for (uint32_t c = 0; c < count; c++)
                for (uint32_t k = 0; k < R && (set >> c & 1) != 0; k++) {
                    now += nodes[c] == m.table[k];
                    before += nodes[c] == befores[b][k];
                }
            bool both = now >= 2 && before >= 2;
            held += both;
            assert_int_equal(layouts_have(layouts, (columns_t)set, 2), both);
            /* All unsuspected: the same; all suspect: only whole layouts stand for a majority. */
            assert_int_equal(layouts_voted(layouts, (columns_t)set, (columns_t)set, 2), both);
            assert_int_equal(layouts_voted(layouts, 0, (columns_t)set, 2), now == R && before == R);
        }
        assert_true(held > 0 && held < 1u << count);
        free(m.bytes);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(columns), cmocka_unit_test(majorities)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
