/* load_report.h: the figures of a load as rows of a report. */
#ifndef KHO_BENCH_LOAD_REPORT_H
#define KHO_BENCH_LOAD_REPORT_H

#include "load.h"
#include "load_options.h"
#include "report.h"

/* What was measured beside the clients' own figures. */
struct load_costs {
    double nodes_seconds;     /* CPU in the window, of all local nodes; negative: not seen */
    double client_seconds;    /* of all clients */
    double generator_seconds; /* of them for the bench itself, a record */
    double rss_bytes;         /* of all local nodes */
    double preload_rate;      /* records a second; 0: nothing was loaded */
};

void load_report_settings(struct report *report, const struct load_options *options);
void load_report_figures(struct report *report, const struct load_options *options,
                         const struct load_figures *figures, const struct load_costs *costs);
/* Writes the latencies of all operations to options->histogram. 0, or -1 with a sentence on stderr.
 */
int load_report_histogram(const struct load_options *options, const struct load_figures *figures);

#endif
