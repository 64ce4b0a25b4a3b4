/* load_main.c: the whole of a load: nodes are started, client processes load what is to be there
 * before, and then all work between the same two moments, at which the CPU times of all processes
 * are read. Afterwards each client reads back and compares some of what was acknowledged to it.
 *
 * The parent only waits meanwhile, so that nothing but clients and nodes runs. Any record that
 * failed, was missing or differed, any client that ended early, makes it fail. */
#include "load_main.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clients.h"
#include "dry.h"
#include "load_report.h"
#include "local.h"
#include "session.h"

enum { LEAD_NS = 20000000, PHASE_BATCH = 256, PHASE_CALLS = 8, PHASE_BYTES = 32 << 20 };
#define NEW_RECORDS 24000000 /* for how many a node's memory is set where they are always new */

struct bench {
    const struct load_options *options;
    struct values values;
    struct local local;
    const char *seeds;
    struct clients clients;
    struct report report;
    struct load_figures *sum; /* of all clients */
    struct load_costs costs;
    int failures;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void complain(struct bench *b, const char *what, int status)
{
    fprintf(stderr, "kho-bench: %s: %s\n", what, kho_strerror(status));
    b->failures++;
}

/* --- A client process ------------------------------------------------------------------------- */

struct client {
    const struct load_options *options;
    struct session session;
    struct workload workload;
    struct load_figures *figures;
};

/* A phase that isn't measured. Large values go in smaller batches, so that what the library holds
 * for the slowest replica stays within its bound (kho.h). */
static int phase_run(struct client *c, enum work_phase phase)
{
    static const struct load_plan one_by_one = {.batch = 1, .inflight = 1};
    const size_t fitting = PHASE_BYTES / PHASE_CALLS / (size_t)c->options->value_max;
    const struct load_plan plan = {.batch = fitting < 1             ? 1
                                            : fitting < PHASE_BATCH ? fitting
                                                                    : PHASE_BATCH,
                                   .inflight = PHASE_CALLS};
    workload_begin(&c->workload, phase);
    return load_run(c->session.client, &c->session.loop, &c->workload,
                    phase == PHASE_WALK ? &one_by_one : &plan, c->figures);
}

static int client_preload(struct client *c, struct client_share *share)
{
    uint64_t began_ns = uv_hrtime();
    int error = phase_run(c, PHASE_PRELOAD);
    share->preloaded = c->workload.next;
    share->preload_seconds = (double)(uv_hrtime() - began_ns) / 1e9;
    return error == 0 ? session_flush(&c->session) : error;
}

static int client_prepare(struct client *c, struct client_share *share)
{
    const struct load_options *o = c->options;
    bool reads = o->command == LOAD_GET || o->command == LOAD_MIXED;
    int error = 0;
    if (reads && !o->loaded)
        error = client_preload(c, share);
    if (error == 0 && reads)
        error = phase_run(c, PHASE_TOUCH);
    if (error == 0 && o->command == LOAD_MIXED && o->mix->scan > 0)
        error = phase_run(c, PHASE_WALK);
    return error;
}

static int client_work(struct client *c, struct clients *clients)
{
    const struct load_options *o = c->options;
    if (clients_wait_go(clients) != 0)
        return UV_EPIPE;
    const struct load_plan plan = {.batch = o->batch,
                                   .inflight = o->inflight,
                                   .window = clients->window,
                                   .calls_per_second =
                                       o->rate / (double)o->batch / (double)o->clients,
                                   .fixed = o->fixed,
                                   .seed = o->seed + c->workload.client};
    workload_begin(&c->workload, PHASE_RUN);
    int error = load_run(c->session.client, &c->session.loop, &c->workload, &plan, c->figures);
    return error == 0 ? phase_run(c, PHASE_READBACK) : error;
}

static int client_main(struct clients *clients, size_t index, void *arg)
{
    struct bench *b = arg;
    struct client_share *share = &clients->shares[index];
    struct client c = {.options = b->options, .figures = &share->figures};
    int error = session_open(&c.session, b->seeds, b->options->plain);
    if (error == 0) {
        error = workload_init(&c.workload, b->options, &b->values, index, clients->count);
        if (error == 0)
            error = client_prepare(&c, share);
        if (error == 0)
            error = client_work(&c, clients);
        workload_fini(&c.workload);
        session_close(&c.session);
    }
    if (error != 0)
        complain(b, "client", error);
    return error == 0 ? 0 : 1;
}

/* --- Measuring -------------------------------------------------------------------------------- */

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000),
                          .tv_nsec = (long)(at_ns % 1000000000)};
    while (interrupted == 0 && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0)
        continue;
}

