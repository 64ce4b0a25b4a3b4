/* engine_append.c: rows 'append': what the engine takes durably, beside what disk and core could
 * do.
 *
 * Each row has a data folder and a floor's file of its own; every round writes for so long into
 * both, one after the other. The floor writes as much at once as the engine's mean commit of that
 * round, with as many in flight as the engine may have commits. */
#include "clock.h"
#include "engine.h"
#include "engine_intake.h"
#include "floor.h"
#include "floor_pack.h"

enum { MIB = 1 << 20, CITIZENS_MIN = 5000, CITIZENS_MAX = 2000000, FLOOR_MIN = 64 * MIB };
static const uint64_t NODE_MEMORY = (uint64_t)1 << 30;
static const uint64_t ROUND_BYTES = (uint64_t)1 << 30; /* of values, at most */

struct place {
    struct engine *engine;
    char node_path[ENGINE_PATH_MAX], floor_path[ENGINE_PATH_MAX];
    uint64_t new_files; /* made */
    uint64_t floor_bytes;
    struct node node;
    struct floor *floor;
};

static double share_of_second(const struct engine *engine)
{
    return engine->options->seconds < 1 ? engine->options->seconds : 1;
}

static int place_open(struct place *place, struct engine *engine)
{
    uint64_t bytes = (uint64_t)(share_of_second(engine) * 1024) * MIB;
    place->engine = engine;
    place->floor = NULL;
    place->floor_bytes = kho_max(bytes, FLOOR_MIN);
    place->new_files = 0;
    engine_path(engine, "node", place->node_path);
    engine_path(engine, "floor", place->floor_path);
    if (floor_make(place->floor_path, place->floor_bytes, &place->floor) != 0)
        return -1;
    if (node_init(place->node_path, 256) != 0 ||
        node_open(&place->node, place->node_path, NODE_MEMORY, NULL) != 0) {
        floor_close(place->floor);
        return -1;
    }
    return 0;
}

/* The files of all rounds stay to the end, as the log's do: what was unlinked a moment ago isn't
 * new to the disk. */
static void new_file_path(const struct place *place, uint64_t number, char *to)
{
    char name[32];
    snprintf(name, sizeof name, "new-%llu", (unsigned long long)number);
    engine_path(place->engine, name, to);
}

static int place_close(struct place *place)
{
    char path[ENGINE_PATH_MAX];
    int error = node_close(&place->node);
    floor_close(place->floor);
    engine_remove(place->node_path);
    engine_remove(place->floor_path);
    while (place->new_files > 0) {
        new_file_path(place, --place->new_files, path);
        engine_remove(path);
    }
    return error;
}

static double records_a_commit(const struct intake_figures *intake)
{
    return (double)intake->records / (double)kho_max(intake->commits, 1);
}

/* The floor of a round in which `in_flight` records were: synced writes like the engine's commits,
 * as many of them. `once`: to where nothing was written before. */
static int commits_floor(const struct place *place, struct floor *at,
                         const struct intake_figures *intake, uint32_t in_flight, bool once,
                         struct floor_figures *ret_floor)
{
    uint64_t mean = intake->commit_bytes / kho_max(intake->commits, 1);
    uint64_t depth = (uint64_t)((double)in_flight / records_a_commit(intake) + 0.5);
    struct floor_plan plan = {
        .write = true,
        .once = once,
        .bytes = (uint32_t)kho_round_up(mean, FLOOR_ALIGNMENT),
        .depth = (uint32_t)kho_min(kho_max(depth, 1), place->node.options.commits_max),
        .seed = 2,
        .seconds = place->engine->options->seconds};
    return floor_run(at, &plan, ret_floor);
}

/* --- Values that don't compress --------------------------------------------------------------- */

/* The rows of one size of values: over writes to where was written before, and to new files.
 * `again`: each round writes the keys of the one before, so that the log's files are used again. */
struct values {
    bool again;
    struct engine_row old_files, new_files;
};

static double floor_rate(const struct intake_figures *intake, const struct floor_figures *floor)
{
    uint64_t mean =
        kho_round_up(intake->commit_bytes / kho_max(intake->commits, 1), FLOOR_ALIGNMENT);
    return (double)(floor->requests * mean) / floor->seconds / 1e6;
}

static int new_files_round(struct place *place, const struct intake_figures *intake, uint32_t depth,
                           struct values *values)
{
    struct floor *floor;
    struct floor_figures figures;
    char path[ENGINE_PATH_MAX];
    new_file_path(place, place->new_files++, path);
    if (floor_make_new(path, place->floor_bytes, &floor) != 0)
        return -1;
    int error = commits_floor(place, floor, intake, depth, true, &figures);
    floor_close(floor);
    if (error == 0)
        row_add_floored(&values->new_files, (double)intake->value_bytes / intake->seconds / 1e6,
                        floor_rate(intake, &figures));
    return error;
}

