/* history.h: what clients asked and were told, key by key, and whether a register explains it.
 *
 * Each write of a value has an id of its own, never used twice; 0 stands for *no record*. Moments
 * are virtual time. A write in doubt may take effect at any moment after it began, or never. */
#ifndef KHO_SIM_HISTORY_H
#define KHO_SIM_HISTORY_H

#include "sim.h"
#include <kho/version.h>

enum history_kind { HISTORY_WRITE = 1, HISTORY_READ };
enum history_end {
    HISTORY_OPEN,    /* under way; in the end as in doubt */
    HISTORY_OK,      /* acknowledged, or read */
    HISTORY_NOT,     /* certainly not applied, or a read without an answer */
    HISTORY_IN_DOUBT /* a write */
};

struct history_op {
    uint32_t key;
    uint32_t client;
    uint8_t kind;
    uint8_t end;
    uint64_t value;
    uint64_t begun_ns, ended_ns;
    struct version version; /* zero: not known */
};

struct history {
    struct sim *sim;
    struct history_op *ops;
    size_t count, room;
    uint32_t keys;
    uint32_t unjudged; /* searches that gave up */
};

void history_init(struct history *history, struct sim *sim);
void history_fini(struct history *history);
/* A new key; its register begins without a record. */
uint32_t history_key(struct history *history);
/* An op begins now; returns its number. A read's value is told at its end. */
size_t history_begin(struct history *history, uint32_t key, uint32_t client, enum history_kind kind,
                     uint64_t value);
/* It ends now. A write in doubt may end once more, when it was gone on with. */
void history_end(struct history *history, size_t op, enum history_end end, uint64_t value,
                 struct version version);
/* The highest version that was acknowledged or read: what a read that begins now must at least see.
 */
struct version history_acknowledged(const struct history *history, uint32_t key);

/* --- check.c ---------------------------------------------------------------------------------- */

enum check_result { CHECK_OK, CHECK_VIOLATED, CHECK_GAVE_UP };

/* Is there an order of the key's ops that respects their moments and explains each read? By trying,
 * with the states that were tried remembered (Wing and Gong 1993; Lowe 2017). */
enum check_result check_linearizable(const struct history_op *ops, size_t count);
/* All keys of a history: linearizable; one version, one value; versions read never older than those
 * acknowledged or read before the read began. Fails the simulation with what it found. */
void check_history(struct history *history);

#endif
