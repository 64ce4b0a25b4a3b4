/* hanoi.c: a city's population through kho, end to end.
 *
 * Three local nodes are started; citizens, identity files and activation events are loaded at
 * quorum durability, one citizen in a hundred moves, every record is read back and compared with
 * what the generator says (computed anew), then flushed, verified on all replicas, and measured.
 * Any record that fails or differs, any replica that differs, makes it fail. */
#include "hanoi.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <kho/kho.h>

#include "citizen.h"
#include "local.h"
#include "phase.h"
#include "process.h"
#include "report.h"

enum {
    EVENT_KEY = 16,
    PHASES = 7,
    LOADS = 3, /* the first phases */
    LATENCIES = 3,
    ADMIN_DEADLINE_MS = 120000,
    MANY_RECORDS = 1000000,
    LOCAL_NODES = 3
};

static const struct {
    double percent;
    const char *name;
} latencies[LATENCIES] = {{50, "p50"}, {99, "p99"}, {99.9, "p999"}};

struct hanoi {
    const struct hanoi_options *options;
    struct census census;
    struct local local;
    uv_loop_t loop;
    struct kho *client;
    struct report report;
    char *event_keys; /* as append returned them */
    uint64_t event_count;
    char expected[CITIZEN_RECORD_MAX];
    struct phase_figures *phases;
    size_t phase_count;
    uint64_t wrong, missing;
    int failures;
    /* What the call that is waited for brought. */
    bool waited;
    int waited_status;
};

static volatile int interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

static void complain(struct hanoi *h, const char *what, int status)
{
    fprintf(stderr, "kho-bench: %s: %s\n", what, kho_strerror(status));
    h->failures++;
}

/* --- Records --------------------------------------------------------------------------------- */

static void put_citizen(struct hanoi *h, uint64_t i, unsigned revision, struct kho_item *item,
                        char **at)
{
    char *key = *at, *value = key + CITIZEN_NUMBER;
    citizen_number(&h->census, i, key);
    item->key = key;
    item->key_len = CITIZEN_NUMBER;
    item->value = value;
    item->value_len = citizen_record(&h->census, i, revision, value);
    *at = value + item->value_len;
}

static void make_citizen(void *owner, uint64_t i, struct kho_item *item, char **at)
{
    put_citizen(owner, i, 0, item, at);
}

static void make_move(void *owner, uint64_t i, struct kho_item *item, char **at)
{
    struct hanoi *h = owner;
    put_citizen(h, citizen_moving(&h->census, i), 1, item, at);
}

static void make_eid(void *owner, uint64_t i, struct kho_item *item, char **at)
{
    struct hanoi *h = owner;
    char *key = *at, *value = key + CITIZEN_NUMBER;
    citizen_number(&h->census, i, key);
    item->key = key;
    item->key_len = CITIZEN_NUMBER;
    item->value = value;
    item->value_len = eid_record(&h->census, i, value);
    *at = value + item->value_len;
}

static void make_activation(void *owner, uint64_t i, struct kho_item *item, char **at)
{
    struct hanoi *h = owner;
    item->value = *at;
    item->value_len = activation_record(&h->census, i, *at);
    *at += item->value_len;
}

static void make_key_citizen(void *owner, uint64_t i, struct kho_item *item, char **at)
{
    struct hanoi *h = owner;
    citizen_number(&h->census, i, *at);
    item->key = *at;
    item->key_len = CITIZEN_NUMBER;
    *at += CITIZEN_NUMBER;
}

static void make_key_activation(void *owner, uint64_t i, struct kho_item *item, char **at)
{
    struct hanoi *h = owner;
    (void)at;
    item->key = h->event_keys + i * EVENT_KEY;
    item->key_len = EVENT_KEY;
}

static bool take_applied(void *owner, uint64_t i, const struct kho_result *result)
{
    (void)owner;
    (void)i;
    return result->status == 0 && result->outcome == KHO_APPLIED;
}

