/* counts.c: adds up what runs tell; their file; the summary and its rows. */
#include "counts.h"

#include "bench/report.h"

#include <errno.h>
#include <jansson.h>
#include <unistd.h>

void counts_init(struct counts *c, uint64_t from)
{
    *c = (struct counts){.from = from, .next = from};
}

void counts_fini(struct counts *c)
{
    free(c->done);
    free(c->violations);
    *c = (struct counts){0};
}

/* --- Seeds ------------------------------------------------------------------------------------ */

bool counts_has(const struct counts *c, uint64_t seed)
{
    if (seed < c->next)
        return true;
    for (size_t i = 0; i < c->done_count; i++)
        if (c->done[i] == seed)
            return true;
    return false;
}

static void done_add(struct counts *c, uint64_t seed)
{
    if (c->done_count == c->done_room) {
        c->done_room = c->done_room * 2 + 16;
        c->done = realloc(c->done, c->done_room * sizeof *c->done);
        KHO_ASSERT(c->done != NULL);
    }
    c->done[c->done_count++] = seed;
    for (size_t i = 0; i < c->done_count;) {
        if (c->done[i] != c->next) {
            i++;
            continue;
        }
        c->done[i] = c->done[--c->done_count];
        c->next++;
        i = 0;
    }
}

static void violation_add(struct counts *c, uint64_t seed, const char *failure)
{
    if (c->violation_count == c->violation_room) {
        c->violation_room = c->violation_room * 2 + 16;
        c->violations = realloc(c->violations, c->violation_room * sizeof *c->violations);
        KHO_ASSERT(c->violations != NULL);
    }
    struct violation *v = &c->violations[c->violation_count++];
    v->seed = seed;
    snprintf(v->failure, sizeof v->failure, "%s", failure);
}

void counts_add(struct counts *c, const struct run_result *r)
{
    c->seeds++;
    c->beyond += r->beyond;
    c->calls += r->calls;
    c->records_ok += r->records_ok;
    c->records_failed += r->records_failed;
    c->records_doubtful += r->records_doubtful;
    c->records_damaged += r->records_damaged;
    c->gave_up += r->gave_up;
    c->compacted += r->compacted;
    c->recycled += r->recycled;
#define CHECKED_ADD(name, text) c->checked.name += r->checked.name;
    WORKLOAD_CHECKED(CHECKED_ADD)
#undef CHECKED_ADD
    c->steps += r->steps;
    c->rounds += r->rounds;
    c->simulated_s += (double)r->now_ns / 1e9;
    c->cpu_s += (double)r->cpu_ns / 1e9;
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        c->faults[i] += r->faults[i];
    if (r->broke)
        violation_add(c, r->seed, r->failure);
    done_add(c, r->seed);
}

double counts_ratio(const struct counts *c)
{
    return c->cpu_s > 0 ? c->simulated_s / c->cpu_s : 0;
}

unsigned counts_silent(const struct counts *c)
{
    unsigned silent = 0;
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        silent += c->faults[i] == 0;
    return silent;
}

/* --- The file --------------------------------------------------------------------------------- */

/* The numbers of a file, by name: X(name). */
#define COUNTS_NUMBERS(X)                                                                          \
    X(seeds)                                                                                       \
    X(beyond)                                                                                      \
    X(calls)                                                                                       \
    X(records_ok)                                                                                  \
    X(records_failed)                                                                              \
    X(records_doubtful)                                                                            \
    X(records_damaged)                                                                             \
    X(gave_up)                                                                                     \
    X(compacted)                                                                                   \
    X(recycled)                                                                                    \
    X(steps)                                                                                       \
    X(rounds)

/* The program's version and the hash of its bytes. */
static bool program_name(char *ret_name, size_t size)
{
    uint8_t bytes[1 << 16];
    size_t len;
    FILE *file = fopen("/proc/self/exe", "rbe");
    if (file == NULL)
        return false;
    uint64_t hash = 0;
    while ((len = fread(bytes, 1, sizeof bytes, file)) > 0)
        hash = XXH3_64bits_withSeed(bytes, len, hash);
    fclose(file);
    snprintf(ret_name, size, KHO_VERSION "-%016llx", (unsigned long long)hash);
    return true;
}

