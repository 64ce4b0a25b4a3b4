/* The record's bytes: what is written is read back, and every broken field is refused. */
#include "unit.h"

#include <kho/record.h>

static struct record sample(void)
{
    struct record r = {
        .collection = 7,
        .key_len = 3,
        .version = {.counter = 1234567, .writer = 89},
        .raw_len = 5,
        .stored_len = 5,
        .key = (const uint8_t *)"abc",
        .value = (const uint8_t *)"hello",
    };
    r.hash = content_hash("hello", 5);
    return r;
}

/* A record survives the trip through its bytes. */
static void test_round_trip(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct record in = sample(), out;
    size_t n = record_encode(&in, bytes);
    assert_int_equal(n, 48 + 3 + 5);
    assert_int_equal(record_decode(bytes, n, &out), n);
    assert_int_equal(out.collection, 7);
    assert_int_equal(version_compare(out.version, in.version), 0);
    assert_memory_equal(out.key, "abc", 3);
    assert_memory_equal(out.value, "hello", 5);
    assert_true(record_value_matches(&out));
}

/* A tombstone has no value and no hash. */
static void test_tombstone(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct record in = sample(), out;
    in.flags = KHO_RECORD_TOMBSTONE;
    in.raw_len = in.stored_len = 0;
    memset(&in.hash, 0, sizeof in.hash);
    size_t n = record_encode(&in, bytes);
    assert_int_equal(record_decode(bytes, n, &out), n);
    assert_true(record_is_tombstone(&out));
    assert_true(record_value_matches(&out));
    bytes[32] = 1; /* a hash where none may be */
    assert_int_equal(record_decode(bytes, n, &out), KHO_EMALFORMED);
    bytes[32] = 0;
    in.raw_len = in.stored_len = 5; /* a value where none may be */
    n = record_encode(&in, bytes);
    assert_int_equal(record_decode(bytes, n, &out), KHO_EMALFORMED);
}

/* Bytes that end too early are refused at every length. */
static void test_truncated(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct record in = sample(), out;
    size_t n = record_encode(&in, bytes);
    for (size_t len = 0; len < n; len++) {
        uint8_t *exact = malloc(len + 1); /* exact, so that ASan sees a read past the end */
        memcpy(exact, bytes, len);
        assert_int_equal(record_decode(exact, len, &out), KHO_EMALFORMED);
        free(exact);
    }
}

/* Each field beyond its range is refused, and the output stays untouched. */
static void test_bad_fields(void **state)
{
    (void)state;
    static const struct {
        size_t at;
        uint64_t value;
        size_t bytes;
    } cases[] = {
        {4, 0, 2},          /* key_len 0 */
        {4, 1025, 2},       /* key_len over the limit */
        {6, 2, 1},          /* reserved flag */
        {7, 2, 1},          /* unknown codec */
        {7, 1, 1},          /* compressed, and nothing saved */
        {8, 0, 8},          /* counter 0 */
        {8, 1ull << 63, 8}, /* counter beyond the limit */
        {20, (16u << 20) + 1, 4},
        {24, 4, 4}, /* stored differs from raw without a codec */
        {28, 1, 4}, /* reserved expiry */
    };
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        uint8_t bytes[128];
        struct record in = sample(), out = {.collection = 99};
        size_t n = record_encode(&in, bytes);
        for (size_t b = 0; b < cases[i].bytes; b++)
            bytes[cases[i].at + b] = (uint8_t)(cases[i].value >> (8 * b));
        assert_int_equal(record_decode(bytes, n, &out), KHO_EMALFORMED);
        assert_int_equal(out.collection, 99);
    }
}

/* A compressed value is shorter than the raw one, but no shorter than LZ4 could make it. */
static void test_compressed_lengths(void **state)
{
    (void)state;
    static const struct {
        uint32_t raw_len, stored_len;
        bool good;
    } cases[] = {
        {6, 5, true},        {5, 5, false},          {4, 5, false}, {0, 0, false},
        {5 * 255, 5, false}, {5 * 255 - 1, 5, true}, {1, 0, false}, {KHO_VALUE_MAX, 5, false},
        {6, 6, false}};
    for (size_t i = 0; i < KHO_COUNT_OF(cases); i++) {
        uint8_t bytes[128] = {0};
        struct record in = sample(), out;
        in.codec = KHO_CODEC_LZ4;
        in.raw_len = cases[i].raw_len;
        in.stored_len = cases[i].stored_len;
        in.value = (const uint8_t *)"hello, world";
        size_t n = record_encode(&in, bytes);
        assert_int_equal(record_decode(bytes, n, &out), cases[i].good ? (int)n : KHO_EMALFORMED);
    }
}

