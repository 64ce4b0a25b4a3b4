/* What is pure in 'kho-bench engine': medians, names, options, and the records that it writes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "bench/engine_options.h"
#include "bench/engine_rows.h"
#include "bench/herd.h"

static void medians(void **state)
{
    const double odd[] = {9, 1, 5}, even[] = {4, 1, 3, 100}, one[] = {7};
    (void)state;
    assert_true(median(one, 1) == 7);
    assert_true(median(odd, 3) == 5);
    assert_true(median(even, 4) == 3.5);
}

/* A row's ratio is that of the medians, whatever a single round did. */
static void rows(void **state)
{
    struct engine_row row = {.name = "append.1m"}, bare = {.name = "memory"};
    (void)state;
    row_add_floored(&row, 50, 100);
    row_add_floored(&row, 90, 100);
    row_add_floored(&row, 1000, 10);
    assert_true(row_value(&row) == 90);
    assert_true(row_floor(&row) == 100);
    assert_true(row_ratio(&row) == 0.9);
    row_add(&bare, 30);
    assert_true(row_value(&bare) == 30);
    assert_true(row_ratio(&bare) == 0);
}

/* The report holds floor and ratio where there are some, null where there are none. */
static void reported(void **state)
{
    struct report report;
    struct engine_row row = {.name = "a", .unit = "u"}, bare = {.name = "b", .unit = "v"};
    (void)state;
    row_add_floored(&row, 3, 4);
    row_add(&bare, 5);
    report_init(&report, "engine");
    row_report(&row, &report);
    row_report(&bare, &report);
    const json_t *first = json_array_get(report.rows, 0), *second = json_array_get(report.rows, 1);
    assert_string_equal(json_string_value(json_object_get(first, "name")), "a");
    assert_true(json_number_value(json_object_get(first, "value")) == 3);
    assert_true(json_number_value(json_object_get(first, "floor")) == 4);
    assert_true(json_number_value(json_object_get(first, "ratio")) == 0.75);
    assert_true(json_number_value(json_object_get(second, "value")) == 5);
    assert_true(json_is_null(json_object_get(second, "floor")));
    assert_true(json_is_null(json_object_get(second, "ratio")));
    report_fini(&report);
}

static void names(void **state)
{
    char text[24];
    (void)state;
    assert_string_equal(count_name(10000000, text), "10m");
    assert_string_equal(count_name(2500000, text), "2500k");
    assert_string_equal(count_name(5000, text), "5k");
    assert_string_equal(count_name(1234, text), "1234");
}

static int options_of(const char *const *words, struct engine_options *ret, char *error)
{
    char *argv[16] = {(char *)"engine"};
    int argc = 1;
    for (; words[argc - 1] != NULL; argc++)
        argv[argc] = (char *)words[argc - 1];
    return engine_options_read(argc, argv, ret, error);
}

static void options(void **state)
{
    char error[ENGINE_ERROR_MAX];
    struct engine_options o;
    (void)state;
    assert_int_equal(options_of((const char *[]){NULL}, &o, error), 0);
    assert_int_equal(o.rounds, 5);
    assert_int_equal(o.records, 10000000);
    assert_true(o.seconds == 1);
    assert_true(engine_options_want(&o, "append.1m"));
    const char *const all[] = {"--rounds",  "3",   "--records", "2000",
                               "--seconds", "0.5", "--folder",  "/d",
                               "--json",    "f",   "--rows",    "append.300,append.1m",
                               NULL};
    assert_int_equal(options_of(all, &o, error), 0);
    assert_int_equal(o.rounds, 3);
    assert_int_equal(o.records, 2000);
    assert_true(o.seconds == 0.5);
    assert_string_equal(o.folder, "/d");
    assert_string_equal(o.json, "f");
    assert_true(engine_options_want(&o, "append.300.qd1"));
    assert_true(engine_options_want(&o, "append.1m"));
    assert_false(engine_options_want(&o, "append.1k"));
    assert_false(engine_options_want(&o, "append.16k"));
}

