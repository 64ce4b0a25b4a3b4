/* engine_compact.c: rows 'compact': what it costs to give the disk back.
 *
 * Two nodes get the same records: each citizen once, then as many overwritten at random, so that
 * half of the log is dead and the one that compacts is at work. From then on it is measured, round
 * by round in both, until each citizen was overwritten twice more. What the other node writes is
 * what the accepted records need. Segments are small, so that there are many of them. */
#include "clock.h"
#include "engine.h"
#include "engine_intake.h"

enum { RECORDS_MAX = 2000000, BATCH = 65536, SEGMENT_MIB = 32, MEASURED = 2 };

/* One of the two nodes, with a herd of its own from the same seed. */
struct side {
    char path[ENGINE_PATH_MAX];
    struct node node;
    struct herd herd;
};

struct compaction {
    struct engine *engine;
    uint64_t records;
    struct side moving, still;
};

struct side_figures {
    uint64_t records;
    double seconds, block_bytes, footer_bytes, zeroed_bytes;
};

static int side_write(struct compaction *c, struct side *side, uint64_t count, bool redraw,
                      struct side_figures *figures)
{
    uint64_t blocks = node_stat(&side->node, STAT_commit_bytes);
    uint64_t footers = node_stat(&side->node, STAT_footer_bytes);
    uint64_t zeroed = node_stat(&side->node, STAT_zeroed_bytes);
    for (uint64_t written = 0; written < count; written += side->herd.count) {
        struct intake_figures intake;
        size_t next = 0, batch = (size_t)kho_min(BATCH, count - written);
        if (redraw)
            herd_redraw(&side->herd, batch, c->records, clock_wall_ms());
        else
            herd_fill(&side->herd, batch, clock_wall_ms());
        if (intake_run(&side->node, &side->herd, &next, INTAKE_DEPTH_MAX, 1e6, &intake) != 0)
            return -1;
        figures->records += intake.records;
        figures->seconds += intake.seconds;
    }
    figures->block_bytes += (double)(node_stat(&side->node, STAT_commit_bytes) - blocks);
    figures->footer_bytes += (double)(node_stat(&side->node, STAT_footer_bytes) - footers);
    figures->zeroed_bytes += (double)(node_stat(&side->node, STAT_zeroed_bytes) - zeroed);
    return 0;
}

static int prepare(struct compaction *c)
{
    struct side_figures unused = {0};
    struct side *sides[] = {&c->moving, &c->still};
    engine_progress(c->engine, "compact: %llu thousand records, twice",
                    (unsigned long long)c->records / 1000);
    for (size_t i = 0; i < KHO_COUNT_OF(sides); i++)
        if (side_write(c, sides[i], c->records, false, &unused) != 0 ||
            side_write(c, sides[i], c->records, true, &unused) != 0)
            return -1;
    return 0;
}

static int rounds_run(struct compaction *c)
{
    struct engine *engine = c->engine;
    struct engine_row bytes = {.name = "compact.overwrite", .unit = "bytes/record"};
    struct engine_row rate = {.name = "compact.foreground", .unit = "records/s"};
    struct side_figures moving = {0}, still = {0};
    uint64_t rounds = engine->options->rounds;
    for (uint64_t i = 0; i < rounds; i++) {
        struct side_figures m = moving, s = still;
        engine_progress(engine, "compact: round %llu", (unsigned long long)i + 1);
        if (side_write(c, &c->moving, MEASURED * c->records / rounds, true, &moving) != 0 ||
            side_write(c, &c->still, MEASURED * c->records / rounds, true, &still) != 0)
            return -1;
        row_add_floored(&rate, (double)(moving.records - m.records) / (moving.seconds - m.seconds),
                        (double)(still.records - s.records) / (still.seconds - s.seconds));
    }
    row_add_floored(&bytes, (moving.block_bytes + moving.footer_bytes) / (double)moving.records,
                    still.block_bytes / (double)still.records);
    snprintf(bytes.note, sizeof bytes.note,
             "footers %.1f, zeros %.1f; %.0f %% of the log dead, %llu of %llu files used again",
             moving.footer_bytes / (double)moving.records,
             moving.zeroed_bytes / (double)moving.records,
             (double)node_stat(&c->moving.node, STAT_dead_bytes) * 100 /
                 (double)kho_max(node_stat(&c->moving.node, STAT_sealed_bytes), 1),
             (unsigned long long)node_stat(&c->moving.node, STAT_recycled_segments),
             (unsigned long long)node_stat(&c->moving.node, STAT_compacted_segments));
    engine_row_done(engine, &bytes);
    engine_row_done(engine, &rate);
    return 0;
}

static int side_open(struct compaction *c, struct side *side, const char *name, bool still)
{
    uint64_t memory = ((uint64_t)384 << 20) + c->records * 64;
    engine_path(c->engine, name, side->path);
    if (herd_init_citizens(&side->herd, 1, BATCH) != 0) {
        fprintf(stderr, "kho-bench: no memory for the records\n");
        return -1;
    }
    int error = node_init(side->path, SEGMENT_MIB);
    if (error == 0)
        error = still ? node_open_still(&side->node, side->path, memory)
                      : node_open(&side->node, side->path, memory, NULL);
    if (error != 0)
        herd_fini(&side->herd);
    return error;
}

static int side_close(struct side *side)
{
    int error = node_close(&side->node);
    herd_fini(&side->herd);
    engine_remove(side->path);
    return error;
}

int engine_compact(struct engine *engine)
{
    static struct compaction c;
    if (!engine_options_want(engine->options, "compact.overwrite") &&
        !engine_options_want(engine->options, "compact.foreground"))
        return 0;
    c = (struct compaction){.engine = engine,
                            .records = kho_min(engine->options->records, RECORDS_MAX)};
    if (side_open(&c, &c.moving, "moving", false) != 0)
        return -1;
    int error = side_open(&c, &c.still, "still", true);
    if (error == 0) {
        error = prepare(&c);
        if (error == 0)
            error = rounds_run(&c);
        if (side_close(&c.still) != 0)
            error = -1;
    }
    return side_close(&c.moving) != 0 ? -1 : error;
}