/* One flipped bit of the value is noticed by its hash. */
static void test_hash_finds_damage(void **state)
{
    (void)state;
    uint8_t bytes[128];
    struct record in = sample(), out;
    size_t n = record_encode(&in, bytes);
    for (size_t bit = 0; bit < 40; bit++) {
        bytes[51 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
        assert_int_equal(record_decode(bytes, n, &out), n);
        assert_false(record_value_matches(&out));
        bytes[51 + bit / 8] ^= (uint8_t)(1u << (bit % 8));
    }
}

/* Versions have one total order, and a stamp lies above all that it must. */
static void test_version_order(void **state)
{
    (void)state;
    struct version a = {5, 1}, b = {5, 2}, c = {6, 0};
    assert_true(version_compare(a, b) < 0 && version_compare(b, c) < 0 &&
                version_compare(c, a) > 0);
    assert_int_equal(version_compare(version_max(a, c), c), 0);
    uint64_t now = version_counter_at(1000);
    assert_int_equal(version_stamp(0, 0, 1000, 77), now | 77);
    assert_int_equal(version_stamp(now + 500000, 0, 1000, 77), now + 500001);
    assert_int_equal(version_stamp(now, now + 900000, 1000, 5), now + 900001);
    assert_int_equal(version_stamp(KHO_COUNTER_MAX, 0, 1000, 5), 0);
    assert_int_equal(version_stamp(0, KHO_COUNTER_MAX, 1000, 5), 0);
    /* No version at all is one without counter and writer. */
    assert_true(version_is_zero((struct version){0, 0}));
    assert_false(version_is_zero((struct version){0, 1}));
    assert_false(version_is_zero((struct version){1, 0}));
    assert_true(version_stamp(0, 0, UINT64_MAX, UINT64_MAX) <= KHO_COUNTER_MAX);
}

/* The partition follows the placement key: records of one citizen live together. */
static void test_placement(void **state)
{
    (void)state;
    const char *keys[] = {"001087654321", "001087654321/dossier/1", "001087654321/dossier/2"};
    uint32_t first = 0, spread = 0;
    for (size_t i = 0; i < 3; i++) {
        struct key_hash hash = key_hash(3, keys[i], strlen(keys[i]), 42);
        uint32_t p = key_partition(3, keys[i], strlen(keys[i]), 42, '/', 4096, hash);
        if (i == 0)
            first = p;
        assert_int_equal(p, first);
        spread |=
            key_partition(3, keys[i], strlen(keys[i]), 42, KHO_NO_SEPARATOR, 4096, hash) ^ first;
    }
    assert_int_not_equal(spread, 0);
    struct key_hash x = key_hash(3, "k", 1, 42), y = key_hash(4, "k", 1, 42),
                    z = key_hash(3, "k", 1, 43);
    assert_true(x.low != y.low && x.low != z.low);
}

/* Names are 1 to 64 of the allowed characters. */
static void test_names(void **state)
{
    (void)state;
    char name[66];
    memset(name, 'a', sizeof name);
    assert_true(key_name_valid(name, 64));
    assert_false(key_name_valid(name, 65));
    assert_false(key_name_valid("", 0));
    assert_true(key_name_valid("e-id.v_2", 8));
    assert_false(key_name_valid("Eid", 3));
    assert_false(key_name_valid("a/b", 3));
}

/* Every code has a name and a sentence, and no two share a number. */
static void test_errors(void **state)
{
    (void)state;
    static const int codes[] = {
#define CODE(name, code, sentence) code,
        KHO_ERRORS(CODE)
#undef CODE
    };
    for (size_t i = 0; i < KHO_COUNT_OF(codes); i++) {
        assert_non_null(kho_error_sentence(codes[i]));
        assert_non_null(kho_error_name(codes[i]));
        assert_true(codes[i] < -1000);
    }
    assert_null(kho_error_sentence(-5));
    assert_null(kho_error_name(0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_tombstone),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_bad_fields),
        cmocka_unit_test(test_compressed_lengths),
        cmocka_unit_test(test_hash_finds_damage),
        cmocka_unit_test(test_version_order),
        cmocka_unit_test(test_placement),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_errors),
    };
    return cmocka_run_group_tests_name("record", tests, NULL, NULL);
}
