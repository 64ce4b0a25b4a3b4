/* herd.h: records in memory, made before the clock runs: citizens as bench/citizen.h makes them, or
 * bytes that don't compress. */
#ifndef KHO_BENCH_HERD_H
#define KHO_BENCH_HERD_H

#include <kho/record.h>

#include "citizen.h"

enum { HERD_COLLECTION = 1, HERD_KEY = CITIZEN_NUMBER };

/* The census that herds are taken from, the largest: citizens for all that any bench will ask for.
 */
#define HERD_SCALE 20.0

struct herd {
    struct record *records; /* of the last fill */
    size_t count, room;
    uint64_t next; /* the citizen, or key, that the next fill begins with */
    struct census census;
    uint8_t *bytes;        /* what keys and values point into */
    struct kho_id *hashes; /* of values that don't compress; NULL: they are citizens */
    uint32_t value_bytes;
    size_t distinct;
    struct kho_random random; /* of the versions */
};

/* Room for so many citizens at once. -ENOMEM. */
int herd_init_citizens(struct herd *herd, uint64_t seed, size_t room);
/* Room for records of `value_bytes` that don't compress; their values repeat after `distinct`. */
int herd_init_random(struct herd *herd, uint64_t seed, uint32_t value_bytes, size_t distinct,
                     size_t room);
void herd_fini(struct herd *herd);

/* The next `count` records, of keys that nobody has had yet, at most `room`; with versions as
 * writers of that time draw them, each its own. */
void herd_fill(struct herd *herd, size_t count, uint64_t wall_ms);
/* Citizens drawn from the first `among`, to be written once more. */
void herd_redraw(struct herd *herd, size_t count, uint64_t among, uint64_t wall_ms);

#endif
