/* engine_intake.c: what the serving side does with the records of a frame (node/serve_write.c),
 * done with records in memory: places are found and prefetched in groups, hashes compared, records
 * written; an answer would be due when a record's sequence is durable.
 *
 * A turn takes no more than a frame does, 256 KiB, so that commits begin while more comes in. */
#include "engine_intake.h"

#include <kho/kho.h>

#include "clock.h"
#include "engine.h"

enum { GROUP = 16, TURN_BYTES = 256 << 10 };

struct flight {
    uint64_t sequence, began_ns;
};

struct intake {
    struct node *node;
    const struct herd *herd;
    size_t next;
    uint32_t depth;
    uint64_t taken, landed; /* records; their difference is in flight */
    struct flight flights[INTAKE_DEPTH_MAX];
    struct histogram latency;
    uint64_t value_bytes;
    int error;
};

static void landed_take(struct intake *intake)
{
    uint64_t durable = store_durable(intake->node->store), now_ns = clock_ns();
    for (; intake->landed < intake->taken; intake->landed++) {
        const struct flight *flight = &intake->flights[intake->landed % INTAKE_DEPTH_MAX];
        if (flight->sequence > durable)
            return;
        histogram_add(&intake->latency, now_ns - flight->began_ns, 1);
    }
}

/* How many records come next, and their bytes: a group, or fewer where they are large. */
static uint32_t group_choose(const struct intake *intake, uint64_t *ret_bytes)
{
    uint64_t most = kho_min(GROUP, intake->depth - (intake->taken - intake->landed));
    uint64_t bytes = 0;
    uint32_t count = 0;
    while (count < most && intake->next + count < intake->herd->count &&
           (count == 0 || bytes < TURN_BYTES / GROUP))
        bytes += record_size(&intake->herd->records[intake->next + count++]);
    *ret_bytes = bytes;
    return count;
}

static int group_write(struct intake *intake, uint32_t count)
{
    struct node *node = intake->node;
    const struct record *records = &intake->herd->records[intake->next];
    struct key_hash hashes[GROUP];
    uint32_t partitions[GROUP];
    uint64_t began_ns = clock_ns();
    for (uint32_t i = 0; i < count; i++)
        partitions[i] = node_place(&records[i], &hashes[i]);
    for (uint32_t step = 0; step < STORE_PREFETCH_STEPS; step++)
        for (uint32_t i = 0; i < count; i++)
            store_prefetch(node->store, HERD_COLLECTION, partitions[i], hashes[i], step);
    for (uint32_t i = 0; i < count; i++) {
        struct flight *flight = &intake->flights[intake->taken % INTAKE_DEPTH_MAX];
        int status = record_value_matches(&records[i]) ? 0 : KHO_ECHECKSUM;
        if (status == 0)
            status = store_write(node->store, partitions[i], hashes[i], &records[i], false, 0,
                                 node->now, &flight->sequence);
        if (status != 0)
            return status;
        flight->began_ns = began_ns;
        intake->taken++;
        intake->next++;
        intake->value_bytes += records[i].raw_len;
    }
    return 0;
}

/* A turn's records. True: there is more, and room for it. */
static bool turn_write(struct intake *intake)
{
    uint64_t bytes, in_all = 0;
    while (in_all < TURN_BYTES) {
        uint32_t count = group_choose(intake, &bytes);
        if (count == 0 || !store_room(intake->node->store, bytes, count))
            return false;
        intake->error = group_write(intake, count);
        if (intake->error != 0)
            return false;
        in_all += bytes;
    }
    return true;
}

static int turns_run(struct intake *intake, uint64_t end_ns)
{
    bool open = true;
    while (open || intake->landed < intake->taken) {
        bool more = false;
        node_turn_begin(intake->node);
        landed_take(intake);
        open = open && intake->next < intake->herd->count && intake->node->now.mono_ns < end_ns &&
               !engine_interrupted();
        if (open)
            more = turn_write(intake);
        if (intake->error != 0) {
            fprintf(stderr, "kho-bench: a record was refused: %s\n", kho_strerror(intake->error));
            return -1;
        }
        if (node_turn_end(intake->node, !more) != 0)
            return -1;
    }
    return engine_interrupted() ? -1 : 0;
}

int intake_run(struct node *node, const struct herd *herd, size_t *next, uint32_t depth,
               double seconds, struct intake_figures *ret_figures)
{
    static struct intake intake;
    KHO_ASSERT(depth >= 1 && depth <= INTAKE_DEPTH_MAX);
    intake = (struct intake){.node = node, .herd = herd, .next = *next, .depth = depth};
    uint64_t commits = node_stat(node, STAT_commits), bytes = node_stat(node, STAT_commit_bytes);
    uint64_t cpu_ns = clock_cpu_ns(), began_ns = clock_ns();
    if (turns_run(&intake, began_ns + (uint64_t)(seconds * 1e9)) != 0)
        return -1;
    *next = intake.next;
    *ret_figures = (struct intake_figures){
        .records = intake.taken,
        .value_bytes = intake.value_bytes,
        .commits = node_stat(node, STAT_commits) - commits,
        .commit_bytes = node_stat(node, STAT_commit_bytes) - bytes,
        .seconds = (double)(clock_ns() - began_ns) / 1e9,
        .cpu_seconds = (double)(clock_cpu_ns() - cpu_ns) / 1e9,
        .p50_ns = histogram_percentile(&intake.latency, 50),
    };
    return 0;
}
