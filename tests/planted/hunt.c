/* hunt.c: one child a hunt; it leaves in shared memory how far it came. */
#include "hunt.h"

#include "workload.h"

#include <signal.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum kho_planted kho_planted = PLANTED_none;

void hunt_init(struct hunt *hunt, int bug, uint64_t known, uint64_t from, uint64_t to)
{
    *hunt = (struct hunt){.bug = bug, .known = known, .from = from, .to = to};
    hunt->state =
        mmap(NULL, sizeof *hunt->state, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KHO_ASSERT(hunt->state != MAP_FAILED);
}

void hunt_fini(struct hunt *hunt)
{
    munmap(hunt->state, sizeof *hunt->state);
    hunt->state = NULL;
}

/* The processor's time for one seed begins. A child that uses it up ends by SIGPROF. */
static void clock_start(void)
{
    struct itimerval limit = {.it_value = {.tv_sec = HUNT_SEED_SECONDS}};
    KHO_ASSERT(setitimer(ITIMER_PROF, &limit, NULL) == 0);
}

static bool seed_run(struct hunt_state *state, uint64_t seed)
{
    struct sim sim;
    struct workload *workload = calloc(1, sizeof *workload);
    KHO_ASSERT(workload != NULL);
    state->seed = seed;
    state->tried++;
    clock_start();
    sim_init(&sim, seed, false);
    workload_run(workload, &sim);
    if (sim.failed) {
        snprintf(state->said, sizeof state->said, "%s", sim.failure);
        state->found = true;
        return true;
    }
    workload_fini(workload);
    sim_fini(&sim);
    free(workload);
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    state->cpu_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    return false;
}

static _Noreturn void child(const struct hunt *hunt)
{
    kho_planted = (enum kho_planted)hunt->bug;
    if (hunt->known != 0 && seed_run(hunt->state, hunt->known))
        _exit(0);
    for (uint64_t seed = hunt->from; seed <= hunt->to; seed++)
        if (seed_run(hunt->state, seed))
            break;
    _exit(0);
}

void hunt_start(struct hunt *hunt)
{
    fflush(NULL);
    hunt->child = fork();
    KHO_ASSERT(hunt->child >= 0);
    if (hunt->child == 0)
        child(hunt);
}

void hunt_ended(struct hunt *hunt, int status)
{
    struct hunt_state *state = hunt->state;
    hunt->child = 0;
    hunt->ended = true;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return;
    state->found = true;
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGPROF)
        snprintf(state->said, sizeof state->said, "a run that doesn't end within %d s",
                 HUNT_SEED_SECONDS);
    else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT)
        snprintf(state->said, sizeof state->said, "a failed assertion");
    else if (WIFSIGNALED(status))
        snprintf(state->said, sizeof state->said, "a crash: %s", strsignal(WTERMSIG(status)));
    else
        snprintf(state->said, sizeof state->said, "a process that ends with status %d",
                 WEXITSTATUS(status));
}
