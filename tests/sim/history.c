/* history.c: a growing list of operations. */
#include "history.h"

void history_init(struct history *history, struct sim *sim)
{
    *history = (struct history){.sim = sim};
}

void history_fini(struct history *history)
{
    free(history->ops);
    *history = (struct history){0};
}

uint32_t history_key(struct history *history)
{
    return history->keys++;
}

size_t history_begin(struct history *history, uint32_t key, uint32_t client, enum history_kind kind,
                     uint64_t value)
{
    KHO_ASSERT(key < history->keys);
    if (history->count == history->room) {
        history->room = history->room * 2 + 256;
        history->ops = realloc(history->ops, history->room * sizeof *history->ops);
        KHO_ASSERT(history->ops != NULL);
    }
    history->ops[history->count] = (struct history_op){.key = key,
                                                       .client = client,
                                                       .kind = (uint8_t)kind,
                                                       .end = HISTORY_OPEN,
                                                       .value = value,
                                                       .begun_ns = history->sim->now_ns,
                                                       .ended_ns = UINT64_MAX};
    return history->count++;
}

void history_end(struct history *history, size_t at, enum history_end end, uint64_t value,
                 struct version version)
{
    KHO_ASSERT(at < history->count);
    struct history_op *op = &history->ops[at];
    KHO_ASSERT(op->end == HISTORY_OPEN || op->end == HISTORY_IN_DOUBT);
    op->end = (uint8_t)end;
    op->version = version;
    if (op->kind == HISTORY_READ)
        op->value = value;
    op->ended_ns = end == HISTORY_IN_DOUBT ? UINT64_MAX : history->sim->now_ns;
}

struct version history_acknowledged(const struct history *history, uint32_t key)
{
    struct version highest = {0};
    for (size_t i = 0; i < history->count; i++) {
        const struct history_op *op = &history->ops[i];
        if (op->key == key && op->end == HISTORY_OK)
            highest = version_max(highest, op->version);
    }
    return highest;
}
