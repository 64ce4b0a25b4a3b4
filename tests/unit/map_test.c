/* The cluster map: what is encoded is decoded, and a map that breaks a rule is refused. */
#include "unit.h"

#include <kho/map.h>

struct made {
    struct map_node nodes[4];
    struct map_collection collections[2];
    uint16_t table[16 * 3];
    uint32_t since[16 * 3];
    struct map_parts parts;
    uint8_t *bytes;
    size_t length;
};

static void make_parts(struct made *m)
{
    memset(m, 0, sizeof *m);
    struct kho_random random;
    kho_random_init(&random, 7);
    for (int i = 0; i < 4; i++) {
        struct map_node *n = &m->nodes[i];
        snprintf(n->name, sizeof n->name, "%c", 'a' + i);
        n->incarnation = kho_random_id(&random);
        snprintf(n->address, sizeof n->address, "127.0.0.%d", i + 1);
        n->port = 7700;
        n->shards = 1;
        n->weight = 1;
        n->state = MAP_NODE_UP;
        n->since = 1;
    }
    for (int i = 0; i < 2; i++) {
        struct map_collection *c = &m->collections[i];
        snprintf(c->name, sizeof c->name, "%s", i == 0 ? "population" : "eid");
        c->id = (uint32_t)i + 1;
        c->replicas = 3;
        c->separator = i == 0 ? KHO_NO_SEPARATOR : '/';
        c->since = 2;
    }
    for (int p = 0; p < 16; p++)
        for (int k = 0; k < 3; k++) {
            m->table[p * 3 + k] = (uint16_t)((p + k) % 4);
            m->since[p * 3 + k] = 1;
        }
    m->parts = (struct map_parts){.cluster = kho_random_id(&random),
                                  .epoch = 3,
                                  .seed = 99,
                                  .partitions = 16,
                                  .replicas = 3,
                                  .write_quorum = 2,
                                  .read_quorum = 2,
                                  .width = 3,
                                  .home = 1,
                                  .node_count = 4,
                                  .collection_count = 2,
                                  .nodes = m->nodes,
                                  .collections = m->collections,
                                  .table = m->table,
                                  .since = m->since};
}
static int encode_and_decode(struct made *m, struct map *ret)
{
    free(m->bytes);
    m->length = map_size(&m->parts);
    m->bytes = malloc(m->length);
    map_encode(&m->parts, m->bytes);
    return map_decode(m->bytes, m->length, ret);
}

/* All parts come back, and look-ups find them. */
static void test_round_trip(void **state)
{
    (void)state;
    struct made made;
    struct map m;
    make_parts(&made);
    assert_int_equal(encode_and_decode(&made, &m), 0);
    assert_int_equal(m.epoch, 3);
    assert_int_equal(m.home, 1);
    assert_int_equal(map_node_by_name(&m, "c"), 2);
    assert_int_equal(map_node_by_name(&m, "z"), -1);
    assert_int_equal(map_node_by_incarnation(&m, &made.nodes[3].incarnation), 3);
    assert_int_equal(map_collection_by_name(&m, "eid"), 1);
    assert_int_equal(map_collection_by_name(&m, "ei"), -1);
    assert_int_equal(map_collection_by_id(&m, 2), 1);
    assert_int_equal(map_collection_by_id(&m, 3), -1);
    struct map_collection c;
    map_collection(&m, 1, &c);
    assert_int_equal(c.separator, '/');
    assert_int_equal(c.replicas, 3);
    assert_true(map_is_replica(&m, 5, 3, 2));
    assert_false(map_is_replica(&m, 5, 3, 0));
    free(made.bytes);
}

/* Collections are found by id and name whatever the ids are and however long the names; another
 * number of replicas than the cluster's is kept. */
static void test_collections(void **state)
{
    (void)state;
    struct made made;
    struct map m;
    struct map_collection c;
    char longest[KHO_NAME_MAX + 2];
    memset(longest, 'x', sizeof longest - 1);
    longest[KHO_NAME_MAX + 1] = 0;
    make_parts(&made);
    made.collections[0].id = 5;
    made.collections[1].id = 9;
    made.collections[1].replicas = 2;
    memcpy(made.collections[1].name, longest, KHO_NAME_MAX);
    made.collections[1].name[KHO_NAME_MAX] = 0;
    assert_int_equal(encode_and_decode(&made, &m), 0);
    assert_int_equal(map_collection_by_id(&m, 5), 0);
    assert_int_equal(map_collection_by_id(&m, 9), 1);
    assert_int_equal(map_collection_by_id(&m, 0), -1);
    assert_int_equal(map_collection_by_id(&m, 1), -1);
    map_collection(&m, 0, &c);
    assert_int_equal(c.replicas, 3);
    map_collection(&m, 1, &c);
    assert_int_equal(c.replicas, 2);
    assert_int_equal(map_collection_by_name(&m, c.name), 1);
    assert_int_equal(map_collection_by_name(&m, longest), -1);
    longest[KHO_NAME_MAX - 1] = 0;
    assert_int_equal(map_collection_by_name(&m, longest), -1);
    free(made.bytes);
}

