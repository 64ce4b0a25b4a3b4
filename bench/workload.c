/* workload.c: calls are drawn first (numbers and revisions), and made into items when they are
 * sent, so that a call that must wait costs no memory, and all items are made in one buffer that
 * stays in the cache. */
#include "workload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <kho/error.h>

int workload_init(struct workload *w, const struct load_options *options,
                  const struct values *values, uint64_t client, uint64_t clients)
{
    *w = (struct workload){.options = options,
                           .values = values,
                           .client = client,
                           .clients = clients,
                           .dice = dice_of(options->seed * 1000003 + client)};
    w->kept = calloc(WORK_KEEPS, sizeof *w->kept);
    if (options->command == LOAD_PUT && options->records > 0) {
        w->sent = calloc(options->records, sizeof *w->sent);
        w->acknowledged = calloc(options->records, sizeof *w->acknowledged);
        if (w->sent == NULL || w->acknowledged == NULL)
            goto out;
    }
    if (w->kept != NULL)
        return 0;
out:
    workload_fini(w);
    return -ENOMEM;
}

void workload_fini(struct workload *w)
{
    free(w->sent);
    free(w->acknowledged);
    free(w->kept);
    *w = (struct workload){.options = NULL};
}

void workload_begin(struct workload *w, enum work_phase phase)
{
    w->phase = phase;
    w->next = 0;
}

/* --- Drawing ---------------------------------------------------------------------------------- */

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* This client's share of the records that are there before. */
static uint64_t share_of(const struct workload *w)
{
    return (w->options->records + w->clients - 1 - w->client) / w->clients;
}

static uint64_t number_dealt(struct workload *w)
{
    return w->client + w->clients * w->next++;
}

static void draw_dealt(struct workload *w, enum work_op op, size_t count, struct work *work)
{
    work->op = op;
    work->count = count;
    for (size_t i = 0; i < count; i++) {
        work->numbers[i] = number_dealt(w);
        work->revisions[i] = 0;
    }
}

/* Keys in turn, each with its next revision. Clients tell theirs apart by the remainder. */
static void draw_updates(struct workload *w, size_t count, struct work *work)
{
    work->op = OP_UPDATE;
    work->count = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t number = number_dealt(w) % w->options->records;
        work->numbers[i] = number;
        work->revisions[i] = w->sent[number] += 1;
    }
}

static void draw_reads(struct workload *w, size_t count, struct work *work)
{
    work->op = OP_READ;
    work->count = count;
    for (size_t i = 0; i < count; i++) {
        work->numbers[i] = dice_below(&w->dice, w->options->records);
        work->revisions[i] = 0;
    }
}

static void draw_readback(struct workload *w, size_t count, struct work *work)
{
    work->op = OP_READBACK;
    work->count = count;
    for (size_t i = 0; i < count; i++) {
        uint64_t place = w->next++, number = w->kept[place].number;
        work->numbers[i] = place;
        work->revisions[i] = w->acknowledged != NULL ? w->acknowledged[number] : 0;
    }
}

bool workload_draw(struct workload *w, size_t batch, struct work *ret_work)
{
    uint64_t left = w->phase == PHASE_RUN        ? UINT64_MAX
                    : w->phase == PHASE_READBACK ? smaller(w->kept_count, WORK_KEEPS) - w->next
                                                 : share_of(w) - w->next;
    size_t count = (size_t)smaller(left, batch);
    if (count == 0)
        return false;
    switch (w->phase) {
    case PHASE_PRELOAD:
        draw_dealt(w, OP_INSERT, count, ret_work);
        break;
    case PHASE_TOUCH:
        draw_dealt(w, OP_READ, count, ret_work);
        break;
    case PHASE_READBACK:
        draw_readback(w, count, ret_work);
        break;
    case PHASE_RUN:
        if (w->options->command == LOAD_GET)
            draw_reads(w, count, ret_work);
        else if (w->options->command == LOAD_APPEND)
            draw_dealt(w, OP_APPEND, count, ret_work);
        else if (w->options->records > 0)
            draw_updates(w, count, ret_work);
        else
            draw_dealt(w, OP_INSERT, count, ret_work);
        break;
    }
    return true;
}

/* --- Items ------------------------------------------------------------------------------------ */

static bool op_writes(enum work_op op)
{
    return op == OP_UPDATE || op == OP_INSERT || op == OP_APPEND;
}

size_t workload_room(const struct workload *w, size_t batch)
{
    return batch * (VALUE_KEY + w->values->max);
}

size_t workload_make(const struct workload *w, const struct work *work, struct kho_item *items,
                     char *bytes)
{
    size_t sum = 0;
    for (size_t i = 0; i < work->count; i++) {
        struct kho_item *item = &items[i];
        *item = (struct kho_item){.key = NULL};
        if (work->op == OP_READBACK) {
            item->key = w->kept[work->numbers[i]].key;
            item->key_len = VALUE_KEY;
        } else if (work->op != OP_APPEND) {
            value_key(work->numbers[i], bytes);
            item->key = bytes;
            item->key_len = VALUE_KEY;
            bytes += VALUE_KEY;
        }
        if (op_writes(work->op)) {
            item->value = bytes;
            item->value_len = value_make(w->values, work->numbers[i], work->revisions[i], bytes);
            bytes += item->value_len;
        }
        sum += item->key_len + item->value_len;
    }
    return sum;
}

/* --- Taking ----------------------------------------------------------------------------------- */

static enum work_verdict take_read(struct workload *w, uint64_t number, uint32_t oldest,
                                   const struct kho_result *result)
{
    uint32_t revision;
    if (result->status == KHO_ENOTFOUND)
        return WORK_MISSING;
    if (result->status != 0)
        return WORK_FAILED;
    if (!value_check(w->values, number, result->value, result->value_len, &revision) ||
        revision < oldest)
        return WORK_WRONG;
    return WORK_RIGHT;
}

static void keep(struct workload *w, uint64_t number, const struct kho_result *result)
{
    struct work_kept *kept = &w->kept[w->kept_count++ % WORK_KEEPS];
    kept->number = number;
    memcpy(kept->key, result->key, VALUE_KEY);
}

enum work_verdict workload_take(struct workload *w, const struct work *work, size_t i,
                                const struct kho_result *result)
{
    uint64_t number = work->numbers[i];
    if (work->op == OP_READBACK)
        return take_read(w, w->kept[number].number, work->revisions[i], result);
    if (!op_writes(work->op))
        return take_read(w, number, work->revisions[i], result);
    if (result->status != 0 || result->outcome != KHO_APPLIED || result->key_len != VALUE_KEY)
        return WORK_FAILED;
    if (w->phase != PHASE_RUN)
        return WORK_RIGHT;
    if (work->op == OP_UPDATE && w->acknowledged[number] < work->revisions[i])
        w->acknowledged[number] = work->revisions[i];
    keep(w, number, result);
    return WORK_RIGHT;
}
