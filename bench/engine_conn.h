/* engine_conn.h: one client's connection to a whole shard, without a socket: frames go in as bytes
 * and come out as the shard sends them. */
#ifndef KHO_BENCH_ENGINE_CONN_H
#define KHO_BENCH_ENGINE_CONN_H

#include "engine_node.h"

struct conn_client {
    struct node *node;
    struct wire_hello_node hello; /* the shard's */
    bool greeted, receiving, closed;
    uint8_t *out; /* frames that the shard hasn't got yet */
    size_t out_len, out_max;
    uint8_t *in; /* the beginning of a piece whose rest hasn't come yet */
    size_t in_len;
    uint64_t frames;
    /* An answer. The head's checksum is compared for some frames only: that is the client's work,
     * not the engine's. */
    void (*on_frame)(void *owner, const struct wire_head *head, const uint8_t *body);
    void *owner;
};

/* Says HELLO and waits for the answer. `on_frame` and `owner` are the caller's to set before the
 * first request. 0, or -1 with a sentence on stderr. */
int conn_client_open(struct conn_client *client, struct node *node);
void conn_client_close(struct conn_client *client);
/* Where a request's body of `len` bytes goes; conn_client_send() makes it a frame. */
uint8_t *conn_client_body(struct conn_client *client, size_t len);
void conn_client_send(struct conn_client *client, uint8_t type, uint64_t request, uint16_t count,
                      size_t len);
/* A whole turn of the node with this connection; waits where nothing moves. -1: it broke, or the
 * shard closed it. */
int conn_client_turn(struct conn_client *client);

#endif