static bool take_appended(void *owner, uint64_t i, const struct kho_result *result)
{
    struct hanoi *h = owner;
    if (!take_applied(owner, i, result) || result->key_len != EVENT_KEY)
        return false;
    memcpy(h->event_keys + i * EVENT_KEY, result->key, EVENT_KEY);
    return true;
}

/* Compares a result with the `len` bytes of h->expected. */
static bool take_equal(struct hanoi *h, const struct kho_result *result, size_t len)
{
    if (result->status != 0) {
        h->missing++;
        return false;
    }
    if (result->value_len == len && memcmp(result->value, h->expected, len) == 0)
        return true;
    h->wrong++;
    return false;
}

static bool take_citizen(void *owner, uint64_t i, const struct kho_result *result)
{
    struct hanoi *h = owner;
    unsigned revision = citizen_moves(&h->census, i) ? 1 : 0;
    return take_equal(h, result, citizen_record(&h->census, i, revision, h->expected));
}

static bool take_eid(void *owner, uint64_t i, const struct kho_result *result)
{
    struct hanoi *h = owner;
    return take_equal(h, result, eid_record(&h->census, i, h->expected));
}

static bool take_activation(void *owner, uint64_t i, const struct kho_result *result)
{
    struct hanoi *h = owner;
    return take_equal(h, result, activation_record(&h->census, i, h->expected));
}

/* --- Phases ---------------------------------------------------------------------------------- */

static double cpu_of_client(void)
{
    struct process_usage usage;
    return process_usage(getpid(), &usage) == 0 ? usage.cpu_seconds : 0;
}

static void phase_of(struct hanoi *h, struct phase_plan plan)
{
    struct phase_figures *f = &h->phases[h->phase_count++];
    double nodes = local_usage(&h->local).cpu_seconds, client = cpu_of_client();
    plan.owner = h;
    plan.record_max = CITIZEN_NUMBER + CITIZEN_RECORD_MAX;
    plan.batch = h->options->batch;
    plan.inflight = h->options->inflight;
    int error = phase_run(h->client, &h->loop, &plan, &interrupted, f);
    f->cpu_nodes = local_usage(&h->local).cpu_seconds - nodes;
    f->cpu_client = cpu_of_client() - client;
    if (error == 0)
        error = f->call_error;
    if (error != 0)
        complain(h, plan.name, error);
    h->failures += f->failed > 0 || f->records != plan.total;
}

static void phases_run(struct hanoi *h)
{
    const struct census *c = &h->census;
    const struct phase_plan plans[PHASES] = {{.name = "load.population",
                                              .collection = "population",
                                              .call = kho_put,
                                              .total = c->citizens,
                                              .make = make_citizen,
                                              .take = take_applied},
                                             {.name = "load.eid",
                                              .collection = "eid",
                                              .call = kho_put,
                                              .total = c->eids,
                                              .make = make_eid,
                                              .take = take_applied},
                                             {.name = "load.activation",
                                              .collection = "activation",
                                              .call = kho_append,
                                              .total = h->event_count,
                                              .make = make_activation,
                                              .take = take_appended},
                                             {.name = "update.population",
                                              .collection = "population",
                                              .call = kho_put,
                                              .total = c->updates,
                                              .make = make_move,
                                              .take = take_applied},
                                             {.name = "readback.population",
                                              .collection = "population",
                                              .call = kho_get,
                                              .total = c->citizens,
                                              .make = make_key_citizen,
                                              .take = take_citizen},
                                             {.name = "readback.eid",
                                              .collection = "eid",
                                              .call = kho_get,
                                              .total = c->eids,
                                              .make = make_key_citizen,
                                              .take = take_eid},
                                             {.name = "readback.activation",
                                              .collection = "activation",
                                              .call = kho_get,
                                              .total = h->event_count,
                                              .make = make_key_activation,
                                              .take = take_activation}};
    for (size_t i = 0; i < PHASES && !interrupted; i++) {
        if (i == LOADS + 1 && h->failures > 0)
            fprintf(stderr, "kho-bench: something failed already; reading back all the same\n");
        phase_of(h, plans[i]);
    }
}

