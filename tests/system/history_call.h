/* history_call.h: a call of libkho for several records, written down as it begins and ends
 * (history_file.h), and what is counted of it. */
#ifndef KHO_SYSTEM_HISTORY_CALL_H
#define KHO_SYSTEM_HISTORY_CALL_H

#include "history_file.h"

#include <stdatomic.h>

#include <kho/base.h>
#include <kho/kho.h>

enum { CALL_ITEMS_MAX = 64, STATUSES_MAX = 24 };

/* What a thread was told. */
struct tally {
    uint64_t calls, operations;
    uint64_t acknowledged, refused, doubtful; /* writes; doubtful in the end */
    uint64_t resolved;                        /* of doubtful ones, by their token: either way */
    uint64_t read, absent, unanswered, wrong;
    uint64_t odd; /* answers that contradict kho.h */
    double slowest;
    int statuses[STATUSES_MAX]; /* other than 0 and KHO_ENOTFOUND */
    uint64_t times[STATUSES_MAX];
};
void tally_add(struct tally *to, const struct tally *from);
/* A JSON object without its braces. */
void tally_print(const struct tally *tally);

/* What calls of one thread share. */
struct caller {
    struct kho_blocking *client;
    const char *collection;
    uint32_t number, deadline_ms;
    size_t value_max;
    int file;
    _Atomic uint64_t *next_op, *next_value;
    struct kho_random random;
    struct tally tally;
};

struct call_item {
    uint8_t key[HISTORY_KEY_MAX];
    size_t key_len; /* 0: an append to come */
    uint64_t op, value_id, hash;
    uint8_t *value;
    size_t value_len;
    struct kho_token token;
    bool again; /* goes on with the token */
    int status; /* at the end */
};

struct call {
    enum history_verb verb;
    size_t count;
    struct call_item items[CALL_ITEMS_MAX];
};

uint64_t call_clock_ns(void);
void call_sleep_ms(uint64_t ms);
/* Makes the call and writes it down; of writes in doubt it goes on with some. The items' keys (of
 * appends, too) and statuses are there afterwards. */
void call_run(struct caller *caller, struct call *call);
/* The lines of one record of a listing: begun then, read now; `r` NULL: it wasn't listed. */
void call_listed(struct caller *caller, uint64_t begun_ns, const uint8_t *key, size_t key_len,
                 const struct kho_result *r);

#endif
