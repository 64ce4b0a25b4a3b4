/* pick.h: which of the records that are there an operation is about. */
#ifndef KHO_BENCH_PICK_H
#define KHO_BENCH_PICK_H

#include <stdint.h>

#include "dice.h"
#include "zipf.h"

enum pick_kind {
    PICK_TURN,    /* one after another */
    PICK_UNIFORM, /* each as often as any other */
    PICK_ZIPFIAN, /* few of them often, anywhere (scrambled) */
    PICK_LATEST,  /* the newest most often, by Zipf */
    PICK_KINDS
};

struct pick {
    enum pick_kind kind;
    uint64_t count; /* of records */
    uint64_t turn;
    struct zipf zipf;
};

void pick_init(struct pick *pick, enum pick_kind kind, uint64_t count);
/* There are more records now. */
void pick_grow(struct pick *pick, uint64_t count);
/* In [0, count). */
uint64_t pick_draw(struct pick *pick, struct dice *dice);

#endif