/* --- Waiting for single calls ---------------------------------------------------------------- */

static void on_done(struct kho *client, int status, void *arg)
{
    struct hanoi *h = arg;
    (void)client;
    h->waited = true;
    h->waited_status = status;
}

/* `error` is what the call returned. */
static int wait_done(struct hanoi *h, int error)
{
    if (error != 0)
        return error;
    while (!h->waited)
        uv_run(&h->loop, UV_RUN_ONCE);
    h->waited = false;
    return h->waited_status;
}

static int collections_make(struct hanoi *h)
{
    static const char *const names[] = {"population", "eid", "activation"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        int error = wait_done(
            h, kho_collection_create(h->client, names[i], -1, 0, ADMIN_DEADLINE_MS, on_done, h));
        if (error == 0)
            continue;
        complain(h, names[i], error);
        if (error == KHO_ECOLLECTIONEXISTS)
            fprintf(stderr, "kho-bench: it compares everything, so it needs an empty cluster\n");
        return -1;
    }
    return 0;
}

static void on_verified(struct kho *client, int status, const struct kho_verify_result *results,
                        size_t count, void *arg)
{
    struct hanoi *h = arg;
    double differing = 0, unreached = 0, damaged = 0, records = 0;
    for (size_t i = 0; i < count; i++) {
        differing += results[i].partitions_differing;
        unreached += results[i].partitions_unreached;
        damaged += results[i].partitions_damaged;
        records += (double)results[i].records;
    }
    report_row(&h->report, "verify.differing", differing, "partitions");
    report_row(&h->report, "verify.unreached", unreached, "partitions");
    report_row(&h->report, "verify.damaged", damaged, "partitions");
    report_row(&h->report, "verify.records", records, "records");
    double stored = (double)(h->census.citizens + h->census.eids + h->event_count);
    if (differing + unreached + damaged > 0 || records != stored) {
        fprintf(stderr,
                "kho-bench: verify: of %.0f records stored it counts %.0f; %.0f partitions differ, "
                "%.0f weren't reached, %.0f are damaged\n",
                stored, records, differing, unreached, damaged);
        h->failures++;
    }
    on_done(client, status, arg);
}

static void seal(struct hanoi *h)
{
    uint64_t began_ns = uv_hrtime();
    int error = wait_done(h, kho_flush(h->client, ADMIN_DEADLINE_MS, on_done, h));
    if (error != 0)
        complain(h, "flush", error);
    report_row(&h->report, "flush.seconds", (double)(uv_hrtime() - began_ns) / 1e9, "s");
    began_ns = uv_hrtime();
    error = wait_done(h, kho_verify(h->client, NULL, ADMIN_DEADLINE_MS, on_verified, h));
    if (error != 0)
        complain(h, "verify", error);
    report_row(&h->report, "verify.seconds", (double)(uv_hrtime() - began_ns) / 1e9, "s");
}

/* --- Figures --------------------------------------------------------------------------------- */

static void row(struct hanoi *h, const char *phase, const char *what, double value,
                const char *unit)
{
    char name[64];
    snprintf(name, sizeof name, "%s.%s", phase, what);
    report_row(&h->report, name, value, unit);
}

static double per(double sum, uint64_t count)
{
    return count > 0 ? sum / (double)count : 0;
}

static void report_phase(struct hanoi *h, const struct phase_figures *f)
{
    double seconds = f->seconds > 0 ? f->seconds : 1e-9;
    row(h, f->name, "records", (double)f->records, "records");
    row(h, f->name, "rate", (double)f->records / seconds, "records/s");
    row(h, f->name, "bandwidth", (double)f->bytes / 1e6 / seconds, "MB/s");
    for (size_t i = 0; i < LATENCIES; i++)
        row(h, f->name, latencies[i].name,
            (double)histogram_percentile(&f->latency, latencies[i].percent) / 1e6, "ms");
    if (h->local.up)
        row(h, f->name, "cpu.nodes", per(f->cpu_nodes * 1e6, f->records), "us/record");
    row(h, f->name, "cpu.client", per(f->cpu_client * 1e6, f->records), "us/record");
}

