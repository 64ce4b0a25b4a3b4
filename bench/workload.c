/* workload.c: calls are drawn first (numbers and revisions), and made into items when they are
 * sent, so that a call that must wait costs no memory, and all items are made in one buffer that
 * stays in the cache. */
#include "workload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <kho/error.h>

#include "mix.h"

const char *const work_op_names[OPS] = {
    [OP_READ] = "read",     [OP_UPDATE] = "update", [OP_INSERT] = "insert", [OP_SCAN] = "scan",
    [OP_MODIFY] = "modify", [OP_APPEND] = "append", [OP_READBACK] = "back",
};

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/* This client's share of the records that are there before. */
static uint64_t share_of(const struct workload *w)
{
    return (w->options->records + w->clients - 1 - w->client) / w->clients;
}

static bool writes_over(const struct load_options *o)
{
    return o->records > 0 && (o->command == LOAD_PUT ||
                              (o->command == LOAD_MIXED && o->mix->update + o->mix->modify > 0));
}

/* Keys in turn are written by one client each; others by any. */
static bool writes_alone(const struct workload *w)
{
    return w->clients == 1 || w->pick.kind == PICK_TURN;
}

int workload_init(struct workload *w, const struct load_options *options,
                  const struct values *values, uint64_t client, uint64_t clients)
{
    *w = (struct workload){.options = options,
                           .values = values,
                           .client = client,
                           .clients = clients,
                           .dice = dice_of(options->seed * 1000003 + client)};
    pick_init(&w->pick, options->pick, options->pick == PICK_TURN ? share_of(w) : options->records);
    w->kept = calloc(WORK_KEEPS, sizeof *w->kept);
    w->insert_ended = calloc(WORK_INSERTS, sizeof *w->insert_ended);
    w->cursors = calloc(WORK_CURSORS, sizeof *w->cursors);
    if (w->kept == NULL || w->insert_ended == NULL || w->cursors == NULL)
        goto out;
    if (writes_over(options)) {
        w->sent = calloc(options->records, sizeof *w->sent);
        w->acknowledged = calloc(options->records, sizeof *w->acknowledged);
        if (w->sent == NULL || w->acknowledged == NULL)
            goto out;
    }
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
    free(w->insert_ended);
    free(w->cursors);
    *w = (struct workload){.options = NULL};
}

void workload_begin(struct workload *w, enum work_phase phase)
{
    w->phase = phase;
    w->next = 0;
    w->walked = false;
    if (phase == PHASE_WALK)
        w->cursor_count = 1; /* the start, of zeros */
}

/* --- Drawing ---------------------------------------------------------------------------------- */

/* The number of this client's k-th new record. */
static uint64_t number_new(const struct workload *w, uint64_t k)
{
    bool dealt_before = w->phase != PHASE_PRELOAD && w->phase != PHASE_TOUCH;
    return (dealt_before ? w->options->records : 0) + w->client + w->clients * k;
}

static uint64_t number_picked(struct workload *w)
{
    uint64_t at = pick_draw(&w->pick, &w->dice);
    if (w->pick.kind == PICK_TURN)
        return w->client + w->clients * at;
    return at < w->options->records ? at : number_new(w, at - w->options->records);
}

static uint32_t oldest_of(const struct workload *w, uint64_t number)
{
    return w->acknowledged != NULL && number < w->options->records && writes_alone(w)
               ? w->acknowledged[number]
               : 0;
}

/* Clients that write the same keys tell their revisions apart by the remainder. */
static uint32_t revision_next(struct workload *w, uint64_t number)
{
    w->sent[number] += 1;
    return (uint32_t)((w->sent[number] * w->clients - w->client) % VALUE_REVISIONS);
}

static void draw_new(struct workload *w, struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        work->numbers[i] = number_new(w, w->next++);
        work->revisions[i] = 0;
    }
}

static void draw_picked(struct workload *w, struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        uint64_t number = number_picked(w);
        work->numbers[i] = number;
        work->revisions[i] =
            work->op == OP_UPDATE ? revision_next(w, number) : oldest_of(w, number);
    }
}

static void draw_readback(struct workload *w, struct work *work)
{
    for (size_t i = 0; i < work->count; i++) {
        work->numbers[i] = w->next++;
        work->revisions[i] = oldest_of(w, w->kept[work->numbers[i]].number);
    }
}

static void draw_scan(struct workload *w, struct work *work)
{
    work->count = 1 + (size_t)dice_below(&w->dice, WORK_SCAN_MAX);
    work->from = w->cursors[dice_below(&w->dice, w->cursor_count)];
}

/* So many pages that there is a place for each scan to start from. */
static void draw_walk(struct workload *w, struct work *work)
{
    work->count = (size_t)(w->options->records / WORK_CURSORS) + WORK_SCAN_MAX;
    work->from = w->cursors[w->cursor_count - 1];
}

static enum work_op op_mixed(struct workload *w)
{
    const struct mix *mix = w->options->mix;
    unsigned at = (unsigned)dice_below(&w->dice, 100);
    if (at < mix->read)
        return OP_READ;
    at -= mix->read;
    if (at < mix->update)
        return OP_UPDATE;
    at -= mix->update;
    if (at < mix->scan)
        return OP_SCAN;
    at -= mix->scan;
    if (at < mix->modify)
        return OP_MODIFY;
    /* An insert that hasn't ended for so long holds up new ones: they become reads. */
    return w->next - w->inserted < WORK_INSERTS / 2 ? OP_INSERT : OP_READ;
}

