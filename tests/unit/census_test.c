/* The population of kho-bench: the same seed makes the same records, numbers are valid and unique,
 * and everything is JSON with valid dates. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "bench/citizen.h"
#include "bench/tables.h"

enum { SAMPLE = 20000 };

static char text[CITIZEN_RECORD_MAX], other[CITIZEN_RECORD_MAX];

static json_t *parse(size_t len)
{
    json_error_t error;
    json_t *json;
    assert_in_range(len, 1, CITIZEN_RECORD_MAX);
    json = json_loadb(text, len, 0, &error);
    assert_non_null(json);
    return json;
}

static const char *member(const json_t *json, const char *key)
{
    const char *value = json_string_value(json_object_get(json, key));
    assert_non_null(value);
    return value;
}

static int two_digits(const char *at)
{
    assert_in_range(at[0], '0', '9');
    assert_in_range(at[1], '0', '9');
    return (at[0] - '0') * 10 + at[1] - '0';
}

static void check_date(const char *date)
{
    static const int lengths[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int year = two_digits(date) * 100 + two_digits(date + 2);
    int month = two_digits(date + 5), day = two_digits(date + 8);
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    assert_int_equal(date[4], '-');
    assert_int_equal(date[7], '-');
    assert_in_range(month, 1, 12);
    assert_in_range(day, 1, lengths[month - 1] + (month == 2 && leap ? 1 : 0));
}

/* A seed's records don't depend on which were made before, and another seed makes others. */
static void same_seed_same_bytes(void **state)
{
    struct census a, b, c;
    (void)state;
    assert_int_equal(census_init(&a, 7, 0.01), 0);
    assert_int_equal(census_init(&b, 7, 0.01), 0);
    assert_int_equal(census_init(&c, 8, 0.01), 0);
    for (uint64_t i = 0; i < 100; i++)
        citizen_record(&b, i, 0, other);
    for (uint64_t i = 500; i-- > 0;) {
        size_t len = citizen_record(&a, i, 0, text);
        assert_int_equal(citizen_record(&b, i, 0, other), len);
        assert_memory_equal(text, other, len);
        len = eid_record(&a, i, text);
        assert_int_equal(eid_record(&b, i, other), len);
        assert_memory_equal(text, other, len);
        len = activation_record(&a, i, text);
        assert_int_equal(activation_record(&b, i, other), len);
        assert_memory_equal(text, other, len);
    }
    size_t len = citizen_record(&a, 0, 0, text);
    assert_false(citizen_record(&c, 0, 0, other) == len && memcmp(text, other, len) == 0);
    census_fini(&a);
    census_fini(&b);
    census_fini(&c);
}

static int compare_numbers(const void *a, const void *b)
{
    return memcmp(a, b, CITIZEN_NUMBER);
}

/* No two citizens share a number. */
static void numbers_unique(void **state)
{
    struct census census;
    const size_t count = 300000;
    char *numbers = malloc(count * CITIZEN_NUMBER);
    (void)state;
    assert_non_null(numbers);
    assert_int_equal(census_init(&census, 3, 1), 0);
    for (size_t i = 0; i < count; i++)
        citizen_number(&census, i * 20, numbers + i * CITIZEN_NUMBER);
    qsort(numbers, count, CITIZEN_NUMBER, compare_numbers);
    for (size_t i = 1; i < count; i++)
        assert_memory_not_equal(numbers + (i - 1) * CITIZEN_NUMBER, numbers + i * CITIZEN_NUMBER,
                                CITIZEN_NUMBER);
    census_fini(&census);
    free(numbers);
}

static bool known_province(const char *number, const char *name)
{
    for (size_t i = 0; i < province_count; i++)
        if (memcmp(provinces[i].code, number, 3) == 0)
            return strcmp(provinces[i].name, name) == 0;
    return false;
}

/* Province, sex, century and year of the number are those of the record; dates exist; the size is
 * about what the bench promises. */