/* Sums of the phases from `from` to `to`. */
static struct phase_figures sum_of(const struct hanoi *h, size_t from, size_t to)
{
    struct phase_figures sum = {.name = ""};
    for (size_t i = from; i < to && i < h->phase_count; i++) {
        sum.records += h->phases[i].records;
        sum.seconds += h->phases[i].seconds;
        sum.cpu_nodes += h->phases[i].cpu_nodes;
        sum.cpu_client += h->phases[i].cpu_client;
    }
    return sum;
}

static void report_phases(struct hanoi *h)
{
    struct phase_figures load = sum_of(h, 0, LOADS), back = sum_of(h, LOADS + 1, PHASES);
    for (size_t i = 0; i < h->phase_count; i++)
        report_phase(h, &h->phases[i]);
    report_row(&h->report, "load.seconds", load.seconds, "s");
    report_row(&h->report, "load.rate", per((double)load.records, 1) / (load.seconds + 1e-9),
               "records/s");
    report_row(&h->report, "readback.rate", (double)back.records / (back.seconds + 1e-9),
               "records/s");
    report_row(&h->report, "readback.wrong", (double)h->wrong, "records");
    report_row(&h->report, "readback.missing", (double)h->missing, "records");
    /* Of loading: what a stored record costs. */
    if (h->local.up)
        report_row(&h->report, "cpu.nodes", per(load.cpu_nodes * 1e6, load.records), "us/record");
    report_row(&h->report, "cpu.client", per(load.cpu_client * 1e6, load.records), "us/record");
}

static uint64_t stat_of(const struct kho_node_status *node, const char *name)
{
    for (size_t i = 0; i < node->stat_count; i++)
        if (strcmp(node->stat_names[i], name) == 0)
            return node->stats[i];
    return 0;
}

/* Memory is the index's, which grows with the records; buffers and cache are of fixed size. Disk is
 * the log in use, overwritten versions included. */
static void on_status(struct kho *client, int status, const struct kho_node_status *nodes,
                      size_t count, void *arg)
{
    struct hanoi *h = arg;
    double index = 0, disk = 0, records = 0;
    for (size_t i = 0; i < count; i++) {
        double here = (double)stat_of(&nodes[i], "records");
        double bytes = (double)stat_of(&nodes[i], "segment_bytes");
        char name[64];
        index += (double)stat_of(&nodes[i], "index_bytes");
        disk += bytes;
        records += here;
        snprintf(name, sizeof name, "disk.per_record.%s", nodes[i].name);
        report_row(&h->report, name, here > 0 ? bytes / here : 0, "bytes");
    }
    if (records > 0)
        report_row(&h->report, "disk.per_record", disk / records, "bytes");
    if (count > 0 && records / (double)count >= MANY_RECORDS)
        report_row(&h->report, "memory.per_record", index / records, "bytes");
    on_done(client, status, arg);
}

static void measure(struct hanoi *h)
{
    int error = wait_done(h, kho_status(h->client, ADMIN_DEADLINE_MS, on_status, h));
    if (error != 0)
        complain(h, "status", error);
    for (size_t i = 0; i < h->local.node_count; i++) {
        struct process_usage usage;
        char name[96];
        if (process_usage(h->local.nodes[i].pid, &usage) != 0)
            continue;
        snprintf(name, sizeof name, "memory.rss.%s", h->local.nodes[i].name);
        report_row(&h->report, name, (double)usage.rss_bytes / 1e6, "MB");
    }
}

