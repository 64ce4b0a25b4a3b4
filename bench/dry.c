/* dry.c: calls are made in groups of some hundred records, so that the clock is read seldom, and
 * answered right; what the answers cost isn't counted. */
#include "dry.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <uv.h>

#include "histogram.h"

enum { GROUP_RECORDS = 256, GROUP_BYTES = 64 << 20, DRY_RECORDS = 100000 };
#define DRY_SECONDS 0.2 /* at most, of CPU */

struct dry {
    struct workload *w;
    size_t batch, group; /* records a call, calls a group */
    struct work *works;
    struct kho_item *items;
    struct kho_result *results; /* of a group */
    char *sent, *answers;
    struct histogram *latency;
    double seconds;
};

static double cpu_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* The answer that record i of a call should get. */
static size_t answer(const struct dry *dry, const struct work *work, size_t i, char *bytes,
                     struct kho_result *result)
{
    static const char key[] = "0123456789abcdef";
    *result = (struct kho_result){.key = key, .key_len = VALUE_KEY};
    if (work->op != OP_READ && work->op != OP_MODIFY)
        return 0;
    result->value = bytes;
    result->value_len = value_make(dry->w->values, work->numbers[i], work->revisions[i], bytes);
    return result->value_len;
}

static void answer_group(struct dry *dry)
{
    char *at = dry->answers;
    for (size_t k = 0; k < dry->group; k++)
        for (size_t i = 0; i < dry->works[k].count && dry->works[k].op != OP_SCAN; i++)
            at += answer(dry, &dry->works[k], i, at, &dry->results[k * dry->batch + i]);
}

static void take_call(struct dry *dry, size_t k)
{
    struct work *work = &dry->works[k];
    struct kho_result *results = &dry->results[k * dry->batch];
    if (work->op == OP_SCAN)
        return;
    do {
        for (size_t i = 0; i < work->count; i++)
            workload_take(dry->w, work, i, &results[i]);
        if (!workload_goes_on(dry->w, work))
            break;
        workload_make(dry->w, work, dry->items, dry->sent);
    } while (true);
    histogram_add(dry->latency, uv_hrtime() % 1000000, 1);
}

static void run_group(struct dry *dry)
{
    double began = cpu_now();
    for (size_t k = 0; k < dry->group; k++) {
        workload_draw(dry->w, dry->batch, &dry->works[k]);
        workload_make(dry->w, &dry->works[k], dry->items, dry->sent);
    }
    double drawn = cpu_now();
    answer_group(dry);
    double answered = cpu_now();
    for (size_t k = 0; k < dry->group; k++)
        take_call(dry, k);
    dry->seconds += cpu_now() - answered + drawn - began;
}

static bool dry_init(struct dry *dry)
{
    size_t records = dry->group * dry->batch;
    dry->works = calloc(dry->group, sizeof *dry->works);
    dry->items = calloc(dry->batch, sizeof *dry->items);
    dry->results = calloc(records, sizeof *dry->results);
    dry->sent = malloc(workload_room(dry->w, dry->batch));
    dry->answers = malloc(records * dry->w->values->max);
    dry->latency = calloc(1, sizeof *dry->latency);
    if (dry->works == NULL || dry->items == NULL || dry->results == NULL || dry->sent == NULL ||
        dry->answers == NULL || dry->latency == NULL)
        return false;
    for (size_t k = 0; k < dry->group; k++) {
        dry->works[k].numbers = calloc(dry->batch, sizeof *dry->works[k].numbers);
        dry->works[k].revisions = calloc(dry->batch, sizeof *dry->works[k].revisions);
        if (dry->works[k].numbers == NULL || dry->works[k].revisions == NULL)
            return false;
    }
    return true;
}

static void dry_fini(struct dry *dry)
{
    for (size_t k = 0; dry->works != NULL && k < dry->group; k++) {
        free(dry->works[k].numbers);
        free(dry->works[k].revisions);
    }
    free(dry->works);
    free(dry->items);
    free(dry->results);
    free(dry->sent);
    free(dry->answers);
    free(dry->latency);
}

double dry_run(struct workload *w, size_t batch)
{
    struct dry dry = {
        .w = w, .batch = batch, .group = batch < GROUP_RECORDS ? GROUP_RECORDS / batch : 1};
    double each = -1;
    while (dry.group > 1 && dry.group * workload_room(w, batch) > GROUP_BYTES)
        dry.group /= 2;
    if (dry_init(&dry)) {
        size_t done = 0;
        workload_begin(w, PHASE_RUN);
        /* The first group warms the caches. */
        run_group(&dry);
        dry.seconds = 0;
        for (; done < DRY_RECORDS && dry.seconds < DRY_SECONDS; done += dry.group * batch)
            run_group(&dry);
        each = dry.seconds / (double)done;
    }
    dry_fini(&dry);
    return each;
}
