/* repair_look.c: owns the first half of a pass: which episodes are open, and what differs.
 *
 * Happy path: every shard in reach is asked for its episodes (EPISODES), then for its digests. A
 * partition needs work where its replicas' digests differ (in the collections to be repaired), an
 * episode may be open in it at one of them, or its layout changes.
 *
 * EPISODES tells how many partitions an episode covers, DIGEST in which of them one is open that
 * hides something; a suspect shard's isn't told there. Where the digests don't show all partitions
 * of an episode, it is taken to be open in every partition of its shard: closing one that isn't
 * open does no harm. In a partition of which the node is no replica nothing can be missing, so
 * there it is proved from the start. */
#include "repair.h"

#define LOOK_EPISODES_MAX 4096u /* of a node */

void repair_look_stop(struct client *client, struct repair *repair)
{
    for (uint32_t i = 0; i < repair->part_count; i++)
        if (repair->parts[i].asked)
            request_drop(client, &repair->parts[i].request);
    client_release(client, repair->parts);
    repair->parts = NULL;
    repair->part_count = 0;
    repair->waiting = 0;
}

/* --- Episodes --------------------------------------------------------------------------------- */

static bool repair_episode_add(struct client *client, struct repair_node *node, uint32_t shard,
                               const struct wire_episode *told)
{
    if (node->episode_count == node->episode_capacity) {
        uint32_t capacity = node->episode_capacity == 0 ? 8 : node->episode_capacity * 2;
        struct repair_episode *episodes =
            client_allocate(client, (size_t)capacity * sizeof *episodes);
        if (episodes == NULL)
            return false;
        if (node->episode_count > 0)
            memcpy(episodes, node->episodes, (size_t)node->episode_count * sizeof *episodes);
        client_release(client, node->episodes);
        node->episodes = episodes;
        node->episode_capacity = capacity;
    }
    node->episodes[node->episode_count++] = (struct repair_episode){.shard = shard, .told = *told};
    return true;
}

static void repair_episodes_frame(struct client *client, struct request *request,
                                  const struct wire_head *head, const uint8_t *body, size_t len,
                                  struct kho_now now)
{
    struct repair_part *part = request->owner;
    struct repair *repair = part->repair;
    for (uint32_t i = 0; i < head->count && len >= WIRE_EPISODE_ENTRY; i++) {
        struct wire_episode told;
        if (repair->nodes[part->node].episode_count == LOOK_EPISODES_MAX)
            return; /* the next pass sees the rest */
        wire_episode_decode(body, &told);
        if (!repair_episode_add(client, &repair->nodes[part->node], part->shard, &told)) {
            repair_failed(client, repair, -ENOMEM, now);
            return;
        }
        body += WIRE_EPISODE_ENTRY;
        len -= WIRE_EPISODE_ENTRY;
    }
}

static void repair_survey(struct client *client, struct repair *repair, struct kho_now now);

static void repair_episodes_ended(struct client *client, struct request *request, int status,
                                  struct kho_now now)
{
    struct repair_part *part = request->owner;
    struct repair *repair = part->repair;
    part->asked = false;
    if (repair_failed(client, repair, status, now))
        return;
    if (status != 0)
        repair_unreach(repair, part->node, status);
    if (--repair->waiting == 0)
        repair_survey(client, repair, now);
}

static int repair_episodes_ask(struct client *client, struct repair *repair,
                               struct repair_part *part, struct kho_now now)
{
    part->repair = repair;
    part->request = (struct request){
        .type = WIRE_EPISODES,
        .deadline_ns = now.mono_ns + REPAIR_ASK_NS,
        .frame = repair_episodes_frame,
        .end = repair_episodes_ended,
        .owner = part,
    };
    int rc = request_send(client, &part->request, part->node, part->shard, now);
    part->asked = rc == 0;
    repair->waiting += rc == 0;
    return rc;
}

void repair_look(struct client *client, struct repair *repair, struct kho_now now)
{
    const struct map *map = &client->map;
    uint32_t count = 0;
    repair_move(repair, REPAIR_EPISODES);
    repair_look_stop(client, repair);
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        repair->nodes[i].episode_count = 0;
        count += repair->unreached[i] == 0 ? node.shards : 0;
    }
    if (count == 0) {
        repair_survey(client, repair, now);
        return;
    }
    repair->parts = client_allocate_zeroed(client, (size_t)count * sizeof *repair->parts);
    if (repair->parts == NULL) {
        repair_end(client, repair, -ENOMEM);
        return;
    }
    repair->part_count = count;
    uint32_t at = 0;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        for (uint32_t shard = 0; repair->unreached[i] == 0 && shard < node.shards; shard++) {
            struct repair_part *part = &repair->parts[at++];
            part->node = i;
            part->shard = shard;
            if (repair_episodes_ask(client, repair, part, now) != 0) {
                repair_end(client, repair, -ENOMEM);
                return;
            }
        }
    }
}

/* --- What is open ----------------------------------------------------------------------------- */

/* Marks the partitions in which the digests show the episode; returns how many. `seen` is scratch.
 */
static uint32_t repair_episode_seen(const struct client *client, const struct repair *repair,
                                    uint32_t node, const struct repair_episode *episode,
                                    uint8_t *seen)
{
    const struct survey_node *digests = &repair->survey.nodes[node];
    uint32_t count = 0;
    memset(seen, 0, (repair->partitions + 7) / 8);
    for (size_t i = 0; i < digests->count; i++) {
        const struct wire_digest_entry *entry = &digests->entries[i];
        if (entry->episode != episode->told.id || entry->partition >= repair->partitions ||
            route_shard(client, node, entry->partition) != episode->shard ||
            repair_bit(seen, entry->partition))
            continue;
        repair_bit_set(seen, entry->partition);
        count++;
    }
    return count;
}

