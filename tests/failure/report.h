/* report.h: what all runs came to. */
#ifndef KHO_FAILURE_REPORT_H
#define KHO_FAILURE_REPORT_H

#include "failure.h"

/* A run has ended. */
void report_run(const char *story, const char *class, uint64_t n, bool for_ever,
                const struct failure_report *report);
/* All runs of a story with a class have. */
void report_row(const char *story, const char *class);
/* The sums, the sites, the file for machines (NULL: none). False: something was violated, or a
 * class never fired. */
bool report_end(const struct failure_sites *sites, const char *json);

#endif
