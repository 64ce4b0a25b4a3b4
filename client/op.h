/* op.h: what the client's core asks of the world, as data. The driver (uv.c, or the simulator)
 * drains the outbox after each step and reports each op's end exactly once through
 * client_completed(), with `result` 0 or -errno (or a code of the resolver, made -errno by the
 * driver). Connections have small integers as handles, chosen by the core, free for use again after
 * CLIENT_OP_CLOSE has ended. An op's owner and its buffers stay until it has ended. */
#ifndef KHO_CLIENT_OP_H
#define KHO_CLIENT_OP_H

#include <kho/base.h>

enum client_op_kind {
    CLIENT_OP_CONNECT =
        1,          /* resolve `host`:`port` and connect with TCP_NODELAY, as handle `conn` */
    CLIENT_OP_SEND, /* `len` bytes of `data`, whole or an error */
    CLIENT_OP_CLOSE /* ends the connection; its other ops end first, with -ECANCELED */
};

struct client_op {
    struct queue link; /* in the outbox, then free for the driver */
    uint8_t kind;
    int32_t conn;
    int32_t result;
    const char *host; /* lent until the op has ended */
    uint16_t port;
    const uint8_t *data;
    uint32_t len;
    void *owner;     /* the core's own */
    uint8_t purpose; /* the core's own */
    void *driver;    /* the driver's own */
};

#endif
