/* value.c: one text, made at the start, and pieces of it. Records that follow each other take
 * pieces that follow each other, as they would in a file of them. */
#include "value.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "citizen.h"
#include "dice.h"

enum {
    TEXT_BYTES = 6 << 20, /* larger than what a core's own caches hold */
    NUMBER_AT = 6,
    NUMBER_DIGITS = 12,
    REVISION_AT = 25,
    REVISION_DIGITS = 8,
    REVISION_STRIDE = 7919 /* pieces between two revisions of a record */
};
#define CENSUS_SCALE 0.01 /* 60,188 citizens: more than the text takes */

static const char stamp[VALUE_STAMP + 1] = "{\"n\":\"............\",\"r\":\"........\",";

static void digits_write(char *to, int count, uint64_t number)
{
    for (int i = count; i-- > 0; number /= 10)
        to[i] = (char)('0' + number % 10);
}

static bool digits_read(const char *from, int count, uint64_t *ret)
{
    uint64_t number = 0;
    for (int i = 0; i < count; i++) {
        if (from[i] < '0' || from[i] > '9')
            return false;
        number = number * 10 + (uint64_t)(from[i] - '0');
    }
    *ret = number;
    return true;
}

/* Pieces that follow each other don't overlap: else a block of values would compress too well. */
static void piece_add(struct values *values, size_t at)
{
    size_t count = values->start_count;
    if (count == 0 || at - values->starts[count - 1] >= values->max - VALUE_STAMP)
        values->starts[values->start_count++] = (uint32_t)at;
}

/* Citizens and their files one after another; a piece may start at any of them. */
static int text_of_citizens(struct values *values, size_t bytes, uint64_t seed)
{
    struct census census;
    int error = census_init(&census, seed, CENSUS_SCALE);
    if (error != 0)
        return error;
    size_t at = 0, room = bytes + values->max;
    for (uint64_t i = 0; at < room; i++) {
        char record[CITIZEN_RECORD_MAX];
        uint64_t who = i / 2;
        size_t len = i % 2 == 0 ? citizen_record(&census, who % census.citizens, 0, record)
                                : eid_record(&census, who % census.eids, record);
        if (at < bytes)
            piece_add(values, at);
        if (len > room - at)
            len = room - at;
        memcpy(values->text + at, record, len);
        at += len;
    }
    census_fini(&census);
    return 0;
}

static void text_of_dice(struct values *values, size_t bytes, uint64_t seed)
{
    struct dice dice = dice_of(seed);
    for (size_t at = 0; at < bytes + values->max; at += sizeof(uint64_t)) {
        uint64_t word = dice_next(&dice);
        memcpy(values->text + at, &word, sizeof word);
    }
    for (size_t at = 0; at < bytes; at += sizeof(uint64_t))
        piece_add(values, at);
}

int values_init(struct values *values, size_t min, size_t max, bool compressible, uint64_t seed)
{
    *values = (struct values){.min = min, .max = max};
    if (min < VALUE_MIN || max < min)
        return -EINVAL;
    values->text = malloc(TEXT_BYTES + max + sizeof(uint64_t));
    values->starts = malloc((TEXT_BYTES / (VALUE_MIN - VALUE_STAMP) + 1) * sizeof *values->starts);
    int error = values->text == NULL || values->starts == NULL ? -ENOMEM : 0;
    if (error == 0 && compressible)
        error = text_of_citizens(values, TEXT_BYTES, seed);
    else if (error == 0)
        text_of_dice(values, TEXT_BYTES, seed);
    if (error != 0)
        values_fini(values);
    return error;
}

void values_fini(struct values *values)
{
    free(values->text);
    free(values->starts);
    *values = (struct values){.text = NULL};
}

void value_key(uint64_t number, char *to)
{
    memcpy(to, "rec:", 4);
    digits_write(to + 4, NUMBER_DIGITS, number);
}

bool value_number(const void *key, size_t len, uint64_t *ret_number)
{
    return len == VALUE_KEY && memcmp(key, "rec:", 4) == 0 &&
           digits_read((const char *)key + 4, NUMBER_DIGITS, ret_number);
}

static size_t value_length(const struct values *values, uint64_t number, uint32_t revision)
{
    size_t more = values->max - values->min;
    return more == 0 ? values->min
                     : values->min +
                           (size_t)(dice_mix(number * VALUE_REVISIONS + revision + 1) % (more + 1));
}

/* What follows the stamp. */
static const char *value_piece(const struct values *values, uint64_t number, uint32_t revision)
{
    uint64_t piece = number + (uint64_t)revision * REVISION_STRIDE;
    return values->text + values->starts[piece % values->start_count];
}

size_t value_make(const struct values *values, uint64_t number, uint32_t revision, char *to)
{
    size_t len = value_length(values, number, revision);
    memcpy(to, stamp, VALUE_STAMP);
    digits_write(to + NUMBER_AT, NUMBER_DIGITS, number);
    digits_write(to + REVISION_AT, REVISION_DIGITS, revision);
    memcpy(to + VALUE_STAMP, value_piece(values, number, revision), len - VALUE_STAMP);
    return len;
}

bool value_check(const struct values *values, uint64_t number, const void *value, size_t len,
                 uint32_t *ret_revision)
{
    const char *bytes = value;
    char head[VALUE_STAMP];
    uint64_t revision;
    if (len < VALUE_MIN || !digits_read(bytes + REVISION_AT, REVISION_DIGITS, &revision))
        return false;
    memcpy(head, stamp, VALUE_STAMP);
    digits_write(head + NUMBER_AT, NUMBER_DIGITS, number);
    digits_write(head + REVISION_AT, REVISION_DIGITS, revision);
    if (memcmp(bytes, head, VALUE_STAMP) != 0 ||
        len != value_length(values, number, (uint32_t)revision) ||
        memcmp(bytes + VALUE_STAMP, value_piece(values, number, (uint32_t)revision),
               len - VALUE_STAMP) != 0)
        return false;
    *ret_revision = (uint32_t)revision;
    return true;
}
