/* shard_test.c: the door of a shard and its connections: HELLO, frames in any pieces, messages that
 * break the layout, backpressure, closing, stopping. Over the fake store. */
#include "serving.h"

static struct serving_frame frame;

/* HELLO is answered without a map, and refused for another cluster, shard, or a shard that stops.
 */
static void test_hello(void **state)
{
    (void)state;
    struct serving *s = serving_create();
    struct wire_hello_node hello;
    serving_hello(s, 0, NULL, 0, &hello);
    assert_int_equal(hello.status, 0);
    assert_int_equal(hello.epoch, 0);
    assert_true(kho_id_is_zero(&hello.cluster));
    assert_int_equal(hello.incarnation.bytes[0], 11);
    serving_use_map(s, 0, 4);
    fake->suspect = true;
    serving_hello(s, 1, &s->map.cluster, 0, &hello);
    assert_int_equal(hello.status, 0);
    assert_int_equal(hello.epoch, 4);
    assert_int_equal(hello.map_hash, s->map.hash);
    assert_int_equal(hello.flags, KHO_HELLO_SUSPECT | KHO_HELLO_EPISODE);
    struct kho_id other = {{9}};
    serving_hello(s, 2, &other, 0, &hello);
    assert_int_equal(hello.status, KHO_ECLUSTER);
    assert_true(s->conns[2].closed);
    serving_hello(s, 2, NULL, 1, &hello);
    assert_int_equal(hello.status, KHO_ESHARD);
    assert_true(s->conns[2].closed);
    shard_stop(s->shard, s->now);
    serving_hello(s, 2, NULL, 0, &hello);
    assert_int_equal(hello.status, KHO_ESTOPPING);
    serving_turn(s);
    assert_int_equal(shard_phase(s->shard), SHARD_STOPPED);
    serving_destroy(s);
}

/* Frames are understood however the stream cuts them: byte by byte, or many at once. */
static void test_pieces(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    static uint8_t stream[3 * 4096];
    size_t len = 0;
    uint64_t requests[3];
    for (int i = 0; i < 3; i++) {
        char key[32];
        serving_key(s, (uint32_t)i, true, key, sizeof key);
        frame_begin(&frame);
        frame_add_record(&frame, 1, key, 100, "value", 5);
        requests[i] = frame_seal(s, &frame, WIRE_WRITE, 0);
        memcpy(stream + len, frame.bytes, frame.len);
        len += frame.len;
    }
    for (size_t step = 1; step <= len; step = step * 3 + 1) {
        struct wire_head head;
        for (size_t at = 0; at < len; at += step)
            serving_deliver(s, 0, stream + at, kho_min(step, len - at));
        serving_turn(s);
        for (int i = 0; i < 3; i++)
            serving_expect(s, 0, requests[i], 0, &head);
        serving_expect_nothing(s, 0);
    }
    serving_destroy(s);
}

/* Delivers a frame that was changed after it was built, on a fresh connection, and expects its
 * refusal and the end of the connection, while another goes on. */
static void expect_malformed(struct serving *s, int status, bool answered)
{
    struct wire_head head;
    serving_connect(s, 1);
    serving_deliver(s, 1, frame.bytes, frame.len);
    serving_turn(s);
    if (answered)
        serving_expect(s, 1, kho_load64(frame.bytes + 16), status, &head);
    serving_expect_nothing(s, 1);
    assert_true(s->conns[1].closed);
    serving_put(s, 0, "key-1", 100, "v", 1);
}

static void frame_reseal(void)
{
    kho_store64(frame.bytes + 8, wire_checksum(frame.bytes, frame.len));
}

