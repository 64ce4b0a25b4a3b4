/* disk.c: the ops of a store, carried out on a medium; what a cut leaves of those under way.
 *
 * The bytes of a write are copied when it is asked for and compared when it ends: the core must
 * leave its buffer alone meanwhile. */
#include "vdisk.h"

#include <errno.h>

/* --- The folder ------------------------------------------------------------------------------- */

void vdisk_change(struct vdisk *disk, struct change change)
{
    change.when = disk->clock;
    if (disk->change_count == disk->change_room) {
        disk->change_room = disk->change_room * 2 + 32;
        disk->changes = realloc(disk->changes, disk->change_room * sizeof *disk->changes);
        KHO_ASSERT(disk->changes != NULL);
    }
    disk->changes[disk->change_count++] = change;
    dir_change(&disk->seen, &change);
}

static void folder_sync(struct vdisk *disk, uint64_t when)
{
    size_t kept = 0;
    for (size_t i = 0; i < disk->change_count; i++) {
        if (disk->changes[i].when <= when)
            dir_change(&disk->stable, &disk->changes[i]);
        else
            disk->changes[kept++] = disk->changes[i];
    }
    disk->change_count = kept;
}

uint64_t vdisk_space_used(const struct vdisk *disk)
{
    uint64_t used = 0;
    for (size_t i = 0; i < disk->seen.count; i++)
        used += kho_round_up(disk->seen.entries[i].inode->size, 4096);
    return used;
}
static uint64_t space_free(const struct vdisk *disk)
{
    uint64_t used = vdisk_space_used(disk);
    return used < disk->faults.space_max ? disk->faults.space_max - used : 0;
}

/* --- Ops -------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {"",      "open",   "allocate",    "read",   "write",
                                         "sync",  "rename", "sync-folder", "unlink", "close-file",
                                         "space", "send",   "receive",     "close"};

struct handle *vdisk_handle(struct vdisk *disk, const struct op *op)
{
    KHO_ASSERT(op->file >= 0 && op->file < 1 << 20);
    if ((size_t)op->file >= disk->handle_count) {
        size_t count = (size_t)op->file + 16;
        disk->handles = realloc(disk->handles, count * sizeof *disk->handles);
        KHO_ASSERT(disk->handles != NULL);
        memset(disk->handles + disk->handle_count, 0,
               (count - disk->handle_count) * sizeof *disk->handles);
        disk->handle_count = count;
    }
    return &disk->handles[op->file];
}

static bool uses_handle(uint8_t kind)
{
    return kind == OP_ALLOCATE || kind == OP_READ || kind == OP_WRITE || kind == OP_SYNC ||
           kind == OP_CLOSE_FILE;
}

int32_t vdisk_run_open(struct vdisk *disk, const struct op *op)
{
    struct handle *handle = vdisk_handle(disk, op);
    if (handle->inode != NULL) {
        sim_fail(disk->sim, "%s: handle %d opened twice", disk->name, op->file);
        return -EBADF;
    }
    struct entry *entry = dir_find(&disk->seen, &op->name);
    if (op->flags & OP_OPEN_CREATE) {
        if (entry != NULL && !op->name.temporary)
            return -EEXIST;
        if (entry != NULL)
            vdisk_change(disk, (struct change){.kind = CHANGE_UNLINK, .name = op->name});
        struct inode *inode = calloc(1, sizeof *inode);
        KHO_ASSERT(inode != NULL);
        inode->next = disk->inodes;
        disk->inodes = inode;
        vdisk_change(disk,
                     (struct change){.kind = CHANGE_CREATE, .name = op->name, .inode = inode});
        entry = dir_find(&disk->seen, &op->name);
    }
    if (entry == NULL)
        return -ENOENT;
    *handle = (struct handle){.inode = entry->inode, .direct = (op->flags & OP_OPEN_DIRECT) != 0};
    return 0;
}

int32_t vdisk_run_rename(struct vdisk *disk, const struct op *op)
{
    struct entry *entry = dir_find(&disk->seen, &op->name);
    if (entry == NULL)
        return -ENOENT;
    vdisk_change(disk, (struct change){.kind = CHANGE_RENAME,
                                       .name = op->name,
                                       .to = op->target,
                                       .inode = entry->inode});
    return 0;
}

int32_t vdisk_run_allocate(struct vdisk *disk, const struct op *op)
{
    struct inode *inode = vdisk_handle(disk, op)->inode;
    if (op->len > inode->size && op->len - inode->size > space_free(disk)) {
        sim_fault(disk->sim, SIM_FAULT_no_space);
        return -ENOSPC;
    }
    inode_size(inode, op->len, false, disk->clock);
    if ((op->flags & OP_ALLOCATE_ZEROS) != 0)
        inode_zero(inode, disk->clock);
    return 0;
}

static int32_t sync_fails(struct vdisk *disk)
{
    if (!dice_chance(&disk->dice, disk->faults.sync_error))
        return 0;
    sim_fault(disk->sim, SIM_FAULT_sync_error);
    return -EIO;
}

/* Ops on an open file. */
static int32_t run_file(struct vdisk *disk, struct io *io, struct inode *inode)
{
    switch (io->copy.kind) {
    case OP_ALLOCATE:
        return vdisk_run_allocate(disk, &io->copy);
    case OP_READ:
        return vdisk_read(disk, io, inode);
    case OP_WRITE:
        if (io->copy.offset + io->copy.len > inode->size &&
            io->copy.offset + io->copy.len - inode->size > space_free(disk)) {
            sim_fault(disk->sim, SIM_FAULT_no_space);
            return -ENOSPC;
        }
        return vdisk_write(disk, io, inode);
    default:
        KHO_ASSERT(io->copy.kind == OP_SYNC);
        if (sync_fails(disk) != 0)
            return -EIO;
        inode_sync(inode, io->asked);
        return 0;
    }
}

