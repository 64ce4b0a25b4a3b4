/* disk_fault.c: disks that lie: writes lost or put elsewhere, reads from elsewhere, sectors that
 * can't be read, errors, results in parts. */
#include "vdisk.h"

#include <errno.h>
#include <kho/base.h>

#include "node/segment.h"

static bool is_segment(const struct vdisk *disk, const struct inode *inode)
{
    for (size_t i = 0; i < disk->seen.count; i++)
        if (disk->seen.entries[i].inode == inode)
            return disk->seen.entries[i].name.kind == FILE_SEGMENT &&
                   !disk->seen.entries[i].name.temporary;
    return false;
}

static bool is_commit(const struct vdisk *disk, const struct io *io, const struct inode *inode)
{
    return io->copy.len >= 4 && kho_load32(io->bytes) == COMMIT_MAGIC && is_segment(disk, inode);
}

/* A segment of the disk that the dice choose, or NULL. */
static struct inode *segment_draw(struct vdisk *disk)
{
    size_t count = 0;
    struct inode *drawn = NULL;
    for (size_t i = 0; i < disk->seen.count; i++) {
        const struct file_name *name = &disk->seen.entries[i].name;
        if (name->kind == FILE_SEGMENT && !name->temporary && dice_below(&disk->dice, ++count) == 0)
            drawn = disk->seen.entries[i].inode;
    }
    return drawn;
}

/* --- Writes ----------------------------------------------------------------------------------- */

static void loss_keep(struct vdisk *disk, const struct io *io, struct inode *inode)
{
    struct lost *lost = malloc(sizeof *lost + io->copy.len);
    KHO_ASSERT(lost != NULL);
    *lost = (struct lost){.next = disk->losses,
                          .inode = inode,
                          .offset = io->copy.offset,
                          .len = io->copy.len,
                          .ended = disk->clock};
    memcpy(lost->bytes, io->bytes, io->copy.len);
    disk->losses = lost;
}

/* A commit that is truly there tells of all that ended before it was asked for. */
static void losses_prove(struct vdisk *disk, uint64_t asked)
{
    for (struct lost *lost = disk->losses; lost != NULL; lost = lost->next)
        if (lost->ended <= asked)
            lost->proven = true;
}

void vdisk_losses_forget(struct vdisk *disk)
{
    while (disk->losses != NULL) {
        struct lost *lost = disk->losses;
        disk->losses = lost->next;
        free(lost);
    }
}

void vdisk_losses_settle(struct vdisk *disk)
{
    for (struct lost *lost = disk->losses; lost != NULL; lost = lost->next) {
        if (lost->proven)
            continue;
        sim_trace(disk->sim, "%s: the commit at %llu wasn't lost after all", disk->name,
                  (unsigned long long)lost->offset);
        inode_write(lost->inode, lost->offset, lost->bytes, lost->len, true, disk->clock);
    }
    vdisk_losses_forget(disk);
}

/* The bytes go to another place. */
static void misdirect(struct vdisk *disk, const struct io *io)
{
    struct inode *inode = segment_draw(disk);
    uint64_t used = inode != NULL ? inode_used(inode) : 0;
    if (used < disk->alignment)
        return;
    uint64_t at = dice_below(&disk->dice, used / disk->alignment) * disk->alignment;
    size_t len = (size_t)kho_min(io->copy.len, inode->size - at);
    inode_write(inode, at, io->bytes, len, true, disk->clock);
}

/* An error says nothing of what is on the disk. */
static int32_t write_fails(struct vdisk *disk, const struct io *io, struct inode *inode)
{
    uint64_t left = dice_below(&disk->dice, io->copy.len / MEDIUM_SECTOR + 1) * MEDIUM_SECTOR;
    inode_write(inode, io->copy.offset, io->bytes, (size_t)left, false, disk->clock);
    sim_fault(disk->sim, SIM_FAULT_write_error);
    return -EIO;
}

