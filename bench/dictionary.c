/* dictionary.c: the bench 'dictionary': whether a dictionary a collection would pay.
 *
 * Of each set of records one half is learnt from and the other is packed. All ways of packing run
 * once a round, one after another, so that a moment in which the machine is slower falls upon all;
 * the way without a dictionary is what the others are told beside. A set that can't be had is left
 * out with a sentence; anything else that fails ends the run. */
#include "dictionary.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <kho/base.h>
#include <kho/kho.h>

#include "dictionary_options.h"
#include "engine_rows.h"
#include "trainer.h"
#include "trial.h"

enum { WAYS = 8, SIZES = 3, TRAINED = 4, ACCELERATED = 2 };

enum measure { PACKED, DISK, PACK, UNPACK, MEASURES };

static const struct {
    const char *name, *unit;
} measures[MEASURES] = {
    {"packed", "bytes/record"}, {"disk", "bytes/record"}, {"pack", "MB/s"}, {"unpack", "MB/s"}};

static const uint32_t sizes[SIZES] = {16 << 10, 8 << 10, 4 << 10};

struct dictionary {
    uint8_t bytes[TRIAL_DICTIONARY_MAX];
    size_t len;
};

struct way {
    const char *name;
    const struct dictionary *dictionary; /* NULL: none */
    int acceleration;
    bool headless;
};

struct set {
    const struct dictionary_options *options;
    const char *name;
    struct entries learnt, tested, headless;
    struct dictionary plain, trained[TRAINED];
    struct way ways[WAYS]; /* the first without a dictionary */
    size_t way_count;
    struct engine_row rows[SIZES][WAYS][MEASURES];
};

static int failed(const char *what, int error)
{
    fprintf(stderr, "kho-bench: %s: %s\n", what, kho_strerror(error));
    return -1;
}

/* --- Records ---------------------------------------------------------------------------------- */

/* Its child's standard output; -1: the program isn't there. */
static int apt_cache_start(pid_t *ret_pid)
{
    static char *const words[] = {(char *)"apt-cache", (char *)"dumpavail", NULL};
    posix_spawn_file_actions_t actions;
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    int error = posix_spawnp(ret_pid, words[0], &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error == 0)
        return ends[0];
    close(ends[0]);
    return -1;
}

static int known_packages_load(struct entries *ret_all)
{
    pid_t pid;
    int end = apt_cache_start(&pid);
    if (end < 0)
        return 0;
    FILE *file = fdopen(end, "r");
    int error = file != NULL ? entries_of_packages(file, ret_all) : -errno;
    if (file != NULL)
        (void)fclose(file);
    else
        close(end);
    waitpid(pid, NULL, 0);
    return error;
}

/* Leaves `ret_all` empty where this machine knows no packages. */
static int packages_load(const char *path, struct entries *ret_all)
{
    if (path == NULL)
        return known_packages_load(ret_all);
    FILE *file = fopen(path, "re");
    int error = file != NULL ? entries_of_packages(file, ret_all) : -errno;
    if (file != NULL)
        (void)fclose(file);
    return error;
}

/* 1: done; 0: there are none, said on stderr; -1: it failed. */
static int set_load(struct set *set)
{
    const struct dictionary_options *o = set->options;
    struct entries all = {0}, ordered = {0};
    int error;
    if (strcmp(set->name, "citizens") == 0)
        error = entries_of_citizens(o->records, &all);
    else if (strcmp(set->name, "eids") == 0)
        error = entries_of_eids(o->records, &all);
    else
        error = packages_load(o->file, &all);
    if (error == 0)
        error = entries_sorted(&all, o->order, &ordered);
    if (error == 0)
        error = entries_split(&ordered, &set->learnt, &set->tested);
    if (error == 0)
        error = entries_without_heads(&set->tested, &set->headless);
    entries_fini(&all);
    entries_fini(&ordered);
    if (error != 0)
        return failed(o->file != NULL && strcmp(set->name, "packages") == 0 ? o->file : set->name,
                      error);
    if (set->tested.count > 0)
        return 1;
    fprintf(stderr,
            "kho-bench: there are no %s here: they are left out; name a file with "
            "--packages\n",
            set->name);
    return 0;
}

/* --- Ways of packing -------------------------------------------------------------------------- */

static void way_add(struct set *set, const char *name, const struct dictionary *dictionary,
                    int acceleration)
{
    set->ways[set->way_count++] =
        (struct way){.name = name, .dictionary = dictionary, .acceleration = acceleration};
}

static int trained_add(struct set *set)
{
    static const struct {
        const char *name;
        size_t room;
    } trained[TRAINED] = {{"trained4k", 4 << 10},
                          {"trained16k", 16 << 10},
                          {"trained32k", 32 << 10},
                          {"trained64k", 64 << 10}};
    const char *why;
    for (size_t i = 0; i < TRAINED; i++) {
        struct dictionary *dictionary = &set->trained[i];
        dictionary->len = trainer_run(&set->learnt, dictionary->bytes, trained[i].room, &why);
        if (dictionary->len == 0) {
            fprintf(stderr, "kho-bench: %s: %s: %s\n", set->name, trained[i].name, why);
            return -1;
        }
        way_add(set, trained[i].name, dictionary, 1);
    }
    way_add(set, "quick64k", &set->trained[TRAINED - 1], ACCELERATED);
    return 0;
}

static int ways_make(struct set *set)
{
    const struct entries *learnt = &set->learnt;
    set->plain.len = kho_min(learnt->at[learnt->count], sizeof set->plain.bytes);
    memcpy(set->plain.bytes, learnt->bytes, set->plain.len);
    way_add(set, "none", NULL, 1);
    way_add(set, "headless", NULL, 1);
    set->ways[1].headless = true;
    way_add(set, "plain64k", &set->plain, 1);
    return trainer_present() ? trained_add(set) : 0;
}