static int32_t run(struct vdisk *disk, struct io *io)
{
    struct op *op = io->op;
    switch (io->copy.kind) {
    case OP_OPEN:
        return vdisk_run_open(disk, &io->copy);
    case OP_RENAME:
        return vdisk_run_rename(disk, &io->copy);
    case OP_SYNC_FOLDER:
        if (sync_fails(disk) != 0)
            return -EIO;
        folder_sync(disk, io->asked);
        return 0;
    case OP_UNLINK:
        if (dir_find(&disk->seen, &io->copy.name) == NULL)
            return -ENOENT;
        vdisk_change(disk, (struct change){.kind = CHANGE_UNLINK, .name = io->copy.name});
        return 0;
    case OP_SPACE:
        op->offset = space_free(disk);
        if (disk->faults.full)
            sim_fault(disk->sim, SIM_FAULT_no_space);
        return 0;
    default:
        return run_file(disk, io, vdisk_handle(disk, &io->copy)->inode);
    }
}

void vdisk_io_free(struct vdisk *disk, struct io *io)
{
    struct io **link = &disk->ios;
    while (*link != io)
        link = &(*link)->next;
    *link = io->next;
    free(io->bytes);
    free(io);
}

/* How long the next op takes. */
static uint64_t op_takes(struct vdisk *disk, uint8_t kind)
{
    uint64_t takes =
        dice_delay(&disk->pace, kind == OP_READ ? disk->faults.read_ns : disk->faults.write_ns);
    if (dice_chance(&disk->dice, disk->faults.slow)) {
        sim_fault(disk->sim, SIM_FAULT_slow_disk);
        takes += dice_between(&disk->dice, 10 * SIM_MS, 5 * SIM_S);
    }
    return takes;
}

static void io_end(void *owner, uint64_t id);

static void close_end(struct vdisk *disk, struct handle *handle, struct op *op)
{
    *handle = (struct handle){0};
    op->result = 0;
    disk->done(disk->owner, op);
}

