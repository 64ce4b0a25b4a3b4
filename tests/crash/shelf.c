/* shelf.c: writes and their acknowledgements (shelf.h). */
#include "shelf.h"

#include <kho/piece.h>

static const uint64_t T0 = 1700000000000ull << KHO_COUNTER_TIME_BITS;

void shelf_init(struct shelf *shelf)
{
    memset(shelf, 0, sizeof *shelf);
    rig_init(&shelf->face);
    rig_map_build(&shelf->face, 1, 0, 1);
    shelf->counter = T0;
    for (uint32_t i = 0; i < SHELF_KEYS; i++)
        shelf->keys[i].key = rig_key(1 + i % 2, i);
}

void shelf_fini(struct shelf *shelf)
{
    rig_fini(&shelf->face);
}

bool shelf_put(struct shelf *shelf, struct store *store, struct kho_now now, uint32_t key,
               uint32_t len)
{
    struct shelf_key *k = &shelf->keys[key];
    struct shelf_version v = {.counter = ++shelf->counter, .len = len};
    uint64_t seed = v.counter * 31 + key;
    KHO_ASSERT(k->count < SHELF_VERSIONS);
    shelf->face.store = store;
    shelf->face.now = now;
    int status = rig_put(&shelf->face, &k->key, v.counter, seed, len, false, &v.sequence);
    shelf->face.store = NULL;
    if (status != 0)
        return false;
    if (len != RIG_TOMBSTONE) {
        uint8_t *value = rig_value(seed, len);
        v.hash = content_hash(value, len);
        free(value);
    }
    k->versions[k->count++] = v;
    return true;
}

bool shelf_acknowledge_key(struct shelf *shelf, const struct store *store, uint32_t key)
{
    struct shelf_key *k = &shelf->keys[key];
    uint32_t before = k->acknowledged;
    while (k->acknowledged < k->count &&
           k->versions[k->acknowledged].sequence <= store_durable(store)) {
        k->acknowledged++;
        shelf->acknowledged++;
    }
    return k->acknowledged > before;
}

bool shelf_acknowledge(struct shelf *shelf, const struct store *store)
{
    bool some = false;
    for (uint32_t i = 0; i < SHELF_KEYS; i++)
        some = shelf_acknowledge_key(shelf, store, i) || some;
    return some;
}

void shelf_told(struct shelf *shelf, uint32_t key, const struct store_read *read)
{
    struct shelf_key *k = &shelf->keys[key];
    if (read->status != 0 || read->state == WIRE_ABSENT)
        return;
    for (uint32_t v = 0; v < k->count; v++)
        if (k->versions[v].counter == read->record.version.counter)
            k->acknowledged = kho_max(k->acknowledged, v + 1);
}

const char *shelf_judge(const struct shelf *shelf, uint32_t key, const struct store_read *read)
{
    const struct shelf_key *k = &shelf->keys[key];
    const struct record *r = &read->record;
    if (read->status != 0)
        return "a read ends with an error";
    if (read->state == WIRE_ABSENT)
        return k->acknowledged == 0 ? NULL : "an acknowledged record isn't found";
    uint32_t at = 0;
    while (at < k->count && k->versions[at].counter != r->version.counter)
        at++;
    if (at == k->count || r->version.writer != 5)
        return "a version was never written";
    if (at + 1 < k->acknowledged)
        return read->state == WIRE_PRESENT && k->versions[k->acknowledged - 1].len == RIG_TOMBSTONE
                   ? "a delete is undone"
                   : "an acknowledged record is gone, an older one is there";
    const struct shelf_version *v = &k->versions[at];
    if ((read->state == WIRE_TOMBSTONE) != (v->len == RIG_TOMBSTONE))
        return "a record is no delete, or the other way round";
    if (v->len == RIG_TOMBSTONE)
        return NULL;
    struct kho_id hash = content_hash(r->value, r->raw_len);
    if (r->raw_len != v->len || r->codec != KHO_CODEC_NONE || !kho_id_equal(&hash, &v->hash))
        return "a record has other bytes";
    return r->key_len == k->key.key_len && memcmp(r->key, k->key.key, r->key_len) == 0
               ? NULL
               : "a record has another key";
}