/* --- Rounds ----------------------------------------------------------------------------------- */

static int way_run(struct set *set, size_t size, size_t which, double *ret_values)
{
    const struct way *way = &set->ways[which];
    const struct trial trial = {
        .dictionary = way->dictionary != NULL ? way->dictionary->bytes : NULL,
        .dictionary_len = way->dictionary != NULL ? way->dictionary->len : 0,
        .block_bytes = sizes[size],
        .acceleration = way->acceleration,
    };
    struct trial_figures f;
    double records = (double)set->tested.count;
    int error = trial_run(&trial, way->headless ? &set->headless : &set->tested, &f);
    if (error != 0)
        return failed(way->name, error);
    ret_values[PACKED] = (double)f.packed_bytes / records;
    ret_values[DISK] = (double)f.disk_bytes / records;
    ret_values[PACK] = (double)f.raw_bytes / 1e6 / f.pack_seconds;
    ret_values[UNPACK] = (double)f.raw_bytes / 1e6 / f.unpack_seconds;
    return 0;
}

static int round_run(struct set *set)
{
    double none[MEASURES], values[MEASURES];
    for (size_t size = 0; size < SIZES; size++) {
        if (way_run(set, size, 0, none) != 0)
            return -1;
        for (size_t m = 0; m < MEASURES; m++)
            row_add(&set->rows[size][0][m], none[m]);
        for (size_t which = 1; which < set->way_count; which++) {
            if (way_run(set, size, which, values) != 0)
                return -1;
            for (size_t m = 0; m < MEASURES; m++)
                row_add_floored(&set->rows[size][which][m], values[m], none[m]);
        }
    }
    return 0;
}

/* --- What it says ----------------------------------------------------------------------------- */

/* The value; of a way beside the first, how much more or less it is. */
static void cell_print(const struct engine_row *row)
{
    char value[32], change[16] = "";
    if (row_value(row) >= 1000)
        report_thousands(value, row_value(row));
    else
        snprintf(value, sizeof value, "%.1f", row_value(row));
    if (row->floored > 0)
        snprintf(change, sizeof change, "%+.1f %%", (row_ratio(row) - 1) * 100);
    printf(" %8s %8s", value, change);
}

static void set_print(const struct set *set)
{
    const struct entries *e = &set->tested;
    char count[32];
    printf("%s: %s records of %.1f bytes, heads included, in the order: %s\n", set->name,
           report_thousands(count, (double)e->count), (double)e->at[e->count] / (double)e->count,
           dictionary_order_name(set->options->order));
    printf("%-5s %-12s %-17s %-17s %-17s %-17s\n", "block", "packed with", " packed, B/record",
           "  on disk", "    pack, MB/s", "  unpack, MB/s");
    for (size_t size = 0; size < SIZES; size++)
        for (size_t which = 0; which < set->way_count; which++) {
            printf("%3uk  %-12s", sizes[size] >> 10, set->ways[which].name);
            for (size_t m = 0; m < MEASURES; m++)
                cell_print(&set->rows[size][which][m]);
            putchar('\n');
        }
    putchar('\n');
    fflush(stdout);
}

static void set_report(struct set *set, struct report *report)
{
    for (size_t size = 0; size < SIZES; size++)
        for (size_t which = 0; which < set->way_count; which++)
            for (size_t m = 0; m < MEASURES; m++) {
                struct engine_row *row = &set->rows[size][which][m];
                snprintf(row->name, sizeof row->name, "%s.%uk.%s.%s", set->name, sizes[size] >> 10,
                         set->ways[which].name, measures[m].name);
                snprintf(row->unit, sizeof row->unit, "%s", measures[m].unit);
                row_report(row, report);
            }
}

/* --- The run ---------------------------------------------------------------------------------- */

static int set_run(const struct dictionary_options *options, const char *name,
                   struct report *report)
{
    struct set *set = calloc(1, sizeof *set);
    if (set == NULL)
        return failed(name, -ENOMEM);
    set->options = options;
    set->name = name;
    int loaded = set_load(set);
    int error = loaded > 0 ? ways_make(set) : loaded;
    for (uint64_t i = 0; loaded > 0 && error == 0 && i < options->rounds; i++)
        error = round_run(set);
    if (loaded > 0 && error == 0) {
        set_print(set);
        set_report(set, report);
    }
    entries_fini(&set->learnt);
    entries_fini(&set->tested);
    entries_fini(&set->headless);
    free(set);
    return error;
}

int dictionary_main(int argc, char **argv)
{
    char why[DICTIONARY_ERROR_MAX];
    struct dictionary_options o;
    struct report report;
    int error = 0;
    if (dictionary_options_read(argc, argv, &o, why) != 0) {
        fprintf(stderr, "kho-bench: %s\n'kho-bench help dictionary' lists the options\n", why);
        return 2;
    }
    if (o.help) {
        fputs(dictionary_help, stdout);
        return 0;
    }
    if (!trainer_present())
        fprintf(stderr, "kho-bench: it was built without libzstd, whose trainer makes the trained "
                        "dictionaries: they are left out; install libzstd-dev and build again\n");
    report_init(&report, "dictionary");
    json_object_set_new(report.root, "order", json_string(dictionary_order_name(o.order)));
    if (o.citizens)
        error = set_run(&o, "citizens", &report);
    if (o.eids && error == 0)
        error = set_run(&o, "eids", &report);
    if (o.packages && error == 0)
        error = set_run(&o, "packages", &report);
    if (o.json != NULL && report_write(&report, error == 0, o.json) != 0)
        error = -1;
    report_fini(&report);
    return error == 0 ? 0 : 1;
}
