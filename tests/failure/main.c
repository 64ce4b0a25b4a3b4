/* main.c: tells each story with each failure, a process a run, and prints what came of it.
 *
 *   kho-failures                            all stories, all classes, each N, once and for ever
 *   kho-failures --story NAME --class NAME  some of them
 *   kho-failures --stride K                 each K-th N only
 *   kho-failures --jobs N                   so many runs at once
 *   kho-failures --story S --class C --at N [--for-ever]   one run, with all it has to say
 *   kho-failures --list                     stories and classes
 *   kho-failures --json FILE                the table as rows
 *
 * Exit 0: no run broke a promise, each class fired. */
#include "classes.h"
#include "report.h"
#include "sites.h"
#include "stories.h"

#include <getopt.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { JOBS_MAX = 16, RUN_SECONDS = 240 };

struct slot {
    pid_t pid; /* 0: free */
    uint64_t n;
    struct failure_report *report;
};

static struct {
    const char *story, *class, *json;
    uint64_t at, stride;
    uint32_t jobs;
    bool for_ever, list;
} options = {.stride = 1, .jobs = 1};

static struct failure_sites *sites;
static struct slot slots[JOBS_MAX];

static void *shared(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    KHO_ASSERT(memory != MAP_FAILED);
    return memory;
}

/* --- A run ------------------------------------------------------------------------------------ */

_Noreturn static void run(const struct told *told, const struct failure_class *class, uint64_t n,
                          bool for_ever, struct failure_report *report)
{
    bool alone = options.at != 0 || class == NULL;
    if (!alone && freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    alarm(RUN_SECONDS);
    failure_setup(class, n, for_ever, alone, report, sites);
    told->tell();
    report->ended = true;
    fflush(NULL);
    _exit(0);
}

static void slot_start(struct slot *slot, const struct told *told,
                       const struct failure_class *class, uint64_t n, bool for_ever)
{
    memset(slot->report, 0, sizeof *slot->report);
    slot->n = n;
    fflush(NULL);
    slot->pid = fork();
    KHO_ASSERT(slot->pid >= 0);
    if (slot->pid == 0)
        run(told, class, n, for_ever, slot->report);
}

static void folder_remove(const struct failure_report *report)
{
    char command[96];
    if (report->folder[0] != '/')
        return;
    snprintf(command, sizeof command, "rm -rf '%.63s'", report->folder);
    if (system(command) != 0)
        fprintf(stderr, "kho-failures: %s stays behind\n", report->folder);
}

/* What broke, in the report; true if nothing did. */
static bool judge(struct failure_report *report, int state)
{
    if (report->violation[0] == '\0' && !(WIFEXITED(state) && WEXITSTATUS(state) == 0))
        snprintf(report->violation, sizeof report->violation, "%s %d",
                 WIFSIGNALED(state) ? "killed by signal" : "exited with",
                 WIFSIGNALED(state) ? WTERMSIG(state) : WEXITSTATUS(state));
    else if (report->violation[0] == '\0' && !report->ended)
        snprintf(report->violation, sizeof report->violation, "the story didn't end");
    return report->violation[0] == '\0';
}

static struct slot *slot_wait(int *ret_state)
{
    pid_t pid = waitpid(-1, ret_state, 0);
    for (int i = 0; i < JOBS_MAX; i++)
        if (slots[i].pid == pid && pid > 0) {
            slots[i].pid = 0;
            folder_remove(slots[i].report);
            return &slots[i];
        }
    return NULL;
}

static struct slot *slot_free(void)
{
    for (uint32_t i = 0; i < options.jobs; i++)
        if (slots[i].pid == 0)
            return &slots[i];
    return NULL;
}

/* --- Loops ------------------------------------------------------------------------------------ */

/* N from 1 on until a run ends in which the failure didn't fire. */
static void loop(const struct told *told, const struct failure_class *class, bool for_ever)
{
    uint64_t next = 1;
    uint32_t under_way = 0;
    bool over = false;
    while (!over || under_way > 0) {
        struct slot *slot;
        while (!over && (slot = slot_free()) != NULL) {
            slot_start(slot, told, class, next, for_ever);
            next += options.stride;
            under_way++;
        }
        int state = 0;
        slot = slot_wait(&state);
        if (slot == NULL)
            continue;
        under_way--;
        if (judge(slot->report, state))
            over |= slot->report->fired == 0;
        report_run(told->name, class->name, slot->n, for_ever, slot->report);
    }
}

/* Without any failure the story must come through; and it tells which allocations it makes. */
static bool baseline(const struct told *told)
{
    int state = 0;
    slot_start(&slots[0], told, NULL, 0, false);
    slot_wait(&state);
    if (judge(slots[0].report, state))
        return true;
    printf("%s fails by itself: %s\n", told->name, slots[0].report->violation);
    sites_print_stack(slots[0].report->crash, slots[0].report->crash_depth);
    return false;
}

static int replay(const struct told *told, const struct failure_class *class)
{
    int state = 0;
    setenv("KHO_FAILURE_STACKS", "1", 1);
    slot_start(&slots[0], told, class, options.at, options.for_ever);
    slot_wait(&state);
    struct failure_report *report = slots[0].report;
    bool well = judge(report, state);
    printf("%s, %s, %s at %llu: %llu chances, fired %llu times; %s\n", told->name, class->name,
           options.for_ever ? "for ever" : "once", (unsigned long long)options.at,
           (unsigned long long)report->chances, (unsigned long long)report->fired,
           well ? "well" : report->violation);
    if (report->crash_depth > 0) {
        printf("    it ended in\n");
        sites_print_stack(report->crash, report->crash_depth);
    }
    for (uint32_t i = 0, told_sites = 0; i < FAILURE_SITES && told_sites < 3; i++) {
        if (!sites->sites[i].failed)
            continue;
        printf("    an allocation failed in\n");
        sites_print_stack(sites->sites[i].stack, sites->sites[i].depth);
        told_sites++;
    }
    return well ? 0 : 1;
}

/* --- The command line ------------------------------------------------------------------------- */

static void parse(int argc, char **argv)
{
    static const struct option known[] = {{"story", required_argument, NULL, 's'},
                                          {"class", required_argument, NULL, 'c'},
                                          {"stride", required_argument, NULL, 'k'},
                                          {"jobs", required_argument, NULL, 'j'},
                                          {"at", required_argument, NULL, 'a'},
                                          {"json", required_argument, NULL, 'o'},
                                          {"for-ever", no_argument, NULL, 'e'},
                                          {"list", no_argument, NULL, 'l'},
                                          {NULL, 0, NULL, 0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 's')
            options.story = optarg;
        else if (c == 'c')
            options.class = optarg;
        else if (c == 'k')
            options.stride = strtoull(optarg, NULL, 10);
        else if (c == 'j')
            options.jobs = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'a')
            options.at = strtoull(optarg, NULL, 10);
        else if (c == 'o')
            options.json = optarg;
        else if (c == 'e')
            options.for_ever = true;
        else if (c == 'l')
            options.list = true;
        else
            exit(2);
    }
    if (options.stride == 0 || options.jobs == 0 || options.jobs > JOBS_MAX || optind < argc) {
        fprintf(stderr, "kho-failures: see the head of tests/failure/main.c\n");
        exit(2);
    }
}

