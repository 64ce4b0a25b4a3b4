/* survey.c: owns the DIGEST requests to every shard of every node and the sorted tables of their
 * answers.
 *
 * Happy path: all are asked at once; entries are gathered as they come and sorted by (collection,
 * partition) at the end. A node is whole only if all its shards answered; else its status tells why
 * and its entries are dropped. 64 bytes an entry are held for every table with records: 800 KiB a
 * collection and 3 nodes of 4,096 partitions.
 *
 * It fails as a whole only for memory, or when a newer map came in between (KHO_EEPOCHOLD). */
#include "survey.h"

void survey_stop(struct client *client, struct survey *survey)
{
    for (uint32_t i = 0; i < survey->part_count; i++)
        if (survey->parts[i].asked)
            request_drop(client, &survey->parts[i].request);
    for (uint32_t i = 0; i < survey->node_count; i++)
        client_release(client, survey->nodes[i].entries);
    for (uint32_t i = 0; i < survey->node_count; i++)
        client_release(client, survey->nodes[i].open);
    client_release(client, survey->parts);
    client_release(client, survey->nodes);
    survey->parts = NULL;
    survey->nodes = NULL;
    survey->part_count = survey->node_count = survey->waiting = 0;
}

static int survey_compare(const void *left, const void *right)
{
    const struct wire_digest_entry *a = left, *b = right;
    if (a->collection != b->collection)
        return a->collection < b->collection ? -1 : 1;
    if (a->partition != b->partition)
        return a->partition < b->partition ? -1 : 1;
    return 0;
}

static bool survey_reserve(struct client *client, struct survey_node *node, size_t more)
{
    if (more <= node->capacity - node->count)
        return true;
    size_t capacity = kho_max(node->capacity * 2, node->count + more);
    struct wire_digest_entry *entries = client_allocate(client, capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    if (node->count > 0)
        memcpy(entries, node->entries, node->count * sizeof *entries);
    client_release(client, node->entries);
    node->entries = entries;
    node->capacity = capacity;
    return true;
}

static void survey_frame(struct client *client, struct request *request,
                         const struct wire_head *head, const uint8_t *body, size_t len,
                         struct kho_now now)
{
    struct survey_part *part = request->owner;
    struct survey_node *node = &part->survey->nodes[part->node];
    (void)now;
    if (node->status != 0)
        return;
    /* An entry for every table, and one of KHO_ALL a partition, is the most there can be. */
    size_t most = (client->map.collection_count + 1u) * (size_t)part->survey->partitions;
    if (len != (size_t)head->count * WIRE_DIGEST_ENTRY || head->count > most - node->count) {
        node->status = KHO_EMALFORMED;
        return;
    }
    if (!survey_reserve(client, node, head->count)) {
        node->status = -ENOMEM;
        return;
    }
    for (uint32_t i = 0; i < head->count; i++) {
        struct wire_digest_entry *entry = &node->entries[node->count++];
        wire_digest_entry_decode(body + (size_t)i * WIRE_DIGEST_ENTRY, entry);
        if (entry->partition >= part->survey->partitions)
            node->status = KHO_EMALFORMED;
    }
}

/* All have ended. */
static void survey_finish(struct client *client, struct survey *survey, struct kho_now now)
{
    int status = 0;
    for (uint32_t i = 0; i < survey->node_count; i++) {
        struct survey_node *node = &survey->nodes[i];
        if (node->status != 0)
            node->count = 0;
        for (size_t e = 0; e < node->count; e++)
            if (node->entries[e].episode != 0)
                node->open[node->entries[e].partition / 8] |=
                    (uint8_t)(1u << (node->entries[e].partition % 8));
        if (node->count > 1)
            qsort(node->entries, node->count, sizeof *node->entries, survey_compare);
        if (node->asked && (node->status == KHO_EEPOCHOLD || node->status == -ENOMEM))
            status = node->status;
    }
    survey->end(client, survey, status, now);
}

static void survey_ended(struct client *client, struct request *request, int status,
                         struct kho_now now)
{
    struct survey_part *part = request->owner;
    struct survey *survey = part->survey;
    struct survey_node *node = &survey->nodes[part->node];
    part->asked = false;
    if (status != 0 && node->status == 0)
        node->status = status;
    if (--survey->waiting == 0)
        survey_finish(client, survey, now);
}

static int survey_ask(struct client *client, struct survey *survey, struct survey_part *part,
                      uint32_t node, uint32_t shard, struct kho_now now)
{
    kho_store32(part->body, survey->collection);
    kho_store32(part->body + 4, 0);
    kho_store32(part->body + 8, client->map.partitions);
    kho_store32(part->body + 12, 0);
    part->survey = survey;
    part->node = node;
    part->request = (struct request){
        .type = WIRE_DIGEST,
        .count = 1,
        .body = part->body,
        .body_len = WIRE_DIGEST_ASK,
        .deadline_ns = survey->deadline_ns,
        .frame = survey_frame,
        .end = survey_ended,
        .owner = part,
    };
    int rc = request_send(client, &part->request, node, shard, now);
    if (rc != 0)
        return rc;
    part->asked = true;
    survey->nodes[node].asked = true;
    survey->waiting++;
    return 0;
}

int survey_start(struct client *client, struct survey *survey, struct kho_now now)
{
    const struct map *map = &client->map;
    uint32_t parts = 0;
    KHO_ASSERT(map->node_count > 0);
    survey_stop(client, survey);
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        parts += node.state != MAP_NODE_OUT ? node.shards : 0;
    }
    survey->nodes = client_allocate_zeroed(client, map->node_count * sizeof *survey->nodes);
    survey->parts = client_allocate_zeroed(client, (parts + 1u) * sizeof *survey->parts);
    if (survey->nodes == NULL || survey->parts == NULL)
        goto fail;
    survey->node_count = map->node_count;
    survey->part_count = parts; /* those that are skipped stay zeroed */
    survey->partitions = map->partitions;
    for (uint32_t i = 0; i < map->node_count; i++) {
        survey->nodes[i].open = client_allocate_zeroed(client, (map->partitions + 7) / 8);
        if (survey->nodes[i].open == NULL)
            goto fail;
    }
    uint32_t at = 0;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        int skip = survey->skip != NULL ? survey->skip[i] : 0;
        if (node.state == MAP_NODE_OUT)
            skip = KHO_EUNAVAILABLE;
        survey->nodes[i].status = skip;
        for (uint32_t shard = 0; skip == 0 && shard < node.shards; shard++)
            if (survey_ask(client, survey, &survey->parts[at++], i, shard, now) != 0)
                goto fail;
    }
    return 0;
fail:
    survey_stop(client, survey);
    return -ENOMEM;
}

const struct wire_digest_entry *survey_find(const struct survey *survey, uint32_t node,
                                            uint32_t collection, uint32_t partition)
{
    const struct survey_node *n = &survey->nodes[node];
    struct wire_digest_entry key = {.collection = collection, .partition = partition};
    if (n->count == 0)
        return NULL;
    return bsearch(&key, n->entries, n->count, sizeof *n->entries, survey_compare);
}

bool survey_open(const struct survey *survey, uint32_t node, uint32_t partition)
{
    return (survey->nodes[node].open[partition / 8] >> (partition % 8) & 1) != 0;
}
