/* client_answer_test.c: one answer of one node breaks one rule, its checksum right: the client
 * takes nothing from it, drops that connection where the bytes can't be an answer, and ends the
 * call by the other replicas' word. */
#include "fake_cluster.h"

#include <errno.h>

enum { LARGE = 300000, ROOM = 300000 };

/* A change of one frame: of `type`, or of the begin of a large value, or of its data. */
struct change {
    const char *name;
    uint8_t type;
    uint8_t flags; /* only a frame that has these */
    bool breaks;   /* the connection */
    /* Changes head and body (which has room behind it); false: the frame is left out. */
    bool (*make)(struct wire_head *head, uint8_t *body);
};

static bool grow(struct wire_head *head, uint8_t *body, uint32_t by)
{
    memset(body + head->length - KHO_FRAME_HEAD, 0, by);
    head->length += by;
    return true;
}

/* --- READ: one entry, { answer 32, record }, of the key "a" and the value "1" -------------------
 */

static bool read_other_key(struct wire_head *head, uint8_t *body)
{
    (void)head;
    body[WIRE_READ_ANSWER + KHO_RECORD_HEAD] ^= 1;
    return true;
}
static bool read_other_collection(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store32(body + WIRE_READ_ANSWER, 2);
    return true;
}
/* The same bytes, as the key "a1" without a value. */
static bool read_longer_key(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store16(body + WIRE_READ_ANSWER + 4, 2);
    kho_store32(body + WIRE_READ_ANSWER + 20, 0);
    kho_store32(body + WIRE_READ_ANSWER + 24, 0);
    return true;
}
static bool read_bad_value(struct wire_head *head, uint8_t *body)
{
    body[head->length - KHO_FRAME_HEAD - 1] ^= 1;
    return true;
}
/* Only the record's head, where the value was asked for, too. */
static bool read_no_value(struct wire_head *head, uint8_t *body)
{
    kho_store32(body + 28, kho_load32(body + 28) - 1);
    head->length--;
    return true;
}
static bool read_longer_record(struct wire_head *head, uint8_t *body)
{
    kho_store32(body + 28, kho_load32(body + 28) + 1);
    return grow(head, body, 1);
}
static bool read_state_differs(struct wire_head *head, uint8_t *body)
{
    (void)head;
    body[24] = WIRE_TOMBSTONE;
    return true;
}
static bool read_no_state(struct wire_head *head, uint8_t *body)
{
    body[24] = WIRE_VALUE_UNKNOWN;
    kho_store32(body + 28, 0);
    head->length = KHO_FRAME_HEAD + WIRE_READ_ANSWER;
    return true;
}
static bool read_absent_with_record(struct wire_head *head, uint8_t *body)
{
    (void)head;
    body[24] = WIRE_ABSENT;
    return true;
}
static bool read_present_without_record(struct wire_head *head, uint8_t *body)
{
    kho_store32(body + 28, 0);
    head->length = KHO_FRAME_HEAD + WIRE_READ_ANSWER;
    return true;
}
static bool read_other_index(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store32(body, 1);
    return true;
}
static bool read_short(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->length = KHO_FRAME_HEAD + WIRE_READ_ANSWER - 1;
    return true;
}
static bool read_trailing(struct wire_head *head, uint8_t *body)
{
    return grow(head, body, 3);
}
static bool read_record_beyond(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store32(body + 28, kho_load32(body + 28) + 1);
    return true;
}
/* An answer that ends without a word about what was asked. */
static bool says_nothing(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->count = 0;
    head->length = KHO_FRAME_HEAD;
    return true;
}

/* --- Large values ------------------------------------------------------------------------------
 */

static bool large_status(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store32(body + 4, (uint32_t)-EIO);
    return true;
}
static bool large_head_cut(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->length--;
    return true;
}
static bool large_count(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->count = 2;
    return true;
}
static bool left_out(struct wire_head *head, uint8_t *body)
{
    (void)head, (void)body;
    return false;
}
static bool data_ends_early(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->flags = KHO_FRAME_LAST_DATA;
    return true;
}
static bool data_is_a_read(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->type = WIRE_READ;
    head->count = 1;
    return true;
}
static bool data_longer(struct wire_head *head, uint8_t *body)
{
    return grow(head, body, 1);
}

