/* known.h: what the history and the clients know of writes, laid out to be looked up by key,
 * version and value: what the checks of disks compare with. */
#ifndef KHO_SIM_KNOWN_H
#define KHO_SIM_KNOWN_H

#include "workload.h"

struct known_version {
    uint32_t key;
    struct version version;
    uint64_t value;
};

struct known_value {
    struct kho_id hash;
    uint64_t value;
};

/* How the write of a value ended. */
struct known_write {
    uint32_t key;
    uint8_t end;
    struct version version; /* zero: not told */
};

struct known {
    struct known_version *versions; /* by key and version */
    size_t version_count;
    struct known_value *values; /* by hash */
    size_t value_count;
    struct known_write *writes; /* by value */
    struct version *least;      /* by key: acknowledged or read */
    const struct slot **slots;  /* by collection and key */
    size_t slot_count;
};

/* As of now: a view that stays as it is while the history goes on. */
void known_init(struct known *known, const struct workload *workload);
void known_fini(struct known *known);
/* The id of the value with that hash; 0: nobody ever wrote it. */
uint64_t known_value(const struct known *known, const struct kho_id *hash);
/* The value that clients were told of under that version, if `*ret_told`. */
uint64_t known_version(const struct known *known, uint32_t key, struct version version,
                       bool *ret_told);
/* The slot of a key, or NULL: no client was told of it. */
const struct slot *known_slot(const struct known *known, uint32_t collection, const void *key,
                              size_t len);
/* Compares a key with a slot's, in the order of the table. */
int known_slot_compare(uint32_t collection, const void *key, size_t len, const struct slot *slot);

#endif
