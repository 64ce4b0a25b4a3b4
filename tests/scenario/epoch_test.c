/* epoch_test.c: maps, epochs, and what belongs to another cluster; one version, one value. */
#include "story.h"

#include <kho/map.h>

/* A map of a higher epoch comes while clients work: their operations start again under it. */
static void test_raised_epoch(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 1);
    story_put(s, "a", "1");
    size_t len;
    uint8_t *map = cluster_map_make(s->cluster, 2, &len);
    struct answer a = {0};
    struct kho_item item = {.key = "b", .key_len = 1, .value = "2", .value_len = 1};
    assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 0), 0);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(raw_map_push(&s->nodes[i], map, len), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.results[0].status, 0);
    answer_fini(&a);
    story_expect(s, "a", "1");
    story_expect(s, "b", "2");
    assert_int_equal(client_map(s->client->client)->epoch, 2);
    /* The old map is refused from now on, after a start, too. */
    assert_int_equal(raw_map_push(&s->nodes[0], s->cluster->map, s->cluster->map_len),
                     KHO_EEPOCHOLD);
    node_kill(&s->nodes[0]);
    story_start(s, 0);
    assert_int_equal(raw_map_push(&s->nodes[0], s->cluster->map, s->cluster->map_len),
                     KHO_EEPOCHOLD);
    free(map);
    story_end(s);
}

/* A write under way when the epoch rises is sent again with the version that it had. */
static void test_same_version_after_restart(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 2);
    size_t len;
    uint8_t *map = cluster_map_make(s->cluster, 2, &len);
    struct answer a = {0};
    struct kho_item item = {.key = "a", .key_len = 1, .value = "1", .value_len = 1};
    story_put(s, "before", "0");
    story_flush(s);
    story_run_ms(s, 1000);
    /* One node is fast and two are slow: the first has the record before the epoch rises. */
    vdisk_faults(s->nodes[1].disk)->write_ns = 300 * SIM_MS;
    vdisk_faults(s->nodes[2].disk)->write_ns = 300 * SIM_MS;
    assert_int_equal(answer_records(&a, s->client, CLIENT_PUT, "records", &item, 1, 0), 0);
    story_run_ms(s, 60);
    assert_false(a.done);
    struct wire_probe_answer first = story_probe(s, 0, "a");
    assert_int_equal(first.state, WIRE_PRESENT);
    vdisk_faults(s->nodes[1].disk)->write_ns = 200 * SIM_US;
    vdisk_faults(s->nodes[2].disk)->write_ns = 200 * SIM_US;
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(raw_map_push(&s->nodes[i], map, len), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.results[0].status, 0);
    assert_int_equal(a.results[0].version.counter, first.version.counter);
    assert_int_equal(a.results[0].version.writer, first.version.writer);
    answer_fini(&a);
    story_expect(s, "a", "1");
    free(map);
    story_end(s);
}

/* A node that missed a map is behind and serves nothing, for as long as nobody helps it; a repair
 * brings it the map, however long the client has known it to be behind. */
static void test_node_behind(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 7);
    struct answer a = {0};
    story_fill(s, "a", 3);
    node_kill(&s->nodes[2]);
    assert_int_equal(answer_collection_create(&a, s->client, "more", 10000), 0);
    assert_true(answer_wait(&a, s->client, 60 * SIM_S));
    assert_int_equal(a.status, 0);
    answer_fini(&a);
    story_start(s, 2);
    for (unsigned round = 0; round < 10; round++) {
        story_fill(s, "b", 3);
        story_run_ms(s, 1000);
    }
    assert_int_equal(node_stat(&s->nodes[2], STAT_epoch), 1);
    assert_int_equal(story_repair(s, NULL), 0);
    assert_int_equal(node_stat(&s->nodes[2], STAT_epoch), node_stat(&s->nodes[0], STAT_epoch));
    story_expect_verified(s);
    node_kill(&s->nodes[0]);
    story_expect_filled(s, s->client, "b", 3);
    story_end(s);
}

/* A map of the same epoch with another hash is refused. */
static void test_other_map_of_the_same_epoch(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 3);
    size_t len;
    s->cluster->wall_ms++; /* enters the map as the time of its change */
    uint8_t *map = cluster_map_make(s->cluster, 1, &len);
    s->cluster->wall_ms--;
    assert_int_not_equal(raw_map_push(&s->nodes[0], map, len), 0);
    assert_int_equal(raw_map_push(&s->nodes[0], s->cluster->map, s->cluster->map_len), 0);
    free(map);
    story_put(s, "a", "1");
    story_expect(s, "a", "1");
    story_end(s);
}

