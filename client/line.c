/* line.c: one write a key at a time.
 *
 * Writes of one client on one key go out in the order of submission with rising counters, so a
 * write starts only when the one before it has ended; it inherits that one's version as a lower
 * bound, since its own stamp may see nothing of a write that ended in doubt. The table holds the
 * heads of lines by key hash, chained; it grows when it can, and only gets slower where memory is
 * short. */
#include "item.h"

static uint32_t line_bucket(const struct client *client, const struct item *item)
{
    return (uint32_t)(item->hash.high & (client->lines.bucket_count - 1));
}

int line_reserve(struct client *client, uint32_t more)
{
    struct line_table *table = &client->lines;
    uint64_t wanted = (uint64_t)table->count + more;
    if (table->bucket_count >= wanted && table->bucket_count > 0)
        return 0;
    uint64_t buckets = table->bucket_count == 0 ? 256 : table->bucket_count;
    while (buckets < wanted)
        buckets *= 2;
    struct item **fresh =
        (struct item **)client_allocate_zeroed(client, (size_t)buckets * sizeof(struct item *));
    if (fresh == NULL)
        return table->bucket_count > 0 ? 0 : -ENOMEM;
    struct item **old = table->buckets;
    uint32_t old_count = table->bucket_count;
    table->buckets = fresh;
    table->bucket_count = (uint32_t)buckets;
    for (uint32_t i = 0; i < old_count; i++) {
        for (struct item *item = old[i], *next; item != NULL; item = next) {
            next = item->bucket_next;
            uint32_t at = line_bucket(client, item);
            item->bucket_next = fresh[at];
            fresh[at] = item;
        }
    }
    client_release(client, old);
    return 0;
}

static bool line_same_key(const struct item *a, const struct item *b)
{
    return a->hash.high == b->hash.high && a->hash.low == b->hash.low &&
           a->call->collection == b->call->collection;
}

bool line_join(struct client *client, struct item *item)
{
    struct item **bucket = &client->lines.buckets[line_bucket(client, item)];
    if (KHO_PLANTED(order_swapped))
        return true;
    for (struct item *head = *bucket; head != NULL; head = head->bucket_next) {
        if (!line_same_key(head, item))
            continue;
        queue_push(&head->waiters, &item->link);
        return false;
    }
    item->head = true;
    item->bucket_next = *bucket;
    *bucket = item;
    client->lines.count++;
    return true;
}

void line_leave(struct client *client, struct item *item)
{
    if (!item->head)
        return;
    struct item **at = &client->lines.buckets[line_bucket(client, item)];
    while (*at != item)
        at = &(*at)->bucket_next;
    item->head = false;
    struct queue *link = queue_pop(&item->waiters);
    if (link == NULL) {
        *at = item->bucket_next;
        client->lines.count--;
        return;
    }
    struct item *next = KHO_CONTAINER_OF(link, struct item, link);
    next->head = true;
    next->bucket_next = item->bucket_next;
    *at = next;
    queue_append_all(&next->waiters, &item->waiters);
    next->highest = version_max(next->highest, version_max(item->highest, item->version));
    queue_push(&client->ready, &next->link);
}
