/* engine_fill.c: writes the data set, in a process of its own: so its resident memory is the node's
 * but for what was there before, and its end is a crash's. What it found out comes back through
 * memory that both processes share. */
#include <errno.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "engine_intake.h"
#include "engine_stored.h"
#include "floor_pack.h"
#include "process.h"

enum { BATCH = 65536, PACKED_MAX = 1000000 };

static uint64_t resident(void)
{
    struct process_usage usage = {0};
    return process_usage(getpid(), &usage) == 0 ? usage.rss_bytes : 0;
}

struct fill {
    struct engine *engine;
    uint64_t records, written;
    struct node node;
    struct herd herd;
    struct pack_figures packed; /* of the first PACKED_MAX */
    uint64_t packed_records;
    double seconds;
};

static int batch_write(struct fill *fill)
{
    struct intake_figures intake;
    struct pack_figures pack;
    size_t next = 0;
    size_t count = (size_t)kho_min(BATCH, fill->records - fill->written);
    herd_fill(&fill->herd, count, clock_wall_ms());
    if (intake_run(&fill->node, &fill->herd, &next, INTAKE_DEPTH_MAX, 1e6, &intake) != 0)
        return -1;
    fill->seconds += intake.seconds;
    fill->written += count;
    if (fill->packed_records < PACKED_MAX && floor_pack(&fill->herd, &pack)) {
        fill->packed_records += count;
        fill->packed.packed_bytes += pack.packed_bytes;
    }
    engine_progress(fill->engine, "the data set: %llu of %llu thousand records",
                    (unsigned long long)fill->written / 1000,
                    (unsigned long long)fill->records / 1000);
    return 0;
}

static int fill_run(struct fill *fill, const char *path, uint64_t memory,
                    struct stored_figures *ret_figures)
{
    if (herd_init_citizens(&fill->herd, 1, BATCH) != 0) {
        fprintf(stderr, "kho-bench: no memory for the records\n");
        return -1;
    }
    memset(fill->herd.bytes, 1, (size_t)BATCH * CITIZEN_RECORD_MAX);
    if (node_open(&fill->node, path, memory, NULL) != 0)
        return -1;
    uint64_t empty = resident();
    while (fill->written < fill->records)
        if (batch_write(fill) != 0)
            return -1;
    double records = (double)fill->records;
    *ret_figures = (struct stored_figures){
        .memory_bytes = ((double)resident() - (double)empty) / records,
        .block_bytes = (double)node_stat(&fill->node, STAT_commit_bytes) / records,
        .footer_bytes = (double)node_stat(&fill->node, STAT_footer_bytes) / records,
        .lz4_bytes = (double)fill->packed.packed_bytes / (double)fill->packed_records,
        .records_second = records / fill->seconds,
    };
    return 0;
}

/* Waits for the writer; a signal to this process ends it, too. */
static int writer_await(pid_t writer)
{
    int status;
    while (waitpid(writer, &status, 0) < 0) {
        if (errno != EINTR)
            return -1;
        if (engine_interrupted())
            kill(writer, SIGKILL);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -1;
}

int stored_fill(struct engine *engine, const char *path, uint64_t records, uint64_t memory,
                struct stored_figures *ret_figures)
{
    static struct fill fill;
    struct stored_figures *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) {
        fprintf(stderr, "kho-bench: no shared memory: %s\n", strerror(errno));
        return -1;
    }
    fflush(NULL);
    pid_t writer = fork();
    if (writer == 0) {
        fill = (struct fill){.engine = engine, .records = records};
        _exit(fill_run(&fill, path, memory, shared) == 0 ? 0 : 1);
    }
    int error = writer > 0 ? writer_await(writer) : -1;
    if (error != 0)
        fprintf(stderr, "kho-bench: the data set wasn't written\n");
    *ret_figures = *shared;
    munmap(shared, sizeof *shared);
    return error;
}