static bool wanted(const char *name, const char *only)
{
    return only == NULL || strcmp(name, only) == 0;
}

int main(int argc, char **argv)
{
    struct failure_class classes[CLASSES_MAX];
    const struct told *told;
    uint32_t class_count = classes_all(classes), story_count = stories_all(&told);
    bool well = true;
    parse(argc, argv);
    setvbuf(stdout, NULL, _IOLBF, 0);
    sites = shared(sizeof *sites);
    for (int i = 0; i < JOBS_MAX; i++)
        slots[i].report = shared(sizeof *slots[i].report);
    for (uint32_t s = 0; s < story_count; s++) {
        if (!wanted(told[s].name, options.story))
            continue;
        if (options.list)
            printf("story %s\n", told[s].name);
        else if (options.at == 0)
            well &= baseline(&told[s]);
        for (uint32_t c = 0; c < class_count && well; c++) {
            if (!wanted(classes[c].name, options.class) ||
                (told[s].points >> classes[c].point & 1) == 0)
                continue;
            if (options.list) {
                printf("  class %s\n", classes[c].name);
                continue;
            }
            if (options.at != 0)
                return replay(&told[s], &classes[c]);
            loop(&told[s], &classes[c], false);
            loop(&told[s], &classes[c], true);
            report_row(told[s].name, classes[c].name);
        }
    }
    if (options.list)
        return 0;
    return well && report_end(sites, options.json) ? 0 : 1;
}
