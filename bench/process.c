/* process.c: CPU from the process's clock, to the nanosecond; memory from /proc/PID/stat (proc(5)):
 * the name in parentheses may hold anything, so the fields are counted from the last ')': state is
 * the 3rd, rss the 24th, in pages. */
#include "process.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { FIELD_STATE = 3, FIELD_RSS = 24 };

int process_usage(pid_t pid, struct process_usage *ret_usage)
{
    char path[64], line[2048];
    unsigned long long fields[FIELD_RSS + 1] = {0};
    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return errno == ENOENT ? -ESRCH : -errno;
    size_t len = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[len] = '\0';
    char *at = strrchr(line, ')');
    if (at == NULL || at[1] != ' ' || at[2] == '\0')
        return -EINVAL;
    at += 3; /* behind the state */
    for (int field = FIELD_STATE + 1; field <= FIELD_RSS; field++)
        fields[field] = strtoull(at, &at, 10);
    clockid_t clock;
    struct timespec cpu;
    int error = clock_getcpuclockid(pid, &clock);
    if (error != 0)
        return -error;
    if (clock_gettime(clock, &cpu) != 0)
        return errno == EINVAL ? -ESRCH : -errno;
    *ret_usage =
        (struct process_usage){.cpu_seconds = (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9,
                               .rss_bytes = fields[FIELD_RSS] * (uint64_t)sysconf(_SC_PAGESIZE)};
    return 0;
}