/* --- PROBE and WRITE ----------------------------------------------------------------------------
 */

static bool probe_one_more(struct wire_head *head, uint8_t *body)
{
    head->count++;
    return grow(head, body, WIRE_PROBE_ANSWER);
}
static bool probe_state(struct wire_head *head, uint8_t *body)
{
    (void)head;
    body[12] = WIRE_UNKNOWN + 1;
    return true;
}
static bool probe_counter(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store64(body, KHO_COUNTER_MAX + 1);
    return true;
}
static bool probe_short(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->length--;
    return true;
}
static bool write_one_more(struct wire_head *head, uint8_t *body)
{
    head->count++;
    return grow(head, body, WIRE_STATUS_ANSWER);
}
static bool write_positive(struct wire_head *head, uint8_t *body)
{
    (void)head;
    kho_store32(body, 1);
    return true;
}
static bool write_short(struct wire_head *head, uint8_t *body)
{
    (void)body;
    head->length -= 4;
    return true;
}

/* Changes the first frame that fits, of what a connection brings. */
static bool change_out(struct fake_conn *conn, const struct change *change)
{
    for (size_t at = 0; at < conn->out_len;) {
        if (kho_load32(conn->out + at) == KHO_HELLO_MAGIC) {
            at += KHO_HELLO_NODE_SIZE;
            continue;
        }
        struct wire_head head;
        uint32_t length = kho_load32(conn->out + at);
        assert_int_equal(wire_frame_decode(conn->out + at, &head), 0);
        if (head.type != change->type || head.status != 0 ||
            (head.flags & change->flags) != change->flags) {
            at += length;
            continue;
        }
        uint8_t *bytes = (uint8_t *)malloc(conn->out_len + ROOM);
        memcpy(bytes, conn->out, at + length);
        bool stays = change->make(&head, bytes + at + KHO_FRAME_HEAD);
        if (stays)
            wire_frame_seal(bytes + at, &head, true);
        size_t to = at + (stays ? head.length : 0), rest = conn->out_len - at - length;
        memcpy(bytes + to, conn->out + at + length, rest);
        free(conn->out);
        conn->out = bytes;
        conn->out_len = to + rest;
        return true;
    }
    return false;
}

/* Runs until the call ends; node 1's first fitting answer is changed. True: one was. */
static bool run_changed(struct fake_cluster *cluster, const struct change *change,
                        const struct fake_done *done)
{
    bool changed = false;
    for (int turn = 0; turn < 20000 && !done->come; turn++) {
        for (int i = 0; i < FAKE_CONNS && !changed; i++) {
            struct fake_conn *conn = &cluster->conns[i];
            if (!conn->open || conn->node != 1)
                continue;
            fake_work(cluster, conn);
            changed = change_out(conn, change);
        }
        if (!fake_step(cluster))
            cluster->now.mono_ns += CLIENT_MS_NS;
    }
    assert_true(done->come);
    return changed;
}

static void put_value(struct fake_cluster *cluster, const uint8_t *value, uint32_t len,
                      struct fake_done *done)
{
    struct kho_item item = {.key = "a", .key_len = 1, .value = value, .value_len = len};
    kho_call_id call;
    memset(done, 0, sizeof *done);
    assert_int_equal(client_records(cluster->client, CLIENT_PUT, "people", &item, 1, 20000, done,
                                    cluster->now, &call),
                     0);
}

static void reads_end_well(const struct change *changes, size_t count, const uint8_t *value,
                           uint32_t len)
{
    for (size_t i = 0; i < count; i++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done done;
        bool changed = false;
        put_value(cluster, value, len, &done);
        fake_run(cluster, 30000, &done);
        assert_int_equal(done.first.status, 0);
        fake_run(cluster, 200, NULL);
        uint32_t hellos = cluster->nodes[1].hellos;
        for (int tries = 0; tries < 20 && !changed; tries++) {
            fake_submit(cluster, CLIENT_GET, "people", "a", NULL, NULL, 20000, &done);
            changed = run_changed(cluster, &changes[i], &done);
            assert_int_equal(done.first.status, 0);
            assert_int_equal(done.first.value_len, len);
            assert_memory_equal(done.first_value, value, len < 100 ? len : 0);
        }
        fake_run(cluster, 1000, NULL);
        if (!changed || (cluster->nodes[1].hellos > hellos) != changes[i].breaks)
            fail_msg("%s: changed %d, connections %u", changes[i].name, changed,
                     cluster->nodes[1].hellos - hellos);
        fake_destroy(cluster);
    }
}

