/* serve_test.c: what each kind of request answers, and when. Over the fake store. */
#include "serving.h"

#include "node/serve.h"

static struct serving_frame frame;
static uint8_t large_value[KHO_VALUE_MAX];

static void large_fill(void)
{
    struct kho_random random;
    kho_random_init(&random, 5);
    for (size_t i = 0; i < sizeof large_value; i += 8)
        kho_store64(large_value + i, kho_random_next(&random));
}

static int32_t status_at(const uint8_t *body, uint32_t i)
{
    return (int32_t)kho_load32(body + (size_t)i * WIRE_STATUS_ANSWER);
}

/* --- Maps ------------------------------------------------------------------------------------- */

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

/* --- Writing ---------------------------------------------------------------------------------- */

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

/* --- Large values ----------------------------------------------------------------------------- */

/* Sends the begin of a large record. */
static uint64_t large_begin(struct serving *s, int32_t conn, const char *key, uint32_t len)
{
    struct record record = {.collection = 1,
                            .key_len = (uint16_t)strlen(key),
                            .version = {.counter = 100, .writer = 7},
                            .raw_len = len,
                            .stored_len = len,
                            .hash = content_hash(large_value, len),
                            .key = (const uint8_t *)key};
    frame_begin(&frame);
    record_encode_head(&record, frame_add(&frame, KHO_RECORD_HEAD + record.key_len));
    return serving_send(s, conn, &frame, WIRE_WRITE_LARGE, len % 2 == 0 ? KHO_FRAME_MORE : 0);
}
static void large_data(struct serving *s, int32_t conn, uint64_t request, uint32_t from,
                       uint32_t len, bool last)
{
    uint64_t next = s->next_request;
    frame_begin(&frame);
    memcpy(frame_add(&frame, len), large_value + from, len);
    frame.count = 0;
    s->next_request = request;
    serving_send(s, conn, &frame, WIRE_DATA, last ? KHO_FRAME_LAST_DATA : KHO_FRAME_MORE);
    s->next_request = next;
}

static void large_put(struct serving *s, int32_t conn, const char *key, uint32_t len)
{
    struct wire_head head;
    uint64_t request = large_begin(s, conn, key, len);
    for (uint32_t at = 0; at < len;) {
        uint32_t bytes = (uint32_t)kho_min(len - at, KHO_FRAME_MAX - KHO_FRAME_HEAD);
        large_data(s, conn, request, at, bytes, at + bytes == len);
        at += bytes;
    }
    serving_turn(s);
    assert_int_equal(status_at(serving_expect(s, conn, request, 0, &head), 0), 0);
}

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

/* --- Reading ---------------------------------------------------------------------------------- */

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

/* --- Listing ---------------------------------------------------------------------------------- */

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

/* --- Tools ------------------------------------------------------------------------------------ */

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
        cmocka_unit_test(test_no_map),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_map_push),
        cmocka_unit_test(test_epoch_rises_in_flight),
        cmocka_unit_test(test_write_waits_for_commit),
        cmocka_unit_test(test_write_entries),
        cmocka_unit_test(test_separator),
        cmocka_unit_test(test_disk_fails),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_idle_crowd),
        cmocka_unit_test(test_unread_bound),
        cmocka_unit_test(test_unread_at_hand),
        cmocka_unit_test(test_large_many_readers),
        cmocka_unit_test(test_large_refused),
        cmocka_unit_test(test_large_bound),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_other_shard),
        cmocka_unit_test(test_map_spreads),
        cmocka_unit_test(test_reads_in_any_order),
        cmocka_unit_test(test_read_statuses),
        cmocka_unit_test(test_list),
        cmocka_unit_test(test_list_window),
        cmocka_unit_test(test_list_flags),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_episodes),
        cmocka_unit_test(test_forget),
        cmocka_unit_test(test_status),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
