/* bundle.h: records of several writes that are compressed together, once for all their replicas.
 *
 * When a session packs a frame, the small records that wait there and go to the same replicas are
 * laid end to end and compressed, if they are worth a block (wire.h, WRITE_BLOCKS). The sessions of
 * their other replicas find the bundle and send the same bytes, and the nodes store them as they
 * are. Where only a part of a bundle waits at a session (the rest was answered, or goes elsewhere),
 * its records go there one by one.
 *
 * A bundle lives as long as an item points to it. An item leaves it with a new version, or when its
 * call is freed; what is left is then no bundle any more for anybody. */
#ifndef KHO_CLIENT_BUNDLE_H
#define KHO_CLIENT_BUNDLE_H

#include "item.h"

struct bundle {
    uint32_t refs; /* items that point here */
    uint32_t count;
    uint32_t raw_len;
    uint32_t stored_len;
    struct item **items; /* behind the head, then `stored` */
    uint8_t *stored;
};

/* Makes bundles of what waits at the session from the first write on; does nothing where that is
 * too little, in a bundle already, or saves too little. */
void bundle_make(struct client *client, struct session *session);
/* True where the first write that waits belongs to a bundle that can be sent whole. */
bool bundle_waits(const struct session *session);
/* Moves bundles from the session's queue into a frame of WRITE_BLOCKS with `room` for its body, as
 * many as fit. Returns the bytes written; 0: not even one fits. `max` is of records. */
uint32_t bundle_pack(struct session *session, struct batch *batch, uint32_t max, uint8_t *to,
                     uint32_t room);
/* The item's record isn't that of its bundle any more. Takes an item without one. */
void bundle_leave(struct client *client, struct item *item);

#endif