static void io_end(void *owner, uint64_t id)
{
    struct vdisk *disk = owner;
    struct io *io = disk->ios;
    while (io != NULL && io->id != id)
        io = io->next;
    if (io == NULL)
        return; /* cut meanwhile */
    disk->clock++;
    struct op *op = io->op;
    uint8_t kind = io->copy.kind;
    if ((kind == OP_READ || kind == OP_WRITE) && io->part == 0 &&
        vdisk_part(disk, io, vdisk_handle(disk, &io->copy)->inode)) {
        sim_after(disk->sim, op_takes(disk, kind), io_end, disk, io->id);
        return;
    }
    if (kind != OP_CLOSE_FILE)
        op->result = run(disk, io);
    struct handle *handle = uses_handle(kind) ? vdisk_handle(disk, &io->copy) : NULL;
    vdisk_io_free(disk, io);
    if (kind == OP_CLOSE_FILE) {
        handle->close = op;
    } else {
        sim_trace(disk->sim, "%s: %s file %d kind %u id %llu offset %llu len %u: %d", disk->name,
                  kind_names[kind], op->file, op->name.kind, (unsigned long long)op->name.id,
                  (unsigned long long)(kind == OP_SPACE ? 0 : op->offset), op->len, op->result);
        if (handle != NULL)
            handle->under_way--;
        disk->done(disk->owner, op);
    }
    if (handle != NULL && handle->close != NULL && handle->under_way == 0)
        close_end(disk, handle, handle->close);
}

static void noise_fill(uint8_t *to, size_t len, uint64_t noise)
{
    if (len >= 16) {
        kho_store64(to, noise);
        kho_store64(to + len - 8, ~noise);
    }
}

static bool aligned(const struct vdisk *disk, const struct op *op)
{
    uint64_t mask = disk->alignment - 1;
    return ((op->offset | op->len | (uint64_t)(uintptr_t)op->data) & mask) == 0;
}

void vdisk_submit(struct vdisk *disk, struct op *op)
{
    struct io *io = calloc(1, sizeof *io);
    KHO_ASSERT(io != NULL && op->kind >= OP_OPEN && op->kind <= OP_SPACE);
    for (const struct io *other = disk->ios; other != NULL; other = other->next)
        if (other->op == op)
            sim_fail(disk->sim, "%s: %s is asked for anew while it is under way", disk->name,
                     kind_names[op->kind]);
    *io = (struct io){.next = disk->ios, .id = ++disk->ids, .op = op, .copy = *op};
    io->asked = disk->clock;
    disk->ios = io;
    if (uses_handle(op->kind)) {
        struct handle *handle = vdisk_handle(disk, op);
        if (handle->inode == NULL || handle->close != NULL) {
            sim_fail(disk->sim, "%s: %s of handle %d, which isn't open", disk->name,
                     kind_names[op->kind], op->file);
            return;
        }
        if ((op->kind == OP_READ || op->kind == OP_WRITE) && handle->direct && !aligned(disk, op)) {
            sim_fail(disk->sim, "%s: %s of handle %d at %llu, %u bytes, isn't aligned to %u",
                     disk->name, kind_names[op->kind], op->file, (unsigned long long)op->offset,
                     op->len, disk->alignment);
            return;
        }
        handle->under_way += op->kind != OP_CLOSE_FILE;
    }
    if (op->kind == OP_READ) {
        /* Noise that the core must leave alone until the read has ended. */
        io->noise = kho_random_next(&disk->pace) | 1;
        noise_fill(op->data, op->len, io->noise);
    }
    if (op->kind == OP_WRITE) {
        io->bytes = malloc(op->len > 0 ? op->len : 1);
        KHO_ASSERT(io->bytes != NULL);
        memcpy(io->bytes, op->data, op->len);
    }
    sim_after(disk->sim, op_takes(disk, op->kind), io_end, disk, io->id);
}

/* --- Life ------------------------------------------------------------------------------------- */

struct vdisk *vdisk_create(struct sim *sim, const char *name, uint32_t alignment, vdisk_done done,
                           void *owner)
{
    struct vdisk *disk = calloc(1, sizeof *disk);
    KHO_ASSERT(disk != NULL);
    disk->sim = sim;
    snprintf(disk->name, sizeof disk->name, "%s", name);
    disk->alignment = alignment;
    disk->done = done;
    disk->owner = owner;
    disk->clock = 1;
    sim_dice(sim, name, 0, &disk->pace);
    sim_dice(sim, name, 1, &disk->dice);
    disk->faults = (struct vdisk_faults){
        .space_max = 1ull << 40, .write_ns = 200 * SIM_US, .read_ns = 150 * SIM_US};
    return disk;
}