static uint64_t number_of(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static void counts_from(struct counts *c, const json_t *root)
{
    size_t i;
    json_t *item;
#define COUNTS_LOAD(name) c->name = number_of(root, #name);
    COUNTS_NUMBERS(COUNTS_LOAD)
#undef COUNTS_LOAD
    const json_t *checked = json_object_get(root, "checked");
#define CHECKED_LOAD(name, text) c->checked.name = number_of(checked, #name);
    WORKLOAD_CHECKED(CHECKED_LOAD)
#undef CHECKED_LOAD
    c->next = number_of(root, "next");
    c->simulated_s = json_number_value(json_object_get(root, "simulated_s"));
    c->cpu_s = json_number_value(json_object_get(root, "cpu_s"));
    c->real_s = json_number_value(json_object_get(root, "real_s"));
    json_array_foreach(json_object_get(root, "done"), i, item)
        done_add(c, (uint64_t)json_integer_value(item));
    json_array_foreach(json_object_get(root, "violations"), i, item)
    {
        const char *failure = json_string_value(json_object_get(item, "failure"));
        violation_add(c, number_of(item, "seed"), failure != NULL ? failure : "");
    }
    for (int f = 0; f < SIM_FAULT_COUNT; f++)
        c->faults[f] =
            number_of(json_object_get(root, "faults"), sim_fault_name((enum sim_fault)f));
}

int counts_load(struct counts *c, const char *path)
{
    char program[64];
    json_error_t error;
    int result = -1;
    if (access(path, F_OK) != 0)
        return 0;
    json_t *root = json_load_file(path, 0, &error);
    if (root == NULL || !program_name(program, sizeof program)) {
        fprintf(stderr, "kho-sim: can't read %s: %s\n", path, root == NULL ? error.text : "/proc");
        goto out;
    }
    const char *of = json_string_value(json_object_get(root, "program"));
    if (of == NULL || strcmp(of, program) != 0) {
        fprintf(stderr, "kho-sim: %s is of another program: the range begins anew\n", path);
        result = 0;
    } else if (number_of(root, "from") != c->from) {
        fprintf(stderr, "kho-sim: %s is of the seeds from %llu\n", path,
                (unsigned long long)number_of(root, "from"));
    } else {
        counts_from(c, root);
        result = 1;
    }
out:
    json_decref(root);
    return result;
}

static json_t *violations_json(const struct counts *c)
{
    json_t *list = json_array();
    for (size_t i = 0; i < c->violation_count; i++)
        json_array_append_new(list,
                              json_pack("{s:I, s:s}", "seed", (json_int_t)c->violations[i].seed,
                                        "failure", c->violations[i].failure));
    return list;
}

int counts_save(const struct counts *c, const char *path)
{
    char program[64], fresh[4096];
    int len = snprintf(fresh, sizeof fresh, "%s.new", path);
    if (!program_name(program, sizeof program) || len < 0 || (size_t)len >= sizeof fresh)
        return -1;
    json_t *done = json_array(), *faults = json_object();
    for (size_t i = 0; i < c->done_count; i++)
        json_array_append_new(done, json_integer((json_int_t)c->done[i]));
    for (int i = 0; i < SIM_FAULT_COUNT; i++)
        json_object_set_new(faults, sim_fault_name((enum sim_fault)i),
                            json_integer((json_int_t)c->faults[i]));
    json_t *root = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o, s:f, s:f, s:f}", "program", program,
                             "from", (json_int_t)c->from, "next", (json_int_t)c->next, "done", done,
                             "faults", faults, "violations", violations_json(c), "simulated_s",
                             c->simulated_s, "cpu_s", c->cpu_s, "real_s", c->real_s);
#define COUNTS_SAVE(name) json_object_set_new(root, #name, json_integer((json_int_t)c->name));
    COUNTS_NUMBERS(COUNTS_SAVE)
#undef COUNTS_SAVE
    json_t *checked = json_object();
