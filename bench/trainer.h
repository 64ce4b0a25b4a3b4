/* trainer.h: dictionaries from zstd's trainer, whose library kho is built without where it isn't
 * installed: nothing but the bench 'dictionary' wants it. */
#ifndef KHO_BENCH_TRAINER_H
#define KHO_BENCH_TRAINER_H

#include <stdbool.h>

#include "entries.h"

bool trainer_present(void);
/* Writes what recurs in the entries into `to`, at most `room` bytes, the most frequent last, where
 * LZ4 reaches it cheapest. Returns its length, or 0 and the reason. */
size_t trainer_run(const struct entries *entries, uint8_t *to, size_t room, const char **ret_why);

#endif