/* Who names another cluster gets no service, whatever he asks. */
static void test_wrong_cluster(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 4);
    struct raw raw;
    struct kho_id other = s->cluster->id;
    other.bytes[3] ^= 1;
    assert_int_equal(raw_open(&raw, &s->nodes[0], &other, 1), 0);
    assert_int_equal(raw.hello.status, KHO_ECLUSTER);
    raw_close(&raw);
    /* A request of another cluster on a connection that didn't name it. */
    struct wire_head head;
    const uint8_t *body;
    uint8_t ask[WIRE_PROBE_ASK] = {1};
    struct kho_id own = s->cluster->id;
    assert_int_equal(raw_open(&raw, &s->nodes[0], NULL, 0), 0);
    assert_int_equal(raw.hello.status, 0);
    s->cluster->id = other;
    raw_send(&raw, WIRE_PROBE, 0, 1, raw.hello.epoch, raw.hello.map_hash, ask, sizeof ask);
    s->cluster->id = own;
    assert_int_equal(raw_receive(&raw, &head, &body), 0);
    assert_int_equal(head.status, KHO_ECLUSTER);
    raw_close(&raw);
    story_put(s, "a", "1");
    story_end(s);
}

/* Writes a record by hand; the status of its entry, or of the whole request. */
static int write_raw(struct story *s, unsigned node, const struct record *record)
{
    struct raw raw;
    struct wire_head head;
    const uint8_t *body;
    uint8_t bytes[512];
    size_t len = record_encode(record, bytes);
    assert_int_equal(raw_open(&raw, &s->nodes[node], &s->cluster->id, 0), 0);
    assert_int_equal(raw.hello.status, 0);
    raw_send(&raw, WIRE_WRITE, 0, 1, raw.hello.epoch, raw.hello.map_hash, bytes, len);
    assert_int_equal(raw_receive(&raw, &head, &body), 0);
    int status = head.status != 0 ? head.status : (int32_t)kho_load32(body);
    raw_close(&raw);
    return status;
}

/* One version names one value: the same record twice is the same as once, another value under its
 * version is refused; so are records whose bytes don't match their hash and versions of a far
 * future. */
static void test_one_version_one_value(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 5);
    struct record record = {
        .collection = 1,
        .key_len = 1,
        .version = {.counter = version_counter_at(1700000000500ull), .writer = 9},
        .raw_len = 3,
        .stored_len = 3,
        .hash = content_hash("one", 3),
        .key = (const uint8_t *)"k",
        .value = (const uint8_t *)"one"};
    assert_int_equal(write_raw(s, 0, &record), 0);
    assert_int_equal(write_raw(s, 0, &record), 0);
    assert_int_equal(write_raw(s, 1, &record), 0);
    record.value = (const uint8_t *)"two";
    assert_int_equal(write_raw(s, 0, &record), KHO_ECHECKSUM);
    for (int i = 0; i < 8; i++)
        story_expect(s, "k", "one"); /* from now on the first node has the hash at hand */
    record.hash = content_hash("two", 3);
    assert_int_equal(write_raw(s, 0, &record), KHO_ECONFLICT);
    record.version.counter = version_counter_at(1700000000000ull + 2 * KHO_COUNTER_AHEAD_MS);
    assert_int_equal(write_raw(s, 0, &record), KHO_ETOOFAR);
    story_expect(s, "k", "one");
    story_end(s);
}

/* Random bytes, and frames cut or changed, end their connection and nobody else's. */
static void test_malformed_input(void **state)
{
    (void)state;
    struct story *s = story_begin(NULL, 6);
    for (unsigned i = 0; i < 60; i++) {
        uint8_t bytes[700];
        struct raw raw;
        for (size_t at = 0; at < sizeof bytes; at++)
            bytes[at] = (uint8_t)dice_below(&s->sim.dice, 256);
        if (i % 3 == 0) { /* not even HELLO */
            struct vconn *conn = vnet_raw_connect(s->cluster->net, 0);
            vnet_raw_send(s->cluster->net, conn, bytes, sizeof bytes);
            story_run_ms(s, 20);
            vnet_raw_close(s->cluster->net, conn);
            continue;
        }
        assert_int_equal(raw_open(&raw, &s->nodes[0], &s->cluster->id, 0), 0);
        if (i % 3 == 1) {
            vnet_raw_send(s->cluster->net, raw.conn, bytes, sizeof bytes);
        } else { /* a right frame around a body that isn't */
            uint8_t type = (uint8_t)(1 + dice_below(&s->sim.dice, WIRE_TYPE_END - 1));
            raw_send(&raw, type, (uint8_t)dice_below(&s->sim.dice, 32),
                     (uint16_t)dice_below(&s->sim.dice, 40), raw.hello.epoch, raw.hello.map_hash,
                     bytes, dice_below(&s->sim.dice, sizeof bytes));
        }
        story_run_ms(s, 20);
        raw_close(&raw);
    }
    story_put(s, "a", "1");
    story_expect(s, "a", "1");
    assert_true(node_serving(&s->nodes[0]));
    story_run_ms(s, 2000);
    assert_true(node_stat(&s->nodes[0], STAT_connections) <= 4);
    story_end(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raised_epoch),    cmocka_unit_test(test_same_version_after_restart),
        cmocka_unit_test(test_node_behind),     cmocka_unit_test(test_other_map_of_the_same_epoch),
        cmocka_unit_test(test_wrong_cluster),   cmocka_unit_test(test_one_version_one_value),
        cmocka_unit_test(test_malformed_input),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
