/* serve_write_test.c: what a write is answered, and when. Over the fake store. */
#include "serving.h"

static struct serving_frame frame;

/* A write is answered when its commit is durable, not before; a flush when all before it is. */
static void test_write_waits_for_commit(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    fake->hold_commits = true;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 100, "value", 5);
    frame_add_record(&frame, 1, "key-2", 100, "value", 5);
    uint64_t write = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    frame_begin(&frame);
    uint64_t flush = serving_send(s, 0, &frame, WIRE_FLUSH, 0);
    serving_turn(s);
    serving_expect_nothing(s, 0);
    fake->hold_commits = false;
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, write, 0, &head);
    assert_int_equal(head.count, 2);
    assert_int_equal(status_at(body, 0), 0);
    assert_int_equal(status_at(body, 1), 0);
    assert_int_equal(head.durable, 1);
    assert_int_equal(head.wall_ms, s->now.wall_ms);
    serving_expect(s, 0, flush, 0, &head);
    serving_destroy(s);
}

/* Each entry has its own outcome: unknown collection, no replica, wrong hash, what the store says.
 */
static void test_write_entries(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    char foreign[32];
    serving_key(s, 0, false, foreign, sizeof foreign);
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 100, "value", 5);
    frame_add_record(&frame, 9, "key-1", 100, "value", 5);
    frame_add_record(&frame, 1, foreign, 100, "value", 5);
    uint32_t at = frame.len;
    frame_add_record(&frame, 1, "key-2", 100, "value", 5);
    frame.bytes[at + 32] ^= 1; /* the content hash */
    uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    int32_t expected[] = {0, KHO_ENOCOLLECTION, KHO_ENOTREPLICA, KHO_ECHECKSUM};
    assert_int_equal(head.count, 4);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(status_at(body, i), expected[i]);
    assert_int_equal(fake->count, 1);
    fake->write_status = KHO_ECONFLICT;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 100, "other", 5);
    request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    serving_turn(s);
    assert_int_equal(status_at(serving_expect(s, 0, request, 0, &head), 0), KHO_ECONFLICT);
    serving_destroy(s);
}

/* A collection's separator decides the partition: keys of one prefix lie together. */
static void test_separator(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    uint32_t whole, prefix;
    char key[64], partner[64];
    for (int i = 0;; i++) {
        snprintf(key, sizeof key, "citizen-%d/a", i);
        snprintf(partner, sizeof partner, "citizen-%d", i);
        serving_hash(s, 2, key, &prefix);
        serving_hash(s, 1, key, &whole);
        if (prefix != 7 && whole != prefix)
            break;
    }
    frame_begin(&frame);
    frame_add_record(&frame, 2, key, 100, "a", 1);
    frame_add_record(&frame, 2, partner, 100, "b", 1);
    uint64_t request = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    serving_turn(s);
    serving_expect(s, 0, request, 0, &head);
    assert_int_equal(fake->records[0].partition, prefix);
    assert_int_equal(fake->records[1].partition, prefix);
    serving_destroy(s);
}

/* When the disk fails, what isn't durable is answered as such, and so is what comes later (R4);
 * reads go on. */
static void test_disk_fails(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    serving_put(s, 0, "key-1", 100, "value", 5);
    fake->hold_commits = true;
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 101, "v", 1);
    frame_add_record(&frame, 9, "key-1", 101, "v", 1);
    uint64_t write = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    frame_begin(&frame);
    uint64_t flush = serving_send(s, 0, &frame, WIRE_FLUSH, 0);
    serving_turn(s);
    fake->failed = KHO_EREADONLY;
    fake->no_room = true;
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, write, 0, &head);
    assert_int_equal(status_at(body, 0), KHO_EREADONLY);
    assert_int_equal(status_at(body, 1), KHO_ENOCOLLECTION);
    serving_expect(s, 0, flush, KHO_EREADONLY, &head);
    frame_begin(&frame);
    frame_add_record(&frame, 1, "key-1", 102, "v", 1);
    write = serving_send(s, 0, &frame, WIRE_WRITE, 0);
    frame_begin(&frame);
    frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
    uint64_t read = serving_send(s, 0, &frame, WIRE_READ, 0);
    serving_turn(s);
    /* What is at hand is answered before what waits for a commit. */
    struct wire_read_answer answer;
    wire_read_answer_decode(serving_expect(s, 0, read, 0, &head), &answer);
    assert_int_equal(answer.state, WIRE_PRESENT);
    body = serving_expect(s, 0, write, 0, &head);
    assert_int_equal(status_at(body, 0), KHO_EREADONLY);
    assert_int_equal(shard_stat(s->shard, STAT_readonly), 1);
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write_waits_for_commit),
        cmocka_unit_test(test_write_entries),
        cmocka_unit_test(test_separator),
        cmocka_unit_test(test_disk_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
