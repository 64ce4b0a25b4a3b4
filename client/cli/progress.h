/* progress.h: one line on stderr that is drawn over and over, when stderr is a terminal: records,
 * rate, bytes, and the time left where the size is known. */
#ifndef KHO_CLI_PROGRESS_H
#define KHO_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    const char *what; /* "import", borrowed */
    uint64_t total;   /* of `done` in progress_draw; 0: not known */
    double begun;     /* seconds */
    double drawn;
    bool active;
    bool color;
    bool shown;
};

/* Seconds on a steady clock. */
double seconds_now(void);

void progress_init(struct progress *progress, const char *what, uint64_t total);
/* Draws at most five times a second. `done` of `total` are finished. */
void progress_draw(struct progress *progress, uint64_t records, uint64_t bytes, uint64_t done);
/* Wipes the line, before anything else is printed and at the end. */
void progress_clear(struct progress *progress);

#endif