/* What says that it is longer than any map isn't read. */
static void test_too_long(void **state)
{
    (void)state;
    struct map m;
    size_t length = KHO_MAP_SIZE_MAX + 1;
    uint8_t *bytes = calloc(1, length);
    assert_non_null(bytes);
    kho_store32(bytes, KHO_MAP_MAGIC);
    kho_store32(bytes + 76, (uint32_t)length);
    assert_int_equal(map_decode(bytes, length, &m), KHO_EMALFORMED);
    free(bytes);
}

/* Each flipped bit is refused. */
static void test_flipped_bits(void **state)
{
    (void)state;
    struct made made;
    struct map m;
    make_parts(&made);
    assert_int_equal(encode_and_decode(&made, &m), 0);
    for (size_t bit = 0; bit < made.length * 8; bit += 3) {
        made.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_true(map_decode(made.bytes, made.length, &m) < 0);
        made.bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    for (size_t len = 0; len < made.length; len += 5)
        assert_int_equal(map_decode(made.bytes, len, &m), KHO_EMALFORMED);
    free(made.bytes);
}

static void expect_refused(struct made *made)
{
    struct map m = {.epoch = 777};
    assert_int_equal(encode_and_decode(made, &m), KHO_EMAP);
    assert_int_equal(m.epoch, 777);
    free(made->bytes);
}

/* Maps whose hash holds but whose fields break a rule are refused. */
static void test_rules(void **state)
{
    (void)state;
    struct made made;
    make_parts(&made);
    made.parts.epoch = 0;
    expect_refused(&made);
    make_parts(&made);
    made.parts.write_quorum = 1; /* W + Q > R */
    expect_refused(&made);
    make_parts(&made);
    made.parts.partitions = 12; /* no power of two */
    expect_refused(&made);
    make_parts(&made);
    made.parts.home = 4;
    expect_refused(&made);
    make_parts(&made);
    made.table[7] = 4; /* no such node */
    expect_refused(&made);
    make_parts(&made);
    made.table[1] = made.table[0]; /* the same replica twice */
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].incarnation = made.nodes[1].incarnation;
    expect_refused(&made);
    make_parts(&made);
    snprintf(made.nodes[2].name, sizeof made.nodes[2].name, "a");
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].port = 0;
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].address[0] = 0;
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].name[0] = 0;
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].shards = 0;
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].shards = 257;
    expect_refused(&made);
    make_parts(&made);
    made.nodes[2].state = MAP_NODE_OUT + 1;
    expect_refused(&made);
    make_parts(&made);
    memset(&made.nodes[2].incarnation, 0, sizeof made.nodes[2].incarnation);
    expect_refused(&made);
    make_parts(&made);
    snprintf(made.nodes[2].zone, sizeof made.nodes[2].zone, "a b");
    expect_refused(&made);
    make_parts(&made);
    snprintf(made.collections[1].name, sizeof made.collections[1].name, "population");
    expect_refused(&made);
    make_parts(&made);
    made.collections[1].replicas = 4; /* more than the table lists */
    expect_refused(&made);
    make_parts(&made);
    made.collections[1].separator = 256;
    expect_refused(&made);
    make_parts(&made);
    made.collections[1].mode = 1;
    expect_refused(&made);
    make_parts(&made);
    made.parts.replicas = 4; /* more than the table lists */
    made.parts.write_quorum = made.parts.read_quorum = 3;
    expect_refused(&made);
    make_parts(&made);
    snprintf(made.collections[0].name, sizeof made.collections[0].name, "Bad Name");
    expect_refused(&made);
    make_parts(&made);
    made.collections[1].id = 1; /* not rising */
    expect_refused(&made);
    make_parts(&made);
    made.since[20] = 4; /* in an epoch to come: what is written until then would be dropped */
    expect_refused(&made);
    make_parts(&made);
    made.nodes[1].readmitted = 4;
    expect_refused(&made);
    make_parts(&made);
    memset(&made.parts.cluster, 0, sizeof made.parts.cluster);
    expect_refused(&made);
}

