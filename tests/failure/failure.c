/* failure.c: counts chances, says which fails, notes where, and what went wrong. */
#include "failure.h"
#include "heap.h"

#include <errno.h>
#include <execinfo.h>
#include <kho/error.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <unistd.h>

static const struct failure_class *class;
static uint64_t fail_at;
static bool for_ever, stacks, begun;
static int owner;
static struct failure_report *report;
static struct failure_sites *sites;

/* --- The end of a run that went wrong --------------------------------------------------------- */

/* An assert of the cores or of the harness. The place is all there is. */
static void aborted(int signal)
{
    report->crash_depth = (uint32_t)backtrace(report->crash, KHO_COUNT_OF(report->crash));
    if (report->violation[0] == '\0')
        snprintf(report->violation, sizeof report->violation, "ended by signal %d", signal);
    _exit(1);
}

void failure_violation(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(report->violation, sizeof report->violation, format, arguments);
    va_end(arguments);
    _exit(1);
}

void failure_typed(int status, const char *what)
{
    bool kernel = status < 0 && status > -134;
    if (status == KHO_EINTERNAL || (status != 0 && !kernel && kho_error_name(status) == NULL))
        failure_violation("%s ended with %d, which no caller understands", what, status);
}

void failure_helper_ended(void)
{
    report->helper_ended = true;
}

bool failure_helper_has_ended(void)
{
    bool ended = report->helper_ended;
    report->helper_ended = false;
    return ended;
}

void failure_folder(const char *path)
{
    snprintf(report->folder, sizeof report->folder, "%s", path);
}

void failure_check_heap(void)
{
    char which[160];
    uint64_t live = heap_live(which, sizeof which);
    if (live > 0)
        failure_violation("%llu allocations were never released; the first: %s",
                          (unsigned long long)live, which);
}

/* --- Chances ---------------------------------------------------------------------------------- */

void failure_setup(const struct failure_class *of, uint64_t n, bool ever, bool keep,
                   struct failure_report *to, struct failure_sites *at)
{
    class = of;
    fail_at = n;
    for_ever = ever;
    stacks = keep;
    report = to;
    sites = at;
    signal(SIGABRT, aborted);
}

void failure_begin(void)
{
    begun = true;
}

void failure_end(void)
{
    begun = false;
}

bool failure_is(enum failure_point point)
{
    return class != NULL && class->point == point;
}

bool failure_for_ever(void)
{
    return for_ever;
}

int failure_owner(int of)
{
    int before = owner;
    owner = of;
    return before;
}

static bool same(const struct failure_site *a, void *const *stack, uint32_t depth)
{
    return a->depth == depth && memcmp(a->stack, stack, depth * sizeof stack[0]) == 0;
}

static void site_note(bool failed)
{
    void *all[FAILURE_DEPTH + 3];
    int depth = backtrace(all, FAILURE_DEPTH + 3) - 3;
    if (depth <= 0)
        return;
    uint64_t hash = 0;
    for (int i = 0; i < depth; i++)
        hash = (hash ^ (uint64_t)(uintptr_t)all[3 + i]) * 0x9E3779B97F4A7C15u;
    for (uint32_t tries = 0; tries < FAILURE_SITES; tries++) {
        struct failure_site *site = &sites->sites[(hash + tries) % FAILURE_SITES];
        if (site->depth == 0) {
            memcpy(site->stack, all + 3, (size_t)depth * sizeof all[0]);
            site->depth = (uint32_t)depth;
            sites->count++;
        }
        if (!same(site, all + 3, (uint32_t)depth))
            continue;
        site->failed |= failed;
        return;
    }
    sites->lost++;
}

/* Threads of one process take turns: only one may be the N-th. */
int failure_chance(enum failure_point point, uint8_t kind)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    bool heap = point == FAILURE_NODE_HEAP || point == FAILURE_CLIENT_HEAP;
    int error = 0;
    if (!begun || owner != 0)
        return 0;
    pthread_mutex_lock(&mutex);
    if (heap && stacks)
        site_note(false);
    if (class != NULL && class->point == point && class->kind == kind) {
        uint64_t chance = ++report->chances;
        if (fail_at != 0 && (chance == fail_at || (chance > fail_at && for_ever)))
            error = class->error;
    }
    if (error != 0 && heap)
        site_note(true);
    report->fired += error != 0;
    pthread_mutex_unlock(&mutex);
    return error;
}
