/* damage.h: rot, put into a disk's segments while its node is up or down.
 *
 * Each tells in the trace what it hit, and returns false if there is nothing to damage. */
#ifndef KHO_SIM_DAMAGE_H
#define KHO_SIM_DAMAGE_H

#include "disk.h"

/* One bit of a byte, chosen by the seed, of a segment's part in use. */
bool damage_flip(struct sim *sim, struct vdisk *disk);
/* Not in the newest segment. */
bool damage_flip_sealed(struct sim *sim, struct vdisk *disk);
/* A sector, or eight, of a segment can't be read from now on. */
bool damage_spoil(struct sim *sim, struct vdisk *disk, bool sealed);
/* One bit of the last `len` bytes in use of the newest segment in use. */
bool damage_flip_end(struct sim *sim, struct vdisk *disk, size_t len);
/* One bit within the first place where `bytes` lie in a segment. */
bool damage_rot(struct sim *sim, struct vdisk *disk, const void *bytes, size_t len);
/* Random bytes over `len` bytes that begin `behind` bytes behind the last used one (rounded up to
 * 4,096) of the newest segment in use. */
bool damage_scribble(struct sim *sim, struct vdisk *disk, uint64_t behind, size_t len);
/* Zeros over the last `len` bytes of the newest segment in use, as a torn write leaves it. */
bool damage_tear(struct sim *sim, struct vdisk *disk, size_t len);
/* Where the part in use of the newest segment in use ends. */
bool damage_end(const struct vdisk *disk, struct file_name *ret_name, uint64_t *ret_end);

#endif