/* Rows of a previous layout: partition 3 was on a, b, d and partition 9 on b, c, a. */
static void make_previous(uint8_t rows[2 * 64])
{
    static const uint16_t nodes[2][3] = {{0, 1, 3}, {1, 2, 0}};
    static const uint32_t partitions[2] = {3, 9}, since[2] = {1, 2};
    size_t size = map_row_size(3);
    for (uint32_t i = 0; i < 2; i++) {
        kho_store32(rows + i * size, partitions[i]);
        for (uint32_t k = 0; k < 3; k++) {
            kho_store16(rows + i * size + 4 + k * 2, nodes[i][k]);
            kho_store32(rows + i * size + 10 + k * 4, since[i]);
        }
    }
}

/* While a layout changes, a node of either is listed, each since its own epoch; a reader that knows
 * one layout only is told to leave the map alone. */
static void test_previous_layout(void **state)
{
    (void)state;
    struct made made;
    struct map m;
    uint8_t rows[2 * 64];
    make_parts(&made); /* partition p is on p, p + 1, p + 2 of 4 nodes */
    assert_int_equal(encode_and_decode(&made, &m), 0);
    assert_int_equal(kho_load16(made.bytes + 6), 1);
    assert_null(map_previous(&m, 3));
    make_previous(rows);
    made.parts.previous = rows;
    made.parts.previous_count = 2;
    assert_int_equal(encode_and_decode(&made, &m), 0);
    assert_int_equal(kho_load16(made.bytes + 6), 2);
    assert_int_equal(m.previous_count, 2);
    for (uint32_t p = 0; p < 16; p++)
        assert_int_equal(map_previous(&m, p) != NULL, p == 3 || p == 9);
    assert_int_equal(map_row_replica(map_previous(&m, 3), 2), 3);
    assert_int_equal(map_row_since(&m, map_previous(&m, 9), 1), 2);
    /* 9 is on b, c, d now and was on b, c, a: all of them are listed, a since 2. */
    assert_false(map_is_replica(&m, 9, 3, 0));
    for (uint32_t n = 0; n < 4; n++)
        assert_true(map_is_listed(&m, 9, 3, n));
    assert_int_equal(map_listed_since(&m, 9, 0), 2);
    assert_int_equal(map_listed_since(&m, 9, 1), 1);
    /* A collection of two replicas: a was none of them in either layout. */
    assert_false(map_is_listed(&m, 9, 2, 0));
    assert_false(map_is_listed(&m, 8, 3, 3));
    free(made.bytes);
}

/* Rows that break a rule: not rising, of no partition, a node twice, no node, from an epoch to
 * come, or announced and not there. */
static void test_previous_rules(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint32_t value, bytes;
    } bad[] = {{22, 3, 4}, {22, 2, 4}, {22, 16, 4}, {4, 1, 2}, {6, 4, 2}, {10, 4, 4}};
    struct made made;
    struct map m;
    uint8_t rows[2 * 64];
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        make_parts(&made);
        make_previous(rows);
        if (bad[i].bytes == 4)
            kho_store32(rows + bad[i].at, bad[i].value);
        else
            kho_store16(rows + bad[i].at, (uint16_t)bad[i].value);
        made.parts.previous = rows;
        made.parts.previous_count = 2;
        assert_int_equal(encode_and_decode(&made, &m), KHO_EMAP);
        free(made.bytes);
        made.bytes = NULL;
    }
    make_parts(&made);
    make_previous(rows);
    made.parts.previous = rows;
    made.parts.previous_count = 2;
    assert_int_equal(encode_and_decode(&made, &m), 0);
    static const struct {
        size_t at;
        uint16_t value;
    } head[] = {{70, 0}, {6, 1}, {88, 1}, {88, 3}, {88, 0}};
    for (size_t i = 0; i < KHO_COUNT_OF(head); i++) {
        uint8_t *bytes = malloc(made.length);
        assert_non_null(bytes);
        memcpy(bytes, made.bytes, made.length);
        kho_store16(bytes + head[i].at, head[i].value);
        struct kho_id hash = map_hash(bytes, made.length);
        memcpy(bytes + 32, hash.bytes, 16);
        assert_true(map_decode(bytes, made.length, &m) < 0);
        free(bytes);
    }
    free(made.bytes);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),     cmocka_unit_test(test_collections),
        cmocka_unit_test(test_too_long),       cmocka_unit_test(test_flipped_bits),
        cmocka_unit_test(test_rules),          cmocka_unit_test(test_previous_layout),
        cmocka_unit_test(test_previous_rules),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