/* Each way of breaking the layout ends the connection with its status, and nobody else's. */
static void test_malformed(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 100, "value", 5);
    frame_seal(s, &frame, WIRE_WRITE, 0);
    frame.bytes[100] ^= 1;
    expect_malformed(s, KHO_ECHECKSUM, true);
    frame.bytes[100] ^= 1;
    frame.bytes[5] = KHO_FRAME_LARGE; /* a flag that requests don't have */
    frame_reseal();
    expect_malformed(s, KHO_EMALFORMED, true);
    frame.bytes[5] = 0;
    frame.bytes[4] = WIRE_TYPE_END;
    frame_reseal();
    expect_malformed(s, KHO_EMALFORMED, true);
    frame.bytes[4] = WIRE_WRITE;
    frame.bytes[56] = 1; /* a status */
    frame_reseal();
    expect_malformed(s, KHO_EMALFORMED, true);
    frame.bytes[56] = 0;
    kho_store16(frame.bytes + 6, 2); /* more entries than there are */
    frame_reseal();
    uint32_t before = fake->count;
    expect_malformed(s, KHO_EMALFORMED, true);
    assert_int_equal(fake->count, before + 1); /* only the other connection's put */
    kho_store32(frame.bytes, 63);
    expect_malformed(s, KHO_EMALFORMED, true);
    kho_store32(frame.bytes, KHO_FRAME_MAX + 1);
    frame.len = 20;
    expect_malformed(s, KHO_EMALFORMED, false);
    assert_true(s->events > 0 && s->events < 8);
    assert_true(shard_stat(s->shard, STAT_refused) >= 7);
    serving_destroy(s);
}

/* Every type refuses bodies of a wrong length and reserved bits. */
static void test_malformed_bodies(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    for (uint8_t type = WIRE_PROBE; type < WIRE_TYPE_END; type++) {
        if (type == WIRE_DATA)
            continue; /* of an unknown value it is dropped */
        frame_begin(&frame);
        memset(frame_add(&frame, 13), 0xFF, 13);
        frame_seal(s, &frame, type, 0);
        expect_malformed(s, KHO_EMALFORMED, true);
    }
    struct {
        uint8_t type;
        uint32_t bytes, reserved;
    } cases[] = {{WIRE_LIST, WIRE_LIST_ASK, 14},
                 {WIRE_LIST, WIRE_LIST_ASK, 28},
                 {WIRE_LIST, WIRE_LIST_ASK, 13},
                 {WIRE_DIGEST, WIRE_DIGEST_ASK, 12},
                 {WIRE_EPISODE_CLOSE, WIRE_EPISODE_CLOSE_ASK, 12},
                 {WIRE_FORGET, WIRE_FORGET_ASK, 36},
                 {WIRE_MAP_PUSH, WIRE_MAP_PUSH_HEAD, 17}};
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        frame_begin(&frame);
        uint8_t *body = frame_add(&frame, cases[i].bytes);
        memset(body, 0, cases[i].bytes);
        body[cases[i].reserved] = 0x80;
        frame_seal(s, &frame, cases[i].type, 0);
        expect_malformed(s, KHO_EMALFORMED, true);
    }
    serving_destroy(s);
}

/* Random bytes, and valid frames with random changes under a right checksum, never stop a shard. */
static void test_random(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct kho_random random;
    kho_random_init(&random, 42);
    for (int round = 0; round < 3000; round++) {
        serving_connect(s, 1);
        frame_begin(&frame);
        uint32_t bytes = (uint32_t)kho_random_below(&random, 300);
        uint8_t *body = frame_add(&frame, bytes);
        for (uint32_t i = 0; i < bytes; i++)
            body[i] = (uint8_t)(kho_random_below(&random, 3) == 0 ? kho_random_next(&random) : 0);
        if (round % 3 == 0)
            frame_add_record(&frame, 1, "key-1", 100, "value", 5);
        frame.count = (uint32_t)kho_random_below(&random, 4);
        uint8_t type = (uint8_t)(1 + kho_random_below(&random, WIRE_TYPE_END - 1));
        frame_seal(s, &frame, type, 0);
        if (round % 7 == 0)
            for (uint32_t i = 0; i < frame.len; i++)
                frame.bytes[i] = (uint8_t)kho_random_next(&random);
        serving_deliver(s, 1, frame.bytes, frame.len);
        serving_turn(s);
        if (s->conns[1].open) {
            shard_disconnected(s->shard, 1, 0, s->now);
            serving_turn(s);
        }
        assert_true(s->conns[1].closed);
    }
    assert_int_equal(fake->pinned, 0);
    serving_put(s, 0, "key-1", 100, "v", 1);
    serving_destroy(s);
}

/* Without room in the store a connection isn't read; its frame is kept and carried out when there
 * is room, in the order in which the connections came. */