#define CHECKED_SAVE(name, text)                                                                   \
    json_object_set_new(checked, #name, json_integer((json_int_t)c->checked.name));
    WORKLOAD_CHECKED(CHECKED_SAVE)
#undef CHECKED_SAVE
    json_object_set_new(root, "checked", checked);
    /* A whole file at any moment: the old one or the new one. */
    int rc = json_dump_file(root, fresh, JSON_INDENT(1)) == 0 ? rename(fresh, path) : -1;
    if (rc != 0)
        fprintf(stderr, "kho-sim: can't write %s: %s\n", path, strerror(errno));
    json_decref(root);
    return rc;
}

/* --- The summary ------------------------------------------------------------------------------ */

static const double month_s = 30 * 86400.0;

static void print_count(FILE *to, const char *name, uint64_t value)
{
    char text[32];
    fprintf(to, "%-26s %16s\n", name, report_thousands(text, (double)value));
}

void counts_print(const struct counts *c, FILE *to)
{
    char text[32];
    print_count(to, "seeds", c->seeds);
    print_count(to, "violations", c->violation_count);
    fprintf(to, "%-26s %16.1f hours, %.3f cluster-months\n", "simulated", c->simulated_s / 3600,
            c->simulated_s / month_s);
    fprintf(to, "%-26s %16s a core\n", "simulated over real time",
            report_thousands(text, counts_ratio(c)));
    print_count(to, "rounds", c->rounds);
    print_count(to, "seeds beyond", c->beyond);
    print_count(to, "calls", c->calls);
    print_count(to, "records checked", c->records_ok + c->records_failed + c->records_doubtful);
    print_count(to, "  ok", c->records_ok);
    print_count(to, "  failed", c->records_failed);
    print_count(to, "    for damage", c->records_damaged);
    print_count(to, "  in doubt", c->records_doubtful);
    print_count(to, "searches that gave up", c->gave_up);
#define CHECKED_PRINT(name, text) print_count(to, text, c->checked.name);
    WORKLOAD_CHECKED(CHECKED_PRINT)
#undef CHECKED_PRINT
    print_count(to, "segments compacted", c->compacted);
    print_count(to, "segments used again", c->recycled);
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        char name[64];
        snprintf(name, sizeof name, "fault %s", sim_fault_name((enum sim_fault)i));
        print_count(to, name, c->faults[i]);
    }
}

int counts_report(const struct counts *c, const char *path)
{
    struct report report;
    report_init(&report, "kho-sim");
    report_row(&report, "violations", (double)c->violation_count, "seeds");
    report_row(&report, "seeds", (double)c->seeds, "seeds");
    report_row(&report, "seeds.beyond", (double)c->beyond, "seeds");
    report_row(&report, "rounds", (double)c->rounds, "rounds");
    report_row(&report, "time.ratio", counts_ratio(c), "simulated s/s of a core");
    report_row(&report, "time.hours", c->simulated_s / 3600, "hours");
    report_row(&report, "time.months", c->simulated_s / month_s, "months of 30 days");
    report_row(&report, "time.real", c->real_s, "s");
    report_row(&report, "time.cores", c->cpu_s, "s");
    report_row(&report, "calls", (double)c->calls, "calls");
    report_row(&report, "records.ok", (double)c->records_ok, "records");
    report_row(&report, "records.failed", (double)c->records_failed, "records");
    report_row(&report, "records.damaged", (double)c->records_damaged, "records");
    report_row(&report, "records.doubtful", (double)c->records_doubtful, "records");
    report_row(&report, "searches.gave_up", (double)c->gave_up, "searches");
#define CHECKED_REPORT(name, text)                                                                 \
    report_row(&report, "checked." #name, (double)c->checked.name, "times");
    WORKLOAD_CHECKED(CHECKED_REPORT)
#undef CHECKED_REPORT
    report_row(&report, "segments.compacted", (double)c->compacted, "segments");
    report_row(&report, "segments.recycled", (double)c->recycled, "segments");
    for (int i = 0; i < SIM_FAULT_COUNT; i++) {
        char name[64];
        snprintf(name, sizeof name, "fault.%s", sim_fault_name((enum sim_fault)i));
        report_row(&report, name, (double)c->faults[i], "times");
    }
    json_object_set_new(report.root, "violations", violations_json(c));
    int rc = report_write(&report, c->violation_count == 0, path);
    report_fini(&report);
    return rc;
}
