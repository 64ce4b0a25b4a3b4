/* serve_admin_test.c: what the tools of repair and status are answered. Over the fake store. */
#include "serving.h"

static struct serving_frame frame;

/* Episodes are told and closed, one entry at a time, answered when that is durable. */
static void test_episodes(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    struct wire_episode episode;
    fake->episode = 66;
    frame_begin(&frame);
    uint64_t request = serving_send(s, 0, &frame, WIRE_EPISODES, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, 1);
    wire_episode_decode(body, &episode);
    assert_int_equal(episode.id, 66);
    frame_begin(&frame);
    for (uint32_t i = 2; i < 5; i++) {
        uint8_t *at = frame_add(&frame, WIRE_EPISODE_CLOSE_ASK);
        memset(at, 0, WIRE_EPISODE_CLOSE_ASK);
        kho_store64(at, 66);
        kho_store32(at + 8, i);
    }
    request = serving_send(s, 0, &frame, WIRE_EPISODE_CLOSE, 0);
    serving_turn(s);
    body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, 3);
    assert_int_equal(status_at(body, 0), -ENOENT);
    assert_int_equal(status_at(body, 1), 0);
    assert_int_equal(status_at(body, 2), -ENOENT);
    serving_destroy(s);
}

/* Versions are given up one by one, each with an answer of its own. */
static void test_forget(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    frame_begin(&frame);
    for (uint32_t i = 4; i < 7; i++) {
        struct wire_forget_ask ask = {
            .collection = 1, .partition = 3, .hash = {.high = 77}, .version = {i, 9}};
        wire_forget_ask_encode(&ask, frame_add(&frame, WIRE_FORGET_ASK));
    }
    uint64_t request = serving_send(s, 0, &frame, WIRE_FORGET, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, 3);
    assert_int_equal(status_at(body, 0), -ENOENT);
    assert_int_equal(status_at(body, 1), 0);
    assert_int_equal(status_at(body, 2), -ENOENT);
    serving_destroy(s);
}

/* STATUS tells every number of the list. */
static void test_status(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    serving_put(s, 0, "key-1", 100, "a", 1);
    frame_begin(&frame);
    uint64_t request = serving_send(s, 0, &frame, WIRE_STATUS, 0);
    serving_turn(s);
    const uint8_t *body = serving_expect(s, 0, request, 0, &head);
    assert_int_equal(head.count, STAT_COUNT);
    assert_int_equal(kho_load64(body + STAT_records * 8), 1);
    assert_int_equal(kho_load64(body + STAT_connections * 8), 1);
    assert_int_equal(kho_load64(body + STAT_epoch * 8), 1);
    assert_int_equal(kho_load64(body + STAT_durable * 8), 1);
    assert_int_equal(kho_load64(body + STAT_memory_max * 8), 128u << 20);
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_episodes),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
