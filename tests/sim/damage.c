/* damage.c: looks through the segments of a folder and changes bytes in them. */
#include "damage.h"

enum { PART = 64 << 10 };

/* The live segments by rising id, whatever the folder's order; owned by the caller. */
static struct file_found *segments(const struct vdisk *disk, size_t *ret_count)
{
    size_t count = vdisk_list(disk, NULL, 0), kept = 0;
    struct file_found *files = calloc(count + 1, sizeof *files);
    KHO_ASSERT(files != NULL);
    vdisk_list(disk, files, count);
    for (size_t i = 0; i < count; i++)
        if (files[i].name.kind == FILE_SEGMENT && !files[i].name.temporary)
            files[kept++] = files[i];
    for (size_t i = 1; i < kept; i++)
        for (size_t j = i; j > 0 && files[j].name.id < files[j - 1].name.id; j--) {
            struct file_found swap = files[j];
            files[j] = files[j - 1];
            files[j - 1] = swap;
        }
    *ret_count = kept;
    return files;
}

bool damage_end(const struct vdisk *disk, struct file_name *ret_name, uint64_t *ret_end)
{
    size_t count;
    struct file_found *files = segments(disk, &count);
    bool found = false;
    while (count-- > 0 && !found) {
        uint64_t end = vdisk_used(disk, files[count].name);
        if (end == 0)
            continue;
        *ret_name = files[count].name;
        *ret_end = end;
        found = true;
    }
    free(files);
    return found;
}

static void flip_bit(struct sim *sim, struct vdisk *disk, struct file_name name, uint64_t offset)
{
    uint8_t byte;
    KHO_ASSERT(vdisk_peek(disk, name, offset, &byte, 1) == 1);
    byte ^= (uint8_t)(1u << dice_below(&sim->dice, 8));
    KHO_ASSERT(vdisk_poke(disk, name, offset, &byte, 1));
    sim_trace(sim, "damage: a bit of segment %llu at %llu", (unsigned long long)name.id,
              (unsigned long long)offset);
    sim_fault(sim, SIM_FAULT_flip);
}

/* A place in use in a segment; `sealed`: not in the newest one, where a log may end. */
static bool place_draw(struct sim *sim, const struct vdisk *disk, bool sealed,
                       struct file_name *ret_name, uint64_t *ret_at)
{
    size_t count;
    struct file_found *files = segments(disk, &count);
    bool found = false;
    if (count > (sealed ? 1u : 0u)) {
        const struct file_found *file = &files[dice_below(&sim->dice, count - (sealed ? 1 : 0))];
        uint64_t end = vdisk_used(disk, file->name);
        *ret_name = file->name;
        found = end > 0;
        if (found)
            *ret_at = dice_below(&sim->dice, end);
    }
    free(files);
    return found;
}

bool damage_flip(struct sim *sim, struct vdisk *disk)
{
    struct file_name name;
    uint64_t at;
    if (!place_draw(sim, disk, false, &name, &at))
        return false;
    flip_bit(sim, disk, name, at);
    return true;
}

bool damage_flip_sealed(struct sim *sim, struct vdisk *disk)
{
    struct file_name name;
    uint64_t at;
    if (!place_draw(sim, disk, true, &name, &at))
        return false;
    flip_bit(sim, disk, name, at);
    return true;
}

bool damage_spoil(struct sim *sim, struct vdisk *disk, bool sealed)
{
    struct file_name name;
    uint64_t at;
    if (!place_draw(sim, disk, sealed, &name, &at))
        return false;
    size_t len = dice_below(&sim->dice, 2) == 0 ? 512 : 4096;
    at &= ~(uint64_t)(len - 1);
    if (!vdisk_spoil(disk, name, at, len))
        return false;
    sim_trace(sim, "damage: %zu bytes of segment %llu at %llu can't be read", len,
              (unsigned long long)name.id, (unsigned long long)at);
    return true;
}

bool damage_flip_end(struct sim *sim, struct vdisk *disk, size_t len)
{
    struct file_name name;
    uint64_t end;
    if (!damage_end(disk, &name, &end))
        return false;
    flip_bit(sim, disk, name, end - 1 - dice_below(&sim->dice, kho_min(end, len)));
    return true;
}

bool damage_rot(struct sim *sim, struct vdisk *disk, const void *bytes, size_t len)
{
    size_t count;
    struct file_found *files = segments(disk, &count);
    KHO_ASSERT(len > 0 && len < PART);
    uint8_t *part = malloc(2 * PART);
    KHO_ASSERT(part != NULL);
    bool found = false;
    for (size_t i = 0; i < count && !found; i++)
        for (uint64_t at = 0; at < files[i].size && !found; at += PART) {
            int64_t n = vdisk_peek(disk, files[i].name, at, part, 2 * PART);
            const uint8_t *hit = n > 0 ? memmem(part, (size_t)n, bytes, len) : NULL;
            if (hit == NULL)
                continue;
            flip_bit(sim, disk, files[i].name,
                     at + (uint64_t)(hit - part) + dice_below(&sim->dice, len));
            found = true;
        }
    free(part);
    free(files);
    return found;
}

bool damage_scribble(struct sim *sim, struct vdisk *disk, uint64_t behind, size_t len)
{
    struct file_name name;
    uint64_t end;
    if (!damage_end(disk, &name, &end))
        return false;
    uint8_t *bytes = malloc(len > 0 ? len : 1);
    KHO_ASSERT(bytes != NULL);
    for (size_t i = 0; i < len; i++)
        bytes[i] = (uint8_t)(1 + dice_below(&sim->dice, 255));
    uint64_t at = kho_round_up(end, 4096) + behind;
    bool done = vdisk_poke(disk, name, at, bytes, len);
    free(bytes);
    sim_trace(sim, "damage: %zu random bytes in segment %llu at %llu", len,
              (unsigned long long)name.id, (unsigned long long)at);
    sim_fault(sim, SIM_FAULT_garbage);
    return done;
}

bool damage_tear(struct sim *sim, struct vdisk *disk, size_t len)
{
    struct file_name name;
    uint64_t end;
    if (!damage_end(disk, &name, &end) || len > end)
        return false;
    uint8_t *zeros = calloc(1, len > 0 ? len : 1);
    KHO_ASSERT(zeros != NULL);
    bool done = vdisk_poke(disk, name, end - len, zeros, len);
    free(zeros);
    sim_trace(sim, "damage: the last %zu bytes of segment %llu, up to %llu, are zeros", len,
              (unsigned long long)name.id, (unsigned long long)end);
    sim_fault(sim, SIM_FAULT_torn_512);
    return done;
}
