/* run.c: a seed's run; in a process of its own, whatever becomes of that. */
#include "run.h"

#include "frames.h"

#include <errno.h>
#include <execinfo.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void run_workload(struct sim *sim, const struct limits *limits, struct run_result *r)
{
    struct workload *w = calloc(1, sizeof *w);
    KHO_ASSERT(w != NULL);
    workload_run_limited(w, sim, limits);
    *r = (struct run_result){.seed = sim->seed,
                             .trace = sim->trace,
                             .now_ns = sim->now_ns,
                             .steps = sim->steps,
                             .calls = w->calls_made,
                             .records_ok = w->ops_ok,
                             .records_failed = w->ops_failed,
                             .records_doubtful = w->ops_doubtful,
                             .records_damaged = w->reads_damaged,
                             .gave_up = w->history.unjudged,
                             .compacted = w->compacted,
                             .recycled = w->recycled,
                             .checked = w->checked,
                             .rounds = (uint32_t)w->round,
                             .calls_drawn = w->plan.calls,
                             .beyond = w->plan.beyond,
                             .broke = sim->failed};
    memcpy(r->faults, sim->faults, sizeof r->faults);
    memcpy(r->failure, sim->failure, sizeof r->failure);
    sim->story = false;
    sim->listen = NULL;
    workload_fini(w);
    sim_fini(sim);
    free(w);
}

void run_seed(uint64_t seed, const struct limits *limits, struct events *events,
              struct run_result *ret_result)
{
    struct sim sim;
    sim_init(&sim, seed, false);
    if (events != NULL) {
        sim.listen = events_listen;
        sim.listener = events;
    }
    run_workload(&sim, limits, ret_result);
}

void run_story(uint64_t seed, const struct limits *limits, struct run_result *ret_result)
{
    struct sim sim;
    sim_init(&sim, seed, true);
    run_workload(&sim, limits, ret_result);
}

/* The shorter list: of those left out, or of those that are there. */
static int faults_print(const struct limits *limits, char *to, size_t size)
{
    int out = 0, at = 0;
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        out += limits->without[i];
    if (out == 0)
        return 0;
    if (out == SIM_FAULT_COUNT)
        return snprintf(to, size, " --without all");
    bool only = out > SIM_FAULT_COUNT / 2;
    const char *before = only ? " --only " : " --without ";
    for (int i = 0; i < SIM_FAULT_COUNT && (size_t)at < size; i++) {
        if (limits->without[i] == only)
            continue;
        at +=
            snprintf(to + at, size - (size_t)at, "%s%s", before, sim_fault_name((enum sim_fault)i));
        before = ",";
    }
    return at;
}

void run_command(uint64_t seed, const struct limits *limits, char *ret_text, size_t size)
{
    int at = snprintf(ret_text, size, "kho-sim %llu", (unsigned long long)seed);
    at += faults_print(limits, ret_text + at, size - (size_t)at);
    if (limits->rounds_max > 0 && (size_t)at < size)
        at += snprintf(ret_text + at, size - (size_t)at, " --rounds %u", limits->rounds_max);
    if (limits->calls_max > 0 && (size_t)at < size)
        snprintf(ret_text + at, size - (size_t)at, " --calls %u", limits->calls_max);
}

/* --- Apart ------------------------------------------------------------------------------------ */

struct apart_shared {
    bool ended; /* the run, by itself */
    struct run_result result;
    struct events events;
};

/* The leak sanitizer's; without it, NULL. */
extern void __lsan_do_leak_check(void) __attribute__((weak));

static uint64_t mono_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * SIM_S + (uint64_t)t.tv_nsec;
}

static void signals(sigset_t *ret_set)
{
    sigemptyset(ret_set);
    sigaddset(ret_set, SIGCHLD);
    sigaddset(ret_set, SIGINT);
    sigaddset(ret_set, SIGTERM);
}

void apart_prepare(void)
{
    sigset_t set;
    signals(&set);
    sigprocmask(SIG_BLOCK, &set, NULL);
    /* Loads what it needs now: a handler may not. */
    void *frames[1];
    backtrace(frames, 1);
}

int apart_init(struct apart *apart)
{
    *apart = (struct apart){.said = memfd_create("kho-sim", MFD_CLOEXEC)};
    if (apart->said < 0)
        return -errno;
    void *shared = mmap(NULL, sizeof *apart->shared, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        close(apart->said);
        apart->said = -1;
        return -ENOMEM;
    }
    apart->shared = shared;
    return 0;
}

void apart_fini(struct apart *apart)
{
    if (apart->shared == NULL)
        return;
    apart_kill(apart);
    munmap(apart->shared, sizeof *apart->shared);
    close(apart->said);
    apart->shared = NULL;
}

/* A failed assertion says nothing: the frames do, to addr2line. */
static void on_abort(int number)
{
    frames_print();
    signal(number, SIG_DFL);
    raise(number);
}