/* Small records, as answers of a READ. */
static void test_read(void **state)
{
    static const struct change changes[] = {
        {"another key", WIRE_READ, 0, false, read_other_key},
        {"another collection", WIRE_READ, 0, false, read_other_collection},
        {"a longer key", WIRE_READ, 0, false, read_longer_key},
        {"another value", WIRE_READ, 0, false, read_bad_value},
        {"no value", WIRE_READ, 0, false, read_no_value},
        {"a longer record", WIRE_READ, 0, true, read_longer_record},
        {"a tombstone with a value", WIRE_READ, 0, true, read_state_differs},
        {"no such state", WIRE_READ, 0, true, read_no_state},
        {"absent, with a record", WIRE_READ, 0, true, read_absent_with_record},
        {"present, without one", WIRE_READ, 0, true, read_present_without_record},
        {"another index", WIRE_READ, 0, true, read_other_index},
        {"too short", WIRE_READ, 0, true, read_short},
        {"bytes behind it", WIRE_READ, 0, true, read_trailing},
        {"a record beyond the frame", WIRE_READ, 0, true, read_record_beyond},
        {"nothing", WIRE_READ, 0, true, says_nothing},
    };
    (void)state;
    reads_end_well(changes, KHO_COUNT_OF(changes), (const uint8_t *)"1", 1);
}

/* A value that comes in several frames. */
static void test_large(void **state)
{
    static const struct change changes[] = {
        {"another key", WIRE_READ, KHO_FRAME_LARGE, false, read_other_key},
        {"another index", WIRE_READ, KHO_FRAME_LARGE, true, read_other_index},
        {"an error", WIRE_READ, KHO_FRAME_LARGE, true, large_status},
        {"a tombstone", WIRE_READ, KHO_FRAME_LARGE, true, read_state_differs},
        {"too short", WIRE_READ, KHO_FRAME_LARGE, true, read_short},
        {"a head cut short", WIRE_READ, KHO_FRAME_LARGE, true, large_head_cut},
        {"two entries", WIRE_READ, KHO_FRAME_LARGE, true, large_count},
        {"data without a begin", WIRE_READ, KHO_FRAME_LARGE, true, left_out},
        {"damaged data", WIRE_DATA, 0, false, read_bad_value},
        {"data that end early", WIRE_DATA, 0, true, data_ends_early},
        {"data that lack a part", WIRE_DATA, 0, true, left_out},
        {"an answer among the data", WIRE_DATA, 0, true, data_is_a_read},
        {"too much data", WIRE_DATA, KHO_FRAME_LAST_DATA, true, data_longer},
    };
    (void)state;
    uint8_t *value = (uint8_t *)malloc(LARGE);
    fake_noise(value, LARGE, 5);
    reads_end_well(changes, KHO_COUNT_OF(changes), value, LARGE);
    free(value);
}

static void writes_end_well(const struct change *changes, size_t count, const uint8_t *value,
                            uint32_t len)
{
    for (size_t i = 0; i < count; i++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done done;
        fake_call(cluster, CLIENT_PUT, "b", "0");
        fake_run(cluster, 200, NULL);
        uint32_t hellos = cluster->nodes[1].hellos;
        /* The answer that is changed has to count: another node is away meanwhile. */
        fake_node_down(cluster, 2);
        put_value(cluster, value, len, &done);
        bool changed = run_changed(cluster, &changes[i], &done);
        assert_int_equal(done.first.status, 0);
        assert_int_equal(done.first.outcome, KHO_APPLIED);
        cluster->nodes[2].down = false;
        fake_run(cluster, 5000, NULL);
        for (int node = 0; node < FAKE_NODES; node++) {
            const struct fake_record *r = fake_find(&cluster->nodes[node], 1, "a", 1);
            assert_non_null(r);
            assert_int_equal(r->value_len, len);
        }
        if (!changed || (cluster->nodes[1].hellos > hellos) != changes[i].breaks)
            fail_msg("%s: changed %d, connections %u", changes[i].name, changed,
                     cluster->nodes[1].hellos - hellos);
        fake_destroy(cluster);
    }
}

