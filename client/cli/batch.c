/* batch.c: see batch.h. A batch owns copies of its records, since between the question and the
 * write the source's buffer moves on. Only memory can fail here (must). */
#include "batch.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <kho/hash.h>

#include "print.h"

struct batch *batch_create(void *owner, size_t capacity, uint64_t first)
{
    struct batch *batch = must(calloc(1, sizeof *batch));
    batch->owner = owner;
    batch->capacity = capacity;
    batch->first = first;
    batch->last = first;
    batch->slots = must(calloc(capacity, sizeof *batch->slots));
    batch->items = must(calloc(capacity, sizeof *batch->items));
    batch->slot_of = must(calloc(capacity, sizeof *batch->slot_of));
    return batch;
}

void batch_destroy(struct batch *batch)
{
    if (batch == NULL)
        return;
    free(batch->slots);
    free(batch->items);
    free(batch->slot_of);
    free(batch->bytes);
    free(batch);
}

static size_t copy(struct batch *batch, const void *bytes, size_t len)
{
    if (batch->room - batch->used < len || batch->bytes == NULL) {
        while (batch->room - batch->used < len || batch->room == 0)
            batch->room = batch->room == 0 ? (size_t)64 << 10 : 2 * batch->room;
        batch->bytes = must(realloc(batch->bytes, batch->room));
    }
    size_t at = batch->used;
    if (len > 0)
        memcpy(batch->bytes + at, bytes, len);
    batch->used += len;
    return at;
}

void batch_add(struct batch *batch, const struct format_record *record, uint64_t number)
{
    struct slot *slot = &batch->slots[batch->count++];
    *slot = (struct slot){.key_len = record->key_len,
                          .value_len = record->value_len,
                          .line = record->line,
                          .state = SLOT_WAITING};
    slot->key = copy(batch, record->key, record->key_len);
    slot->value = copy(batch, record->value, record->value_len);
    batch->last = number;
}

bool batch_full(const struct batch *batch)
{
    return batch->count == batch->capacity || batch->used >= BATCH_BYTES_MAX;
}

size_t batch_gather(struct batch *batch)
{
    batch->item_count = 0;
    for (size_t i = 0; i < batch->count; i++) {
        const struct slot *slot = &batch->slots[i];
        if (slot->state != SLOT_WAITING)
            continue;
        batch->slot_of[batch->item_count] = i;
        batch->items[batch->item_count++] = (struct kho_item){
            .key = batch->bytes + slot->key,
            .key_len = slot->key_len,
            .value = batch->bytes + slot->value,
            .value_len = slot->value_len,
            .token = slot->has_token ? &slot->token : NULL,
        };
    }
    return batch->item_count;
}

static bool same_content(const struct batch *batch, const struct slot *slot,
                         const struct kho_result *result)
{
    XXH128_canonical_t hash;
    if (result->value_len != slot->value_len)
        return false;
    XXH128_canonicalFromHash(&hash, XXH3_128bits(batch->bytes + slot->value, slot->value_len));
    return memcmp(hash.digest, result->hash, sizeof result->hash) == 0;
}

void batch_take_stat(struct batch *batch, const struct kho_result *results, size_t count)
{
    batch->asked = true;
    for (size_t i = 0; i < count && i < batch->item_count; i++) {
        struct slot *slot = &batch->slots[batch->slot_of[i]];
        int status = results[i].status;
        if (status == 0 && same_content(batch, slot, &results[i]))
            slot->state = SLOT_SKIPPED;
        /* Absent, different or damaged: the write decides. */
        if (status == 0 || status == KHO_ENOTFOUND || status == KHO_EDAMAGED ||
            status == KHO_EUNKNOWN)
            continue;
        slot->state = SLOT_FAILED;
        slot->status = status;
    }
}

void batch_take_put(struct batch *batch, const struct kho_result *results, size_t count)
{
    batch->tries++;
    for (size_t i = 0; i < count && i < batch->item_count; i++) {
        struct slot *slot = &batch->slots[batch->slot_of[i]];
        slot->status = results[i].status;
        if (results[i].status == 0) {
            slot->state = SLOT_STORED;
        } else if (results[i].outcome == KHO_IN_DOUBT && batch->tries < BATCH_TRIES_MAX) {
            slot->has_token = true;
            slot->token = results[i].token;
        } else {
            slot->state = SLOT_FAILED;
        }
    }
}

bool batch_failure_is_general(int status)
{
    return status != KHO_ECONFLICT && status != KHO_EDAMAGED && status != KHO_EUNKNOWN &&
           status != KHO_ECOLLISION;
}
