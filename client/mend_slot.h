/* mend_slot.h: the inside of a mend, shared by mend.c (windows, votes, what is to be done) and
 * mend_copy.c (reading and writing). */
#ifndef KHO_CLIENT_MEND_SLOT_H
#define KHO_CLIENT_MEND_SLOT_H

#include "mend.h"

/* One entry of the window. */
struct mend_slot {
    bool settled;
    bool again;        /* to be probed, or probed anew */
    uint8_t tries;     /* probes so far */
    columns_t probed;  /* columns that told their state */
    columns_t sources; /* columns that have the version and its value, not yet tried */
    columns_t targets; /* columns that shall get it */
    uint8_t *bytes;    /* the record, while it waits to be copied */
    uint32_t len;
    int refusal; /* of a copy, the first */
    struct wire_probe_answer told[COLUMNS_MAX];
};

static inline columns_t mend_all(const struct mend *mend)
{
    return layouts_all(mend->layouts);
}
/* Columns that still take part. */
static inline columns_t mend_here(const struct mend *mend)
{
    return mend_all(mend) & (columns_t) ~(mend->skip | mend->gone);
}
static inline struct mend_entry *mend_entry_of(const struct mend *mend,
                                               const struct mend_slot *slot)
{
    return &mend->entries[mend->first + (uint32_t)(slot - mend->slots)];
}

/* --- mend.c ----------------------------------------------------------------------------------- */

void mend_move(struct mend *mend, enum mend_phase to);
void mend_end(struct client *client, struct mend *mend, int status, struct kho_now now);
/* A column's request failed. True: that ended the whole mend. */
bool mend_column_failed(struct client *client, struct mend *mend, uint32_t k, int status,
                        struct kho_now now);
/* Frees a slot's record. */
void mend_forget(struct client *client, struct mend *mend, struct mend_slot *slot);
void mend_settle(struct client *client, struct mend *mend, struct mend_slot *slot, int status);
/* Takes from the targets those that must not get a tombstone, since they dropped it, or a later
 * one, already (R7). */
void mend_spare_floors(const struct mend *mend, struct mend_slot *slot);
/* A phase is over: what comes next? */
void mend_next(struct client *client, struct mend *mend, struct kho_now now);

/* --- mend_copy.c ------------------------------------------------------------------------------ */

/* Reads what is unsettled, as much as memory may hold, and copies it: mend_next(). */
void mend_read(struct client *client, struct mend *mend, struct kho_now now);

#endif
