/* log_look.c: the keys of the records in flight, by a hash table over all commits (log.h).
 *
 * Copies aren't in it: no write is compared with them. Nothing here fails. */
#include "log_inside.h"

static uint32_t *bucket_of(const struct log *log, uint32_t collection, uint32_t partition,
                           struct key_tag tag)
{
    uint64_t x = tag.high ^ ((uint64_t)collection << 40) ^ ((uint64_t)partition << 16) ^ tag.low;
    return &log->buckets[kho_splitmix(&x) % LOG_BUCKETS];
}

static struct pending *pending_at(const struct log *log, uint32_t handle)
{
    uint32_t i = handle - 1;
    return &log->commits[i / LOG_COMMIT_RECORDS].entries[i % LOG_COMMIT_RECORDS];
}

void log_pending_insert(struct log *log, struct commit *commit, uint32_t entry)
{
    struct pending *p = &commit->entries[entry];
    uint32_t *bucket = bucket_of(log, p->collection, p->partition, p->tag);
    p->next = *bucket;
    *bucket = commit->slot * LOG_COMMIT_RECORDS + entry + 1;
}

void log_pending_remove(struct log *log, const struct pending *p)
{
    uint32_t *link = bucket_of(log, p->collection, p->partition, p->tag);
    while (*link != 0 && pending_at(log, *link) != p)
        link = &pending_at(log, *link)->next;
    KHO_ASSERT(*link != 0);
    *link = p->next;
}

static uint64_t pending_sequence(const struct log *log, uint32_t handle)
{
    return log->commits[(handle - 1) / LOG_COMMIT_RECORDS].sequence;
}

void log_look(const struct log *log, uint32_t collection, uint32_t partition, struct key_tag tag,
              const struct record *record, struct log_look *ret_look)
{
    struct log_look look = {0};
    uint32_t handle = *bucket_of(log, collection, partition, tag);
    for (; handle != 0; handle = pending_at(log, handle)->next) {
        const struct pending *p = pending_at(log, handle);
        if (p->collection != collection || p->partition != partition ||
            key_tag_compare(p->tag, tag) != 0)
            continue;
        uint64_t sequence = pending_sequence(log, handle);
        if (!look.found || version_compare(p->version, look.version) > 0) {
            look.version = p->version;
            look.sequence = sequence;
        }
        look.found = true;
        if (version_compare(p->version, record->version) == 0) {
            look.same = true;
            look.same_sequence = sequence;
            look.same_conflict = p->tombstone != record_is_tombstone(record) ||
                                 !kho_id_equal(&p->hash, &record->hash);
        }
    }
    *ret_look = look;
}

void log_prefetch(const struct log *log, uint32_t collection, uint32_t partition,
                  struct key_tag tag)
{
    __builtin_prefetch(bucket_of(log, collection, partition, tag), 1);
}

void log_discard(struct log *log, uint32_t partition)
{
    for (uint32_t i = 0; i < log->slots; i++) {
        struct commit *c = &log->commits[i];
        for (uint32_t k = c->landed; c->state != COMMIT_FREE && k < c->entry_count; k++) {
            struct pending *p = &c->entries[k];
            if (p->partition != partition || p->dead)
                continue;
            p->dead = true;
            if (p->copy)
                continue;
            log_pending_remove(log, p);
            if (p->reserved)
                index_unreserve(log->index, 1);
        }
    }
}
