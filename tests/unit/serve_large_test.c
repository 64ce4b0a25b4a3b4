/* serve_large_test.c: large values in and out: whole, refused, bounded. Over the fake store. */
#include "large.h"

/* The largest value goes in and comes out byte for byte, in DATA frames, while small requests of
 * the same connection are answered in between. */
static void test_large(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    const uint8_t *body;
    large_fill();
    large_put(s, 0, "key-1", KHO_VALUE_MAX);
    assert_int_equal(fake->records[0].record.raw_len, KHO_VALUE_MAX);
    serving_put(s, 0, "key-2", 100, "small", 5);
    frame_begin(&frame);
    frame_add_read(&frame, s, 1, "key-2", KHO_READ_RECORD, false);
    frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
    frame_add_read(&frame, s, 1, "key-1", KHO_READ_HEAD, true);
    frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
    uint64_t read = serving_send(s, 0, &frame, WIRE_READ, 0);
    shard_turn_end(s->shard, s->now);
    frame_begin(&frame);
    uint64_t probe = serving_send(s, 0, &frame, WIRE_STATUS, 0);
    serving_turn(s);
    uint32_t answered = 0, bytes = 0, larges = 0;
    bool in_value = false, status_in_between = false, last = false;
    while (serving_answer(s, 0, &head, &body)) {
        uint32_t len = head.length - KHO_FRAME_HEAD;
        if (head.request == probe) {
            status_in_between = in_value;
            continue;
        }
        assert_int_equal(head.request, read);
        assert_false(last);
        last = (head.flags & KHO_FRAME_MORE) == 0;
        if (head.type == WIRE_DATA) {
            assert_true(in_value);
            assert_memory_equal(body, large_value + bytes, len);
            bytes += len;
            in_value = (head.flags & KHO_FRAME_LAST_DATA) == 0;
            if (!in_value)
                assert_int_equal(bytes, KHO_VALUE_MAX);
            continue;
        }
        assert_false(in_value);
        for (uint32_t at = 0; at < len;) {
            struct wire_read_answer answer;
            wire_read_answer_decode(body + at, &answer);
            assert_int_equal(answer.status, 0);
            assert_int_equal(answer.state, WIRE_PRESENT);
            at += WIRE_READ_ANSWER;
            answered++;
            if ((head.flags & KHO_FRAME_LARGE) != 0) {
                assert_int_equal(answer.record_len, KHO_RECORD_HEAD + 5 + KHO_VALUE_MAX);
                assert_int_equal(len - at, KHO_RECORD_HEAD + 5);
                in_value = true;
                bytes = 0;
                larges++;
                break;
            }
            if (answer.index == 2)
                assert_int_equal(answer.record_len, KHO_RECORD_HEAD + 5);
            at += answer.record_len;
        }
    }
    assert_true(last);
    assert_int_equal(answered, 4);
    assert_int_equal(larges, 2);
    assert_true(status_in_between);
    assert_int_equal(fake->pinned, 0);
    serving_destroy(s);
}

/* Large values read by many slow clients at once: each holds a slot, none holds up the others for
 * ever, and all come out whole. */
static void test_large_many_readers(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    enum { READERS = 40, EACH = 3, BYTES = 3 << 20 };
    large_fill();
    large_put(s, 0, "key-1", BYTES);
    for (int32_t c = 1; c <= READERS; c++) {
        serving_connect(s, c);
        s->conns[c].hold_sends = true;
        for (int k = 0; k < EACH; k++) {
            frame_begin(&frame);
            frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
            frame_add_read(&frame, s, 1, "key-2", KHO_READ_RECORD, false);
            serving_send(s, c, &frame, WIRE_READ, 0);
        }
    }
    serving_turn(s);
    assert_true(fake->pinned <= 8); /* 20 MiB of values */
    for (int32_t c = READERS; c >= 1; c--)
        serving_release_send(s, c);
    serving_turn(s);
    for (int32_t c = 1; c <= READERS; c++) {
        struct wire_head head;
        const uint8_t *body;
        uint32_t bytes = 0, ended = 0;
        while (serving_answer(s, c, &head, &body)) {
            bytes += head.type == WIRE_DATA ? head.length - KHO_FRAME_HEAD : 0;
            ended += (head.flags & KHO_FRAME_MORE) == 0;
        }
        assert_int_equal(bytes, EACH * BYTES);
        assert_int_equal(ended, EACH);
    }
    assert_int_equal(fake->pinned, 0);
    serving_destroy(s);
}