static int values_round(struct place *place, struct herd *herd, struct values *values)
{
    struct intake_figures intake;
    struct floor_figures floor;
    struct engine_row *row = &values->old_files;
    size_t next = 0;
    double seconds = place->engine->options->seconds;
    uint32_t depth = (uint32_t)kho_min(INTAKE_DEPTH_MAX, kho_max(8 * MIB / herd->value_bytes, 8));
    if (values->again)
        herd->next = 0;
    herd_fill(herd, herd->room, clock_wall_ms());
    if (intake_run(&place->node, herd, &next, depth, seconds, &intake) != 0 ||
        commits_floor(place, place->floor, &intake, depth, false, &floor) != 0)
        return -1;
    row_add_floored(row, (double)intake.value_bytes / intake.seconds / 1e6,
                    floor_rate(&intake, &floor));
    int len = snprintf(row->note, sizeof row->note, "commits of %llu KiB, CPU %.0f %%",
                       (unsigned long long)(intake.commit_bytes / kho_max(intake.commits, 1)) >> 10,
                       intake.cpu_seconds / intake.seconds * 100);
    if (!values->again)
        return new_files_round(place, &intake, depth, values);
    snprintf(row->note + len, sizeof row->note - (size_t)len, ", %llu of %llu files used again",
             (unsigned long long)node_stat(&place->node, STAT_recycled_segments),
             (unsigned long long)node_stat(&place->node, STAT_compacted_segments));
    return 0;
}

static int values_run(struct engine *engine, struct place *place, struct herd *herd,
                      struct values *values)
{
    int error = 0;
    if (values->again) { /* what the first round overwrites */
        struct values unseen = *values;
        error = values_round(place, herd, &unseen);
    }
    for (uint64_t i = 0; error == 0 && i < engine->options->rounds; i++) {
        engine_progress(engine, "%s: round %llu", values->old_files.name,
                        (unsigned long long)i + 1);
        error = values_round(place, herd, values);
    }
    return error;
}

/* `new_name`: NULL where the keys are written again. */
static int values_rows(struct engine *engine, const char *name, const char *new_name,
                       uint32_t value_bytes)
{
    bool again = new_name == NULL;
    static struct place place;
    struct values values = {
        .again = again, .old_files = {.unit = "MB/s"}, .new_files = {.unit = "MB/s"}};
    struct herd herd;
    size_t room = (size_t)((double)ROUND_BYTES / value_bytes * share_of_second(engine));
    snprintf(values.old_files.name, sizeof values.old_files.name, "%s", name);
    snprintf(values.new_files.name, sizeof values.new_files.name, "%s", again ? "" : new_name);
    if (!engine_options_want(engine->options, values.old_files.name) &&
        (again || !engine_options_want(engine->options, values.new_files.name)))
        return 0;
    if (herd_init_random(&herd, 1, value_bytes, 64 * MIB / value_bytes, kho_max(room, 16)) != 0) {
        fprintf(stderr, "kho-bench: %s: no memory for its values\n", name);
        return -1;
    }
    int error = place_open(&place, engine);
    if (error == 0) {
        error = values_run(engine, &place, &herd, &values);
        if (place_close(&place) != 0)
            error = -1;
    }
    herd_fini(&herd);
    if (error != 0)
        return error;
    engine_row_done(engine, &values.old_files);
    if (!again)
        engine_row_done(engine, &values.new_files);
    return 0;
}

static int values_all(struct engine *engine)
{
    static const struct {
        const char *name, *new_name;
        uint32_t bytes;
    } rows[] = {{"append.1m", "append.new.1m", MIB},
                {"append.64k", "append.new.64k", 64 << 10},
                {"append.16k", "append.new.16k", 16 << 10},
                {"append.1k", "append.new.1k", 1 << 10},
                {"overwrite.1m", NULL, MIB},
                {"overwrite.64k", NULL, 64 << 10}};
    int error = 0;
    for (size_t i = 0; error == 0 && i < KHO_COUNT_OF(rows); i++)
        error = values_rows(engine, rows[i].name, rows[i].new_name, rows[i].bytes);
    return error;
}

/* --- Citizens --------------------------------------------------------------------------------- */

/* The rows of one depth; those that it doesn't have are not wanted. */
struct citizens {
    uint32_t depth;
    struct engine_row rate, core;
};