static void citizens_consistent(void **state)
{
    struct census census;
    size_t bytes = 0, in_hanoi = 0;
    (void)state;
    assert_int_equal(census_init(&census, 1, 1), 0);
    for (uint64_t i = 0; i < SAMPLE; i++) {
        size_t len = citizen_record(&census, i, 0, text);
        json_t *json = parse(len);
        const char *number = member(json, "number"), *born = member(json, "born");
        const json_t *card = json_object_get(json, "card");
        const json_t *expires = json_object_get(card, "expires");
        citizen_number(&census, i, other);
        assert_memory_equal(number, other, CITIZEN_NUMBER);
        assert_int_equal(strlen(number), CITIZEN_NUMBER);
        assert_true(known_province(number, member(json, "birthplace")));
        int sex = strcmp(member(json, "sex"), "nam") == 0 ? 0 : 1;
        assert_int_equal(number[3] - '0', sex + (born[0] == '2' ? 2 : 0));
        assert_int_equal(two_digits(number + 4), two_digits(born + 2));
        check_date(born);
        check_date(member(card, "issued"));
        if (!json_is_null(expires)) {
            check_date(json_string_value(expires));
            assert_true(strcmp(json_string_value(expires), member(card, "issued")) > 0);
        }
        in_hanoi += memcmp(number, "001", 3) == 0;
        bytes += len;
        json_decref(json);
    }
    assert_in_range(bytes / SAMPLE, 280, 320);
    assert_in_range(in_hanoi, SAMPLE * 7 / 10, SAMPLE * 85 / 100);
    census_fini(&census);
}

/* A move changes residence and revision, nothing else. One citizen in a hundred moves, and
 * citizen_moves() knows exactly those that citizen_moving() names. */
static void moves_consistent(void **state)
{
    struct census census;
    uint64_t k = 0;
    (void)state;
    assert_int_equal(census_init(&census, 5, 0.01), 0);
    assert_int_equal(census.updates, census.citizens / 100);
    for (uint64_t i = 0; i < census.citizens; i++) {
        bool named = k < census.updates && citizen_moving(&census, k) == i;
        assert_int_equal(citizen_moves(&census, i), named);
        k += named;
    }
    assert_int_equal(k, census.updates);
    for (uint64_t i = 0; i < 200; i++) {
        json_t *before = parse(citizen_record(&census, i, 0, text));
        json_t *after = parse(citizen_record(&census, i, 1, text));
        assert_string_not_equal(member(before, "residence"), member(after, "residence"));
        assert_int_equal(json_integer_value(json_object_get(after, "revision")), 1);
        json_object_del(before, "residence");
        json_object_del(after, "residence");
        json_object_del(before, "revision");
        json_object_del(after, "revision");
        assert_true(json_equal(before, after));
        json_decref(before);
        json_decref(after);
    }
    census_fini(&census);
}

/* Identity files and events are JSON of the promised size, and an event's level follows the counts.
 */
static void files_and_events(void **state)
{
    struct census census;
    size_t files = 0, events = 0;
    (void)state;
    assert_int_equal(census_init(&census, 1, 1), 0);
    for (uint64_t i = 0; i < SAMPLE; i++) {
        size_t len = eid_record(&census, i, text);
        json_t *json = parse(len);
        citizen_number(&census, i, other);
        assert_memory_equal(member(json, "number"), other, CITIZEN_NUMBER);
        check_date(member(json, "collected"));
        json_decref(json);
        files += len;
        len = activation_record(&census, i, text);
        json = parse(len);
        check_date(member(json, "at"));
        assert_int_equal(json_integer_value(json_object_get(json, "level")),
                         i < census.activations_1 ? 1 : 2);
        json_decref(json);
        events += len;
    }
    assert_in_range(files / SAMPLE, 400, 500);
    assert_in_range(events / SAMPLE, 150, 200);
    census_fini(&census);
}

/* A scale that no numbers are left for is refused. */
static void scale_refused(void **state)
{
    struct census census;
    (void)state;
    assert_true(census_init(&census, 1, 0) < 0);
    assert_true(census_init(&census, 1, -1) < 0);
    assert_true(census_init(&census, 1, 100) < 0);
    assert_int_equal(census_init(&census, 1, 0.000001), 0);
    assert_int_equal(census.activations_1, 1);
    census_fini(&census);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(same_seed_same_bytes), cmocka_unit_test(numbers_unique),
        cmocka_unit_test(citizens_consistent),  cmocka_unit_test(moves_consistent),
        cmocka_unit_test(files_and_events),     cmocka_unit_test(scale_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
