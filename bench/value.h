/* value.h: the keys and values of records that are made up by number, and their check.
 *
 * A value begins with a stamp of the record's number and revision,
 *
 *   {"n":"000000000123","r":"00000007",
 *
 * and goes on with a piece of a text that is made once: JSON of citizens, which compresses as such
 * records do, or random bytes, which don't. Number and revision alone say what a value is, so that
 * what is read can be compared byte for byte and nothing has to be kept. To make one costs a copy.
 */
#ifndef KHO_BENCH_VALUE_H
#define KHO_BENCH_VALUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    VALUE_KEY = 16,   /* bytes of a key: "rec:" and 12 digits */
    VALUE_STAMP = 35, /* bytes */
    VALUE_MIN = 40,   /* bytes of the shortest value */
};
#define VALUE_NUMBERS   UINT64_C(1000000000000) /* how many records there can be */
#define VALUE_REVISIONS UINT32_C(100000000)     /* how many revisions of one */

struct values {
    char *text;
    size_t min, max; /* bytes of a value; drawn evenly by number and revision */
    uint32_t *starts;
    size_t start_count;
};

/* `min` at least VALUE_MIN. -EINVAL; -ENOMEM. */
int values_init(struct values *values, size_t min, size_t max, bool compressible, uint64_t seed);
void values_fini(struct values *values);

/* The key of record `number`, VALUE_KEY bytes. */
void value_key(uint64_t number, char *to);
/* Whether `key` is the key of a record, whose number it tells then. */
bool value_number(const void *key, size_t len, uint64_t *ret_number);
/* Writes the value, at most values->max bytes, and returns its length. */
size_t value_make(const struct values *values, uint64_t number, uint32_t revision, char *to);
/* Whether `value` is that of record `number` in some revision, which it tells then. */
bool value_check(const struct values *values, uint64_t number, const void *value, size_t len,
                 uint32_t *ret_revision);

#endif
