/* serve_map_test.c: under which map, epoch and shard a request is answered. Over the fake store. */
#include "serving.h"

static struct serving_frame frame;

/* Without a map a node answers MAP and nothing else; a map that doesn't name its folder is refused.
 */
static void test_no_map(void **state)
{
    (void)state;
    struct serving *s = serving_create();
    struct wire_head head;
    size_t length;
    serving_connect(s, 0);
    for (uint8_t type = WIRE_PROBE; type < WIRE_TYPE_END; type++) {
        if (type == WIRE_MAP_PUSH || type == WIRE_DATA)
            continue;
        frame_begin(&frame);
        uint64_t request = serving_send(s, 0, &frame, type, 0);
        serving_turn(s);
        serving_expect(s, 0, request, type == WIRE_MAP ? 0 : KHO_ENOMAP, &head);
        assert_int_equal(head.count, 0);
        assert_int_equal(head.length, KHO_FRAME_HEAD);
    }
    uint8_t *bytes = serving_map(1, 0, 0, 9, &length);
    uint64_t request = serving_push_map(s, 0, bytes, length, false, 0, 0);
    serving_turn(s);
    serving_expect(s, 0, request, KHO_EINCARNATION, &head);
    bytes[60] ^= 1;
    request = serving_push_map(s, 0, bytes, length, false, 0, 0);
    serving_turn(s);
    serving_expect(s, 0, request, KHO_ECHECKSUM, &head);
    free(bytes);
    serving_destroy(s);
}

/* Requests of another cluster or epoch are refused before anything is done (R5); only who is behind
 * gets the map. */
static void test_epochs(void **state)
{
    (void)state;
    struct serving *s = serving_create();
    struct wire_head head;
    serving_connect(s, 0);
    serving_use_map(s, 0, 5);
    struct {
        uint64_t epoch, hash;
        uint8_t cluster;
        int status;
    } cases[] = {{5, s->map.hash, 9, KHO_ECLUSTER},
                 {4, s->map.hash, 1, KHO_EEPOCHOLD},
                 {6, s->map.hash, 1, KHO_EBEHIND},
                 {5, s->map.hash + 1, 1, KHO_EMAP}};
    struct map saved = s->map;
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        s->map.epoch = cases[i].epoch;
        s->map.hash = cases[i].hash;
        s->map.cluster.bytes[0] = cases[i].cluster;
        frame_begin(&frame);
        frame_add_record(&frame, 1, "key-1", 100, "v", 1);
        uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
        serving_turn(s);
        const uint8_t *body = serving_expect(s, 0, request, cases[i].status, &head);
        assert_int_equal(head.epoch, 5);
        assert_int_equal(head.map_hash, saved.hash);
        assert_int_equal(head.length - KHO_FRAME_HEAD,
                         cases[i].status == KHO_EEPOCHOLD ? saved.length : 0);
        if (cases[i].status == KHO_EEPOCHOLD)
            assert_memory_equal(body, saved.bytes, saved.length);
        frame_begin(&frame);
        request = serving_send(s, 0, &frame, WIRE_STATUS, 0);
        serving_turn(s);
        serving_expect(s, 0, request, cases[i].cluster == 1 ? 0 : KHO_ECLUSTER, &head);
        frame_begin(&frame);
        request = serving_send(s, 0, &frame, WIRE_MAP, 0);
        serving_turn(s);
        serving_expect(s, 0, request, 0, &head);
        assert_int_equal(head.count, 1);
        s->map = saved;
    }
    assert_int_equal(fake->count, 0);
    serving_destroy(s);
}

/* A change of the map is decided at its home, by compare-and-swap; the loser gets the map. */
static void test_map_push(void **state)
{
    (void)state;
    struct serving *s = serving_create();
    struct wire_head head;
    size_t length;
    serving_connect(s, 0);
    uint8_t *first = serving_map(1, 0, 1, 0, &length); /* home is node 1 */
    uint64_t request = serving_push_map(s, 0, first, length, true, 0, 0);
    serving_turn(s);
    serving_expect(s, 0, request, KHO_ENOTHOME, &head);
    free(first);
    first = serving_map(1, 0, 0, 0, &length);
    request = serving_push_map(s, 0, first, length, true, 0, 0);
    serving_turn(s);
    serving_expect(s, 0, request, 0, &head);
    uint64_t hash = store_map(fake)->hash;
    uint8_t *a = serving_map(2, 1, 0, 0, &length), *b = serving_map(2, 2, 0, 0, &length);
    request = serving_push_map(s, 0, a, length, true, 1, hash + 1);
    serving_turn(s);
    serving_expect(s, 0, request, KHO_EEPOCHOLD, &head);
    assert_int_equal(head.length, KHO_FRAME_HEAD + length);
    fake->hold_map = true;
    request = serving_push_map(s, 0, a, length, true, 1, hash);
    serving_turn(s);
    serving_expect_nothing(s, 0); /* only when it is durable */
    uint64_t second = serving_push_map(s, 0, b, length, true, 1, hash);
    serving_turn(s);
    serving_expect(s, 0, second, KHO_EBUSY, &head);
    fake_map_end(0);
    serving_turn(s);
    serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.epoch, 2);
    second = serving_push_map(s, 0, b, length, true, 1, hash);
    request = serving_push_map(s, 0, a, length, true, 1, hash); /* the same again */
    serving_turn(s);
    serving_expect(s, 0, second, KHO_EEPOCHOLD, &head);
    serving_expect(s, 0, request, 0, &head);
    free(first);
    free(a);
    free(b);
    serving_destroy(s);
}