static enum work_op op_next(struct workload *w)
{
    if (w->phase == PHASE_PRELOAD)
        return OP_INSERT;
    if (w->phase == PHASE_TOUCH)
        return OP_READ;
    if (w->phase == PHASE_WALK)
        return OP_SCAN;
    if (w->phase == PHASE_READBACK)
        return OP_READBACK;
    switch (w->options->command) {
    case LOAD_GET:
        return OP_READ;
    case LOAD_APPEND:
        return OP_APPEND;
    case LOAD_MIXED:
        return op_mixed(w);
    case LOAD_PUT:
    case LOAD_COMMANDS:
        break;
    }
    return w->options->records > 0 ? OP_UPDATE : OP_INSERT;
}

static uint64_t left_of(const struct workload *w)
{
    switch (w->phase) {
    case PHASE_PRELOAD:
    case PHASE_TOUCH:
        return share_of(w) - w->next;
    case PHASE_WALK:
        return w->walked ? 0 : 1;
    case PHASE_READBACK:
        return smaller(w->kept_count, WORK_KEEPS) - w->next;
    case PHASE_RUN:
        break;
    }
    return UINT64_MAX;
}

bool workload_draw(struct workload *w, size_t batch, struct work *ret_work)
{
    size_t count = (size_t)smaller(left_of(w), batch);
    if (count == 0)
        return false;
    ret_work->op = op_next(w);
    ret_work->writing = false;
    ret_work->count = count;
    if (w->phase == PHASE_WALK)
        draw_walk(w, ret_work);
    else if (ret_work->op == OP_SCAN)
        draw_scan(w, ret_work);
    else if (ret_work->op == OP_READBACK)
        draw_readback(w, ret_work);
    else if (ret_work->op == OP_INSERT || ret_work->op == OP_APPEND || w->phase == PHASE_TOUCH)
        draw_new(w, ret_work);
    else
        draw_picked(w, ret_work);
    return true;
}

bool workload_goes_on(struct workload *w, struct work *work)
{
    if (work->op != OP_MODIFY || work->writing)
        return false;
    work->writing = true;
    for (size_t i = 0; i < work->count; i++)
        work->revisions[i] = revision_next(w, work->numbers[i]);
    return true;
}

/* --- Items ------------------------------------------------------------------------------------ */

static bool work_writes(const struct work *work)
{
    return work->op == OP_UPDATE || work->op == OP_INSERT || work->op == OP_APPEND || work->writing;
}

size_t workload_room(const struct workload *w, size_t batch)
{
    return batch * (VALUE_KEY + w->values->max);
}

size_t workload_make(const struct workload *w, const struct work *work, struct kho_item *items,
                     char *bytes)
{
    size_t sum = 0;
    if (work->op == OP_SCAN)
        return 0;
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
        if (work_writes(work)) {
            item->value = bytes;
            item->value_len = value_make(w->values, work->numbers[i], work->revisions[i], bytes);
            bytes += item->value_len;
        }
        sum += item->key_len + item->value_len;
    }
    return sum;
}

/* --- Taking ----------------------------------------------------------------------------------- */

static enum work_verdict take_read(const struct workload *w, uint64_t number, uint32_t oldest,
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

/* Records that are picked from grow without gaps: up to the first insert that hasn't ended. */
static void take_inserted(struct workload *w, uint64_t number)
{
    uint64_t before = w->inserted;
    w->insert_ended[(number - w->options->records) / w->clients % WORK_INSERTS] = true;
    while (w->insert_ended[w->inserted % WORK_INSERTS])
        w->insert_ended[w->inserted++ % WORK_INSERTS] = false;
    if (w->inserted > before && w->pick.kind == PICK_LATEST)
        pick_grow(&w->pick, w->options->records + w->inserted);
}

enum work_verdict workload_take(struct workload *w, const struct work *work, size_t i,
                                const struct kho_result *result)
{
    uint64_t number = work->numbers[i];
    if (work->op == OP_READBACK)
        return take_read(w, w->kept[number].number, work->revisions[i], result);
    if (!work_writes(work))
        return take_read(w, number, work->revisions[i], result);
    if (result->status != 0 || result->outcome != KHO_APPLIED || result->key_len != VALUE_KEY)
        return WORK_FAILED;
    if (w->phase != PHASE_RUN)
        return WORK_RIGHT;
    if (work->op == OP_INSERT && w->options->command == LOAD_MIXED)
        take_inserted(w, number);
    else if (w->acknowledged != NULL && w->acknowledged[number] < work->revisions[i])
        w->acknowledged[number] = work->revisions[i];
    keep(w, number, result);
    return WORK_RIGHT;
}

enum work_verdict workload_take_scanned(struct workload *w, const struct kho_result *result)
{
    uint64_t number;
    if (result->status != 0)
        return WORK_FAILED;
    if (!value_number(result->key, result->key_len, &number))
        return WORK_WRONG;
    return take_read(w, number, 0, result);
}

void workload_take_page(struct workload *w, const struct kho_cursor *next, bool done)
{
    if (w->phase != PHASE_WALK)
        return;
    if (done || w->cursor_count == WORK_CURSORS)
        w->walked = true;
    else
        w->cursors[w->cursor_count++] = *next;
}