void vdisk_wipe(struct vdisk *disk)
{
    while (disk->ios != NULL)
        vdisk_io_free(disk, disk->ios);
    while (disk->inodes != NULL) {
        struct inode *inode = disk->inodes;
        disk->inodes = inode->next;
        inode_free(inode);
    }
    disk->hurt = false;
    vdisk_losses_forget(disk);
    disk->seen.count = disk->stable.count = disk->change_count = 0;
    if (disk->handle_count > 0)
        memset(disk->handles, 0, disk->handle_count * sizeof *disk->handles);
}

void vdisk_destroy(struct vdisk *disk)
{
    if (disk == NULL)
        return;
    vdisk_wipe(disk);
    dir_free(&disk->seen);
    dir_free(&disk->stable);
    free(disk->changes);
    free(disk->handles);
    free(disk);
}

struct vdisk_faults *vdisk_faults(struct vdisk *disk)
{
    return &disk->faults;
}

bool vdisk_busy(const struct vdisk *disk)
{
    return disk->ios != NULL;
}

size_t vdisk_list(const struct vdisk *disk, struct file_found *ret_files, size_t max)
{
    for (size_t i = 0; i < disk->seen.count && i < max; i++)
        ret_files[i] = (struct file_found){.name = disk->seen.entries[i].name,
                                           .size = disk->seen.entries[i].inode->size};
    return disk->seen.count;
}

int64_t vdisk_peek(const struct vdisk *disk, struct file_name name, uint64_t offset, uint8_t *to,
                   size_t len)
{
    for (size_t i = 0; i < disk->seen.count; i++)
        if (name_equal(&disk->seen.entries[i].name, &name))
            return (int64_t)inode_read(disk->seen.entries[i].inode, offset, to, len);
    return -1;
}

bool vdisk_poke(struct vdisk *disk, struct file_name name, uint64_t offset, const uint8_t *bytes,
                size_t len)
{
    struct entry *entry = dir_find(&disk->seen, &name);
    if (entry == NULL || offset + len > entry->inode->size)
        return false;
    disk->hurt = true;
    inode_poke(entry->inode, offset, bytes, len);
    return true;
}

uint64_t vdisk_used(const struct vdisk *disk, struct file_name name)
{
    for (size_t i = 0; i < disk->seen.count; i++)
        if (name_equal(&disk->seen.entries[i].name, &name))
            return inode_used(disk->seen.entries[i].inode);
    return 0;
}

bool vdisk_spoil(struct vdisk *disk, struct file_name name, uint64_t offset, size_t len)
{
    struct entry *entry = dir_find(&disk->seen, &name);
    if (entry == NULL || offset + len > entry->inode->size)
        return false;
    disk->hurt = true;
    inode_spoil(entry->inode, offset, len);
    return true;
}

void vdisk_harm(struct vdisk *disk)
{
    disk->hurt = true;
}

bool vdisk_hurt(const struct vdisk *disk)
{
    return disk->hurt;
}

bool vdisk_spoilt(const struct vdisk *disk, struct file_name name, uint64_t offset, size_t len)
{
    for (size_t i = 0; i < disk->seen.count; i++)
        if (name_equal(&disk->seen.entries[i].name, &name))
            return inode_spoilt(disk->seen.entries[i].inode, offset, len);
    return false;
}

void vdisk_owner(struct vdisk *disk, void *owner)
{
    disk->owner = owner;
}

struct vdisk *vdisk_clone(const struct vdisk *disk, const char *name)
{
    struct vdisk *clone = vdisk_create(disk->sim, name, disk->alignment, disk->done, disk->owner);
    clone->hurt = disk->hurt;
    clone->faults.read_ns = disk->faults.read_ns;
    clone->faults.write_ns = disk->faults.write_ns;
    for (size_t i = 0; i < disk->seen.count; i++) {
        struct inode *inode = inode_copy(disk->seen.entries[i].inode);
        inode->next = clone->inodes;
        clone->inodes = inode;
        struct change change = {
            .kind = CHANGE_CREATE, .name = disk->seen.entries[i].name, .inode = inode};
        dir_change(&clone->seen, &change);
        dir_change(&clone->stable, &change);
    }
    return clone;
}