/* Stamps and acknowledgements: what breaks the connection is asked again on the next one. */
static void test_write(void **state)
{
    static const struct change changes[] = {
        {"one vote more", WIRE_PROBE, 0, true, probe_one_more},
        {"no such state", WIRE_PROBE, 0, true, probe_state},
        {"no such counter", WIRE_PROBE, 0, true, probe_counter},
        {"half a vote", WIRE_PROBE, 0, true, probe_short},
        {"no vote", WIRE_PROBE, 0, true, says_nothing},
        {"one acknowledgement more", WIRE_WRITE, 0, true, write_one_more},
        {"a status above 0", WIRE_WRITE, 0, true, write_positive},
        {"half an acknowledgement", WIRE_WRITE, 0, true, write_short},
        {"none", WIRE_WRITE, 0, true, says_nothing},
    };
    static const struct change large[] = {
        {"one acknowledgement more", WIRE_WRITE_LARGE, 0, true, write_one_more},
        {"a status above 0", WIRE_WRITE_LARGE, 0, true, write_positive},
        {"half an acknowledgement", WIRE_WRITE_LARGE, 0, true, write_short},
        {"two acknowledgements in one", WIRE_WRITE_LARGE, 0, true, large_count},
    };
    (void)state;
    writes_end_well(changes, KHO_COUNT_OF(changes), (const uint8_t *)"1", 1);
    uint8_t *value = (uint8_t *)malloc(LARGE);
    fake_noise(value, LARGE, 6);
    writes_end_well(large, KHO_COUNT_OF(large), value, LARGE);
    free(value);
}

/* Refusals that pass: of the entry or of the whole frame, the write is sent again and applied. */
static void test_refusals_that_pass(void **state)
{
    static const int statuses[] = {KHO_EEPOCHOLD, KHO_EBEHIND, KHO_EBUSY,
                                   KHO_ESTOPPING, -ENOMEM,     -EAGAIN};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(statuses); i++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done done;
        fake_call(cluster, CLIENT_PUT, "b", "0");
        fake_run(cluster, 200, NULL);
        fake_node_down(cluster, 2);
        cluster->nodes[1].write_status = statuses[i];
        put_value(cluster, (const uint8_t *)"1", 1, &done);
        fake_run(cluster, 600, &done);
        assert_false(done.come);
        uint32_t writes = cluster->nodes[1].writes;
        assert_true(writes >= 2 && writes <= 6); /* it waits between them */
        cluster->nodes[1].write_status = 0;
        fake_run(cluster, 600, &done);
        fake_reached(&done);
        assert_int_equal(done.first.outcome, KHO_APPLIED);
        fake_destroy(cluster);
    }
}

/* Write-backs: what passes is sent again, what doesn't leaves the replica out. */
static void test_copies_refused(void **state)
{
    static const struct {
        int status;
        bool passes;
    } cases[] = {{KHO_EEPOCHOLD, true}, {KHO_EBEHIND, true}, {KHO_EBUSY, true},
                 {KHO_ESTOPPING, true}, {KHO_EFULL, false},  {KHO_ENOSPACE, false},
                 {-EIO, false}};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        struct fake_cluster *cluster = fake_open();
        struct fake_done done;
        fake_call(cluster, CLIENT_GET, "b", NULL);
        fake_place(cluster, 0, "a", "1", 2000);
        fake_node_down(cluster, 2);
        cluster->nodes[1].write_status = cases[i].status;
        fake_submit(cluster, CLIENT_GET, "people", "a", NULL, NULL, 20000, &done);
        fake_run(cluster, 900, &done);
        if (cases[i].passes) {
            assert_false(done.come);
            cluster->nodes[1].write_status = 0;
            fake_run(cluster, 900, &done);
            fake_reached(&done);
            assert_int_equal(done.first.status, 0);
            assert_int_equal(fake_holders(cluster, "a", "1"), 2);
        } else {
            /* Nobody else can have it written: the value must not be returned. */
            fake_run(cluster, 5000, &done);
            assert_true(done.come);
            assert_int_equal(done.first.status, cases[i].status);
        }
        fake_destroy(cluster);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_read),           cmocka_unit_test(test_large),
        cmocka_unit_test(test_write),          cmocka_unit_test(test_refusals_that_pass),
        cmocka_unit_test(test_copies_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
