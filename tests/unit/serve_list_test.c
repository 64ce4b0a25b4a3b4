/* serve_list_test.c: listings and digests. Over the fake store. */
#include "large.h"

#include "node/serve.h"

/* Lists everything in pages; counts entries, checks order and records. */
static uint32_t list_all(struct serving *s, uint8_t ask, uint32_t limit, uint32_t *ret_pages)
{
    struct wire_list_ask list = {
        .collection = 1, .partition_to = SERVING_PARTITIONS, .ask = ask, .limit = limit};
    struct wire_list_entry before = {0};
    uint32_t entries = 0;
    bool done = false, first = true;
    *ret_pages = 0;
    while (!done) {
        struct wire_head head = {.flags = KHO_FRAME_MORE};
        struct wire_list_head page = {0};
        const uint8_t *body;
        frame_begin(&frame);
        wire_list_ask_encode(&list, frame_add(&frame, WIRE_LIST_ASK));
        serving_send(s, 0, &frame, WIRE_LIST, 0);
        serving_turn(s);
        while (fake_reads_end(5) > 0)
            serving_turn(s);
        while (serving_answer(s, 0, &head, &body)) {
            assert_int_equal(head.status, 0);
            wire_list_head_decode(body, &page);
            body += WIRE_LIST_HEAD;
            for (uint32_t i = 0; i < head.count; i++, entries++) {
                struct wire_list_entry entry;
                wire_list_entry_decode(body, &entry);
                assert_true(first || entry.partition > before.partition ||
                            (entry.partition == before.partition &&
                             key_tag_compare(entry.tag, before.tag) > 0));
                first = false;
                before = entry;
                body += WIRE_LIST_ENTRY;
                struct record record;
                if (entry.record_len > 0) {
                    assert_int_equal(record_decode(body, entry.record_len, &record),
                                     entry.record_len);
                    assert_true(record_value_matches(&record));
                }
                assert_int_equal(entry.record_len > 0, ask == KHO_LIST_RECORDS);
                body += entry.record_len;
            }
        }
        assert_int_equal(head.flags & KHO_FRAME_MORE, 0);
        list.partition_from = page.next_partition;
        list.tag = page.next_tag;
        done = page.done;
        (*ret_pages)++;
    }
    return entries;
}

/* A listing tells every record once, in order, in pages of any size, with reads in any order. */
static void test_list(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    uint32_t pages;
    char key[32];
    assert_int_equal(list_all(s, 0, 0, &pages), 0);
    for (uint32_t i = 0; i < 200; i++) {
        serving_key(s, i, true, key, sizeof key);
        serving_put(s, 0, key, 100, large_value, 20000);
    }
    assert_int_equal(list_all(s, 0, 0, &pages), 200);
    assert_int_equal(pages, 1);
    assert_int_equal(list_all(s, 0, 7, &pages), 200);
    assert_int_equal(pages, 29);
    assert_int_equal(list_all(s, KHO_LIST_RECORDS, 0, &pages), 200);
    assert_true(pages >= 4 && pages <= 6); /* 4 MB in pages of about 1 MiB */
    fake->hold_reads = true;
    fake->last_read_first = true;
    assert_int_equal(list_all(s, KHO_LIST_RECORDS, 90, &pages), 200);
    assert_int_equal(fake->pinned, 0);
    serving_destroy(s);
}