static void repair_open(const struct client *client, struct repair *repair, uint32_t index,
                        uint8_t *seen)
{
    struct repair_node *node = &repair->nodes[index];
    size_t bytes = (repair->partitions + 7) / 8;
    memset(node->open, 0, bytes);
    memset(node->proved, 0, bytes);
    for (uint32_t i = 0; i < node->episode_count; i++) {
        const struct repair_episode *episode = &node->episodes[i];
        uint32_t count = repair_episode_seen(client, repair, index, episode, seen);
        bool all_seen = count >= episode->told.partitions;
        for (uint32_t p = 0; p < repair->partitions; p++)
            if (repair_bit(seen, p) ||
                (!all_seen && route_shard(client, index, p) == episode->shard))
                repair_bit_set(node->open, p);
        repair->open_partitions += episode->told.partitions;
        repair->episode_epoch = kho_max(repair->episode_epoch, episode->told.epoch);
    }
    for (uint32_t p = 0; p < repair->partitions; p++)
        if (repair_bit(node->open, p) && !map_is_listed(&client->map, p, client->map.width, index))
            repair_bit_set(node->proved, p);
}

/* --- What differs ----------------------------------------------------------------------------- */

bool repair_differs(const struct client *client, const struct repair *repair, uint32_t collection,
                    uint32_t partition)
{
    static const struct wire_digest_entry nothing;
    const struct wire_digest_entry *one = NULL;
    struct map_collection c;
    map_collection(&client->map, collection, &c);
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    uint32_t columns = layouts_nodes(&client->map, partition, c.replicas, nodes, &layouts);
    for (uint32_t k = 0; k < columns; k++) {
        uint32_t node = nodes[k];
        if (repair->unreached[node] != 0 || repair->survey.nodes[node].status != 0)
            continue;
        const struct wire_digest_entry *entry = survey_find(&repair->survey, node, c.id, partition);
        entry = entry != NULL ? entry : &nothing;
        if (one != NULL && (one->count != entry->count || one->sum_low != entry->sum_low ||
                            one->sum_high != entry->sum_high))
            return true;
        one = entry;
    }
    return false;
}

static bool repair_partition_differs(const struct client *client, const struct repair *repair,
                                     uint32_t partition)
{
    for (uint32_t i = 0; i < client->map.collection_count; i++) {
        if (!repair->all && (int)i != map_collection_by_name(&client->map, repair->name))
            continue;
        if (repair_differs(client, repair, i, partition))
            return true;
    }
    return false;
}

/* An episode may be open there at a replica that is in reach. */
static bool repair_partition_open(const struct client *client, const struct repair *repair,
                                  uint32_t partition)
{
    uint16_t nodes[COLUMNS_MAX];
    struct layouts layouts;
    uint32_t columns = layouts_nodes(&client->map, partition, client->map.width, nodes, &layouts);
    for (uint32_t k = 0; k < columns; k++)
        if (repair_bit(repair->nodes[nodes[k]].open, partition))
            return true;
    return false;
}

static void repair_surveyed(struct client *client, struct survey *survey, int status,
                            struct kho_now now)
{
    struct repair *repair = survey->owner;
    if (repair_failed(client, repair, status, now))
        return;
    uint8_t *seen = client_allocate(client, (repair->partitions + 7) / 8);
    if (seen == NULL) {
        repair_end(client, repair, -ENOMEM);
        return;
    }
    repair->open_partitions = repair->episode_epoch = 0;
    for (uint32_t i = 0; i < repair->node_count; i++) {
        if (repair->unreached[i] == 0 && survey->nodes[i].status != 0)
            repair_unreach(repair, i, survey->nodes[i].status);
        if (repair->unreached[i] != 0)
            repair->nodes[i].episode_count = 0;
        repair_open(client, repair, i, seen);
    }
    client_release(client, seen);
    repair->needs = 0;
    uint32_t differing = 0;
    memset(repair->work, 0, (repair->partitions + 7) / 8);
    for (uint32_t p = 0; p < repair->partitions; p++) {
        bool differs = repair_partition_differs(client, repair, p);
        differing += differs;
        if (!differs && !repair_partition_open(client, repair, p) &&
            !repair_moving(client, repair, p))
            continue;
        repair_bit_set(repair->work, p);
        repair->needs++;
    }
    if (repair->pass == 0) {
        repair->result.partitions_differing = differing;
        repair->result.episodes_found = repair->open_partitions;
    }
    repair_looked(client, repair, now);
}

static void repair_survey(struct client *client, struct repair *repair, struct kho_now now)
{
    repair_move(repair, REPAIR_SURVEY);
    repair->survey.collection = KHO_ALL;
    repair->survey.skip = repair->unreached;
    repair->survey.deadline_ns = now.mono_ns + REPAIR_ASK_NS;
    repair->survey.end = repair_surveyed;
    repair->survey.owner = repair;
    if (survey_start(client, &repair->survey, now) != 0)
        repair_end(client, repair, -ENOMEM);
    else if (repair->survey.waiting == 0) /* no node is in reach: nobody will answer */
        repair_surveyed(client, &repair->survey, 0, now);
}
