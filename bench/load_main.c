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
#include "local.h"
#include "report.h"
#include "session.h"

enum { PRELOAD_BATCH = 256, PRELOAD_INFLIGHT = 8, LEAD_NS = 20000000 };
#define NEW_RECORDS 24000000 /* for how many a node's memory is set where they are always new */

struct bench {
    const struct load_options *options;
    struct values values;
    struct local local;
    const char *seeds;
    struct clients clients;
    struct report report;
    struct load_figures *sum;                 /* of all clients */
    struct process_usage nodes[2], client[2]; /* at both ends of the window */
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

static int client_prepare(struct bench *b, struct session *session, struct workload *w,
                          struct client_share *share)
{
    struct load_figures *f = &share->figures;
    uint64_t began_ns = uv_hrtime();
    if (b->options->command != LOAD_GET)
        return 0;
    workload_begin(w, PHASE_PRELOAD);
    int error =
        load_run(session->client, &session->loop, w, PRELOAD_BATCH, PRELOAD_INFLIGHT, NULL, f);
    share->preloaded = w->next;
    share->preload_seconds = (double)(uv_hrtime() - began_ns) / 1e9;
    if (error == 0)
        error = session_flush(session);
    if (error != 0)
        return error;
    workload_begin(w, PHASE_TOUCH);
    return load_run(session->client, &session->loop, w, PRELOAD_BATCH, PRELOAD_INFLIGHT, NULL, f);
}

static int client_work(struct bench *b, struct clients *clients, struct session *session,
                       struct workload *w, struct load_figures *f)
{
    const struct load_options *o = b->options;
    if (clients_wait_go(clients) != 0)
        return -1;
    workload_begin(w, PHASE_RUN);
    int error =
        load_run(session->client, &session->loop, w, o->batch, o->inflight, clients->window, f);
    if (error != 0 || o->command == LOAD_GET)
        return error;
    workload_begin(w, PHASE_READBACK);
    return load_run(session->client, &session->loop, w, PRELOAD_BATCH, PRELOAD_INFLIGHT, NULL, f);
}

static int client_main(struct clients *clients, size_t index, void *arg)
{
    struct bench *b = arg;
    struct client_share *share = &clients->shares[index];
    struct session session;
    struct workload w;
    int error = session_open(&session, b->seeds);
    if (error != 0) {
        complain(b, b->seeds, error);
        return 1;
    }
    error = workload_init(&w, b->options, &b->values, index, clients->count);
    if (error == 0) {
        error = client_prepare(b, &session, &w, share);
        if (error == 0)
            error = client_work(b, clients, &session, &w, &share->figures);
        workload_fini(&w);
    }
    if (error != 0)
        complain(b, "client", error);
    session_close(&session);
    return error == 0 ? 0 : 1;
}

/* --- Measuring -------------------------------------------------------------------------------- */

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000),
                          .tv_nsec = (long)(at_ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) != 0 && interrupted == 0)
        continue;
}

static void usage_take(struct bench *b, size_t at)
{
    b->nodes[at] = local_usage(&b->local);
    for (size_t i = 0; i < b->clients.count; i++) {
        struct process_usage usage;
        if (process_usage(b->clients.pids[i], &usage) != 0)
            continue;
        b->client[at].cpu_seconds += usage.cpu_seconds;
        b->client[at].rss_bytes += usage.rss_bytes;
    }
}

static void figures_merge(struct load_figures *sum, const struct load_figures *f)
{
    for (size_t op = 0; op < OPS; op++) {
        sum->ops[op].calls += f->ops[op].calls;
        sum->ops[op].records += f->ops[op].records;
        sum->ops[op].bytes += f->ops[op].bytes;
        histogram_merge(&sum->ops[op].latency, &f->ops[op].latency);
    }
    sum->failed += f->failed;
    sum->missing += f->missing;
    sum->wrong += f->wrong;
    sum->read_back += f->read_back;
    if (sum->first_error == 0)
        sum->first_error = f->first_error;
    if (sum->call_error == 0)
        sum->call_error = f->call_error;
}

static void clients_measure(struct bench *b)
{
    const struct load_options *o = b->options;
    int error = clients_start(&b->clients, 1, client_main, b);
    if (error != 0) {
        complain(b, "client processes", error);
        return;
    }
    if (clients_wait_ready(&b->clients) != 0) {
        fprintf(stderr, "kho-bench: a client ended before it was prepared\n");
        b->failures++;
        return;
    }
    uint64_t now_ns = uv_hrtime() + LEAD_NS;
    struct load_window window = {.begin_ns = now_ns + (uint64_t)(o->warmup * 1e9)};
    window.end_ns = window.begin_ns + (uint64_t)(o->seconds * 1e9);
    clients_go(&b->clients, window);
    sleep_until(window.begin_ns);
    usage_take(b, 0);
    sleep_until(window.end_ns);
    usage_take(b, 1);
    if (interrupted == 0)
        b->failures += (int)clients_wait(&b->clients);
    for (size_t i = 0; i < b->clients.count; i++)
        figures_merge(b->sum, &b->clients.shares[i].figures);
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
    struct session session; /* the callback's argument */
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
    }
    session_done(client, status, &s->session);
}

/* What a record costs on a node: of the log in use, overwritten versions included, and the index.
 */
static void report_nodes(struct bench *b)
{
    struct bench_session s = {.bench = b};
    int error = session_open(&s.session, b->seeds);
    if (error == 0)
        error = session_wait(&s.session,
                             kho_status(s.session.client, SESSION_DEADLINE_MS, on_status, &s));
    if (error != 0)
        complain(b, "status", error);
    session_close(&s.session);
    if (b->local.up)
        report_row(&b->report, "memory.rss", (double)b->nodes[1].rss_bytes / 1e6, "MB");
}