/* Each refusal names the option, what was given and what is allowed. */
static void refusals(void **state)
{
    static const struct {
        const char *words[3];
        const char *said;
    } cases[] = {
        {{"--rounds", "0"}, "--rounds takes a number from 1 to 99, not '0'"},
        {{"--rounds", "100"}, "--rounds takes a number from 1 to 99, not '100'"},
        {{"--records", "x"}, "--records takes a number from 1,000 to 100,000,000, not 'x'"},
        {{"--records", "-1"}, "--records takes a number from 1,000 to 100,000,000, not '-1'"},
        {{"--seconds", "nan"}, "--seconds takes a number from 0.01 to 60, not 'nan'"},
        {{"--seconds", "1s"}, "--seconds takes a number from 0.01 to 60, not '1s'"},
        {{"--rows", "append.2m"},
         "--rows: there is no row 'append.2m'; 'kho-bench help engine' "
         "lists them"},
        {{"--rows", "append,"}, "--rows: there is no row ''; 'kho-bench help engine' lists them"},
        {{"--rows"}, "a value is missing behind '--rows'"},
        {{"--speed", "1"}, "engine takes no option '--speed'"},
        {{"fast"}, "engine takes no argument 'fast'"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char error[ENGINE_ERROR_MAX] = "";
        struct engine_options o = {.rounds = 42};
        assert_int_equal(options_of(cases[i].words, &o, error), -1);
        assert_string_equal(error, cases[i].said);
        assert_int_equal(o.rounds, 42);
    }
}

static int key_compare(const void *a, const void *b)
{
    return memcmp(a, b, HERD_KEY);
}

/* Fills follow one another without a key twice, and every record is whole. */
static void herd_holds(struct herd *herd, size_t fill, uint32_t least, uint32_t most)
{
    enum { FILLS = 3 };
    uint8_t *keys = malloc(FILLS * fill * HERD_KEY);
    unsigned twins = 0;
    assert_non_null(keys);
    for (size_t i = 0; i < FILLS; i++) {
        herd_fill(herd, fill, i + 1);
        assert_int_equal(herd->count, fill);
        for (size_t k = 0; k < fill; k++) {
            const struct record *record = &herd->records[k];
            assert_int_equal(record->version.counter >> KHO_COUNTER_TIME_BITS, i + 1);
            twins += k > 0 && record->version.counter == record[-1].version.counter;
            assert_int_equal(record->key_len, HERD_KEY);
            assert_in_range(record->raw_len, least, most);
            assert_true(record_value_matches(record));
            memcpy(keys + (i * fill + k) * HERD_KEY, record->key, HERD_KEY);
        }
    }
    qsort(keys, FILLS * fill, HERD_KEY, key_compare);
    for (size_t i = 1; i < FILLS * fill; i++)
        assert_true(memcmp(keys + (i - 1) * HERD_KEY, keys + i * HERD_KEY, HERD_KEY) < 0);
    free(keys);
    /* Versions differ from record to record, as those of many writers do. */
    assert_true(twins <= 1);
}

/* What is drawn anew are the same citizens under later versions. */
static void redraws(struct herd *herd)
{
    enum { AMONG = 10, DRAWN = 1000 };
    uint8_t keys[AMONG][HERD_KEY];
    unsigned drawn[AMONG] = {0};
    for (uint64_t i = 0; i < AMONG; i++)
        citizen_number(&herd->census, i, (char *)keys[i]);
    herd_redraw(herd, DRAWN, AMONG, 9);
    assert_int_equal(herd->count, DRAWN);
    for (size_t k = 0; k < DRAWN; k++) {
        const struct record *record = &herd->records[k];
        size_t i = 0;
        while (i < AMONG && memcmp(keys[i], record->key, HERD_KEY) != 0)
            i++;
        assert_true(i < AMONG);
        drawn[i]++;
        assert_int_equal(record->version.counter >> KHO_COUNTER_TIME_BITS, 9);
        assert_true(record_value_matches(record));
    }
    for (size_t i = 0; i < AMONG; i++)
        assert_in_range(drawn[i], DRAWN / AMONG / 2, DRAWN / AMONG * 2);
}

static void herds(void **state)
{
    struct herd herd;
    (void)state;
    assert_int_equal(herd_init_citizens(&herd, 1, 1000), 0);
    herd_holds(&herd, 1000, 200, CITIZEN_RECORD_MAX);
    redraws(&herd);
    herd_fini(&herd);
    assert_int_equal(herd_init_random(&herd, 1, 1001, 7, 500), 0);
    herd_holds(&herd, 500, 1001, 1001);
    assert_memory_equal(herd.records[0].value, herd.records[7].value, 1001);
    assert_memory_not_equal(herd.records[0].value, herd.records[1].value, 1001);
    herd_fini(&herd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(medians), cmocka_unit_test(rows),    cmocka_unit_test(reported),
        cmocka_unit_test(names),   cmocka_unit_test(options), cmocka_unit_test(refusals),
        cmocka_unit_test(herds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
