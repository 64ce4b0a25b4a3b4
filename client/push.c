/* push.c: owns the MAP_PUSH requests that bring a decided map to the nodes.
 *
 * All nodes are asked at once; they share one body. A node that holds the same map answers at once
 * and stores nothing, so nobody has to know who is behind. A node that can't be reached, or that
 * holds a newer map (KHO_EEPOCHOLD: it is in force here by then), has failed; whether that matters
 * is the owner's to say. */
#include "change.h"

void push_stop(struct client *client, struct push *push)
{
    for (uint32_t i = 0; i < push->node_count; i++)
        if (push->nodes[i].asked && !push->nodes[i].ended)
            request_drop(client, &push->nodes[i].request);
    client_release(client, push->nodes);
    client_release(client, push->body);
    push->nodes = NULL;
    push->body = NULL;
    push->node_count = push->waiting = 0;
}

static void push_ended(struct client *client, struct request *request, int status,
                       struct kho_now now)
{
    struct push_node *node = request->owner;
    struct push *push = node->push;
    node->ended = true;
    node->status = status;
    push->waiting--;
    push->held += status == 0;
    if (status != 0 && push->error == 0)
        push->error = status;
    push->told(client, push, now);
}

static int push_ask(struct client *client, struct push *push, uint32_t index, uint32_t body_len,
                    struct kho_now now)
{
    struct push_node *node = &push->nodes[index];
    node->push = push;
    node->request = (struct request){
        .type = WIRE_MAP_PUSH,
        .count = 1,
        .body = push->body,
        .body_len = body_len,
        .deadline_ns = push->deadline_ns,
        .end = push_ended,
        .owner = node,
    };
    int rc = request_send(client, &node->request, index, 0, now);
    node->asked = rc == 0;
    push->waiting += rc == 0;
    return rc;
}

bool push_forked(const struct push *push)
{
    for (uint32_t i = 0; i < push->node_count; i++)
        if (push->nodes[i].ended && push->nodes[i].status == KHO_EMAP)
            return true;
    return false;
}

int push_start(struct client *client, struct push *push, const struct map *map, int except,
               int later, struct kho_now now)
{
    const struct map *force = &client->map;
    uint32_t body_len = WIRE_MAP_PUSH_HEAD + map->length;
    push_stop(client, push);
    push->held = push->told_count = 0;
    push->error = 0;
    push->body = client_allocate(client, body_len);
    push->nodes = client_allocate_zeroed(client, force->node_count * sizeof *push->nodes);
    if (push->body == NULL || push->nodes == NULL)
        goto fail;
    memset(push->body, 0, WIRE_MAP_PUSH_HEAD);
    memcpy(push->body + WIRE_MAP_PUSH_HEAD, map->bytes, map->length);
    push->node_count = force->node_count;
    for (uint32_t i = 0; i < force->node_count; i++) {
        struct map_node node;
        map_node(force, i, &node);
        if ((int)i == except || (int)i == later || node.state == MAP_NODE_OUT)
            continue;
        if (push_ask(client, push, i, body_len, now) != 0)
            goto fail;
        push->told_count++;
    }
    return 0;
fail:
    push_stop(client, push);
    return -ENOMEM;
}