static int one_round(struct place *place, const struct intake_figures *intake, struct citizens *c)
{
    struct floor_figures floor;
    struct floor_plan plan = {.write = true,
                              .bytes = FLOOR_ALIGNMENT,
                              .depth = 1,
                              .seed = 3,
                              .seconds = place->engine->options->seconds};
    if (floor_run(place->floor, &plan, &floor) != 0)
        return -1;
    row_add_floored(&c->rate, (double)intake->p50_ns / 1e3, (double)floor.p50_ns / 1e3);
    return 0;
}

static int some_round(struct place *place, const struct intake_figures *intake, struct citizens *c)
{
    struct floor_figures floor;
    if (commits_floor(place, place->floor, intake, c->depth, false, &floor) != 0)
        return -1;
    double each = records_a_commit(intake);
    row_add_floored(&c->rate, (double)intake->records / intake->seconds,
                    (double)floor.requests / floor.seconds * each);
    snprintf(c->rate.note, sizeof c->rate.note, "%.1f records a commit, p50 %.0f µs, CPU %.0f %%",
             each, (double)intake->p50_ns / 1e3, intake->cpu_seconds / intake->seconds * 100);
    return 0;
}

static int many_round(const struct herd *herd, const struct intake_figures *intake,
                      struct citizens *c)
{
    struct pack_figures pack;
    if (!floor_pack(herd, &pack)) {
        fprintf(stderr, "kho-bench: a record isn't as it was made\n");
        return -1;
    }
    double floor = (double)herd->count / pack.seconds;
    row_add_floored(&c->rate, (double)intake->records / intake->seconds, floor);
    row_add_floored(&c->core, (double)intake->records / intake->cpu_seconds, floor);
    snprintf(c->rate.note, sizeof c->rate.note, "commits of %.0f KiB, p50 %.0f µs, CPU %.0f %%",
             (double)intake->commit_bytes / 1024 / (double)kho_max(intake->commits, 1),
             (double)intake->p50_ns / 1e3, intake->cpu_seconds / intake->seconds * 100);
    return 0;
}

static int citizens_round(struct place *place, struct herd *herd, struct citizens *c)
{
    struct intake_figures intake;
    size_t next = 0;
    herd_fill(herd, herd->room, clock_wall_ms());
    if (intake_run(&place->node, herd, &next, c->depth, place->engine->options->seconds, &intake) !=
        0)
        return -1;
    return c->depth == 1    ? one_round(place, &intake, c)
           : c->depth == 64 ? some_round(place, &intake, c)
                            : many_round(herd, &intake, c);
}

static int citizens_rows(struct engine *engine, struct citizens *c)
{
    static struct place place;
    struct herd herd;
    /* More than any disk or core takes; where one does, the round ends with its records. */
    double pace = c->depth == 1 ? 5e4 : 1e6;
    uint64_t room = kho_max((uint64_t)(pace * engine->options->seconds), CITIZENS_MIN);
    if (!engine_options_want(engine->options, c->rate.name) &&
        (c->core.name[0] == '\0' || !engine_options_want(engine->options, c->core.name)))
        return 0;
    if (herd_init_citizens(&herd, 1, kho_min(room, CITIZENS_MAX)) != 0) {
        fprintf(stderr, "kho-bench: %s: no memory for its records\n", c->rate.name);
        return -1;
    }
    int error = place_open(&place, engine);
    if (error == 0) {
        for (uint64_t i = 0; error == 0 && i < engine->options->rounds; i++) {
            engine_progress(engine, "%s: round %llu", c->rate.name, (unsigned long long)i + 1);
            error = citizens_round(&place, &herd, c);
        }
        if (place_close(&place) != 0)
            error = -1;
    }
    herd_fini(&herd);
    if (error != 0)
        return error;
    engine_row_done(engine, &c->rate);
    if (c->core.rounds > 0)
        engine_row_done(engine, &c->core);
    return 0;
}

int engine_append(struct engine *engine)
{
    struct citizens one = {.depth = 1, .rate = {.name = "append.300.qd1", .unit = "µs p50"}};
    struct citizens some = {.depth = 64, .rate = {.name = "append.300.qd64", .unit = "records/s"}};
    struct citizens many = {.depth = 4096,
                            .rate = {.name = "append.300.qd4096", .unit = "records/s"},
                            .core = {.name = "append.300.core", .unit = "records/s core"}};
    int error = values_all(engine);
    if (error == 0)
        error = citizens_rows(engine, &one);
    if (error == 0)
        error = citizens_rows(engine, &some);
    return error == 0 ? citizens_rows(engine, &many) : error;
}
