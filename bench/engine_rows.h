/* engine_rows.h: the rows that 'engine' prints: kho's figure, the floor's, and the one over the
 * other, each the median of its rounds. */
#ifndef KHO_BENCH_ENGINE_ROWS_H
#define KHO_BENCH_ENGINE_ROWS_H

#include "report.h"

#include <stddef.h>
#include <stdint.h>

enum { ROUNDS_MAX = 99 };

struct engine_row {
    char name[40];
    char unit[24];
    double values[ROUNDS_MAX], floors[ROUNDS_MAX];
    size_t rounds;  /* of values */
    size_t floored; /* of floors; 0: the row has none */
    char note[96];  /* what else is to be said, or "" */
};

/* Adds a round's figure; the floor of the same round. */
void row_add(struct engine_row *row, double value);
void row_add_floored(struct engine_row *row, double value, double floor);
double row_value(const struct engine_row *row);
double row_floor(const struct engine_row *row);
/* The medians' ratio; 0 where there is no floor. */
double row_ratio(const struct engine_row *row);

/* The middle of `count` values, or the mean of the two in the middle; at least one. */
double median(const double *values, size_t count);
/* "10m", "250k", "1234": a number of records in a row's name, in `to`, of at least 24 bytes. */
const char *count_name(uint64_t count, char *to);

/* The head of the table, and a row of it, on standard output. */
void rows_print_head(void);
void row_print(const struct engine_row *row);
void row_report(const struct engine_row *row, struct report *report);

#endif