static _Noreturn void child_run(struct apart *apart, run_call run, const struct limits *limits)
{
    sigset_t set;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGINT, SIG_IGN); /* the parent decides, though a whole group is told */
    signal(SIGTERM, SIG_IGN);
    signal(SIGABRT, on_abort);
    signals(&set);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    struct rlimit no_core = {0, 0};
    setrlimit(RLIMIT_CORE, &no_core);
    dup2(apart->said, STDERR_FILENO);
    run(apart->seed, limits, &apart->shared->events, &apart->shared->result);
    if (__lsan_do_leak_check != NULL)
        __lsan_do_leak_check();
    apart->shared->ended = true;
    _exit(0);
}

int apart_start(struct apart *apart, run_call run, uint64_t seed, const struct limits *limits,
                uint32_t key)
{
    KHO_ASSERT(apart->pid == 0);
    apart->seed = seed;
    apart->begun_ns = mono_ns();
    apart->shared->ended = false;
    memset(&apart->shared->result, 0, sizeof apart->shared->result);
    events_init(&apart->shared->events, key);
    if (ftruncate(apart->said, 0) != 0 || lseek(apart->said, 0, SEEK_SET) != 0)
        return -errno;
    fflush(stdout);
    fflush(stderr);
    pid_t pid = fork();
    if (pid < 0)
        return -errno;
    if (pid == 0)
        child_run(apart, run, limits);
    apart->pid = pid;
    return 0;
}

bool apart_said(const struct apart *apart, char *ret_text, size_t size)
{
    ssize_t len = pread(apart->said, ret_text, size - 1, 0);
    ret_text[kho_max(len, 0)] = '\0';
    frames_resolve(ret_text, size);
    return len > 0;
}

/* The line of a sanitizer's report that names the error, or the first one. */
static void said_line(const struct apart *apart, char *ret_line, size_t size)
{
    static const char *const marks[] = {"ERROR: ", "runtime error: "};
    char text[4096];
    ret_line[0] = '\0';
    if (!apart_said(apart, text, sizeof text))
        return;
    const char *line = text;
    for (size_t i = 0; i < 2; i++) {
        const char *mark = strstr(text, marks[i]);
        if (mark == NULL)
            continue;
        for (line = mark; line > text && line[-1] != '\n'; line--)
            ;
        break;
    }
    snprintf(ret_line, size, ": %.*s", (int)strcspn(line, "\n"), line);
}

/* What a process leaves behind that didn't end by itself. */
static void died(const struct apart *apart, int status, double bound_s, bool late,
                 struct run_result *r)
{
    char line[400];
    if (r->broke)
        return; /* it said so before it died */
    said_line(apart, line, sizeof line);
    r->seed = apart->seed;
    r->broke = true;
    if (late)
        snprintf(r->failure, sizeof r->failure, "hasn't ended after %.0f s of its processor",
                 bound_s);
    else if (WIFSIGNALED(status))
        snprintf(r->failure, sizeof r->failure, "crashed: %s%s", strsignal(WTERMSIG(status)), line);
    else
        snprintf(r->failure, sizeof r->failure, "exited with %d%s", WEXITSTATUS(status), line);
}

/* What its processor says; on a busy machine a run waits for one most of the time. */
static bool is_late(const struct apart *apart, double bound_s)
{
    struct timespec cpu = {0};
    clockid_t clock;
    if (clock_getcpuclockid(apart->pid, &clock) == 0)
        (void)clock_gettime(clock, &cpu);
    return (double)cpu.tv_sec + (double)cpu.tv_nsec / 1e9 > bound_s ||
           (double)(mono_ns() - apart->begun_ns) / 1e9 > 30 * bound_s;
}

bool apart_ended(struct apart *apart, double bound_s, struct run_result *ret_result)
{
    int status;
    struct rusage usage;
    bool late = false;
    if (apart->pid == 0)
        return false;
    pid_t pid = wait4(apart->pid, &status, WNOHANG, &usage);
    if (pid == 0 && is_late(apart, bound_s)) {
        late = true;
        kill(apart->pid, SIGKILL);
        pid = wait4(apart->pid, &status, 0, &usage);
    }
    if (pid != apart->pid)
        return false;
    apart->pid = 0;
    *ret_result = apart->shared->result;
    if (!apart->shared->ended || late)
        died(apart, status, bound_s, late, ret_result);
    ret_result->cpu_ns = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * SIM_S +
                         (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * SIM_US;
    return true;
}

void apart_kill(struct apart *apart)
{
    if (apart->pid == 0)
        return;
    kill(apart->pid, SIGKILL);
    waitpid(apart->pid, NULL, 0);
    apart->pid = 0;
}

int apart_wait(double seconds)
{
    sigset_t set;
    struct timespec t = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    signals(&set);
    int number = sigtimedwait(&set, NULL, &t);
    return number > 0 ? number : 0;
}

const struct events *apart_events(const struct apart *apart)
{
    return &apart->shared->events;
}