/* What was accepted under a lower epoch isn't acknowledged under a higher one (R5): not a write,
 * not a flush, not a read. */
static void test_epoch_rises_in_flight(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    const uint8_t *body;
    serving_put(s, 0, "key-1", 100, "value", 5);
    fake->hold_commits = true;
    fake->hold_reads = true;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 101, "v", 1);
    serving_send(s, 0, &frame, WIRE_WRITE, 0);
    frame_begin(&frame);
    serving_send(s, 0, &frame, WIRE_FLUSH, 0);
    frame_begin(&frame);
    for (int i = 0; i < 100; i++)
        frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
    serving_send(s, 0, &frame, WIRE_READ, 0);
    frame_begin(&frame);
    struct wire_list_ask ask = {.collection = 1, .partition_to = 8, .ask = KHO_LIST_RECORDS};
    wire_list_ask_encode(&ask, frame_add(&frame, WIRE_LIST_ASK));
    serving_send(s, 0, &frame, WIRE_LIST, 0);
    serving_turn(s);
    serving_connect(s, 1);
    serving_use_map(s, 1, 2);
    fake->hold_commits = false;
    fake_reads_end(1000);
    serving_turn(s);
    int seen = 0;
    while (serving_answer(s, 0, &head, &body)) {
        assert_int_equal(head.status, KHO_EEPOCHOLD);
        assert_int_equal(head.epoch, 2);
        seen++;
    }
    assert_int_equal(seen, 4);
    assert_int_equal(fake->pinned, 0);
    assert_int_equal(fake->count, 2); /* it is stored all the same */
    serving_destroy(s);
}

/* R2: a shard says nothing of the partitions of another shard of its node: "absent" would be a
 * vote. */
static void test_other_shard(void **state)
{
    (void)state;
    struct serving *s = serving_create_shards(2);
    struct wire_head head;
    char key[32];
    serving_connect(s, 0);
    serving_use_map(s, 0, 1);
    for (uint32_t n = 0, seen = 0; seen != 3; n++) {
        struct wire_probe_answer answer;
        uint32_t partition;
        snprintf(key, sizeof key, "key-%u", n);
        struct wire_probe_ask ask = {.collection = 1, .hash = serving_hash(s, 1, key, &partition)};
        if (partition == 7)
            continue;
        bool other = partition % 2 != 0;
        seen |= other ? 1 : 2;
        ask.partition = partition;
        frame_begin(&frame);
        wire_probe_ask_encode(&ask, frame_add(&frame, WIRE_PROBE_ASK));
        uint64_t request = serving_send(s, 0, &frame, WIRE_PROBE, 0);
        serving_turn(s);
        wire_probe_answer_decode(serving_expect(s, 0, request, 0, &head), &answer);
        assert_int_equal(answer.state, other ? WIRE_UNKNOWN : WIRE_ABSENT);
    }
    serving_destroy(s);
}

/* Who pushes a map is told that the node has it once all shards of it have: those that pushed the
 * older ones, too, and again one that is in force already. */
static void test_map_spreads(void **state)
{
    (void)state;
    struct serving *s = serving_create_shards(2);
    struct wire_head head;
    size_t length;
    serving_connect(s, 0);
    uint8_t *maps[3];
    uint64_t requests[3];
    for (unsigned i = 0; i < 3; i++) {
        maps[i] = serving_map(i + 1, 0, 0, 0, &length);
        requests[i] = serving_push_map(s, 0, maps[i], length, false, 0, 0);
        serving_turn(s);
        serving_expect_nothing(s, 0);
        assert_int_equal(shard_epoch(s->shard), i + 1);
    }
    shard_map_spread(s->shard, 2, s->now);
    serving_turn(s);
    serving_expect_nothing(s, 0);
    shard_map_spread(s->shard, 3, s->now);
    serving_turn(s);
    for (unsigned i = 0; i < 3; i++)
        serving_expect(s, 0, requests[i], 0, &head);
    requests[2] = serving_push_map(s, 0, maps[2], length, false, 0, 0);
    serving_turn(s);
    serving_expect(s, 0, requests[2], 0, &head);
    for (unsigned i = 0; i < 3; i++)
        free(maps[i]);
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_no_map),      cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_map_push),    cmocka_unit_test(test_epoch_rises_in_flight),
        cmocka_unit_test(test_other_shard), cmocka_unit_test(test_map_spreads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
