/* The wire: every message survives its bytes, and every flipped bit is refused. */
#include "unit.h"

#include <kho/wire.h>

/* HELLO of both sides survives its bytes; each flipped bit is refused. */
static void test_hello(void **state)
{
    (void)state;
    struct kho_random random;
    kho_random_init(&random, 1);
    uint8_t bytes[KHO_HELLO_NODE_SIZE];
    struct wire_hello_client c = {.protocol_min = 1, .protocol_max = 3, .shard = 2, .epoch = 9};
    struct wire_hello_client c2 = {0};
    c.cluster = kho_random_id(&random);
    wire_hello_client_encode(&c, bytes);
    assert_int_equal(wire_hello_client_decode(bytes, &c2), 0);
    assert_int_equal(c2.shard, 2);
    assert_int_equal(c2.epoch, 9);
    assert_true(kho_id_equal(&c.cluster, &c2.cluster));
    for (size_t bit = 0; bit < KHO_HELLO_CLIENT_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(wire_hello_client_decode(bytes, &c2), KHO_EMALFORMED);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    c.protocol_min = 2;
    wire_hello_client_encode(&c, bytes);
    assert_int_equal(wire_hello_client_decode(bytes, &c2), KHO_EVERSION);

    /* One that speaks only what we no longer do has no protocol in common, either. */
    c.protocol_min = c.protocol_max = KHO_PROTOCOL - 1;
    wire_hello_client_encode(&c, bytes);
    assert_int_equal(wire_hello_client_decode(bytes, &c2), KHO_EVERSION);

    struct wire_hello_node n = {.protocol = KHO_PROTOCOL,
                                .flags = KHO_HELLO_SUSPECT,
                                .shard_count = 4,
                                .epoch = 11,
                                .map_hash = 12,
                                .durable = 13,
                                .wall_ms = 14,
                                .features = 15};
    struct wire_hello_node n2 = {0};
    n.incarnation = kho_random_id(&random);
    n.boot = kho_random_id(&random);
    wire_hello_node_encode(&n, bytes);
    assert_int_equal(wire_hello_node_decode(bytes, &n2), 0);
    assert_memory_equal(&n.boot, &n2.boot, 16);
    assert_int_equal(n2.durable, 13);
    assert_int_equal(n2.wall_ms, 14);
    for (size_t bit = 0; bit < KHO_HELLO_NODE_SIZE * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(wire_hello_node_decode(bytes, &n2), KHO_EMALFORMED);
        bytes[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    n.status = KHO_ECLUSTER;
    n.protocol = 0;
    wire_hello_node_encode(&n, bytes);
    assert_int_equal(wire_hello_node_decode(bytes, &n2), 0);
    assert_int_equal(n2.status, KHO_ECLUSTER);
    /* A node that takes us, but under another protocol, isn't understood. */
    n.status = 0;
    n.protocol = KHO_PROTOCOL + 1;
    wire_hello_node_encode(&n, bytes);
    assert_int_equal(wire_hello_node_decode(bytes, &n2), KHO_EVERSION);
    assert_int_equal(n2.status, KHO_ECLUSTER);
}

/* A frame survives its bytes; each flipped bit is refused by checksum or length. */
static void test_frame(void **state)
{
    (void)state;
    uint8_t frame[KHO_FRAME_HEAD + 100];
    for (size_t i = 0; i < 100; i++)
        frame[KHO_FRAME_HEAD + i] = (uint8_t)(i * 7);
    struct wire_head in = {.length = sizeof frame,
                           .type = WIRE_WRITE,
                           .flags = KHO_FRAME_COPY,
                           .count = 3,
                           .request = 77,
                           .epoch = 5,
                           .map_hash = 6,
                           .wall_ms = 7,
                           .durable = 8,
                           .status = KHO_EFULL};
    struct wire_head out;
    wire_frame_seal(frame, &in, true);
    assert_int_equal(wire_frame_length(frame, 3), 0);
    assert_int_equal(wire_frame_length(frame, 4), sizeof frame);
    assert_int_equal(wire_frame_decode(frame, &out), 0);
    assert_int_equal(out.request, 77);
    assert_int_equal(out.wall_ms, 7);
    assert_int_equal(out.durable, 8);
    assert_int_equal(out.status, KHO_EFULL);
    for (size_t bit = 32; bit < sizeof frame * 8; bit++) { /* the length has its own test */
        frame[bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(wire_frame_decode(frame, &out), KHO_ECHECKSUM);
        frame[bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
    static const uint32_t bad_lengths[] = {0, 63, KHO_FRAME_MAX + 1, UINT32_MAX};
    for (size_t i = 0; i < KHO_COUNT_OF(bad_lengths); i++) {
        kho_store32(frame, bad_lengths[i]);
        assert_int_equal(wire_frame_length(frame, 4), KHO_EMALFORMED);
    }
}

/* Unknown types and too many entries are refused though the checksum holds. */
static void test_frame_fields(void **state)
{
    static const struct {
        uint32_t at, value;
    } bad[] = {{56, 1}, {60, 1}}; /* a status above 0, a reserved field */
    (void)state;
    uint8_t frame[KHO_FRAME_HEAD];
    struct wire_head head = {.length = sizeof frame, .type = WIRE_TYPE_END}, out;
    wire_frame_seal(frame, &head, false);
    assert_int_equal(wire_frame_decode(frame, &out), KHO_EMALFORMED);
    head.type = 0;
    wire_frame_seal(frame, &head, false);
    assert_int_equal(wire_frame_decode(frame, &out), KHO_EMALFORMED);
    head.type = WIRE_READ;
    head.count = KHO_FRAME_ENTRIES_MAX + 1;
    wire_frame_seal(frame, &head, false);
    assert_int_equal(wire_frame_decode(frame, &out), KHO_EMALFORMED);
    head.count = 1;
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        wire_frame_seal(frame, &head, true);
        kho_store32(frame + bad[i].at, bad[i].value);
        kho_store64(frame + 8, wire_checksum(frame, sizeof frame));
        assert_int_equal(wire_frame_decode(frame, &out), KHO_EMALFORMED);
    }
}

/* The head of a block of records is refused when its lengths can't be a block's, or pass its end.
 */
static void test_block_head(void **state)
{
    static const struct wire_block_head bad[] = {{KHO_BLOCK_RAW_MAX + 1, 100, 2},
                                                 {1000, 0, 2},
                                                 {1000, 1000, 2},
                                                 {1000, 1001, 2},
                                                 {1000, 100, 0},
                                                 {1000, 100, 21},
                                                 {0, 0, 1},
                                                 {1000, 101, 2}};
    struct wire_block_head good = {1000, 100, 20}, read = {.raw_len = 7};
    uint8_t bytes[WIRE_BLOCK_HEAD + 100] = {0};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(bad); i++) {
        wire_block_head_encode(&bad[i], bytes);
        assert_int_equal(wire_block_head_decode(bytes, sizeof bytes, &read), KHO_EMALFORMED);
        assert_int_equal(read.raw_len, 7);
    }
    wire_block_head_encode(&good, bytes);
    for (size_t len = 0; len < sizeof bytes; len++)
        assert_int_equal(wire_block_head_decode(bytes, len, &read), KHO_EMALFORMED);
    bytes[12] = 1; /* reserved */
    assert_int_equal(wire_block_head_decode(bytes, sizeof bytes, &read), KHO_EMALFORMED);
    bytes[12] = 0;
    assert_int_equal(wire_block_head_decode(bytes, sizeof bytes, &read), sizeof bytes);
    assert_int_equal(read.raw_len, 1000);
    assert_int_equal(read.stored_len, 100);
    assert_int_equal(read.records, 20);
}

/* Every kind of entry survives its bytes. */
static void test_entries(void **state)
{
    (void)state;
    uint8_t b[128];
    struct wire_probe_ask pa = {.collection = 1, .partition = 2, .hash = {3, 4}}, pa2;
    wire_probe_ask_encode(&pa, b);
    wire_probe_ask_decode(b, &pa2);
    assert_memory_equal(&pa, &pa2, sizeof pa);
    struct wire_probe_answer pn = {{5, 6}, WIRE_TOMBSTONE, 7, 8}, pn2;
    wire_probe_answer_encode(&pn, b);
    wire_probe_answer_decode(b, &pn2);
    assert_true(pn2.version.counter == 5 && pn2.version.writer == 6 &&
                pn2.state == WIRE_TOMBSTONE && pn2.floor == 7 && pn2.drops == 8);
    struct wire_read_ask ra = {9, 3, KHO_READ_HEAD, 10, {11, 12}, (const uint8_t *)"xyz"}, ra2;
    wire_read_ask_encode(&ra, b);
    assert_int_equal(wire_read_ask_decode(b, 35, &ra2), 35);
    assert_memory_equal(ra2.key, "xyz", 3);
    assert_int_equal(ra2.hash.high, 12);
    for (size_t len = 0; len < 35; len++)
        assert_int_equal(wire_read_ask_decode(b, len, &ra2), KHO_EMALFORMED);
    kho_store16(b + 6, 2);
    assert_int_equal(wire_read_ask_decode(b, 35, &ra2), KHO_EMALFORMED);
    struct wire_read_answer rn = {1, KHO_EUNKNOWN, 2, 3, WIRE_UNKNOWN, 4}, rn2;
    wire_read_answer_encode(&rn, b);
    wire_read_answer_decode(b, &rn2);
    assert_true(rn2.index == 1 && rn2.status == KHO_EUNKNOWN && rn2.floor == 2 && rn2.drops == 3 &&
                rn2.state == WIRE_UNKNOWN && rn2.record_len == 4);
    struct wire_list_ask la = {1, 2, 3, {4, 5}, KHO_LIST_RECORDS, 6}, la2;
    wire_list_ask_encode(&la, b);
    wire_list_ask_decode(b, &la2);
    assert_true(la2.collection == 1 && la2.partition_from == 2 && la2.partition_to == 3 &&
                la2.tag.high == 4 && la2.tag.low == 5 && la2.ask == KHO_LIST_RECORDS &&
                la2.limit == 6);
    struct wire_list_head lh = {7, {8, 9}, true}, lh2;
    wire_list_head_encode(&lh, b);
    wire_list_head_decode(b, &lh2);
    assert_true(lh2.next_partition == 7 && lh2.next_tag.high == 8 && lh2.next_tag.low == 9 &&
                lh2.done);
    struct wire_list_entry le = {1, {2, 3}, {4, 5}, WIRE_PRESENT, 6}, le2;
    wire_list_entry_encode(&le, b);
    wire_list_entry_decode(b, &le2);
    assert_true(le2.partition == 1 && le2.version.counter == 2 && le2.version.writer == 3 &&
                le2.tag.high == 4 && le2.tag.low == 5 && le2.state == WIRE_PRESENT &&
                le2.record_len == 6);
    struct wire_digest_entry de = {1, 2, 3, 4, 5, 6, 7, 8, 9}, de2;
    wire_digest_entry_encode(&de, b);
    wire_digest_entry_decode(b, &de2);
    assert_memory_equal(&de, &de2, sizeof de);
    struct wire_episode ep = {1, WIRE_EPISODE_ROT, 2, 3, 4, 5}, ep2;
    wire_episode_encode(&ep, b);
    wire_episode_decode(b, &ep2);
    assert_true(ep2.id == 1 && ep2.kind == WIRE_EPISODE_ROT && ep2.partitions == 2 &&
                ep2.epoch == 3 && ep2.opened_ms == 4 && ep2.first_partition == 5);
    struct wire_forget_ask fa = {1, 2, {.low = 3, .high = 4}, {5, 6}}, fa2;
    wire_forget_ask_encode(&fa, b);
    assert_true(wire_forget_ask_decode(b, &fa2));
    assert_true(fa2.collection == 1 && fa2.partition == 2 && fa2.hash.low == 3 &&
                fa2.hash.high == 4 && fa2.version.counter == 5 && fa2.version.writer == 6);
    b[WIRE_FORGET_ASK - 1] = 1;
    assert_false(wire_forget_ask_decode(b, &fa2));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hello),        cmocka_unit_test(test_frame),
        cmocka_unit_test(test_frame_fields), cmocka_unit_test(test_block_head),
        cmocka_unit_test(test_entries),
    };
    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
