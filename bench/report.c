/* report.c: rows as JSON, and the machine they were measured on, from uname, /proc and os-release.
 * What can't be read is left out of the machine; a file that can't be written is an error. */
#include "report.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

/* What follows `prefix` in the first line that begins with it, without quotes and blanks. */
static json_t *line_after(const char *path, const char *prefix)
{
    char line[512];
    json_t *found = NULL;
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return NULL;
    while (found == NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, prefix, strlen(prefix)) != 0)
            continue;
        char *from = line + strlen(prefix) + strspn(line + strlen(prefix), " \t:=\"");
        from[strcspn(from, "\"\n")] = '\0';
        found = json_string(from);
    }
    fclose(file);
    return found;
}

static void machine_set(json_t *machine, const char *key, json_t *value)
{
    if (value != NULL)
        json_object_set_new(machine, key, value);
}

static json_t *machine_describe(void)
{
    struct utsname name;
    json_t *machine = json_object();
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    machine_set(machine, "cpu", line_after("/proc/cpuinfo", "model name"));
    machine_set(machine, "cores", json_integer(sysconf(_SC_NPROCESSORS_ONLN)));
    machine_set(machine, "memory_bytes", json_integer((json_int_t)pages * page));
    machine_set(machine, "system", line_after("/etc/os-release", "PRETTY_NAME"));
    if (uname(&name) == 0)
        machine_set(machine, "kernel", json_string(name.release));
    return machine;
}

void report_init(struct report *report, const char *bench)
{
    report->root = json_object();
    report->rows = json_array();
    json_object_set_new(report->root, "bench", json_string(bench));
    json_object_set_new(report->root, "machine", machine_describe());
    json_object_set_new(report->root, "rows", report->rows);
}

void report_fini(struct report *report)
{
    json_decref(report->root);
    report->root = NULL;
}

static json_t *number(double value)
{
    bool whole = value == floor(value) && fabs(value) < 1e15;
    return whole ? json_integer((json_int_t)value) : json_real(value);
}

static void row_append(struct report *report, const char *name, double value, const char *unit,
                       json_t *lowest, json_t *ratio)
{
    json_array_append_new(report->rows,
                          json_pack("{s:s, s:o, s:s, s:o, s:o}", "name", name, "value",
                                    number(value), "unit", unit, "floor", lowest, "ratio", ratio));
}

void report_row(struct report *report, const char *name, double value, const char *unit)
{
    row_append(report, name, value, unit, json_null(), json_null());
}

void report_row_floor(struct report *report, const char *name, double value, const char *unit,
                      double floor)
{
    row_append(report, name, value, unit, number(floor),
               floor > 0 ? json_real(value / floor) : json_null());
}

void report_print(const struct report *report)
{
    size_t i;
    json_t *row;
    json_array_foreach(report->rows, i, row)
    {
        double value = json_number_value(json_object_get(row, "value"));
        char text[32];
        if (value >= 1000 || value == floor(value))
            report_thousands(text, value);
        else
            snprintf(text, sizeof text, "%.3f", value);
        printf("%-22s %14s %s\n", json_string_value(json_object_get(row, "name")), text,
               json_string_value(json_object_get(row, "unit")));
    }
}

int report_write(struct report *report, bool ok, const char *path)
{
    const size_t flags = JSON_INDENT(2) | JSON_REAL_PRECISION(6);
    json_object_set_new(report->root, "ok", json_boolean(ok));
    if (strcmp(path, "-") == 0) {
        json_dumpf(report->root, stdout, flags);
        putchar('\n');
        return fflush(stdout) == 0 ? 0 : -1;
    }
    if (json_dump_file(report->root, path, flags) != 0) {
        fprintf(stderr, "kho-bench: can't write %s: %s\n", path, strerror(errno));
        return -1;
    }
    return 0;
}

char *report_thousands(char *to, double value)
{
    char digits[24];
    int len = snprintf(digits, sizeof digits, "%lld", llround(value));
    char *at = to;
    for (int i = 0; i < len; i++) {
        if (i > 0 && (len - i) % 3 == 0 && digits[i - 1] != '-')
            *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return to;
}
