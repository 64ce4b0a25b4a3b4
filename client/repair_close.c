/* repair_close.c: owns the closing of episodes at the end of a pass: EPISODE_CLOSE under the pass's
 * epoch, node by node in parallel, up to 1,024 partitions in one request.
 *
 * Each episode is closed in all proved partitions of its shard, since a digest names only one of
 * those that are open in a partition; where it isn't open the answer is -ENOENT, which is no
 * failure.
 * KHO_EEPISODE (it opened under this epoch, so this repair can't close it) leaves it to the next
 * pass, which raises the epoch again. */
#include "repair.h"

#define CLOSE_MAX 1024u

void repair_close_stop(struct client *client, struct repair *repair)
{
    for (uint32_t i = 0; i < repair->node_count; i++) {
        struct repair_node *node = &repair->nodes[i];
        if (node->asked)
            request_drop(client, &node->request);
        node->asked = false;
        client_release(client, node->body);
        node->body = NULL;
    }
}

static void close_ask(struct client *client, struct repair *repair, uint32_t index,
                      struct kho_now now);

static void close_frame(struct client *client, struct request *request,
                        const struct wire_head *head, const uint8_t *body, size_t len,
                        struct kho_now now)
{
    struct repair_node *node = request->owner;
    struct repair *repair = node->repair;
    (void)client;
    (void)now;
    for (uint32_t i = 0; i < head->count && len >= WIRE_STATUS_ANSWER; i++) {
        int status = (int32_t)kho_load32(body);
        if (status > 0)
            status = KHO_EMALFORMED;
        repair->result.episodes_closed += status == 0;
        if (status != 0 && status != -ENOENT && status != KHO_EEPISODE && repair->refusal == 0)
            repair->refusal = status;
        body += WIRE_STATUS_ANSWER;
        len -= WIRE_STATUS_ANSWER;
    }
}

static void close_check(struct client *client, struct repair *repair, struct kho_now now)
{
    if (repair->phase == REPAIR_CLOSE && repair->waiting == 0)
        repair_closed(client, repair, now);
}

static void close_ended(struct client *client, struct request *request, int status,
                        struct kho_now now)
{
    struct repair_node *node = request->owner;
    struct repair *repair = node->repair;
    uint32_t index = (uint32_t)(node - repair->nodes);
    node->asked = false;
    repair->waiting--;
    client_release(client, node->body);
    node->body = NULL;
    if (repair_failed(client, repair, status, now))
        return;
    if (status != 0)
        repair_unreach(repair, index, status);
    else
        close_ask(client, repair, index, now);
    close_check(client, repair, now);
}

/* The next closings of one shard of the node, encoded. Returns how many. */
static uint32_t close_plan(const struct client *client, const struct repair *repair, uint32_t index,
                           struct repair_node *node, uint32_t *ret_shard)
{
    uint32_t count = 0;
    for (; node->close_episode < node->episode_count;
         node->close_episode++, node->close_partition = 0) {
        const struct repair_episode *episode = &node->episodes[node->close_episode];
        if (count > 0)
            return count; /* one episode a request, since the next may be another shard's */
        *ret_shard = episode->shard;
        while (node->close_partition < repair->partitions && count < CLOSE_MAX) {
            uint32_t partition = node->close_partition++;
            if (!repair_bit(node->proved, partition) ||
                route_shard(client, index, partition) != episode->shard)
                continue;
            uint8_t *to = node->body + (size_t)count++ * WIRE_EPISODE_CLOSE_ASK;
            kho_store64(to, episode->told.id);
            kho_store32(to + 8, partition);
            kho_store32(to + 12, 0);
        }
        if (count == CLOSE_MAX)
            return count;
    }
    return count;
}

static void close_ask(struct client *client, struct repair *repair, uint32_t index,
                      struct kho_now now)
{
    struct repair_node *node = &repair->nodes[index];
    uint32_t shard = 0;
    node->repair = repair;
    node->body = client_allocate(client, (size_t)CLOSE_MAX * WIRE_EPISODE_CLOSE_ASK);
    if (node->body == NULL) {
        repair_end(client, repair, -ENOMEM);
        return;
    }
    uint32_t count = close_plan(client, repair, index, node, &shard);
    if (count == 0) {
        client_release(client, node->body);
        node->body = NULL;
        return;
    }
    node->request = (struct request){
        .type = WIRE_EPISODE_CLOSE,
        .count = (uint16_t)count,
        .body = node->body,
        .body_len = count * WIRE_EPISODE_CLOSE_ASK,
        .deadline_ns = now.mono_ns + REPAIR_ASK_NS,
        .frame = close_frame,
        .end = close_ended,
        .owner = node,
    };
    if (request_send(client, &node->request, index, shard, now) != 0) {
        repair_end(client, repair, -ENOMEM);
        return;
    }
    node->asked = true;
    repair->waiting++;
}

void repair_close(struct client *client, struct repair *repair, struct kho_now now)
{
    repair_move(repair, REPAIR_CLOSE);
    repair->waiting = 0;
    for (uint32_t i = 0; i < repair->node_count && repair->phase == REPAIR_CLOSE; i++) {
        repair->nodes[i].close_episode = repair->nodes[i].close_partition = 0;
        if (repair->unreached[i] == 0 && repair->nodes[i].episode_count > 0)
            close_ask(client, repair, i, now);
    }
    close_check(client, repair, now);
}
