/* engine_stored.c: rows on what is stored: what it takes on the disk and in memory, how soon it
 * serves after a crash; and it hands the data set to the rows that read it. */
#include "engine_stored.h"

#include <errno.h>

enum { RESTART_NAMED = 10000000, ASKS_MAX = 10000000 };

/* The node's memory: index and buffers, with a cache that is small beside a large data set. */
static uint64_t memory_for(uint64_t records)
{
    return ((uint64_t)384 << 20) + records * 64;
}

static void row_one(struct engine *engine, const char *name, const char *unit, double value)
{
    struct engine_row row = {.rounds = 0};
    snprintf(row.name, sizeof row.name, "%s", name);
    snprintf(row.unit, sizeof row.unit, "%s", unit);
    row_add(&row, value);
    engine_row_done(engine, &row);
}

static void fill_report(struct engine *engine, const struct stored_figures *figures)
{
    struct engine_row disk = {.name = "disk.over_lz4", .unit = "bytes/record"};
    row_add_floored(&disk, figures->block_bytes, figures->lz4_bytes);
    snprintf(disk.note, sizeof disk.note, "written at %.0f records/s", figures->records_second);
    row_one(engine, "memory.per_record", "bytes/record", figures->memory_bytes);
    engine_row_done(engine, &disk);
    row_one(engine, "disk.footers", "bytes/record", figures->footer_bytes);
}

/* --- Restart ---------------------------------------------------------------------------------- */

static int restart_rounds(struct stored *stored)
{
    struct engine *engine = stored->engine;
    struct engine_row row = {.unit = "s"};
    char count[24];
    snprintf(row.name, sizeof row.name, "restart.%s", count_name(stored->records, count));
    if (!engine_options_want(engine->options, row.name))
        return 0;
    if (stored->records < RESTART_NAMED)
        fprintf(stderr, "kho-bench: restart.10m is left out: it takes --records 10000000\n");
    for (uint64_t i = 0; i < engine->options->rounds && !engine_interrupted(); i++) {
        double seconds;
        engine_progress(engine, "%s: round %llu", row.name, (unsigned long long)i + 1);
        if (node_open(&stored->node, stored->path, stored->memory, &seconds) != 0)
            return -1;
        uint64_t found = node_stat(&stored->node, STAT_records);
        node_drop(&stored->node);
        row_add(&row, seconds);
        if (found == stored->records)
            continue;
        fprintf(stderr, "kho-bench: after a crash %llu of %llu records were there\n",
                (unsigned long long)found, (unsigned long long)stored->records);
        return -1;
    }
    if (engine_interrupted())
        return -1;
    engine_row_done(engine, &row);
    return 0;
}

/* --- The data set ----------------------------------------------------------------------------- */

static int asks_make(struct stored *stored)
{
    static struct census census;
    stored->ask_count = kho_min(stored->records, ASKS_MAX);
    stored->asks = malloc(stored->ask_count * STORED_ASK);
    if (stored->asks == NULL || census_init(&census, 1, HERD_SCALE) != 0) {
        fprintf(stderr, "kho-bench: no memory for the keys\n");
        return -1;
    }
    for (uint64_t i = 0; i < stored->ask_count; i++) {
        uint8_t key[HERD_KEY];
        struct record record = {.collection = HERD_COLLECTION, .key_len = HERD_KEY, .key = key};
        struct wire_read_ask ask = {
            .collection = HERD_COLLECTION, .key_len = HERD_KEY, .ask = KHO_READ_RECORD, .key = key};
        citizen_number(&census, i, (char *)key);
        ask.partition = node_place(&record, &ask.hash);
        wire_read_ask_encode(&ask, stored->asks + i * STORED_ASK);
    }
    census_fini(&census);
    return 0;
}

static int reads_run(struct stored *stored)
{
    char folder[ENGINE_PATH_MAX];
    int error = asks_make(stored);
    engine_path(stored->engine, "stored/shard-000", folder);
    if (error == 0)
        error = floor_open(folder, "segment-", &stored->floor);
    if (error == 0)
        error = engine_read(stored);
    if (error == 0)
        error = engine_serve(stored);
    floor_close(stored->floor);
    free(stored->asks);
    return error;
}

int engine_stored(struct engine *engine)
{
    static struct stored stored;
    struct stored_figures figures;
    stored = (struct stored){.engine = engine, .records = engine->options->records};
    bool reads = engine_options_want(engine->options, "read.cold.qd32") ||
                 engine_options_want(engine->options, "read.cached") ||
                 engine_options_want(engine->options, "multiget.neighbours") ||
                 engine_options_want(engine->options, "scan");
    char count[24], restart[48];
    snprintf(restart, sizeof restart, "restart.%s", count_name(stored.records, count));
    if (!reads && !engine_options_want(engine->options, restart) &&
        !engine_options_want(engine->options, "memory.per_record") &&
        !engine_options_want(engine->options, "disk.over_lz4") &&
        !engine_options_want(engine->options, "disk.footers"))
        return 0;
    stored.memory = memory_for(stored.records);
    stored.small = stored.records * 300 < stored.memory;
    engine_path(engine, "stored", stored.path);
    int error = node_init(stored.path, 256);
    if (error == 0)
        error = stored_fill(engine, stored.path, stored.records, stored.memory, &figures);
    if (error == 0) {
        fill_report(engine, &figures);
        error = restart_rounds(&stored);
    }
    if (error == 0 && reads)
        error = reads_run(&stored);
    engine_remove(stored.path);
    return error;
}
