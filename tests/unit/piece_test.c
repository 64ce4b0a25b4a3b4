/* A value that its writer compressed: packed, unpacked, checked, and refused where it lies. */
#include "unit.h"

#include <kho/piece.h>

/* Text-like: repeats, but never the same for long. */
static void text_fill(uint8_t *to, uint32_t len, uint32_t seed)
{
    static const char *const words[] = {"\"name\":\"", "Nguyễn", "Hà Nội", "\",\"ward\":\"",
                                        "0123456789",  "true,",  "false,", "\"}\n{\""};
    uint32_t at = 0, state = seed * 2654435761u + 1;
    while (at < len) {
        state = state * 1664525u + 1013904223u;
        const char *word = words[state >> 29];
        for (; *word != 0 && at < len; word++)
            to[at++] = (uint8_t)*word;
        if (at < len)
            to[at++] = (uint8_t)('0' + (state >> 16) % 10);
    }
}

static void noise_fill(uint8_t *to, uint32_t len, uint64_t seed)
{
    struct kho_random random;
    kho_random_init(&random, seed);
    for (uint32_t at = 0; at < len; at++)
        to[at] = (uint8_t)kho_random_next(&random);
}

struct packed {
    uint8_t *raw, *value, *unpacked;
    uint8_t scratch[KHO_PIECE_MAX];
    struct record record;
};

static struct packed *packed_new(uint32_t raw_len)
{
    struct packed *p = (struct packed *)calloc(1, sizeof *p);
    p->raw = (uint8_t *)malloc(raw_len);
    p->value = (uint8_t *)malloc(value_packed_max(raw_len) + 1);
    p->unpacked = (uint8_t *)malloc(raw_len);
    p->record = (struct record){.codec = KHO_CODEC_LZ4, .raw_len = raw_len, .value = p->value};
    return p;
}

static void packed_free(struct packed *p)
{
    free(p->raw);
    free(p->value);
    free(p->unpacked);
    free(p);
}

static bool pack(struct packed *p)
{
    struct record *r = &p->record;
    uint32_t room = value_packed_max(r->raw_len);
    p->value[room] = 0xA5;
    r->stored_len = value_pack(p->raw, r->raw_len, p->value);
    r->hash = content_hash(p->raw, r->raw_len);
    assert_int_equal(p->value[room], 0xA5);
    assert_true(r->stored_len <= room);
    return r->stored_len > 0;
}

/* Both ways of checking, whole and as the bytes come in, say the same; with it goes unpacking. */
static bool checks(struct packed *p, uint32_t step)
{
    const struct record *r = &p->record;
    bool matches = value_matches(r, p->scratch);
    struct value_check check;
    value_check_begin(&check);
    for (uint32_t have = 0; have < r->stored_len;) {
        have = (uint32_t)kho_min((uint64_t)have + step, r->stored_len);
        value_check_go(&check, r, have, p->scratch);
    }
    assert_int_equal(value_check_end(&check, r), matches);
    bool unpacks = value_unpack(r, p->unpacked) == 0;
    if (unpacks) {
        struct kho_id hash = content_hash(p->unpacked, r->raw_len);
        assert_int_equal(kho_id_equal(&hash, &r->hash), matches);
    } else {
        assert_false(matches);
    }
    return matches;
}

/* Text of any length comes back as it was. */
static void test_round_trip(void **state)
{
    static const uint32_t lens[] = {1023,         1024,   1025,     5000,
                                    65535,        65536,  65537,    131071,
                                    131072,       131073, 1u << 20, KHO_VALUE_MAX - 1,
                                    KHO_VALUE_MAX};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(lens); i++) {
        struct packed *p = packed_new(lens[i]);
        text_fill(p->raw, lens[i], (uint32_t)i);
        assert_true(pack(p));
        assert_true(checks(p, 100000));
        assert_memory_equal(p->unpacked, p->raw, lens[i]);
        assert_true(checks(p, p->record.stored_len));
        packed_free(p);
    }
}

/* What doesn't save an eighth isn't packed, whatever its length. */
static void test_noise(void **state)
{
    static const uint32_t lens[] = {1, 8, 9, 1023, 1024, 65536, 65537, 1u << 20};
    (void)state;
    for (size_t i = 0; i < KHO_COUNT_OF(lens); i++) {
        struct packed *p = packed_new(lens[i]);
        noise_fill(p->raw, lens[i], i + 1);
        assert_false(pack(p));
        packed_free(p);
    }
}

/* Noise inside of text lies in pieces of its own, as it is; too much of it, and nothing is packed.
 */
static void test_plain_pieces(void **state)
{
    (void)state;
    for (uint32_t plain = 1; plain <= 9; plain++) {
        struct packed *p = packed_new(10 * KHO_PIECE_MAX + 77);
        text_fill(p->raw, p->record.raw_len, plain);
        noise_fill(p->raw + KHO_PIECE_MAX, plain * KHO_PIECE_MAX, plain);
        bool packed = pack(p);
        assert_int_equal(packed, plain <= 8);
        if (packed) {
            const uint32_t first = kho_load32(p->value);
            assert_int_equal(first & KHO_PIECE_PLAIN, 0);
            assert_int_equal(kho_load32(p->value + KHO_PIECE_HEAD + first),
                             KHO_PIECE_MAX | KHO_PIECE_PLAIN);
            assert_true(checks(p, 3000));
            assert_memory_equal(p->unpacked, p->raw, p->record.raw_len);
        }
        packed_free(p);
    }
}

