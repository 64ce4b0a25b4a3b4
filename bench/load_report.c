/* load_report.c: rates, latencies, costs a record. In a mix each operation has rows of its own
 * behind those of all. */
#include "load_report.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const char *pick_name(const struct load_options *o)
{
    static const char *const names[PICK_KINDS] = {"turn", "uniform", "zipfian", "latest"};
    return names[o->pick];
}

void load_report_settings(struct report *report, const struct load_options *o)
{
    char workload[2] = {o->mix->letter, '\0'};
    json_t *settings = json_pack(
        "{s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:f, s:b, s:I, s:s, s:I, s:I, s:b, s:I}", "seconds",
        o->seconds, "warmup", o->warmup, "local", (json_int_t)o->local, "shards",
        (json_int_t)o->shards, "clients", (json_int_t)o->clients, "batch", (json_int_t)o->batch,
        "inflight", (json_int_t)o->inflight, "rate", o->rate, "fixed", (int)o->fixed, "records",
        (json_int_t)o->records, "distribution", pick_name(o), "value_min", (json_int_t)o->value_min,
        "value_max", (json_int_t)o->value_max, "incompressible", (int)o->incompressible, "seed",
        (json_int_t)o->seed);
    if (o->command == LOAD_MIXED)
        json_object_set_new(settings, "workload", json_string(workload));
    json_object_set_new(report->root, "settings", settings);
}

static void row(struct report *report, const char *prefix, const char *name, double value,
                const char *unit)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, name);
    report_row(report, full, value, unit);
}

static void report_latency(struct report *report, const char *prefix, const struct histogram *h)
{
    static const struct {
        const char *name;
        double percent;
    } points[] = {{"p50", 50}, {"p90", 90}, {"p99", 99}, {"p999", 99.9}, {"p9999", 99.99}};
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        row(report, prefix, points[i].name,
            (double)histogram_percentile(h, points[i].percent) / 1e3, "us");
    row(report, prefix, "max", (double)h->max / 1e3, "us");
    row(report, prefix, "mean", h->count > 0 ? h->sum / (double)h->count / 1e3 : 0, "us");
}

/* Of all operations, those that never began included. */
static void latency_of_all(const struct load_figures *f, struct histogram *ret_all)
{
    *ret_all = f->never_begun;
    for (size_t op = 0; op < OPS; op++)
        histogram_merge(ret_all, &f->ops[op].latency);
}

static void report_operations(struct report *report, const struct load_options *o,
                              const struct load_figures *f)
{
    for (size_t op = 0; op < OPS; op++) {
        char prefix[16];
        if (f->ops[op].calls == 0)
            continue;
        snprintf(prefix, sizeof prefix, "%s.", work_op_names[op]);
        row(report, prefix, "rate", (double)f->ops[op].records / o->seconds, "records/s");
        report_latency(report, prefix, &f->ops[op].latency);
    }
}

static void report_open_loop(struct report *report, const struct load_options *o,
                             const struct load_figures *f)
{
    report_row(report, "rate.intended", o->rate, "records/s");
    report_row(report, "delayed", (double)f->delayed, "calls");
    report_row(report, "never_begun", (double)f->never_begun.count, "calls");
}

static void report_costs(struct report *report, const struct load_costs *c, uint64_t records)
{
    double each = records > 0 ? 1e6 / (double)records : 0;
    if (c->nodes_seconds >= 0) {
        report_row(report, "cpu.nodes", c->nodes_seconds * each, "us/record");
        report_row(report, "cpu.total", (c->nodes_seconds + c->client_seconds) * each, "us/record");
    }
    report_row(report, "cpu.client", c->client_seconds * each, "us/record");
    report_row(report, "cpu.client.generator", c->generator_seconds * 1e6, "us/record");
    if (c->nodes_seconds >= 0)
        report_row(report, "memory.rss", c->rss_bytes / 1e6, "MB");
}

void load_report_figures(struct report *report, const struct load_options *o,
                         const struct load_figures *f, const struct load_costs *c)
{
    static struct histogram all;
    uint64_t records = 0, bytes = 0;
    for (size_t op = 0; op < OPS; op++) {
        records += f->ops[op].records;
        bytes += f->ops[op].bytes;
    }
    latency_of_all(f, &all);
    report_row(report, "rate", (double)records / o->seconds, "records/s");
    report_row(report, "bandwidth", (double)bytes / 1e6 / o->seconds, "MB/s");
    report_latency(report, "", &all);
    report_costs(report, c, records);
    if (o->rate > 0)
        report_open_loop(report, o, f);
    if (o->command == LOAD_MIXED)
        report_operations(report, o, f);
    if (c->preload_rate > 0)
        report_row(report, "preload.rate", c->preload_rate, "records/s");
    report_row(report, "records", (double)records, "records");
    report_row(report, "read_back", (double)f->read_back, "records");
    report_row(report, "errors", (double)f->failed, "records");
    report_row(report, "missing", (double)f->missing, "records");
    report_row(report, "wrong", (double)f->wrong, "records");
}

int load_report_histogram(const struct load_options *o, const struct load_figures *f)
{
    static struct histogram all;
    FILE *file = fopen(o->histogram, "we");
    int error = file == NULL;
    if (file != NULL) {
        latency_of_all(f, &all);
        error = histogram_write(&all, 1000, file) != 0;
        error |= fclose(file) != 0;
    }
    if (error)
        fprintf(stderr, "kho-bench: can't write %s: %s\n", o->histogram, strerror(errno));
    return error ? -1 : 0;
}