static void test_no_room(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    uint64_t requests[3];
    struct wire_head head;
    serving_connect(s, 1);
    fake->no_room = true;
    for (int i = 0; i < 2; i++) {
        frame_begin(&frame);
        frame_add_record(&frame, 1, "key-1", 100, "value", 5);
        requests[i] = serving_send(s, i, &frame, WIRE_WRITE, 0);
    }
    frame_begin(&frame);
    requests[2] = frame_seal(s, &frame, WIRE_STATUS, 0);
    serving_deliver(s, 0, frame.bytes, 20); /* a partial frame behind the one that waits */
    serving_turn(s);
    assert_false(s->conns[0].receiving);
    assert_false(s->conns[1].receiving);
    assert_int_equal(fake->count, 0);
    assert_true(shard_deadline(s->shard) < UINT64_MAX);
    fake->no_room = false;
    serving_deliver(s, 0, frame.bytes + 20, frame.len - 20);
    serving_sleep(s, 20);
    assert_true(s->conns[0].receiving);
    assert_true(s->conns[1].receiving);
    serving_expect(s, 0, requests[2], 0, &head); /* the write's commit comes at the turn's end */
    serving_expect(s, 0, requests[0], 0, &head);
    serving_expect(s, 1, requests[1], 0, &head);
    serving_destroy(s);
}

/* A client with too many requests in flight isn't read until half of them have ended. */
static void test_too_many_in_flight(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    fake->hold_commits = true;
    for (int i = 0; i < 300; i++) {
        frame_begin(&frame);
        frame_add_record(&frame, 1, "key-1", 100, "value", 5);
        serving_send(s, 0, &frame, WIRE_WRITE, 0);
    }
    serving_turn(s);
    assert_int_equal(fake->count, 256);
    assert_false(s->conns[0].receiving);
    fake->hold_commits = false;
    serving_turn(s);
    serving_turn(s);
    assert_int_equal(fake->count, 300);
    assert_true(s->conns[0].receiving);
    struct wire_head head;
    const uint8_t *body;
    int answers = 0;
    while (serving_answer(s, 0, &head, &body))
        answers++;
    assert_int_equal(answers, 300);
    serving_destroy(s);
}

/* A client that asks and doesn't take its answers costs a bounded amount, and is closed in the
 * end; meanwhile others are served. */
static void test_slow_client(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    static char value[60000];
    serving_connect(s, 1);
    memset(value, 'x', sizeof value);
    serving_put(s, 0, "key-1", 100, value, sizeof value);
    s->conns[1].hold_sends = true;
    uint64_t before = shard_stat(s->shard, STAT_memory_bytes);
    for (int i = 0; i < 200; i++) {
        frame_begin(&frame);
        for (int k = 0; k < 50; k++)
            frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
        serving_send(s, 1, &frame, WIRE_READ, 0);
        serving_turn(s);
    }
    assert_true(shard_stat(s->shard, STAT_memory_bytes) <= before + (4u << 20));
    assert_int_equal(fake->pinned, 0);
    assert_true(shard_stat(s->shard, STAT_reads) < 60); /* about 1 MiB of 600 MB */
    serving_put(s, 0, "key-1", 101, "v", 1);
    serving_sleep(s, 50000);
    assert_true(s->conns[1].open);
    serving_sleep(s, 30000);
    assert_true(s->conns[1].closed);
    assert_non_null(strstr(s->event, "answers waited"));
    assert_int_equal(shard_stat(s->shard, STAT_connections), 1);
    serving_destroy(s);
}

/* A client that sends half a message and then nothing is closed; one that is merely idle isn't. */
static void test_silent_client(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    serving_connect(s, 1);
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 100, "value", 5);
    frame_seal(s, &frame, WIRE_WRITE, 0);
    serving_deliver(s, 1, frame.bytes, 70);
    serving_sleep(s, 100000);
    assert_true(s->conns[0].open);
    assert_true(s->conns[1].closed);
    assert_int_equal(shard_deadline(s->shard), UINT64_MAX);
    serving_destroy(s);
}

/* Clients that announce the largest message and send its beginning only cost what they sent. */
static void test_announced_only(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    for (int32_t c = 1; c < SERVING_CONNS; c++) {
        serving_connect(s, c);
        frame_begin(&frame);
        frame.len = KHO_FRAME_MAX;
        frame_seal(s, &frame, WIRE_WRITE, 0);
        for (uint32_t at = 0; at < 3000; at += 1000)
            serving_deliver(s, c, frame.bytes + at, 1000);
        serving_turn(s);
        assert_true(s->conns[c].open);
    }
    serving_put(s, 0, "key-1", 100, "v", 1);
    for (uint32_t at = 3000; at < KHO_FRAME_MAX; at += 1000)
        serving_deliver(s, 1, frame.bytes + at, kho_min(1000, KHO_FRAME_MAX - at));
    serving_turn(s);
    assert_true(s->conns[1].closed); /* whole now, and no records in it */
    serving_destroy(s);
}