static void print_phases(const struct hanoi *h)
{
    char records[32], rate[32];
    printf("%-20s %12s %10s %8s %9s %9s %9s %10s %11s\n", "phase", "records", "records/s", "MB/s",
           "p50 ms", "p99 ms", "p99.9 ms", "nodes us/r", "client us/r");
    for (size_t i = 0; i < h->phase_count; i++) {
        const struct phase_figures *f = &h->phases[i];
        double seconds = f->seconds > 0 ? f->seconds : 1e-9;
        printf("%-20s %12s %10s %8.1f", f->name, report_thousands(records, (double)f->records),
               report_thousands(rate, (double)f->records / seconds),
               (double)f->bytes / 1e6 / seconds);
        for (size_t k = 0; k < LATENCIES; k++)
            printf(" %9.2f", (double)histogram_percentile(&f->latency, latencies[k].percent) / 1e6);
        printf(" %10.2f %11.2f\n", per(f->cpu_nodes * 1e6, f->records),
               per(f->cpu_client * 1e6, f->records));
    }
}

/* The rows that belong to no phase. */
static void print_rows(const struct hanoi *h)
{
    size_t i;
    json_t *r;
    json_array_foreach(h->report.rows, i, r)
    {
        const char *name = json_string_value(json_object_get(r, "name"));
        double value = json_number_value(json_object_get(r, "value"));
        char text[32];
        bool of_phase = false;
        for (size_t k = 0; k < h->phase_count; k++)
            of_phase |= strncmp(name, h->phases[k].name, strlen(h->phases[k].name)) == 0;
        if (of_phase)
            continue;
        if (value >= 1000 || value == (double)(int)value)
            report_thousands(text, value);
        else
            snprintf(text, sizeof text, "%.3f", value);
        printf("%-20s %12s %s\n", name, text, json_string_value(json_object_get(r, "unit")));
    }
}

/* --- The run --------------------------------------------------------------------------------- */

static int client_open(struct hanoi *h)
{
    struct kho_options options;
    kho_options_init(&options);
    options.cluster = h->options->cluster != NULL ? h->options->cluster : h->local.cluster;
    int error = wait_done(h, kho_open(&h->loop, &options, on_done, h, &h->client));
    if (error != 0)
        complain(h, options.cluster, error);
    return error;
}

static void client_close(struct hanoi *h)
{
    if (h->client != NULL)
        kho_close(h->client, NULL, NULL);
    uv_run(&h->loop, UV_RUN_DEFAULT);
}

static void work(struct hanoi *h)
{
    if (client_open(h) != 0 || collections_make(h) != 0)
        return;
    phases_run(h);
    if (interrupted) {
        fprintf(stderr, "kho-bench: stopped by signal %d\n", interrupted);
        h->failures++;
        return;
    }
    report_phases(h);
    seal(h);
    measure(h);
}

static int prepare(struct hanoi *h)
{
    const struct hanoi_options *o = h->options;
    int error = census_init(&h->census, o->seed, o->scale);
    if (error == 0) {
        h->event_count = h->census.activations_1 + h->census.activations_2;
        h->event_keys = calloc(h->event_count, EVENT_KEY);
        h->phases = calloc(PHASES, sizeof *h->phases);
        error = h->event_keys == NULL || h->phases == NULL ? -ENOMEM : 0;
    }
    if (error == 0)
        error = uv_loop_init(&h->loop);
    if (error != 0)
        complain(h, "start", error);
    return error;
}

int hanoi_run(const struct hanoi_options *options)
{
    struct hanoi h = {.options = options};
    char memory[32];
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    if (prepare(&h) != 0)
        goto out;
    report_init(&h.report, "hanoi");
    report_row(&h.report, "scale", options->scale, "");
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    local_memory(memory, h.census.citizens + h.census.eids + h.event_count, 0);
    if (options->cluster == NULL && local_up(&h.local, options->dir, LOCAL_NODES, 1, memory) != 0)
        h.failures++;
    else
        work(&h);
    client_close(&h);
    uv_loop_close(&h.loop);
    local_down(&h.local);
    print_phases(&h);
    print_rows(&h);
    if (options->json != NULL && report_write(&h.report, h.failures == 0, options->json) != 0)
        h.failures++;
    printf("%s\n", h.failures == 0 ? "ok: every record compared equal, all replicas agree"
                                   : "failed: see the messages above");
    report_fini(&h.report);
out:
    census_fini(&h.census);
    free(h.event_keys);
    free(h.phases);
    return h.failures == 0 ? 0 : 1;
}
