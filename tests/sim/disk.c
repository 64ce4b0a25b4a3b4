/* disk.c: the ops of a store, carried out on a medium; what a cut leaves of those under way.
 *
 * The bytes of a write are copied when it is asked for and compared when it ends: the core must
 * leave its buffer alone meanwhile. */
#include "disk.h"

#include "medium.h"

#include <errno.h>

struct handle {
    struct inode *inode; /* NULL: closed */
    bool direct;
    uint32_t under_way;
    struct op *close; /* waits for those under way */
};

struct io {
    struct io *next;
    uint64_t id;
    struct op *op;
    struct op copy; /* as it was asked for */
    uint8_t *bytes; /* of a write */
    uint64_t asked; /* when, in the disk's own order */
};

struct vdisk {
    struct sim *sim;
    char name[16];
    uint32_t alignment;
    vdisk_done done;
    void *owner;
    struct vdisk_faults faults;
    struct inode *inodes;
    struct dir seen, stable;
    struct change changes[ENTRIES_MAX];
    size_t change_count;
    struct handle *handles;
    size_t handle_count;
    struct io *ios;
    uint64_t ids, clock;
};

/* --- The folder ------------------------------------------------------------------------------- */

static void change_make(struct vdisk *disk, struct change change)
{
    change.when = disk->clock;
    KHO_ASSERT(disk->change_count < ENTRIES_MAX);
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

static uint64_t space_used(const struct vdisk *disk)
{
    uint64_t used = 0;
    for (size_t i = 0; i < disk->seen.count; i++)
        used += kho_round_up(disk->seen.entries[i].inode->size, 4096);
    return used;
}
static uint64_t space_free(const struct vdisk *disk)
{
    uint64_t used = space_used(disk);
    return used < disk->faults.space_max ? disk->faults.space_max - used : 0;
}

/* --- Ops -------------------------------------------------------------------------------------- */

static const char *const kind_names[] = {"",      "open",   "allocate",    "read",   "write",
                                         "sync",  "rename", "sync-folder", "unlink", "close-file",
                                         "space", "send",   "receive",     "close"};

static struct handle *handle_of(struct vdisk *disk, const struct op *op)
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

static int32_t run_open(struct vdisk *disk, const struct op *op)
{
    struct handle *handle = handle_of(disk, op);
    if (handle->inode != NULL) {
        sim_fail(disk->sim, "%s: handle %d opened twice", disk->name, op->file);
        return -EBADF;
    }
    struct entry *entry = dir_find(&disk->seen, &op->name);
    if (op->flags & OP_OPEN_CREATE) {
        if (entry != NULL && !op->name.temporary)
            return -EEXIST;
        if (entry != NULL)
            change_make(disk, (struct change){.kind = CHANGE_UNLINK, .name = op->name});
        struct inode *inode = calloc(1, sizeof *inode);
        KHO_ASSERT(inode != NULL);
        inode->next = disk->inodes;
        disk->inodes = inode;
        change_make(disk, (struct change){.kind = CHANGE_CREATE, .name = op->name, .inode = inode});
        entry = dir_find(&disk->seen, &op->name);
    }
    if (entry == NULL)
        return -ENOENT;
    *handle = (struct handle){.inode = entry->inode, .direct = (op->flags & OP_OPEN_DIRECT) != 0};
    return 0;
}

static int32_t run_write(struct vdisk *disk, const struct io *io, struct inode *inode)
{
    const struct op *op = &io->copy;
    if (memcmp(io->bytes, op->data, op->len) != 0) {
        sim_fail(disk->sim, "%s: the buffer of a write at %llu changed while it was under way",
                 disk->name, (unsigned long long)op->offset);
        return -EIO;
    }
    if (sim_chance(disk->sim, disk->faults.write_error)) {
        sim_fault(disk->sim, SIM_FAULT_write_error);
        return -EIO;
    }
    if (op->offset + op->len > inode->size &&
        op->offset + op->len - inode->size > space_free(disk)) {
        sim_fault(disk->sim, SIM_FAULT_no_space);
        return -ENOSPC;
    }
    inode_write(inode, op->offset, io->bytes, op->len, (op->flags & OP_WRITE_DURABLE) != 0,
                disk->clock);
    return (int32_t)op->len;
}

static int32_t run_rename(struct vdisk *disk, const struct op *op)
{
    struct entry *entry = dir_find(&disk->seen, &op->name);
    if (entry == NULL)
        return -ENOENT;
    change_make(disk, (struct change){.kind = CHANGE_RENAME,
                                      .name = op->name,
                                      .to = op->target,
                                      .inode = entry->inode});
    return 0;
}

/* Ops on an open file. */
static int32_t run_file(struct vdisk *disk, struct io *io, struct inode *inode)
{
    struct op *op = io->op;
    switch (io->copy.kind) {
    case OP_ALLOCATE:
        if (io->copy.len > inode->size && io->copy.len - inode->size > space_free(disk)) {
            sim_fault(disk->sim, SIM_FAULT_no_space);
            return -ENOSPC;
        }
        inode_size(inode, io->copy.len, false, disk->clock);
        if ((io->copy.flags & OP_ALLOCATE_ZEROS) != 0)
            inode_zero(inode, disk->clock);
        return 0;
    case OP_READ:
        if (sim_chance(disk->sim, disk->faults.read_error)) {
            sim_fault(disk->sim, SIM_FAULT_read_error);
            return -EIO;
        }
        return (int32_t)inode_read(inode, op->offset, op->data, op->len);
    case OP_WRITE:
        return run_write(disk, io, inode);
    default:
        KHO_ASSERT(io->copy.kind == OP_SYNC);
        if (sim_chance(disk->sim, disk->faults.write_error)) {
            sim_fault(disk->sim, SIM_FAULT_write_error);
            return -EIO;
        }
        inode_sync(inode, io->asked);
        return 0;
    }
}

static int32_t run(struct vdisk *disk, struct io *io)
{
    struct op *op = io->op;
    switch (io->copy.kind) {
    case OP_OPEN:
        return run_open(disk, &io->copy);
    case OP_RENAME:
        return run_rename(disk, &io->copy);
    case OP_SYNC_FOLDER:
        if (sim_chance(disk->sim, disk->faults.write_error)) {
            sim_fault(disk->sim, SIM_FAULT_write_error);
            return -EIO;
        }
        folder_sync(disk, io->asked);
        return 0;
    case OP_UNLINK:
        if (dir_find(&disk->seen, &io->copy.name) == NULL)
            return -ENOENT;
        change_make(disk, (struct change){.kind = CHANGE_UNLINK, .name = io->copy.name});
        return 0;
    case OP_SPACE:
        op->offset = space_free(disk);
        return 0;
    default:
        return run_file(disk, io, handle_of(disk, &io->copy)->inode);
    }
}

static void io_free(struct vdisk *disk, struct io *io)
{
    struct io **link = &disk->ios;
    while (*link != io)
        link = &(*link)->next;
    *link = io->next;
    free(io->bytes);
    free(io);
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
    if (kind != OP_CLOSE_FILE)
        op->result = run(disk, io);
    struct handle *handle = uses_handle(kind) ? handle_of(disk, &io->copy) : NULL;
    io_free(disk, io);
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

static bool aligned(const struct vdisk *disk, const struct op *op)
{
    uint64_t mask = disk->alignment - 1;
    return ((op->offset | op->len | (uint64_t)(uintptr_t)op->data) & mask) == 0;
}

void vdisk_submit(struct vdisk *disk, struct op *op)
{
    struct io *io = calloc(1, sizeof *io);
    KHO_ASSERT(io != NULL && op->kind >= OP_OPEN && op->kind <= OP_SPACE);
    *io = (struct io){.next = disk->ios, .id = ++disk->ids, .op = op, .copy = *op};
    io->asked = disk->clock;
    disk->ios = io;
    if (uses_handle(op->kind)) {
        struct handle *handle = handle_of(disk, op);
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
    if (op->kind == OP_WRITE) {
        io->bytes = malloc(op->len > 0 ? op->len : 1);
        KHO_ASSERT(io->bytes != NULL);
        memcpy(io->bytes, op->data, op->len);
    }
    uint64_t typical = op->kind == OP_READ ? disk->faults.read_ns : disk->faults.write_ns;
    sim_after(disk->sim, sim_delay(disk->sim, typical), io_end, disk, io->id);
}

/* --- Cuts ------------------------------------------------------------------------------------- */

enum tear { TEAR_NOTHING, TEAR_ALL, TEAR_PREFIX, TEAR_RANDOM, TEAR_GARBAGE };

/* What a write under way left: decided for units of one sector or of eight. `most`: no more than
 * this; returns what it was. */
static enum tear write_cut(struct vdisk *disk, struct io *io, struct inode *inode, enum tear most)
{
    struct sim *sim = disk->sim;
    enum tear tear = (enum tear)sim_below(sim, (uint64_t)most + 1);
    uint64_t unit = sim_below(sim, 2) == 0 ? SECTOR : 4096;
    uint64_t prefix = sim_below(sim, io->copy.len / unit + 1) * unit;
    if (sim_chance(sim, disk->faults.garbage)) {
        tear = TEAR_GARBAGE;
        sim_fault(sim, SIM_FAULT_garbage);
    } else if (tear >= TEAR_PREFIX) {
        sim_fault(sim, SIM_FAULT_torn);
    }
    sim_trace(sim, "%s: cut in a write of %u bytes at %llu: %d", disk->name, io->copy.len,
              (unsigned long long)io->copy.offset, (int)tear);
    for (uint64_t at = 0; at < io->copy.len; at += unit) {
        size_t len = (size_t)kho_min(unit, io->copy.len - at);
        bool there = tear == TEAR_ALL || (tear == TEAR_PREFIX && at < prefix) ||
                     (tear >= TEAR_RANDOM && sim_below(sim, 2) == 0);
        if (tear == TEAR_GARBAGE && sim_below(sim, 3) == 0) {
            for (size_t i = 0; i < len; i++)
                io->bytes[at + i] = (uint8_t)kho_random_next(&sim->random);
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
        enum tear tear = write_cut(disk, io, handle_of(disk, &io->copy)->inode, most);
        if (gentle && tear != TEAR_ALL)
            most = TEAR_NOTHING;
    }
}

static void folder_cut(struct vdisk *disk)
{
    struct sim *sim = disk->sim;
    /* A journal keeps a prefix of the changes; nothing promises that there is one. */
    bool journal = sim_below(sim, 2) == 0;
    size_t kept = disk->change_count > 0 ? sim_below(sim, disk->change_count + 1) : 0;
    bool lost = false;
    for (size_t i = 0; i < disk->change_count; i++) {
        bool keep = journal ? i < kept : sim_below(sim, 2) == 0;
        if (keep)
            dir_change(&disk->stable, &disk->changes[i]);
        lost |= !keep;
    }
    if (lost)
        sim_fault(sim, SIM_FAULT_folder_lost);
    disk->change_count = 0;
    disk->seen = disk->stable;
}

/* Ops under way when a process is killed run or don't. */
static void io_kill(struct vdisk *disk, struct io *io)
{
    if (sim_below(disk->sim, 2) == 0)
        return;
    disk->clock++;
    switch (io->copy.kind) {
    case OP_WRITE: {
        /* Seen, but not stable: what a durable write is for hadn't happened yet. */
        struct inode *inode = handle_of(disk, &io->copy)->inode;
        inode_write(inode, io->copy.offset, io->bytes, io->copy.len, false, disk->clock);
        break;
    }
    case OP_RENAME:
        run_rename(disk, &io->copy);
        break;
    case OP_OPEN:
        if (handle_of(disk, &io->copy)->inode == NULL)
            run_open(disk, &io->copy);
        break;
    case OP_UNLINK:
        if (dir_find(&disk->seen, &io->copy.name) != NULL)
            change_make(disk, (struct change){.kind = CHANGE_UNLINK, .name = io->copy.name});
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
    if (cut == VDISK_POWER)
        writes_cut(disk);
    while (disk->ios != NULL) {
        if (cut == VDISK_KILL)
            io_kill(disk, disk->ios);
        io_free(disk, disk->ios);
    }
    if (cut == VDISK_POWER) {
        folder_cut(disk);
        for (struct inode *inode = disk->inodes; inode != NULL; inode = inode->next)
            inode_cut(inode, disk->sim, disk->faults.gentle);
    }
    if (disk->handle_count > 0)
        memset(disk->handles, 0, disk->handle_count * sizeof *disk->handles);
    sweep(disk);
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
    disk->faults = (struct vdisk_faults){
        .space_max = 1ull << 40, .write_ns = 200 * SIM_US, .read_ns = 150 * SIM_US};
    return disk;
}

void vdisk_wipe(struct vdisk *disk)
{
    while (disk->ios != NULL)
        io_free(disk, disk->ios);
    while (disk->inodes != NULL) {
        struct inode *inode = disk->inodes;
        disk->inodes = inode->next;
        inode_free(inode);
    }
    disk->seen.count = disk->stable.count = disk->change_count = 0;
    if (disk->handle_count > 0)
        memset(disk->handles, 0, disk->handle_count * sizeof *disk->handles);
}

void vdisk_destroy(struct vdisk *disk)
{
    if (disk == NULL)
        return;
    vdisk_wipe(disk);
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
    inode_poke(entry->inode, offset, bytes, len);
    return true;
}