/* A connection that breaks with requests of all kinds in flight frees everything when they end, and
 * its handle isn't closed before. */
static void test_break_in_flight(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    serving_connect(s, 1);
    serving_put(s, 0, "key-1", 100, "value", 5);
    fake->hold_commits = true;
    fake->hold_reads = true;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 101, "value", 5);
    serving_send(s, 1, &frame, WIRE_WRITE, 0);
    frame_begin(&frame);
    for (int i = 0; i < 100; i++)
        frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
    serving_send(s, 1, &frame, WIRE_READ, 0);
    frame_begin(&frame);
    struct wire_list_ask ask = {.collection = 1, .partition_to = 8, .ask = KHO_LIST_RECORDS};
    wire_list_ask_encode(&ask, frame_add(&frame, WIRE_LIST_ASK));
    serving_send(s, 1, &frame, WIRE_LIST, 0);
    serving_turn(s);
    assert_true(fake->read_count > 60);
    shard_disconnected(s->shard, 1, -ECONNRESET, s->now);
    serving_turn(s);
    assert_true(s->conns[1].open);
    fake_reads_end(1000);
    serving_turn(s);
    assert_true(s->conns[1].open);
    assert_int_equal(fake->read_count, 0);
    assert_int_equal(fake->pinned, 0);
    fake->hold_commits = false;
    serving_turn(s);
    serving_turn(s);
    assert_true(s->conns[1].closed);
    assert_int_equal(shard_stat(s->shard, STAT_connections), 1);
    serving_connect(s, 1);
    serving_destroy(s);
}

/* Stopping finishes what is in flight, answers it, refuses what comes later, and closes all. */
static void test_stop(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    serving_connect(s, 1);
    fake->hold_commits = true;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 100, "value", 5);
    uint64_t write = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    serving_turn(s);
    fake->no_room = true;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 101, "value", 5);
    uint64_t waiting = serving_send(s, 1, &frame, WIRE_WRITE, 0);
    serving_turn(s);
    shard_stop(s->shard, s->now);
    serving_turn(s);
    assert_int_equal(shard_phase(s->shard), SHARD_STOPPING);
    assert_int_equal(fake->phase, STORE_READY);
    serving_expect(s, 1, waiting, KHO_ESTOPPING, &head);
    assert_true(s->conns[1].closed);
    fake->hold_commits = false;
    serving_turn(s);
    serving_turn(s);
    serving_expect(s, 0, write, 0, &head);
    assert_true(s->conns[0].closed);
    assert_int_equal(shard_phase(s->shard), SHARD_STOPPED);
    serving_destroy(s);
}

/* A client that doesn't take its last answers delays the stop by some seconds only. */
static void test_stop_slow_client(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    s->conns[0].hold_sends = true;
    frame_begin(&frame);
    serving_send(s, 0, &frame, WIRE_STATUS, 0);
    serving_turn(s);
    shard_stop(s->shard, s->now);
    serving_turn(s);
    assert_int_equal(shard_phase(s->shard), SHARD_STOPPING);
    serving_sleep(s, 10000);
    assert_int_equal(shard_phase(s->shard), SHARD_STOPPED);
    serving_destroy(s);
}

/* Options out of their range are refused. */
static void test_options(void **state)
{
    (void)state;
    struct shard_options options;
    struct shard *shard = NULL;
    shard_options_init(&options);
    options.alignment = 1000;
    assert_int_equal(shard_create(&options, &shard), -EINVAL);
    shard_options_init(&options);
    options.memory_max = 1 << 20;
    assert_int_equal(shard_create(&options, &shard), -EINVAL);
    assert_null(shard);
    shard_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),
        cmocka_unit_test(test_pieces),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_malformed_bodies),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_no_room),
        cmocka_unit_test(test_too_many_in_flight),
        cmocka_unit_test(test_slow_client),
        cmocka_unit_test(test_silent_client),
        cmocka_unit_test(test_announced_only),
        cmocka_unit_test(test_break_in_flight),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_stop_slow_client),
        cmocka_unit_test(test_options),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
