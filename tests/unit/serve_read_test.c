/* serve_read_test.c: what probes and reads are answered. Over the fake store. */
#include "large.h"

/* A probe tells what is durable; "unknown" where this node can't vote. */
static void test_probe(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    struct wire_probe_answer answer;
    uint32_t partition;
    serving_put(s, 0, "key-1", 100, "value", 5);
    struct key_hash hash = serving_hash(s, 1, "key-1", &partition);
    struct wire_probe_ask asks[] = {{1, partition, hash},
                                    {1, partition, {1, 2}},
                                    {9, partition, hash},
                                    {1, 7, hash},
                                    {1, 8, hash}};
    uint8_t states[] = {WIRE_PRESENT, WIRE_ABSENT, WIRE_ABSENT, WIRE_UNKNOWN, WIRE_UNKNOWN};
    frame_begin(&frame);
    for (int i = 0; i < 5; i++)
        wire_probe_ask_encode(&asks[i], frame_add(&frame, WIRE_PROBE_ASK));
    fake->suspect = true;
    uint64_t request = serving_send(s, 0, &frame, WIRE_PROBE, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, 5);
    assert_int_equal(head.flags, KHO_FRAME_SUSPECT);
    for (int i = 0; i < 5; i++) {
        wire_probe_answer_decode(body + (size_t)i * WIRE_PROBE_ANSWER, &answer);
        assert_int_equal(answer.state, states[i]);
        assert_int_equal(answer.version.counter, i == 0 ? 100 : 0);
    }
    serving_destroy(s);
}

/* Every entry of a read is answered once, whatever order its reads end in, with at most 64 of a
 * frame and 256 of the shard under way. */
static void test_reads_in_any_order(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    enum { COUNT = 1000 };
    static uint8_t seen[6][COUNT];
    memset(seen, 0, sizeof seen);
    uint64_t requests[6];
    char key[32];
    for (uint32_t i = 0; i < 20; i++) {
        serving_key(s, i, true, key, sizeof key);
        serving_put(s, 0, key, 100 + i, large_value, i * 100);
    }
    fake->hold_reads = true;
    fake->last_read_first = true;
    for (int32_t c = 0; c < 6; c++) {
        if (c > 0)
            serving_connect(s, c);
        frame_begin(&frame);
        for (uint32_t i = 0; i < COUNT; i++) {
            serving_key(s, i % 40, true, key, sizeof key); /* half of them are absent */
            frame_add_read(&frame, s, 1, key, KHO_READ_RECORD, i % 3 == 0);
        }
        requests[c] = serving_send(s, c, &frame, WIRE_READ, 0);
    }
    serving_turn(s);
    assert_int_equal(fake->read_count, 512);
    while (fake->read_count > 0) {
        fake_reads_end(7);
        serving_turn(s);
    }
    assert_int_equal(fake->reads_most, 512);
    for (int32_t c = 0; c < 6; c++) {
        struct wire_head head = {.flags = KHO_FRAME_MORE};
        const uint8_t *body;
        uint32_t answered = 0;
        while (serving_answer(s, c, &head, &body)) {
            assert_int_equal(head.request, requests[c]);
            const uint8_t *end = body + head.length - KHO_FRAME_HEAD;
            for (uint32_t i = 0; i < head.count; i++, answered++) {
                struct wire_read_answer answer;
                struct record record;
                wire_read_answer_decode(body, &answer);
                body += WIRE_READ_ANSWER;
                assert_true(answer.index < COUNT && seen[c][answer.index]++ == 0);
                assert_int_equal(answer.status, 0);
                assert_int_equal(answer.floor, 5);
                bool there = answer.index % 40 < 20;
                assert_int_equal(answer.state, there ? WIRE_PRESENT : WIRE_ABSENT);
                if (there) {
                    assert_int_equal(record_decode(body, answer.record_len, &record),
                                     answer.record_len);
                    assert_int_equal(record.version.counter, 100 + answer.index % 40);
                    assert_true(record_value_matches(&record));
                }
                body += answer.record_len;
            }
            assert_ptr_equal(body, end);
        }
        assert_int_equal(head.flags & KHO_FRAME_MORE, 0);
        assert_int_equal(answered, COUNT);
    }
    assert_int_equal(fake->pinned, 0);
    serving_destroy(s);
}

/* Entries that can't be read have a status, never "absent"; an episode's are no votes. */
static void test_read_statuses(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    char foreign[32];
    serving_key(s, 0, false, foreign, sizeof foreign);
    fake->episode = 77;
    frame_begin(&frame);
    frame_add_read(&frame, s, 9, "key-1", KHO_READ_RECORD, false);
    frame_add_read(&frame, s, 1, foreign, KHO_READ_RECORD, false);
    frame_add_read(&frame, s, 1, foreign, KHO_READ_RECORD, true);
    frame_add_read(&frame, s, 1, "key-5", KHO_READ_RECORD, false); /* partition 3 */
    frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
    uint64_t request = serving_send(s, 0, &frame, WIRE_READ, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    int32_t expected[] = {KHO_ENOCOLLECTION, KHO_ENOTREPLICA, KHO_ENOTREPLICA, KHO_EUNKNOWN, 0};
    assert_int_equal(head.count, 5);
    for (uint32_t i = 0; i < 5; i++) {
        struct wire_read_answer answer;
        wire_read_answer_decode(body + (size_t)i * WIRE_READ_ANSWER, &answer);
        assert_int_equal(answer.index, i);
        assert_int_equal(answer.status, expected[i]);
        assert_int_equal(answer.state, i < 4 ? WIRE_UNKNOWN : WIRE_ABSENT);
        assert_int_equal(answer.record_len, 0);
    }
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_reads_in_any_order),
        cmocka_unit_test(test_read_statuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
