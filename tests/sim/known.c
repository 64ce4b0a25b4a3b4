/* known.c: sorted tables, looked up by halves. */
#include "known.h"

static int version_order(const void *a, const void *b)
{
    const struct known_version *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return version_compare(x->version, y->version);
}

static int value_order(const void *a, const void *b)
{
    const struct known_value *x = a, *y = b;
    return memcmp(x->hash.bytes, y->hash.bytes, 16);
}

int known_slot_compare(uint32_t collection, const void *key, size_t len, const struct slot *slot)
{
    uint32_t of = slot->event ? 2 : 1;
    if (collection != of)
        return collection < of ? -1 : 1;
    int order = memcmp(key, slot->bytes, kho_min(len, slot->len));
    if (order != 0 || len == slot->len)
        return order;
    return len < slot->len ? -1 : 1;
}

static int slot_order(const void *a, const void *b)
{
    const struct slot *const *x = a, *const *y = b;
    return known_slot_compare((*x)->event ? 2 : 1, (*x)->bytes, (*x)->len, *y);
}

static void *room_for(size_t count, size_t size)
{
    void *room = calloc(count + 1, size);
    KHO_ASSERT(room != NULL);
    return room;
}

void known_init(struct known *known, const struct workload *w)
{
    const struct history *h = &w->history;
    *known = (struct known){.versions = room_for(h->count, sizeof *known->versions),
                            .values = room_for(w->value_count, sizeof *known->values),
                            .writes = room_for(w->value_count, sizeof *known->writes),
                            .least = room_for(h->keys, sizeof *known->least),
                            .slots = room_for(w->slot_count, sizeof *known->slots)};
    for (size_t i = 0; i < h->count; i++) {
        const struct history_op *op = &h->ops[i];
        if (op->kind == HISTORY_WRITE && op->value != 0)
            known->writes[op->value] =
                (struct known_write){.key = op->key, .end = op->end, .version = op->version};
        if (op->end != HISTORY_OK || version_is_zero(op->version))
            continue;
        known->versions[known->version_count++] =
            (struct known_version){.key = op->key, .version = op->version, .value = op->value};
        known->least[op->key] = version_max(known->least[op->key], op->version);
    }
    for (uint64_t id = 1; id < w->value_count; id++)
        known->values[known->value_count++] =
            (struct known_value){.hash = w->value_hashes[id], .value = id};
    for (size_t i = 0; i < w->slot_count; i++)
        known->slots[known->slot_count++] = &w->slots[i];
    qsort(known->versions, known->version_count, sizeof *known->versions, version_order);
    qsort(known->values, known->value_count, sizeof *known->values, value_order);
    qsort(known->slots, known->slot_count, sizeof *known->slots, slot_order);
}

void known_fini(struct known *known)
{
    free(known->versions);
    free(known->values);
    free(known->writes);
    free(known->least);
    free(known->slots);
}

uint64_t known_value(const struct known *known, const struct kho_id *hash)
{
    struct known_value wanted = {.hash = *hash};
    const struct known_value *found =
        bsearch(&wanted, known->values, known->value_count, sizeof *known->values, value_order);
    return found != NULL ? found->value : 0;
}

const struct slot *known_slot(const struct known *known, uint32_t collection, const void *key,
                              size_t len)
{
    size_t from = 0, to = known->slot_count;
    while (from < to) {
        size_t middle = from + (to - from) / 2;
        int order = known_slot_compare(collection, key, len, known->slots[middle]);
        if (order == 0)
            return known->slots[middle];
        if (order < 0)
            to = middle;
        else
            from = middle + 1;
    }
    return NULL;
}

uint64_t known_version(const struct known *known, uint32_t key, struct version version,
                       bool *ret_told)
{
    struct known_version wanted = {.key = key, .version = version};
    const struct known_version *found = bsearch(&wanted, known->versions, known->version_count,
                                                sizeof *known->versions, version_order);
    *ret_told = found != NULL;
    return found != NULL ? found->value : 0;
}
