/* herd.c: makes records and their hashes into one piece of memory each fill, in the order in which
 * they will be used, as they would lie in a frame. */
#include "herd.h"

#include <errno.h>

enum { CITIZEN_BYTES = HERD_KEY + CITIZEN_RECORD_MAX };

static int records_make(struct herd *herd, size_t room, size_t bytes)
{
    herd->room = room;
    kho_random_init(&herd->random, bytes);
    herd->records = calloc(room, sizeof *herd->records);
    herd->bytes = malloc(bytes);
    return herd->records != NULL && herd->bytes != NULL ? 0 : -ENOMEM;
}

int herd_init_citizens(struct herd *herd, uint64_t seed, size_t room)
{
    *herd = (struct herd){0};
    int error = census_init(&herd->census, seed, HERD_SCALE);
    if (error == 0)
        error = records_make(herd, room, room * CITIZEN_BYTES);
    if (error != 0)
        herd_fini(herd);
    return error;
}

int herd_init_random(struct herd *herd, uint64_t seed, uint32_t value_bytes, size_t distinct,
                     size_t room)
{
    struct kho_random random;
    uint32_t bytes = (uint32_t)kho_round_up(value_bytes, sizeof(uint64_t));
    *herd = (struct herd){.value_bytes = value_bytes, .distinct = distinct};
    int error = records_make(herd, room, distinct * bytes + room * HERD_KEY);
    if (error == 0)
        herd->hashes = calloc(distinct, sizeof *herd->hashes);
    if (error != 0 || herd->hashes == NULL) {
        herd_fini(herd);
        return -ENOMEM;
    }
    kho_random_init(&random, seed);
    for (size_t i = 0; i < distinct; i++) {
        uint8_t *value = herd->bytes + i * bytes;
        for (uint32_t k = 0; k < bytes; k += sizeof(uint64_t))
            kho_store64(value + k, kho_random_next(&random));
        herd->hashes[i] = content_hash(value, value_bytes);
    }
    return 0;
}

void herd_fini(struct herd *herd)
{
    census_fini(&herd->census);
    free(herd->records);
    free(herd->bytes);
    free(herd->hashes);
    *herd = (struct herd){0};
}

/* The key's twelve digits: `number` spread over all of them, so that neighbours don't look alike;
 * the factor is odd and no multiple of five, so no two numbers below 10^12 share a key. */
static void key_write(uint64_t number, uint8_t *to)
{
    uint64_t digits = (uint64_t)((unsigned __int128)number * 618033988749u % 1000000000000u);
    for (int i = HERD_KEY; i-- > 0; digits /= 10)
        to[i] = (uint8_t)('0' + digits % 10);
}

static uint8_t *random_fill(const struct herd *herd, uint8_t *at, struct record *record)
{
    size_t which = herd->next % herd->distinct;
    size_t bytes = kho_round_up(herd->value_bytes, sizeof(uint64_t));
    key_write(herd->next, at);
    record->key = at;
    record->raw_len = herd->value_bytes;
    record->value = herd->bytes + which * bytes;
    record->hash = herd->hashes[which];
    return at + HERD_KEY;
}

static uint8_t *citizen_fill(const struct herd *herd, uint64_t which, uint8_t *at,
                             struct record *record)
{
    KHO_ASSERT(which < herd->census.citizens);
    citizen_number(&herd->census, which, (char *)at);
    record->key = at;
    record->value = at + HERD_KEY;
    record->raw_len = (uint32_t)citizen_record(&herd->census, which, 0, (char *)at + HERD_KEY);
    record->hash = content_hash(record->value, record->raw_len);
    return at + HERD_KEY + record->raw_len;
}

static struct record record_begin(struct herd *herd, uint64_t wall_ms)
{
    uint64_t drawn = kho_random_below(&herd->random, (uint64_t)1 << KHO_COUNTER_TIME_BITS);
    return (struct record){
        .collection = HERD_COLLECTION,
        .key_len = HERD_KEY,
        .version = {.counter = version_counter_at(wall_ms) + drawn, .writer = 1}};
}

void herd_fill(struct herd *herd, size_t count, uint64_t wall_ms)
{
    uint8_t *at = herd->bytes;
    KHO_ASSERT(count <= herd->room);
    if (herd->hashes != NULL)
        at += herd->distinct * kho_round_up(herd->value_bytes, sizeof(uint64_t));
    for (size_t i = 0; i < count; i++, herd->next++) {
        struct record record = record_begin(herd, wall_ms);
        at = herd->hashes != NULL ? random_fill(herd, at, &record)
                                  : citizen_fill(herd, herd->next, at, &record);
        record.stored_len = record.raw_len;
        herd->records[i] = record;
    }
    herd->count = count;
}

void herd_redraw(struct herd *herd, size_t count, uint64_t among, uint64_t wall_ms)
{
    uint8_t *at = herd->bytes;
    KHO_ASSERT(count <= herd->room && herd->hashes == NULL);
    for (size_t i = 0; i < count; i++) {
        struct record record = record_begin(herd, wall_ms);
        at = citizen_fill(herd, kho_random_below(&herd->random, among), at, &record);
        record.stored_len = record.raw_len;
        herd->records[i] = record;
    }
    herd->count = count;
}