static void report_latency(struct report *report, const struct histogram *h)
{
    static const struct {
        const char *name;
        double percent;
    } points[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p999", 99.9}, {"p9999", 99.99}};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        report_row(report, points[i].name, (double)histogram_percentile(h, points[i].percent) / 1e3,
                   "us");
    report_row(report, "max", (double)h->max / 1e3, "us");
    report_row(report, "mean", h->count > 0 ? h->sum / (double)h->count / 1e3 : 0, "us");
}

static void report_figures(struct bench *b)
{
    const struct load_options *o = b->options;
    const struct load_figures *f = b->sum;
    static struct histogram latency;
    uint64_t records = 0, bytes = 0, preloaded = 0;
    double preload_seconds = 0;
    for (size_t op = 0; op < OPS; op++) {
        records += f->ops[op].records;
        bytes += f->ops[op].bytes;
        histogram_merge(&latency, &f->ops[op].latency);
    }
    for (size_t i = 0; i < b->clients.count; i++) {
        preloaded += b->clients.shares[i].preloaded;
        if (b->clients.shares[i].preload_seconds > preload_seconds)
            preload_seconds = b->clients.shares[i].preload_seconds;
    }
    double nodes = b->nodes[1].cpu_seconds - b->nodes[0].cpu_seconds;
    double client = b->client[1].cpu_seconds - b->client[0].cpu_seconds;
    double each = records > 0 ? 1e6 / (double)records : 0;
    report_row(&b->report, "rate", (double)records / o->seconds, "records/s");
    report_row(&b->report, "bandwidth", (double)bytes / 1e6 / o->seconds, "MB/s");
    report_latency(&b->report, &latency);
    if (b->local.up) {
        report_row(&b->report, "cpu.nodes", nodes * each, "us/record");
        report_row(&b->report, "cpu.total", (nodes + client) * each, "us/record");
    }
    report_row(&b->report, "cpu.client", client * each, "us/record");
    report_row(&b->report, "records", (double)records, "records");
    if (preloaded > 0)
        report_row(&b->report, "preload.rate", (double)preloaded / preload_seconds, "records/s");
    report_row(&b->report, "read_back", (double)f->read_back, "records");
    report_row(&b->report, "errors", (double)f->failed, "records");
    report_row(&b->report, "missing", (double)f->missing, "records");
    report_row(&b->report, "wrong", (double)f->wrong, "records");
    report_nodes(b);
}

static void judge(struct bench *b)
{
    const struct load_figures *f = b->sum;
    if (f->call_error != 0)
        complain(b, "a call was refused", f->call_error);
    if (f->failed > 0)
        complain(b, "a record failed", f->first_error);
    if (f->missing + f->wrong > 0)
        fprintf(stderr, "kho-bench: %llu records weren't found, %llu weren't as written\n",
                (unsigned long long)f->missing, (unsigned long long)f->wrong);
    b->failures += f->missing + f->wrong > 0;
    if (interrupted != 0) {
        fprintf(stderr, "kho-bench: stopped by signal %d\n", (int)interrupted);
        b->failures++;
    }
}

static void print_rows(const struct bench *b)
{
    size_t i;
    json_t *r;
    json_array_foreach(b->report.rows, i, r)
    {
        double value = json_number_value(json_object_get(r, "value"));
        char text[32];
        if (value >= 1000 || value == (double)(int)value)
            report_thousands(text, value);
        else
            snprintf(text, sizeof text, "%.3f", value);
        printf("%-20s %14s %s\n", json_string_value(json_object_get(r, "name")), text,
               json_string_value(json_object_get(r, "unit")));
    }
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
    local_memory(memory, o->records > 0 ? o->records : NEW_RECORDS,
                 o->records * (VALUE_KEY + o->value_max));
    if (local_up(&b->local, o->dir, (unsigned)o->local, o->memory != NULL ? o->memory : memory) !=
        0)
        return -1;
    b->seeds = b->local.cluster;
    return 0;
}

static int collection_make(struct bench *b)
{
    struct session session;
    int error = session_open(&session, b->seeds);
    if (error == 0)
        error = session_collection(&session, LOAD_COLLECTION);
    session_close(&session);
    if (error != 0)
        complain(b, b->seeds, error);
    return error;
}

static void settings_report(struct bench *b)
{
    const struct load_options *o = b->options;
    json_object_set_new(
        b->report.root, "settings",
        json_pack("{s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:b, s:I, s:I}", "seconds", o->seconds,
                  "warmup", o->warmup, "batch", (json_int_t)o->batch, "inflight",
                  (json_int_t)o->inflight, "records", (json_int_t)o->records, "value_min",
                  (json_int_t)o->value_min, "value_max", (json_int_t)o->value_max, "incompressible",
                  o->incompressible, "seed", (json_int_t)o->seed, "local", (json_int_t)o->local));
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
    settings_report(&b);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    if (nodes_start(&b) != 0)
        b.failures++;
    else if (collection_make(&b) == 0)
        clients_measure(&b);
    judge(&b);
    if (b.failures == 0) {
        report_figures(&b);
        print_rows(&b);
    }
    if (options->json != NULL && report_write(&b.report, b.failures == 0, options->json) != 0)
        b.failures++;
    clients_stop(&b.clients);
    local_down(&b.local);
    report_fini(&b.report);
    values_fini(&b.values);
    free(b.sum);
    return b.failures == 0 ? 0 : 1;
}
