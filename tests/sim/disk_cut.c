/* disk_cut.c: what a killed process or lost power leaves of what was under way or not yet stable.
 */
#include "vdisk.h"

enum tear { TEAR_NOTHING, TEAR_ALL, TEAR_PREFIX, TEAR_RANDOM, TEAR_GARBAGE };

/* What a write under way left: decided for units of one sector or of eight. `most`: no more than
 * this; returns what it was. */
static enum tear write_cut(struct vdisk *disk, struct io *io, struct inode *inode, enum tear most)
{
    struct sim *sim = disk->sim;
    enum tear tear = (enum tear)dice_below(&disk->dice, (uint64_t)most + 1);
    uint64_t unit = dice_below(&disk->dice, 2) == 0 ? MEDIUM_SECTOR : 4096;
    uint64_t prefix = dice_below(&disk->dice, io->copy.len / unit + 1) * unit;
    if (dice_chance(&disk->dice, disk->faults.garbage)) {
        tear = TEAR_GARBAGE;
        disk->hurt = true;
        sim_fault(sim, SIM_FAULT_garbage);
    } else if (tear >= TEAR_PREFIX) {
        sim_fault(sim, unit == MEDIUM_SECTOR ? SIM_FAULT_torn_512 : SIM_FAULT_torn_4096);
    } else {
        sim_fault(sim, tear == TEAR_ALL ? SIM_FAULT_unsynced_kept : SIM_FAULT_unsynced_lost);
    }
    sim_trace(sim, "%s: cut in a write of %u bytes at %llu: %d", disk->name, io->copy.len,
              (unsigned long long)io->copy.offset, (int)tear);
    for (uint64_t at = 0; at < io->copy.len; at += unit) {
        size_t len = (size_t)kho_min(unit, io->copy.len - at);
        bool there = tear == TEAR_ALL || (tear == TEAR_PREFIX && at < prefix) ||
                     (tear >= TEAR_RANDOM && dice_below(&disk->dice, 2) == 0);
        if (tear == TEAR_GARBAGE && dice_below(&disk->dice, 3) == 0) {
            for (size_t i = 0; i < len; i++)
                io->bytes[at + i] = (uint8_t)kho_random_next(&disk->dice);
            there = true;
        }
        if (there)
            inode_write(inode, io->copy.offset + at, io->bytes + at, len, true, disk->clock);
    }
    return tear;
}

/* The oldest op under way that is younger than `id`, or NULL. */
static struct io *io_next(const struct vdisk *disk, uint64_t id)
{
    struct io *next = NULL;
    for (struct io *io = disk->ios; io != NULL; io = io->next)
        if (io->id > id && (next == NULL || io->id < next->id))
            next = io;
    return next;
}

/* The writes under way, from the oldest on. A gentle cut leaves nothing behind the first that isn't
 * whole. */
static void writes_cut(struct vdisk *disk)
{
    bool gentle = disk->faults.gentle;
    enum tear most = gentle ? TEAR_PREFIX : TEAR_RANDOM;
    for (struct io *io = io_next(disk, 0); io != NULL; io = io_next(disk, io->id)) {
        if (io->copy.kind != OP_WRITE)
            continue;
        enum tear tear = write_cut(disk, io, vdisk_handle(disk, &io->copy)->inode, most);
        if (gentle && tear != TEAR_ALL)
            most = TEAR_NOTHING;
    }
}

static void folder_cut(struct vdisk *disk)
{
    struct sim *sim = disk->sim;
    /* A journal keeps a prefix of the changes; nothing promises that there is one. */
    bool journal = dice_below(&disk->dice, 2) == 0;
    size_t kept = disk->change_count > 0 ? dice_below(&disk->dice, disk->change_count + 1) : 0;
    bool lost = false;
    for (size_t i = 0; i < disk->change_count; i++) {
        bool keep = journal ? i < kept : dice_below(&disk->dice, 2) == 0;
        if (keep)
            dir_change(&disk->stable, &disk->changes[i]);
        lost |= !keep;
    }
    if (lost)
        sim_fault(sim, SIM_FAULT_folder_lost);
    disk->change_count = 0;
    dir_assign(&disk->seen, &disk->stable);
}

/* Ops under way when a process is killed run or don't. */
static void io_kill(struct vdisk *disk, struct io *io)
{
    if (dice_below(&disk->dice, 2) == 0)
        return;
    disk->clock++;
    switch (io->copy.kind) {
    case OP_WRITE: {
        /* Seen, but not stable: what a durable write is for hadn't happened yet. */
        struct inode *inode = vdisk_handle(disk, &io->copy)->inode;
        inode_write(inode, io->copy.offset, io->bytes, io->copy.len, false, disk->clock);
        break;
    }
    case OP_ALLOCATE:
        vdisk_run_allocate(disk, &io->copy);
        break;
    case OP_RENAME:
        vdisk_run_rename(disk, &io->copy);
        break;
    case OP_OPEN:
        if (vdisk_handle(disk, &io->copy)->inode == NULL)
            vdisk_run_open(disk, &io->copy);
        break;
    case OP_UNLINK:
        if (dir_find(&disk->seen, &io->copy.name) != NULL)
            vdisk_change(disk, (struct change){.kind = CHANGE_UNLINK, .name = io->copy.name});
        break;
    default:
        break; /* leaves nothing behind */
    }
}

static bool changes_hold(const struct vdisk *disk, const struct inode *inode)
{
    for (size_t i = 0; i < disk->change_count; i++)
        if (disk->changes[i].inode == inode)
            return true;
    return false;
}

/* Frees files that nothing names any more; only when no handle is open. */
static void sweep(struct vdisk *disk)
{
    for (struct inode **link = &disk->inodes; *link != NULL;) {
        struct inode *inode = *link;
        if (dir_holds(&disk->seen, inode) || dir_holds(&disk->stable, inode) ||
            changes_hold(disk, inode)) {
            link = &inode->next;
            continue;
        }
        *link = inode->next;
        inode_free(inode);
    }
}

void vdisk_cut(struct vdisk *disk, enum vdisk_cut cut)
{
    vdisk_losses_settle(disk);
    if (cut == VDISK_POWER)
        writes_cut(disk);
    while (disk->ios != NULL) {
        if (cut == VDISK_KILL)
            io_kill(disk, disk->ios);
        vdisk_io_free(disk, disk->ios);
    }
    if (cut == VDISK_POWER) {
        folder_cut(disk);
        for (struct inode *inode = disk->inodes; inode != NULL; inode = inode->next)
            inode_cut(inode, disk->sim, &disk->dice, disk->faults.gentle);
    }
    if (disk->handle_count > 0)
        memset(disk->handles, 0, disk->handle_count * sizeof *disk->handles);
    sweep(disk);
}