static double cpu_of_clients(const struct bench *b)
{
    double sum = 0;
    for (size_t i = 0; i < b->clients.count; i++) {
        struct process_usage usage;
        if (process_usage(b->clients.pids[i], &usage) == 0)
            sum += usage.cpu_seconds;
    }
    return sum;
}

static void window_wait(struct bench *b, struct load_window window)
{
    struct load_costs *c = &b->costs;
    sleep_until(window.begin_ns);
    c->nodes_seconds = -local_usage(&b->local).cpu_seconds;
    c->client_seconds = -cpu_of_clients(b);
    sleep_until(window.end_ns);
    struct process_usage usage = local_usage(&b->local);
    c->nodes_seconds += usage.cpu_seconds;
    c->client_seconds += cpu_of_clients(b);
    c->rss_bytes = (double)usage.rss_bytes;
    if (!b->local.up)
        c->nodes_seconds = -1;
}

static void shares_take(struct bench *b)
{
    double preloaded = 0, seconds = 0;
    for (size_t i = 0; i < b->clients.count; i++) {
        const struct client_share *share = &b->clients.shares[i];
        load_figures_merge(b->sum, &share->figures);
        preloaded += (double)share->preloaded;
        if (share->preload_seconds > seconds)
            seconds = share->preload_seconds;
    }
    if (preloaded > 0)
        b->costs.preload_rate = preloaded / seconds;
}

static void clients_measure(struct bench *b)
{
    const struct load_options *o = b->options;
    int error = clients_start(&b->clients, o->clients, client_main, b);
    if (error != 0) {
        complain(b, "client processes", error);
        return;
    }
    if (clients_wait_ready(&b->clients) != 0) {
        fprintf(stderr, "kho-bench: a client ended before it was prepared\n");
        b->failures++;
        return;
    }
    struct load_window window = {.begin_ns = uv_hrtime() + LEAD_NS + (uint64_t)(o->warmup * 1e9)};
    window.end_ns = window.begin_ns + (uint64_t)(o->seconds * 1e9);
    clients_go(&b->clients, window);
    window_wait(b, window);
    if (interrupted == 0)
        b->failures += (int)clients_wait(&b->clients);
    shares_take(b);
}

static void generator_measure(struct bench *b)
{
    struct workload w;
    int error = workload_init(&w, b->options, &b->values, 0, 1);
    if (error == 0) {
        b->costs.generator_seconds = dry_run(&w, b->options->batch);
        error = b->costs.generator_seconds < 0 ? UV_ENOMEM : 0;
        workload_fini(&w);
    }
    if (error != 0)
        complain(b, "generator", error);
}

/* --- Figures ---------------------------------------------------------------------------------- */

static uint64_t stat_of(const struct kho_node_status *node, const char *name)
{
    for (size_t i = 0; i < node->stat_count; i++)
        if (strcmp(node->stat_names[i], name) == 0)
            return node->stats[i];
    return 0;
}

struct bench_session {
    struct session session;
    struct bench *bench;
};

