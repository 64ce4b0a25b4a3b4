/* The histogram of kho-bench: percentiles within 0.2 % of those of the sorted values. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/histogram.h"
#include "bench/report.h"

static struct histogram histogram;

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Values of all magnitudes, against a sorted copy. */
static void percentiles_close(void **state)
{
    enum { COUNT = 50000 };
    static uint64_t values[COUNT];
    const double percents[] = {0.1, 1, 25, 50, 90, 99, 99.9, 100};
    uint64_t random = 12345;
    (void)state;
    histogram_clear(&histogram);
    for (size_t i = 0; i < COUNT; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        values[i] = (random >> 20) >> (random % 44);
        histogram_add(&histogram, values[i], 1);
    }
    qsort(values, COUNT, sizeof values[0], compare);
    for (size_t i = 0; i < sizeof percents / sizeof percents[0]; i++) {
        uint64_t exact = values[(size_t)ceil(COUNT * percents[i] / 100) - 1];
        uint64_t found = histogram_percentile(&histogram, percents[i]);
        assert_true(found >= exact);
        assert_true((double)(found - exact) <= (double)exact * 0.002);
    }
    assert_int_equal(histogram_percentile(&histogram, 100), values[COUNT - 1]);
}

/* The ends: empty, small values exactly, values beyond the top counted as the top. */
static void ends(void **state)
{
    (void)state;
    histogram_clear(&histogram);
    assert_int_equal(histogram_percentile(&histogram, 50), 0);
    for (uint64_t v = 0; v < 1024; v++)
        histogram_add(&histogram, v, 1);
    for (uint64_t v = 0; v < 1024; v++)
        assert_int_equal(histogram_percentile(&histogram, (double)(v + 1) * 100 / 1024), v);
    histogram_clear(&histogram);
    histogram_add(&histogram, UINT64_MAX, 10);
    histogram_add(&histogram, 5, 30);
    assert_int_equal(histogram.count, 40);
    assert_int_equal(histogram_percentile(&histogram, 75), 5);
    assert_int_equal(histogram_percentile(&histogram, 76), ((uint64_t)1 << HISTOGRAM_TOP_BITS) - 1);
}

/* What two histograms counted is what one would have counted. */
static void merged(void **state)
{
    static struct histogram parts[2], whole;
    uint64_t random = 99;
    (void)state;
    for (size_t i = 0; i < 10000; i++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        uint64_t value = (random >> 30) >> (random % 30);
        histogram_add(&parts[i % 3 == 0], value, 1 + i % 2);
        histogram_add(&whole, value, 1 + i % 2);
    }
    histogram_merge(&parts[0], &parts[1]);
    assert_int_equal(parts[0].count, whole.count);
    assert_int_equal(parts[0].max, whole.max);
    assert_true(fabs(parts[0].sum - whole.sum) <= whole.sum * 1e-12);
    assert_memory_equal(parts[0].buckets, whole.buckets, sizeof whole.buckets);
}

/* The distribution as a file: rising lines up to the largest value and the whole count. */
static void written(void **state)
{
    static struct histogram h;
    char line[256], last[256] = "";
    double value, share, before = 0, share_before = -1;
    unsigned long long count = 0;
    size_t lines = 0;
    (void)state;
    for (uint64_t v = 1; v <= 1000; v++)
        histogram_add(&h, v * 1000, 1);
    FILE *file = tmpfile();
    assert_non_null(file);
    assert_int_equal(histogram_write(&h, 1000, file), 0);
    rewind(file);
    while (fgets(line, sizeof line, file) != NULL) {
        if (line[0] == '#') {
            strcpy(last, line);
        } else if (sscanf(line, "%lf %lf %llu", &value, &share, &count) == 3) {
            assert_true(value > before && share > share_before);
            assert_true(fabs(value / (double)count - 1) < 0.002);
            before = value;
            share_before = share;
            lines++;
        }
    }
    fclose(file);
    assert_true(lines > 20 && lines < 100);
    assert_int_equal(count, 1000);
    assert_true(share == 1 && value == 1000);
    assert_non_null(strstr(last, "Buckets"));
}

/* Numbers for people have a comma every three digits. */
static void thousands(void **state)
{
    char text[32];
    (void)state;
    assert_string_equal(report_thousands(text, 0), "0");
    assert_string_equal(report_thousands(text, 999), "999");
    assert_string_equal(report_thousands(text, 1000), "1,000");
    assert_string_equal(report_thousands(text, 6018769), "6,018,769");
    assert_string_equal(report_thousands(text, -123456), "-123,456");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(percentiles_close), cmocka_unit_test(ends),      cmocka_unit_test(merged),
        cmocka_unit_test(written),           cmocka_unit_test(thousands),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
