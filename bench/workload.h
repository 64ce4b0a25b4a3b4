/* workload.h: what one client process does: which records each call is about, the items of the
 * call, and whether what came back is right. Pure; nothing here waits or knows the time.
 *
 * Numbers of records are dealt out to `clients` processes in turn: what client c writes anew has
 * the numbers c, c + clients, c + 2 clients, … behind those that are there before. */
#ifndef KHO_BENCH_WORKLOAD_H
#define KHO_BENCH_WORKLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kho/kho.h>

#include "dice.h"
#include "load_options.h"
#include "pick.h"
#include "value.h"

enum work_op {
    OP_READ,
    OP_UPDATE,
    OP_INSERT,
    OP_SCAN,   /* one page of a listing, from a place that an earlier listing came by */
    OP_MODIFY, /* a read, and a write of the same records when it has ended */
    OP_APPEND,
    OP_READBACK,
    OPS
};
/* "read", … */
extern const char *const work_op_names[OPS];

/* What a client does, one after another. */
enum work_phase {
    PHASE_PRELOAD,  /* its share of the records that are there before */
    PHASE_TOUCH,    /* each of them is read once */
    PHASE_WALK,     /* the whole collection is listed, and places in it noted for scans */
    PHASE_RUN,      /* the command; without an end */
    PHASE_READBACK, /* some of what was acknowledged last is read and compared */
};

/* One call. A read-back's numbers are places in the workload's list of what was acknowledged. */
struct work {
    enum work_op op;
    bool writing;           /* OP_MODIFY: the second half */
    size_t count;           /* of records; OP_SCAN: of a page, at most */
    uint64_t *numbers;      /* room for a whole batch, the caller's */
    uint32_t *revisions;    /* likewise: what is written; the oldest that a read may bring */
    struct kho_cursor from; /* OP_SCAN */
};

enum work_verdict {
    WORK_RIGHT,
    WORK_FAILED,  /* an error, or a write that wasn't applied */
    WORK_MISSING, /* what was stored wasn't found */
    WORK_WRONG,   /* not the bytes that were written, or an older revision than acknowledged */
};

enum {
    WORK_KEEPS = 10000,   /* what was acknowledged last, for the read-back */
    WORK_CURSORS = 1000,  /* places that scans start from */
    WORK_SCAN_MAX = 100,  /* records of a scan */
    WORK_INSERTS = 65536, /* inserts under way, from the oldest one on */
};

struct workload {
    const struct load_options *options;
    const struct values *values;
    uint64_t client, clients;
    struct dice dice;
    enum work_phase phase;
    uint64_t next;      /* how many of the phase's own were dealt out */
    struct pick pick;   /* among the records that are there */
    uint64_t inserted;  /* of this client's own: all up to here are acknowledged */
    bool *insert_ended; /* a ring, from `inserted` on */
    /* Where records are written over, for each: the last revision sent, and acknowledged. A client
     * knows of its own writes only: read bounds hold where it is the only one that writes them. */
    uint32_t *sent, *acknowledged;
    struct kho_cursor *cursors;
    size_t cursor_count;
    bool walked;
    struct work_kept {
        uint64_t number;
        char key[VALUE_KEY];
    } * kept; /* a ring */
    uint64_t kept_count;
};

/* Options and values stay the caller's, and as they are. -ENOMEM. */
int workload_init(struct workload *w, const struct load_options *options,
                  const struct values *values, uint64_t client, uint64_t clients);
void workload_fini(struct workload *w);
void workload_begin(struct workload *w, enum work_phase phase);

/* The next call, of at most `batch` records. False: the phase is done. */
bool workload_draw(struct workload *w, size_t batch, struct work *ret_work);
/* Bytes that the items of a call may take. */
size_t workload_room(const struct workload *w, size_t batch);
/* The items of a call; keys and values lie in `bytes`, or belong to the workload. Returns how many
 * bytes keys and values have. */
size_t workload_make(const struct workload *w, const struct work *work, struct kho_item *items,
                     char *bytes);
enum work_verdict workload_take(struct workload *w, const struct work *work, size_t i,
                                const struct kho_result *result);
/* A scan's record; and its end. */
enum work_verdict workload_take_scanned(struct workload *w, const struct kho_result *result);
void workload_take_page(struct workload *w, const struct kho_cursor *next, bool done);
/* After all results of a call were taken: whether it goes on with a second half, which `work` is
 * then. */
bool workload_goes_on(struct workload *w, struct work *work);

#endif
