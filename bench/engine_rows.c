/* engine_rows.c: medians and the table. */
#include "engine_rows.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int double_compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double median(const double *values, size_t count)
{
    double sorted[ROUNDS_MAX];
    assert(count >= 1 && count <= ROUNDS_MAX);
    memcpy(sorted, values, count * sizeof *sorted);
    qsort(sorted, count, sizeof *sorted, double_compare);
    return (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
}

void row_add(struct engine_row *row, double value)
{
    assert(row->rounds < ROUNDS_MAX);
    row->values[row->rounds++] = value;
}

void row_add_floored(struct engine_row *row, double value, double floor)
{
    row_add(row, value);
    row->floors[row->floored++] = floor;
}

double row_value(const struct engine_row *row)
{
    return median(row->values, row->rounds);
}

double row_floor(const struct engine_row *row)
{
    return row->floored > 0 ? median(row->floors, row->floored) : 0;
}

double row_ratio(const struct engine_row *row)
{
    double floor = row_floor(row);
    return floor > 0 ? row_value(row) / floor : 0;
}

const char *count_name(uint64_t count, char *to)
{
    if (count > 0 && count % 1000000 == 0)
        snprintf(to, 24, "%llum", (unsigned long long)(count / 1000000));
    else if (count > 0 && count % 1000 == 0)
        snprintf(to, 24, "%lluk", (unsigned long long)(count / 1000));
    else
        snprintf(to, 24, "%llu", (unsigned long long)count);
    return to;
}

/* Four digits that count, and no more than that of a fraction. */
static const char *number_text(double number, char *to)
{
    if (number >= 1000)
        return report_thousands(to, number);
    snprintf(to, 32, "%.*f", number >= 100 ? 1 : number >= 10 ? 2 : 3, number);
    return to;
}

void rows_print_head(void)
{
    printf("%-22s %12s  %-14s %12s %7s\n", "row", "kho", "", "floor", "ratio");
}

void row_print(const struct engine_row *row)
{
    char value[32], floor[32] = "", ratio[32] = "";
    if (row->floored > 0) {
        number_text(row_floor(row), floor);
        snprintf(ratio, sizeof ratio, "%.2f", row_ratio(row));
    }
    int printed = printf("%-22s %12s  %-14s %12s %7s", row->name,
                         number_text(row_value(row), value), row->unit, floor, ratio);
    printf("%s%s\n", printed > 0 && row->note[0] != '\0' ? "  " : "", row->note);
    fflush(stdout);
}

void row_report(const struct engine_row *row, struct report *report)
{
    if (row->floored > 0)
        report_row_floor(report, row->name, row_value(row), row->unit, row_floor(row));
    else
        report_row(report, row->name, row_value(row), row->unit);
}
