/* main.c: kho-planted: does the simulator find the bugs that were planted?
 *
 *   kho-planted [--bug NAME] [--seeds N] [--from SEED] [--jobs N]   seeds 1 to N for each bug
 *   kho-planted --known        first the seed that is known to find it (seeds.h), then 1 to N
 *   kho-planted --markdown     prints the table of tests/README.md
 *   kho-planted --table        prints seeds.h
 *   kho-planted --json FILE    writes what was found
 *
 * The control comes with every run: without a bug the same seeds must find nothing. */
#include "hunt.h"
#include "seeds.h"

#include <kho/planted.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

enum { JOBS_MAX = 64 };

struct options {
    const char *bug, *json;
    uint64_t from, seeds, control;
    unsigned long jobs;
    bool known, markdown, table;
};

static const char *const names[] = {"no bug",
#define BUG_NAME(name, sentence) #name,
                                    KHO_PLANTED_BUGS(BUG_NAME)
#undef BUG_NAME
};
static const char *const sentences[] = {"nothing is wrong",
#define BUG_SENTENCE(name, sentence) sentence,
                                        KHO_PLANTED_BUGS(BUG_SENTENCE)
#undef BUG_SENTENCE
};

static uint64_t known_seed(int bug)
{
    for (size_t i = 0; i < sizeof known_seeds / sizeof known_seeds[0]; i++)
        if (known_seeds[i].bug == bug)
            return known_seeds[i].seed;
    return 0;
}

static void tell(const struct hunt *hunt)
{
    const struct hunt_state *s = hunt->state;
    if (s->found)
        printf("%-27s seed %-5llu tried %-5llu %.100s\n", names[hunt->bug],
               (unsigned long long)s->seed, (unsigned long long)s->tried, s->said);
    else
        printf("%-27s NOT FOUND tried %llu in %.0f s\n", names[hunt->bug],
               (unsigned long long)s->tried, (double)s->cpu_ns / 1e9);
    fflush(stdout);
}

/* Runs all hunts, so many at a time. */
static void hunt_all(struct hunt *hunts, size_t count, size_t jobs)
{
    size_t next = 0, running = 0;
    while (next < count || running > 0) {
        while (next < count && running < jobs) {
            hunt_start(&hunts[next++]);
            running++;
        }
        int status;
        pid_t pid = wait(&status);
        for (size_t i = 0; pid > 0 && i < next; i++) {
            if (hunts[i].child != pid)
                continue;
            hunt_ended(&hunts[i], status);
            running--;
            tell(&hunts[i]);
        }
        if (pid < 0 && errno != EINTR)
            break;
    }
}

static void json_text(FILE *file, const char *text)
{
    fputc('"', file);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fputc('\\', file);
        fputc(*text, file);
    }
    fputc('"', file);
}

static bool json_write(const char *path, const struct hunt *hunts, size_t count)
{
    FILE *file = fopen(path, "w");
    if (file == NULL)
        return false;
    fprintf(file, "[");
    for (size_t i = 0; i < count; i++) {
        const struct hunt_state *s = hunts[i].state;
        fprintf(file, "%s\n  {\"bug\": \"%s\", \"found\": %s, \"seed\": %llu, \"tried\": %llu, ",
                i > 0 ? "," : "", names[hunts[i].bug], s->found ? "true" : "false",
                (unsigned long long)(s->found ? s->seed : 0), (unsigned long long)s->tried);
        fprintf(file, "\"sentence\": ");
        json_text(file, sentences[hunts[i].bug]);
        fprintf(file, ", \"said\": ");
        json_text(file, s->said);
        fprintf(file, "}");
    }
    fprintf(file, "\n]\n");
    return fclose(file) == 0;
}

static void markdown(const struct hunt *hunts, size_t count)
{
    printf("| planted bug | what is wrong | seeds | what the simulator said |\n"
           "| --- | --- | --- | --- |\n");
    for (size_t i = 0; i < count; i++) {
        const struct hunt_state *s = hunts[i].state;
        if (hunts[i].bug == PLANTED_none)
            continue;
        printf("| `%s` | %s | ", names[hunts[i].bug], sentences[hunts[i].bug]);
        if (s->found)
            printf("%llu | %.100s |\n", (unsigned long long)s->tried, s->said);
        else
            printf("not in %llu | |\n", (unsigned long long)s->tried);
    }
}