/* Large values: refused at the begin their data is dropped; longer or shorter than they said they
 * end the connection; a begin without its end is given back when the connection goes. */
static void test_large_refused(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    char foreign[32];
    large_fill();
    serving_key(s, 0, false, foreign, sizeof foreign);
    uint64_t request = large_begin(s, 0, foreign, 1000);
    large_data(s, 0, request, 0, 600, false);
    large_data(s, 0, request, 600, 400, true);
    serving_turn(s);
    assert_int_equal(status_at(serving_expect(s, 0, request, 0, &head), 0), KHO_ENOTREPLICA);
    uint32_t sizes[3][2] = {{600, false}, {1001, true}, {400, true}};
    for (int i = 0; i < 3; i++) {
        serving_connect(s, 1);
        request = large_begin(s, 1, "key-1", 1000);
        large_data(s, 1, request, 0, sizes[i][0], sizes[i][1]);
        if (i == 0)
            large_data(s, 1, request, 0, 600, true);
        serving_turn(s);
        assert_true(s->conns[1].closed);
    }
    uint64_t before = shard_stat(s->shard, STAT_memory_bytes);
    for (int i = 0; i < 100; i++) {
        serving_connect(s, 1);
        request = large_begin(s, 1, "key-1", KHO_VALUE_MAX);
        large_data(s, 1, request, 0, 1000, false);
        serving_turn(s);
        shard_disconnected(s->shard, 1, 0, s->now);
        serving_turn(s);
        assert_true(s->conns[1].closed);
    }
    assert_int_equal(shard_stat(s->shard, STAT_memory_bytes), before);
    assert_int_equal(fake->count, 0);
    large_put(s, 0, "key-1", 300000);
    serving_destroy(s);
}

/* Values on their way in share bounded memory: one connection waits unread until there is some,
 * one that has a value under way is told KHO_EBUSY, and a client that stops in the middle is closed
 * so that the others go on. */
static void test_large_bound(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    large_fill();
    serving_connect(s, 1);
    serving_connect(s, 2);
    /* 128 MiB of memory: a share of 32, of which 24 for large values. */
    uint64_t held = large_begin(s, 1, "key-1", KHO_VALUE_MAX);
    uint64_t busy = large_begin(s, 1, "key-2", KHO_VALUE_MAX);
    serving_turn(s);
    assert_int_equal(status_at(serving_expect(s, 1, busy, 0, &head), 0), KHO_EBUSY);
    uint64_t waits = large_begin(s, 2, "key-2", KHO_VALUE_MAX);
    large_data(s, 2, waits, 0, 100000, false);
    serving_turn(s);
    assert_false(s->conns[2].receiving);
    assert_true(s->conns[1].receiving);
    large_put(s, 0, "key-2", 1 << 20);
    serving_sleep(s, 3000);
    large_data(s, 1, held, 0, 200000, false);
    serving_sleep(s, 3000);
    assert_true(s->conns[1].open);
    serving_sleep(s, 3000);
    assert_true(s->conns[1].closed);
    assert_true(s->conns[2].open);
    assert_true(s->conns[2].receiving);
    for (uint32_t at = 100000; at < KHO_VALUE_MAX;) {
        uint32_t bytes = (uint32_t)kho_min(KHO_VALUE_MAX - at, 200000);
        large_data(s, 2, waits, at, bytes, at + bytes == KHO_VALUE_MAX);
        at += bytes;
    }
    serving_turn(s);
    assert_int_equal(status_at(serving_expect(s, 2, waits, 0, &head), 0), 0);
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_large_many_readers),
        cmocka_unit_test(test_large_refused),
        cmocka_unit_test(test_large_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
