/* progress.c: see progress.h. Nothing is drawn where stderr is no terminal. It can't fail: a line
 * that isn't shown is no loss. */
#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "print.h"

double seconds_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

void progress_init(struct progress *progress, const char *what, uint64_t total)
{
    *progress = (struct progress){.what = what,
                                  .total = total,
                                  .begun = seconds_now(),
                                  .active = isatty(STDERR_FILENO) != 0,
                                  .color = print_colored(stderr)};
}

void progress_draw(struct progress *progress, uint64_t records, uint64_t bytes, uint64_t done)
{
    double now = seconds_now();
    if (!progress->active || now - progress->drawn < 0.2)
        return;
    progress->drawn = now;
    double elapsed = now - progress->begun;
    struct small_text count, rate, size, left;
    const char *dim = progress->color ? "\033[2m" : "", *plain = progress->color ? "\033[0m" : "";
    fprintf(stderr, "\r\033[K%s%s%s  %s records", dim, progress->what, plain,
            human_count(records, &count));
    if (elapsed > 0.5)
        fprintf(stderr, "  %s/s", human_count((uint64_t)((double)records / elapsed), &rate));
    fprintf(stderr, "  %s", human_bytes(bytes, &size));
    if (progress->total > 0 && done > 0 && done <= progress->total && elapsed > 0.5) {
        double remaining = elapsed * (double)(progress->total - done) / (double)done;
        fprintf(stderr, "  %d %%  %s left", (int)(100 * (double)done / (double)progress->total),
                human_seconds(remaining, &left));
    }
    fflush(stderr);
    progress->shown = true;
}

void progress_clear(struct progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
}
