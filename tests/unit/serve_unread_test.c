/* serve_unread_test.c: what clients that ask nothing, or don't take their answers, cost the others.
 * Over the fake store. */
#include "large.h"

/* Clients that connect and ask nothing hold their places only until others want them; who asks now
 * and then, and who has something under way, stays. */
static void test_idle_crowd(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    uint32_t closed = 0;
    for (int32_t c = 1; c < SERVING_CONNS / 2; c++)
        serving_connect(s, c);
    serving_sleep(s, 60000);
    for (int32_t c = 1; c < SERVING_CONNS / 2; c++)
        assert_true(s->conns[c].open);
    for (int32_t c = SERVING_CONNS / 2; c < SERVING_CONNS; c++)
        serving_connect(s, c);
    for (int second = 0; second < 20; second++) {
        frame_begin(&frame);
        serving_send(s, 1, &frame, WIRE_STATUS, 0);
        serving_sleep(s, 1000);
    }
    for (int32_t c = 0; c < SERVING_CONNS; c++)
        closed += s->conns[c].closed;
    assert_int_equal(closed, SERVING_CONNS / 8);
    assert_true(s->conns[1].open);
    assert_non_null(strstr(s->event, "--connections"));
    serving_destroy(s);
}

/* What one client may leave untaken is a MiB, of all together no more than the share: reads wait
 * beyond that, those who take nothing are closed, and who takes gets all. */
static void test_unread_bound(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    enum { READERS = 50, EACH = 5, BYTES = 200000, SHARE = 32 << 20 };
    struct wire_head head;
    const uint8_t *body;
    large_fill();
    large_put(s, 0, "key-1", BYTES);
    uint64_t before = fake->reads_begun;
    uint32_t closed = 0;
    for (int32_t c = 1; c <= READERS; c++) {
        serving_connect(s, c);
        s->conns[c].hold_sends = true;
        frame_begin(&frame);
        for (int k = 0; k < EACH; k++)
            frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
        serving_send(s, c, &frame, WIRE_READ, 0);
    }
    serving_turn(s);
    uint64_t begun = fake->reads_begun - before;
    assert_true(begun >= SHARE / 2 / KHO_FRAME_MAX);
    assert_true(begun <= SHARE / KHO_FRAME_MAX);
    for (int32_t c = 1; c <= READERS; c += 2) {
        serving_release_send(s, c);
        serving_turn(s);
    }
    serving_sleep(s, 40000);
    for (int32_t c = 1; c <= READERS; c++) {
        uint32_t entries = 0;
        while (s->conns[c].open && serving_answer(s, c, &head, &body))
            entries += head.count;
        if (c % 2 == 1)
            assert_true(s->conns[c].open && entries == EACH);
        closed += s->conns[c].closed;
    }
    assert_true(closed > 0 && closed <= READERS / 2);
    large_put(s, 0, "key-2", BYTES);
    serving_destroy(s);
}

/* Records that are at hand are bounded in the same way while nobody takes them, and all come out.
 */
static void test_unread_at_hand(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    enum { READERS = 50, FRAMES = 3, EACH = 90, BYTES = 10000, SHARE = 32 << 20 };
    struct wire_head head;
    const uint8_t *body;
    uint32_t entries[READERS + 1] = {0};
    large_fill();
    serving_put(s, 0, "key-1", 100, large_value, BYTES);
    for (int32_t c = 1; c <= READERS; c++)
        serving_connect(s, c);
    uint64_t before = fake->reads_begun;
    for (int32_t c = 1; c <= READERS; c++) {
        s->conns[c].hold_sends = true;
        for (int k = 0; k < FRAMES; k++) {
            frame_begin(&frame);
            for (int i = 0; i < EACH; i++)
                frame_add_read(&frame, s, 1, "key-1", KHO_READ_RECORD, false);
            serving_send(s, c, &frame, WIRE_READ, 0);
        }
    }
    serving_turn(s);
    /* A group more a frame is looked at before the bound is met. */
    assert_true(fake->reads_begun - before <=
                SHARE / BYTES + STORE_READS_CACHED * FRAMES * READERS);
    assert_int_equal(fake->pinned, 0);
    for (int round = 0; round < 2; round++)
        for (int32_t c = 1; c <= READERS; c++) {
            serving_release_send(s, c);
            serving_turn(s);
        }
    for (int32_t c = 1; c <= READERS; c++) {
        while (serving_answer(s, c, &head, &body))
            entries[c] += head.count;
        assert_int_equal(entries[c], FRAMES * EACH);
    }
    assert_int_equal(fake->pinned, 0);
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_idle_crowd),
        cmocka_unit_test(test_unread_bound),
        cmocka_unit_test(test_unread_at_hand),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