static void on_status(struct kho *client, int status, const struct kho_node_status *nodes,
                      size_t count, void *arg)
{
    struct bench_session *s = arg;
    double records = 0, disk = 0, index = 0;
    for (size_t i = 0; i < count; i++) {
        records += (double)stat_of(&nodes[i], "records");
        disk += (double)stat_of(&nodes[i], "segment_bytes");
        index += (double)stat_of(&nodes[i], "index_bytes");
    }
    if (records > 0) {
        report_row(&s->bench->report, "disk.per_record", disk / records, "bytes");
        report_row(&s->bench->report, "memory.per_record", index / records, "bytes");
        report_row(&s->bench->report, "stored", records / (double)count, "records");
    }
    session_done(client, status, &s->session);
}

/* What a record costs on a node: of the log in use, overwritten versions included, and the index;
 * and how many a node has. */
static void report_nodes(struct bench *b)
{
    struct bench_session s = {.bench = b};
    int error = session_open(&s.session, b->seeds, false);
    if (error == 0)
        error = session_wait(&s.session,
                             kho_status(s.session.client, SESSION_DEADLINE_MS, on_status, &s));
    session_close(&s.session);
    if (error != 0)
        complain(b, "status", error);
}

static void judge(struct bench *b)
{
    const struct load_figures *f = b->sum;
    if (f->call_error != 0)
        complain(b, "a call was refused", f->call_error);
    if (f->failed > 0)
        complain(b, "a record failed", f->first_error);
    if (f->missing + f->wrong > 0) {
        fprintf(stderr, "kho-bench: %llu records weren't found, %llu weren't as written\n",
                (unsigned long long)f->missing, (unsigned long long)f->wrong);
        b->failures++;
    }
    if (interrupted != 0) {
        fprintf(stderr, "kho-bench: stopped by signal %d\n", (int)interrupted);
        b->failures++;
    }
}

static void report_all(struct bench *b)
{
    const struct load_options *o = b->options;
    load_report_figures(&b->report, o, b->sum, &b->costs);
    report_nodes(b);
    report_print(&b->report);
    if (o->histogram != NULL && load_report_histogram(o, b->sum) != 0)
        b->failures++;
}

/* --- The run ---------------------------------------------------------------------------------- */

static int nodes_start(struct bench *b)
{
    const struct load_options *o = b->options;
    char memory[32];
    if (o->cluster != NULL) {
        b->seeds = o->cluster;
        return 0;
    }
    local_memory(memory, o->command != LOAD_GET ? NEW_RECORDS : o->records,
                 o->records * (VALUE_KEY + o->value_max));
    if (local_up(&b->local, o->dir, (unsigned)o->local, (unsigned)o->shards,
                 o->memory != NULL ? o->memory : memory) != 0)
        return -1;
    b->seeds = b->local.cluster;
    return 0;
}

static int collection_make(struct bench *b)
{
    struct session session;
    int error = session_open(&session, b->seeds, false);
    if (error == 0)
        error = session_collection(&session, LOAD_COLLECTION);
    session_close(&session);
    if (error != 0)
        complain(b, b->seeds, error);
    return error;
}

static void run(struct bench *b)
{
    generator_measure(b);
    if (b->failures > 0)
        return;
    if (nodes_start(b) != 0)
        b->failures++;
    else if (collection_make(b) == 0)
        clients_measure(b);
    judge(b);
    if (b->failures == 0)
        report_all(b);
}

int load_main(const struct load_options *options)
{
    struct bench b = {.options = options};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    b.sum = calloc(1, sizeof *b.sum);
    int error = b.sum == NULL ? UV_ENOMEM
                              : values_init(&b.values, options->value_min, options->value_max,
                                            !options->incompressible, options->seed);
    if (error != 0) {
        complain(&b, "values", error);
        free(b.sum);
        return 1;
    }
    report_init(&b.report, load_command_name(options->command));
    load_report_settings(&b.report, options);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    run(&b);
    if (options->json != NULL && report_write(&b.report, b.failures == 0, options->json) != 0)
        b.failures++;
    clients_stop(&b.clients);
    local_down(&b.local);
    report_fini(&b.report);
    values_fini(&b.values);
    free(b.sum);
    return b.failures == 0 ? 0 : 1;
}