static void table(const struct hunt *hunts, size_t count)
{
    printf("/* seeds.h: a seed that finds each planted bug, to be tried first. Made by\n"
           " * `kho-planted --table`; what it names wrongly only costs time. */\n"
           "#ifndef KHO_PLANTED_SEEDS_H\n#define KHO_PLANTED_SEEDS_H\n\n"
           "#include <kho/planted.h>\n\n#include <stdint.h>\n\n"
           "static const struct known_seed {\n    int bug;\n    uint64_t seed;\n"
           "} known_seeds[] = {\n");
    for (size_t i = 0; i < count; i++)
        if (hunts[i].bug != PLANTED_none && hunts[i].state->found)
            printf("    {PLANTED_%s, %llu},\n", names[hunts[i].bug],
                   (unsigned long long)hunts[i].state->seed);
    printf("};\n\n#endif\n");
}

static int usage(void)
{
    fprintf(stderr, "usage: kho-planted [--bug NAME] [--from SEED] [--seeds N] [--control N] "
                    "[--known] [--jobs N] [--json FILE] [--markdown] [--table]\n");
    return 2;
}

static bool options_take(int argc, char **argv, struct options *o)
{
    *o = (struct options){.from = 1, .seeds = 1000, .control = 100, .jobs = 2};
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--known") == 0 || strcmp(name, "--markdown") == 0 ||
            strcmp(name, "--table") == 0) {
            o->known |= strcmp(name, "--known") == 0;
            o->markdown |= strcmp(name, "--markdown") == 0;
            o->table |= strcmp(name, "--table") == 0;
            continue;
        }
        if (++i == argc)
            return false;
        uint64_t number = strtoull(argv[i], NULL, 10);
        if (strcmp(name, "--bug") == 0)
            o->bug = argv[i];
        else if (strcmp(name, "--json") == 0)
            o->json = argv[i];
        else if (strcmp(name, "--from") == 0)
            o->from = number;
        else if (strcmp(name, "--seeds") == 0)
            o->seeds = number;
        else if (strcmp(name, "--control") == 0)
            o->control = number;
        else if (strcmp(name, "--jobs") == 0)
            o->jobs = number;
        else
            return false;
    }
    return o->from >= 1 && o->seeds >= 1 && o->jobs >= 1 && o->jobs <= JOBS_MAX;
}

int main(int argc, char **argv)
{
    struct options o;
    struct hunt hunts[PLANTED_COUNT];
    size_t count = 0, found = 0, wrong = 0;
    if (!options_take(argc, argv, &o))
        return usage();
    /* The control first: it takes longest. */
    for (int bug = PLANTED_none; bug < PLANTED_COUNT; bug++) {
        uint64_t seeds = bug == PLANTED_none ? o.control : o.seeds;
        if (bug == PLANTED_none ? seeds == 0 : o.bug != NULL && strcmp(o.bug, names[bug]) != 0)
            continue;
        hunt_init(&hunts[count++], bug, o.known ? known_seed(bug) : 0, o.from, o.from + seeds - 1);
    }
    if (o.bug != NULL && (count == 0 || hunts[count - 1].bug == PLANTED_none)) {
        fprintf(stderr, "kho-planted: no bug is named '%s'\n", o.bug);
        return 2;
    }
    hunt_all(hunts, count, o.jobs);
    uint64_t tried = 0;
    for (size_t i = 0; i < count; i++) {
        found += hunts[i].bug != PLANTED_none && hunts[i].state->found;
        wrong += hunts[i].state->found == (hunts[i].bug == PLANTED_none);
        tried += hunts[i].state->tried;
    }
    if (o.markdown)
        markdown(hunts, count);
    if (o.table)
        table(hunts, count);
    if (o.json != NULL && !json_write(o.json, hunts, count)) {
        fprintf(stderr, "kho-planted: %s: %s\n", o.json, strerror(errno));
        wrong++;
    }
    printf("%zu bugs planted, %zu found, in %llu runs\n",
           count - (count > 0 && hunts[0].bug == PLANTED_none), found, (unsigned long long)tried);
    for (size_t i = 0; i < count; i++)
        hunt_fini(&hunts[i]);
    return wrong > 0;
}