int32_t vdisk_write(struct vdisk *disk, const struct io *io, struct inode *inode)
{
    const struct op *op = &io->copy;
    if (memcmp(io->bytes, io->op->data, op->len) != 0) {
        sim_fail(disk->sim, "%s: the buffer of a write at %llu changed while it was under way",
                 disk->name, (unsigned long long)op->offset);
        return -EIO;
    }
    if (dice_chance(&disk->dice, disk->faults.write_error))
        return write_fails(disk, io, inode);
    bool commit = is_commit(disk, io, inode);
    bool lost = commit && dice_chance(&disk->dice, disk->faults.lost_write);
    bool elsewhere = commit && !lost && dice_chance(&disk->dice, disk->faults.misdirected_write);
    if (lost || elsewhere) {
        sim_trace(disk->sim, "%s: the commit at %llu is %s", disk->name,
                  (unsigned long long)op->offset, lost ? "lost" : "put elsewhere");
        disk->hurt = true;
        sim_fault(disk->sim, lost ? SIM_FAULT_lost_write : SIM_FAULT_misdirected_write);
        loss_keep(disk, io, inode);
        if (elsewhere)
            misdirect(disk, io);
        return (int32_t)op->len;
    }
    inode_write(inode, op->offset, io->bytes, op->len, (op->flags & OP_WRITE_DURABLE) != 0,
                disk->clock);
    if (commit)
        losses_prove(disk, io->asked);
    return (int32_t)op->len;
}

/* --- Reads ------------------------------------------------------------------------------------ */

static bool noise_kept(const struct io *io)
{
    const struct op *op = &io->copy;
    return op->len < 16 ||
           (kho_load64(op->data) == io->noise && kho_load64(op->data + op->len - 8) == ~io->noise);
}

int32_t vdisk_read(struct vdisk *disk, struct io *io, struct inode *inode)
{
    const struct op *op = &io->copy;
    if (io->part == 0 && !noise_kept(io))
        sim_fail(disk->sim, "%s: the buffer of a read at %llu changed while it was under way",
                 disk->name, (unsigned long long)op->offset);
    if (dice_chance(&disk->dice, disk->faults.read_error)) {
        disk->hurt = true;
        sim_fault(disk->sim, SIM_FAULT_read_error);
        return -EIO;
    }
    if (inode_spoilt(inode, op->offset, (size_t)op->len)) {
        sim_fault(disk->sim, SIM_FAULT_latent);
        return -EIO;
    }
    if (is_segment(disk, inode) && dice_chance(&disk->dice, disk->faults.misdirected_read)) {
        struct inode *other = segment_draw(disk);
        uint64_t used = kho_max(inode_used(other), op->len);
        uint64_t at = dice_below(&disk->dice, used / disk->alignment) * disk->alignment;
        int32_t right = (int32_t)inode_read(inode, op->offset, op->data, op->len);
        (void)inode_read(other, at, op->data, (size_t)right);
        sim_trace(disk->sim, "%s: a read at %llu gets what is at %llu", disk->name,
                  (unsigned long long)op->offset, (unsigned long long)at);
        disk->hurt = true;
        sim_fault(disk->sim, SIM_FAULT_misdirected_read);
        return right;
    }
    return (int32_t)inode_read(inode, op->offset, op->data, op->len);
}

/* --- Parts ------------------------------------------------------------------------------------ */

bool vdisk_part(struct vdisk *disk, struct io *io, struct inode *inode)
{
    const struct op *op = &io->copy;
    if (op->len < 2 * disk->alignment || !dice_chance(&disk->dice, disk->faults.short_io))
        return false;
    io->part =
        (uint32_t)dice_between(&disk->dice, 1, op->len / disk->alignment - 1) * disk->alignment;
    if (op->kind == OP_READ) {
        (void)inode_read(inode, op->offset, op->data, io->part);
        sim_fault(disk->sim, SIM_FAULT_short_read);
        return true;
    }
    /* Where there is no room the rest says so. */
    if (op->offset + op->len <= inode->size)
        inode_write(inode, op->offset, io->bytes, io->part, (op->flags & OP_WRITE_DURABLE) != 0,
                    disk->clock);
    sim_fault(disk->sim, SIM_FAULT_short_write);
    return true;
}