/* Noise first ends the attempt, whatever follows. */
static void test_gives_up_early(void **state)
{
    (void)state;
    struct packed *p = packed_new(4 * KHO_PIECE_MAX);
    memset(p->raw, 0, p->record.raw_len);
    noise_fill(p->raw, KHO_PIECE_MAX, 3);
    assert_false(pack(p));
    packed_free(p);
}

/* A length that lies: every head of a piece with every wrong value is refused, without a byte read
 * or written outside (the sanitizers watch). */
static void test_lying_lengths(void **state)
{
    static const uint32_t lies[] = {0,
                                    1,
                                    KHO_PIECE_MAX - 1,
                                    KHO_PIECE_MAX,
                                    KHO_PIECE_MAX + 1,
                                    0x7FFFFFFF,
                                    KHO_PIECE_PLAIN,
                                    KHO_PIECE_PLAIN | 1,
                                    KHO_PIECE_PLAIN | KHO_PIECE_MAX,
                                    UINT32_MAX};
    (void)state;
    struct packed *p = packed_new(3 * KHO_PIECE_MAX + 1000);
    text_fill(p->raw, p->record.raw_len, 5);
    assert_true(pack(p));
    for (uint32_t at = 0; at < p->record.stored_len;) {
        uint32_t right = kho_load32(p->value + at);
        for (size_t i = 0; i < KHO_COUNT_OF(lies) + 2; i++) {
            uint32_t lie =
                i < KHO_COUNT_OF(lies) ? lies[i] : right + (i == KHO_COUNT_OF(lies) ? 1 : -1u);
            kho_store32(p->value + at, lie);
            assert_int_equal(checks(p, 1000), lie == right);
        }
        kho_store32(p->value + at, right);
        at += KHO_PIECE_HEAD + right;
    }
    assert_true(checks(p, 1000));
    packed_free(p);
}

/* Pieces that end too early or go on too long; a raw length that isn't theirs. */
static void test_truncated(void **state)
{
    (void)state;
    struct packed *p = packed_new(2 * KHO_PIECE_MAX + 5000);
    struct record whole;
    text_fill(p->raw, p->record.raw_len, 6);
    assert_true(pack(p));
    whole = p->record;
    for (uint32_t cut = 1; cut < 5000; cut += cut < 20 ? 1 : 997) {
        p->record.stored_len = whole.stored_len - cut;
        assert_false(checks(p, 100000));
    }
    p->record = whole;
    p->record.stored_len++;
    assert_false(checks(p, 100000));
    p->record = whole;
    static const uint32_t raws[] = {1, 5000, KHO_PIECE_MAX, 2 * KHO_PIECE_MAX,
                                    2 * KHO_PIECE_MAX + 4999};
    for (size_t i = 0; i < KHO_COUNT_OF(raws); i++) {
        p->record.raw_len = raws[i];
        assert_false(checks(p, 100000));
    }
    packed_free(p);
    p = packed_new(KHO_VALUE_MAX);
    p->record.stored_len = KHO_PIECE_HEAD;
    kho_store32(p->value, 0);
    assert_false(value_matches(&p->record, p->scratch));
    packed_free(p);
}

/* A value that ends with a piece, but before its raw length; one that ends within a piece's head.
 */
static void test_ends_with_a_piece(void **state)
{
    (void)state;
    struct packed *p = packed_new(3 * KHO_PIECE_MAX);
    text_fill(p->raw, p->record.raw_len, 9);
    assert_true(pack(p));
    uint32_t two = 0;
    for (int i = 0; i < 2; i++)
        two += KHO_PIECE_HEAD + kho_load32(p->value + two);
    p->record.stored_len = two;
    assert_false(checks(p, 100000));
    for (uint32_t more = 1; more < KHO_PIECE_HEAD; more++) {
        p->record.stored_len = two + more;
        assert_false(checks(p, 100000));
    }
    packed_free(p);
}

/* Any bit that flips is found. */
static void test_flips(void **state)
{
    (void)state;
    struct packed *p = packed_new(KHO_PIECE_MAX + 3000);
    text_fill(p->raw, p->record.raw_len, 7);
    assert_true(pack(p));
    for (uint32_t bit = 0; bit < 8 * p->record.stored_len; bit += 577) {
        p->value[bit / 8] ^= (uint8_t)(1u << bit % 8);
        /* LZ4 may have two ways to say the same. */
        if (checks(p, 100000))
            assert_memory_equal(p->unpacked, p->raw, p->record.raw_len);
        p->value[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    packed_free(p);
}

/* A value without a codec is checked as its bytes come in, too. */
static void test_no_codec(void **state)
{
    (void)state;
    struct packed *p = packed_new(100000);
    noise_fill(p->raw, 100000, 8);
    p->record.codec = KHO_CODEC_NONE;
    p->record.value = p->raw;
    p->record.stored_len = 100000;
    p->record.hash = content_hash(p->raw, 100000);
    assert_true(checks(p, 999));
    assert_memory_equal(p->unpacked, p->raw, 100000);
    p->raw[99999] ^= 1;
    assert_false(checks(p, 999));
    packed_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_noise),
        cmocka_unit_test(test_plain_pieces),
        cmocka_unit_test(test_gives_up_early),
        cmocka_unit_test(test_lying_lengths),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_flips),
        cmocka_unit_test(test_no_codec),
        cmocka_unit_test(test_ends_with_a_piece),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
