/* report.h: what a bench found, in the one shape that all of them share:
 *
 *   {"bench": NAME, "machine": {…},
 *    "rows": [{"name":, "value":, "unit":, "floor":|null, "ratio":|null}], "ok": true|false}
 *
 * `floor` is the best that the hardware allows for the row, where that was measured, and `ratio`
 * the value over it. */
#ifndef KHO_BENCH_REPORT_H
#define KHO_BENCH_REPORT_H

#include <jansson.h>
#include <stdbool.h>

struct report {
    json_t *root;
    json_t *rows; /* in root */
};

void report_init(struct report *report, const char *bench);
void report_fini(struct report *report);
void report_row(struct report *report, const char *name, double value, const char *unit);
void report_row_floor(struct report *report, const char *name, double value, const char *unit,
                      double floor);
/* Prints the rows for people. */
void report_print(const struct report *report);
/* Writes it to `path` ("-": standard output). 0, or -1 with a sentence on stderr. */
int report_write(struct report *report, bool ok, const char *path);

/* 12,345,678 in `to`, of at least 32 bytes. Returns `to`. */
char *report_thousands(char *to, double value);

#endif
