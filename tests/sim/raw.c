/* raw.c: HELLO and frames over a connection of the simulator's own. */
#include "raw.h"

#include <kho/map.h>

enum { WAIT_STEP_MS = 1 };
static const uint64_t wait_max = 30 * SIM_S;

/* Waits until `len` bytes behind those consumed are there. */
static const uint8_t *wait_for(struct raw *raw, size_t len)
{
    struct sim *sim = raw->cluster->sim;
    uint64_t until = sim->now_ns + wait_max;
    for (;;) {
        const uint8_t *bytes;
        bool closed;
        size_t have = vnet_raw_received(raw->conn, &bytes, &closed);
        if (have - raw->read >= len)
            return bytes + raw->read;
        if (closed || sim->now_ns >= until || sim->failed)
            return NULL;
        sim_run(sim, sim->now_ns + WAIT_STEP_MS * SIM_MS, NULL);
    }
}

int raw_open_shard(struct raw *raw, struct node *node, uint32_t shard, const struct kho_id *cluster,
                   uint64_t epoch)
{
    uint8_t bytes[KHO_HELLO_CLIENT_SIZE];
    struct wire_hello_client hello = {
        .protocol_min = KHO_PROTOCOL, .protocol_max = KHO_PROTOCOL, .shard = shard, .epoch = epoch};
    if (cluster != NULL)
        hello.cluster = *cluster;
    *raw = (struct raw){.cluster = node->cluster};
    raw->conn = vnet_raw_connect(node->cluster->net, node->index);
    if (raw->conn == NULL)
        return KHO_EUNAVAILABLE;
    wire_hello_client_encode(&hello, bytes);
    vnet_raw_send(raw->cluster->net, raw->conn, bytes, sizeof bytes);
    const uint8_t *answer = wait_for(raw, KHO_HELLO_NODE_SIZE);
    if (answer == NULL)
        return KHO_EUNAVAILABLE;
    raw->read += KHO_HELLO_NODE_SIZE;
    return wire_hello_node_decode(answer, &raw->hello);
}

int raw_open(struct raw *raw, struct node *node, const struct kho_id *cluster, uint64_t epoch)
{
    return raw_open_shard(raw, node, 0, cluster, epoch);
}

void raw_close(struct raw *raw)
{
    if (raw->conn != NULL)
        vnet_raw_close(raw->cluster->net, raw->conn);
    raw->conn = NULL;
}

void raw_send(struct raw *raw, uint8_t type, uint8_t flags, uint16_t count, uint64_t epoch,
              uint64_t map_hash, const void *body, size_t len)
{
    struct wire_head head = {.length = (uint32_t)(KHO_FRAME_HEAD + len),
                             .type = type,
                             .flags = flags,
                             .count = count,
                             .request = ++raw->requests,
                             .epoch = epoch,
                             .map_hash = map_hash,
                             .cluster = raw->cluster->id};
    uint8_t *frame = malloc(head.length);
    KHO_ASSERT(frame != NULL && head.length <= KHO_FRAME_MAX);
    if (len > 0)
        memcpy(frame + KHO_FRAME_HEAD, body, len);
    wire_frame_seal(frame, &head, false);
    vnet_raw_send(raw->cluster->net, raw->conn, frame, head.length);
    free(frame);
}

int raw_receive(struct raw *raw, struct wire_head *ret_head, const uint8_t **ret_body)
{
    const uint8_t *bytes = wait_for(raw, 4);
    if (bytes == NULL)
        return KHO_EUNAVAILABLE;
    int length = wire_frame_length(bytes, 4);
    if (length < 0)
        return length;
    bytes = wait_for(raw, (size_t)length);
    if (bytes == NULL)
        return KHO_EUNAVAILABLE;
    int rc = wire_frame_decode(bytes, ret_head);
    if (rc != 0)
        return rc;
    raw->read += (size_t)length;
    *ret_body = bytes + KHO_FRAME_HEAD;
    return 0;
}

int raw_map_push(struct node *node, const uint8_t *map, size_t len)
{
    struct raw raw;
    struct wire_head head;
    const uint8_t *body;
    int rc = raw_open(&raw, node, NULL, 0);
    if (rc == 0)
        rc = raw.hello.status;
    if (rc == 0) {
        uint8_t *push = calloc(1, WIRE_MAP_PUSH_HEAD + len);
        KHO_ASSERT(push != NULL);
        memcpy(push + WIRE_MAP_PUSH_HEAD, map, len);
        raw_send(&raw, WIRE_MAP_PUSH, 0, 1, kho_load64(map + 24), kho_load64(map + 32), push,
                 WIRE_MAP_PUSH_HEAD + len);
        free(push);
        rc = raw_receive(&raw, &head, &body);
        if (rc == 0)
            rc = head.status;
    }
    raw_close(&raw);
    return rc;
}
