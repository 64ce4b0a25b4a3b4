/* damage.c: looks through the segments of a folder and changes bytes in them. */
#include "damage.h"

enum { PART = 64 << 10, FILES_MAX = 512 };

static size_t segments(const struct vdisk *disk, struct file_found *ret_files)
{
    struct file_found files[FILES_MAX];
    size_t count = vdisk_list(disk, files, FILES_MAX), kept = 0;
    for (size_t i = 0; i < count; i++)
        if (files[i].name.kind == FILE_SEGMENT && !files[i].name.temporary)
            ret_files[kept++] = files[i];
    /* By rising id, whatever the folder's order. */
    for (size_t i = 1; i < kept; i++)
        for (size_t j = i; j > 0 && ret_files[j].name.id < ret_files[j - 1].name.id; j--) {
            struct file_found swap = ret_files[j];
            ret_files[j] = ret_files[j - 1];
            ret_files[j - 1] = swap;
        }
    return kept;
}

/* Behind the last byte of a file that isn't zero. */
static uint64_t used_end(const struct vdisk *disk, const struct file_found *file)
{
    static uint8_t part[PART]; /* too large for a small stack; filled before each use */
    uint64_t end = 0;
    for (uint64_t at = 0; at < file->size; at += PART) {
        int64_t n = vdisk_peek(disk, file->name, at, part, PART);
        while (n > 0 && part[n - 1] == 0)
            n--;
        if (n > 0)
            end = at + (uint64_t)n;
    }
    return end;
}

bool damage_end(const struct vdisk *disk, struct file_name *ret_name, uint64_t *ret_end)
{
    struct file_found files[FILES_MAX];
    size_t count = segments(disk, files);
    while (count-- > 0) {
        uint64_t end = used_end(disk, &files[count]);
        if (end == 0)
            continue;
        *ret_name = files[count].name;
        *ret_end = end;
        return true;
    }
    return false;
}

static void flip_bit(struct sim *sim, struct vdisk *disk, struct file_name name, uint64_t offset)
{
    uint8_t byte;
    KHO_ASSERT(vdisk_peek(disk, name, offset, &byte, 1) == 1);
    byte ^= (uint8_t)(1u << sim_below(sim, 8));
    KHO_ASSERT(vdisk_poke(disk, name, offset, &byte, 1));
    sim_trace(sim, "damage: a bit of segment %llu at %llu", (unsigned long long)name.id,
              (unsigned long long)offset);
    sim_fault(sim, SIM_FAULT_flip);
}

bool damage_flip(struct sim *sim, struct vdisk *disk)
{
    struct file_found files[FILES_MAX];
    size_t count = segments(disk, files);
    if (count == 0)
        return false;
    const struct file_found *file = &files[sim_below(sim, count)];
    uint64_t end = used_end(disk, file);
    if (end == 0)
        return false;
    flip_bit(sim, disk, file->name, sim_below(sim, end));
    return true;
}

bool damage_flip_end(struct sim *sim, struct vdisk *disk, size_t len)
{
    struct file_name name;
    uint64_t end;
    if (!damage_end(disk, &name, &end))
        return false;
    flip_bit(sim, disk, name, end - 1 - sim_below(sim, kho_min(end, len)));
    return true;
}

bool damage_rot(struct sim *sim, struct vdisk *disk, const void *bytes, size_t len)
{
    struct file_found files[FILES_MAX];
    size_t count = segments(disk, files);
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
            flip_bit(sim, disk, files[i].name, at + (uint64_t)(hit - part) + sim_below(sim, len));
            found = true;
        }
    free(part);
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
        bytes[i] = (uint8_t)(1 + sim_below(sim, 255));
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
    sim_fault(sim, SIM_FAULT_torn);
    return done;
}