/* Listings whose first read comes last hold a bounded number of reads, and end. */
static void test_list_window(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    char key[32];
    uint32_t pages;
    for (uint32_t i = 0; i < 700; i++) {
        serving_key(s, i, true, key, sizeof key);
        serving_put(s, 0, key, 100, "value", 5);
    }
    fake->hold_reads = true;
    fake->last_read_first = true;
    for (int32_t c = 1; c <= 10; c++) {
        struct wire_list_ask ask = {
            .collection = 1, .partition_to = SERVING_PARTITIONS, .ask = KHO_LIST_RECORDS};
        serving_connect(s, c);
        frame_begin(&frame);
        wire_list_ask_encode(&ask, frame_add(&frame, WIRE_LIST_ASK));
        serving_send(s, c, &frame, WIRE_LIST, 0);
        serving_turn(s);
        for (int i = 0; i < 20; i++) {
            fake_reads_end(3);
            serving_turn(s);
            assert_true(fake->pinned <= (uint32_t)c * SERVE_LIST_WINDOW);
        }
    }
    assert_int_equal(list_all(s, KHO_LIST_RECORDS, 0, &pages), 700);
    while (fake_reads_end(100) > 0)
        serving_turn(s);
    for (int32_t c = 1; c <= 10; c++) {
        struct wire_head head = {.flags = KHO_FRAME_MORE};
        const uint8_t *body;
        uint32_t entries = 0;
        while (serving_answer(s, c, &head, &body))
            entries += head.count;
        assert_int_equal(entries, 700);
        assert_int_equal(head.flags & KHO_FRAME_MORE, 0);
    }
    assert_int_equal(fake->pinned, 0);
    serving_destroy(s);
}

/* An episode in the listed range is flagged; ranges that the map doesn't have are refused. */
static void test_list_flags(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    fake->episode = 5;
    struct {
        uint32_t collection, from, to;
        int status;
        uint8_t flags;
    } cases[] = {{1, 0, 3, 0, 0},
                 {1, 3, 4, 0, KHO_FRAME_EPISODE},
                 {1, 0, 8, 0, KHO_FRAME_EPISODE},
                 {1, 5, 5, 0, 0},
                 {1, 0, 9, KHO_EMALFORMED, 0},
                 {1, 4, 3, KHO_EMALFORMED, 0},
                 {9, 0, 8, KHO_ENOCOLLECTION, 0}};
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        struct wire_list_ask ask = {.collection = cases[i].collection,
                                    .partition_from = cases[i].from,
                                    .partition_to = cases[i].to};
        frame_begin(&frame);
        wire_list_ask_encode(&ask, frame_add(&frame, WIRE_LIST_ASK));
        uint64_t request = serving_send(s, 0, &frame, WIRE_LIST, 0);
        serving_turn(s);
        const uint8_t *body = serving_expect(s, 0, request, cases[i].status, &head);
        assert_int_equal(head.flags, cases[i].flags);
        struct wire_list_head page;
        if (cases[i].status != 0)
            continue;
        wire_list_head_decode(body, &page);
        assert_true(page.done);
    }
    serving_destroy(s);
}

/* Digests of partitions that have records; an episode is told even where there are none. */
static void test_digest(void **state)
{
    (void)state;
    struct serving *s = serving_ready();
    struct wire_head head;
    struct wire_digest_entry entry;
    serving_put(s, 0, "key-1", 100, "a", 1); /* partition 4 */
    serving_put(s, 0, "key-8", 100, "a", 1); /* partition 4 */
    fake->episode = 66;                      /* partition 3 */
    for (int all = 0; all < 2; all++) {
        frame_begin(&frame);
        uint8_t *at = frame_add(&frame, WIRE_DIGEST_ASK);
        memset(at, 0, WIRE_DIGEST_ASK);
        kho_store32(at, all ? KHO_ALL : 1);
        kho_store32(at + 8, SERVING_PARTITIONS);
        uint64_t request = serving_send(s, 0, &frame, WIRE_DIGEST, 0);
        serving_turn(s);
        const uint8_t *body = serving_expect(s, 0, request, 0, &head);
        assert_int_equal(head.count, 2);
        wire_digest_entry_decode(body, &entry);
        assert_int_equal(entry.collection, KHO_ALL);
        assert_int_equal(entry.partition, 3);
        assert_int_equal(entry.episode, 66);
        wire_digest_entry_decode(body + WIRE_DIGEST_ENTRY, &entry);
        assert_int_equal(entry.collection, 1);
        assert_int_equal(entry.partition, 4);
        assert_int_equal(entry.count, 2);
        assert_int_equal(entry.episode, 0);
    }
    serving_destroy(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_window),
        cmocka_unit_test(test_list_flags),
        cmocka_unit_test(test_digest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
