/* main.c: cuts the power at every moment of the stories, and looks at what each cut could leave.
 *
 *   kho-crash-states                  all stories, 1,020,000 distinct states
 *   kho-crash-states --story NAME     one of them
 *   kho-crash-states --states N       so many distinct states a story
 *   kho-crash-states --seed S         other lives
 *   kho-crash-states --lies           the disk lies now and then: each story must find violations
 *   kho-crash-states --replay ID      one state, with what the store says of it
 *   kho-crash-states --json FILE      the table as rows
 *
 * Exit 0: no violation, and each story reached its number of states; with --lies: violations
 * in each story, which shows that they can be found. */
#include "stories.h"

#include <getopt.h>
#include <malloc.h>
#include <stdio.h>
#include <time.h>

static struct {
    const char *story, *json;
    uint64_t states, seed;
    bool replay, lies;
    struct hunt_id only;
} options = {.states = 170000, .seed = 1};

static void usage(void)
{
    fprintf(stderr,
            "usage: kho-crash-states [--story NAME] [--states N] [--seed S] [--lies] [--replay "
            "ROUND:MOMENT:GRAIN:CHOICE] [--json FILE]\n");
    exit(2);
}

static void replay_parse(const char *text)
{
    unsigned long long round, moment, choice;
    unsigned grain;
    if (sscanf(text, "%llu:%llu:%u:%llu", &round, &moment, &grain, &choice) != 4)
        usage();
    options.replay = true;
    options.only =
        (struct hunt_id){.round = round, .moment = moment, .grain = grain, .choice = choice};
}

static void arguments(int argc, char **argv)
{
    static const struct option known[] = {{"story", required_argument, NULL, 's'},
                                          {"states", required_argument, NULL, 'n'},
                                          {"seed", required_argument, NULL, 'S'},
                                          {"replay", required_argument, NULL, 'r'},
                                          {"json", required_argument, NULL, 'j'},
                                          {"lies", no_argument, NULL, 'l'},
                                          {0}};
    int c;
    while ((c = getopt_long(argc, argv, "", known, NULL)) != -1) {
        switch (c) {
        case 's':
            options.story = optarg;
            break;
        case 'n':
            options.states = strtoull(optarg, NULL, 10);
            break;
        case 'S':
            options.seed = strtoull(optarg, NULL, 10);
            break;
        case 'r':
            replay_parse(optarg);
            break;
        case 'l':
            options.lies = true;
            break;
        case 'j':
            options.json = optarg;
            break;
        default:
            usage();
        }
    }
    if (optind < argc || options.states == 0 || (options.replay && options.story == NULL))
        usage();
}

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void row(FILE *json, const char *story, const char *name, uint64_t value)
{
    if (json != NULL)
        fprintf(json, "{\"name\": \"crash.%s.%s\", \"value\": %llu}\n", story, name,
                (unsigned long long)value);
}

static bool run(const struct story *story, FILE *json, struct hunt *sum)
{
    struct hunt *hunt = calloc(1, sizeof *hunt);
    KHO_ASSERT(hunt != NULL);
    hunt->story = story->name;
    hunt->seed = options.seed;
    hunt->wanted = options.states;
    hunt->lies = options.lies;
    hunt->replay = options.replay;
    hunt->only = options.only;
    double from = seconds();
    hunt_run(hunt, story->tell);
    bool few =
        options.replay ? hunt->tries == 0 : hunt->distinct < options.states || hunt->kills == 0;
    printf("%-10s %8llu %9llu %9llu %9llu %8llu %8llu %8llu %8llu %5llu %7.1f%s\n", story->name,
           (unsigned long long)hunt->moments, (unsigned long long)hunt->tries,
           (unsigned long long)hunt->distinct, (unsigned long long)hunt->recoveries,
           (unsigned long long)hunt->twice, (unsigned long long)hunt->second_lives,
           (unsigned long long)hunt->kills, (unsigned long long)hunt->suspects,
           (unsigned long long)hunt->violations, seconds() - from, few ? "  too few states" : "");
    fflush(stdout);
    row(json, story->name, "moments", hunt->moments);
    row(json, story->name, "tries", hunt->tries);
    row(json, story->name, "states", hunt->distinct);
    row(json, story->name, "violations", hunt->violations);
    sum->tries += hunt->tries;
    sum->distinct += hunt->distinct;
    sum->violations += hunt->violations;
    bool good = options.lies ? hunt->violations > 0 : !few && hunt->violations == 0;
    hunt_fini(hunt);
    free(hunt);
    return good;
}

int main(int argc, char **argv)
{
    static struct hunt sum;
    bool good = true, found = false;
    FILE *json = NULL;
    arguments(argc, argv);
    if (options.json != NULL && (json = fopen(options.json, "w")) == NULL) {
        perror(options.json);
        return 2;
    }
    /* A start's buffers are used again by the next one, not given back to the system each time. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    printf("%-10s %8s %9s %9s %9s %8s %8s %8s %8s %5s %7s\n", "story", "moments", "tries",
           "distinct", "recovered", "cut anew", "lived on", "killed", "suspect", "wrong", "CPU s");
    for (uint32_t i = 0; i < STORIES; i++) {
        if (options.story != NULL && strcmp(options.story, stories[i].name) != 0)
            continue;
        found = true;
        good = run(&stories[i], json, &sum) && good;
    }
    if (!found)
        usage();
    printf("%llu states tried, %llu distinct, %llu violations\n", (unsigned long long)sum.tries,
           (unsigned long long)sum.distinct, (unsigned long long)sum.violations);
    row(json, "all", "states", sum.distinct);
    row(json, "all", "violations", sum.violations);
    if (json != NULL && fclose(json) != 0)
        good = false;
    return good ? 0 : 1;
}
