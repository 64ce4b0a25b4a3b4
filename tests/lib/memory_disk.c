/* memory_disk.c: a folder in memory (memory_disk.h). Files are a volatile and a stable copy of
 * their bytes; both are zeros behind what was ever written, so only that is copied. */
#include "memory_disk.h"

#include <errno.h>

enum { DISK_SECTOR = 512 };

void memory_disk_init(struct memory_disk *disk)
{
    memset(disk, 0, sizeof *disk);
    disk->free_bytes = 1ull << 40;
}

static void file_free(struct memory_file *file)
{
    free(file->data);
    free(file->stable);
    memset(file, 0, sizeof *file);
}

void memory_disk_fini(struct memory_disk *disk)
{
    for (int i = 0; i < MEMORY_FILES; i++)
        file_free(&disk->files[i]);
}

static bool same_name(const struct file_name *a, const struct file_name *b)
{
    return a->kind == b->kind && a->temporary == b->temporary && a->id == b->id;
}

static int file_find(const struct memory_disk *disk, const struct file_name *name)
{
    for (int i = 0; i < MEMORY_FILES; i++)
        if (disk->files[i].named && same_name(&disk->files[i].name, name))
            return i;
    return -1;
}

static void file_room(struct memory_file *file, uint64_t size)
{
    if (size <= file->room)
        return;
    uint8_t *data = calloc(1, size), *stable = calloc(1, size);
    KHO_ASSERT(data != NULL && stable != NULL);
    if (file->used > 0)
        memcpy(data, file->data, file->used);
    if (file->stable_used > 0)
        memcpy(stable, file->stable, file->stable_used);
    free(file->data);
    free(file->stable);
    file->data = data;
    file->stable = stable;
    file->room = size;
}

static struct memory_file *file_of(struct memory_disk *disk, int32_t handle)
{
    KHO_ASSERT(handle >= 0 && handle < MEMORY_HANDLES);
    KHO_ASSERT(disk->handles[handle] != 0);
    return &disk->files[disk->handles[handle] - 1];
}

static int file_open(struct memory_disk *disk, const struct op *op)
{
    KHO_ASSERT(op->file >= 0 && op->file < MEMORY_HANDLES && disk->handles[op->file] == 0);
    int at = file_find(disk, &op->name);
    if ((op->flags & OP_OPEN_CREATE) != 0) {
        if (at >= 0)
            disk->files[at].named = false;
        for (at = 0; at < MEMORY_FILES; at++)
            if (!disk->files[at].named && !disk->files[at].stable_named)
                break;
        KHO_ASSERT(at < MEMORY_FILES);
        file_free(&disk->files[at]);
        disk->files[at].named = true;
        disk->files[at].name = op->name;
    }
    if (at < 0)
        return -ENOENT;
    disk->handles[op->file] = at + 1;
    return 0;
}

static bool zeros(const uint8_t *bytes, uint64_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static int file_write(struct memory_disk *disk, const struct op *op, uint32_t len)
{
    struct memory_file *f = file_of(disk, op->file);
    uint64_t end = op->offset + len;
    file_room(f, end);
    if (end > f->size)
        f->size = end;
    if (op->offset < f->used || !zeros(op->data, len)) {
        memcpy(f->data + op->offset, op->data, len);
        if (end > f->used)
            f->used = end;
    }
    if ((op->flags & OP_WRITE_DURABLE) != 0) {
        memcpy(f->stable + op->offset, op->data, len);
        if (end > f->stable_used)
            f->stable_used = end;
    }
    return (int)len;
}

static int file_read(struct memory_disk *disk, const struct op *op)
{
    struct memory_file *f = file_of(disk, op->file);
    if (f->name.kind == FILE_SEGMENT && f->name.id == disk->bad_segment &&
        op->offset < disk->bad_to && op->offset + op->len > disk->bad_from)
        return -EIO;
    uint64_t there = op->offset < f->size ? f->size - op->offset : 0;
    uint32_t len = (uint32_t)kho_min(op->len, there);
    if (len > 0)
        memcpy(op->data, f->data + op->offset, len);
    return (int)len;
}

static void file_sync(struct memory_file *f)
{
    if (f->used > 0)
        memcpy(f->stable, f->data, f->used);
    f->stable_used = f->used > f->stable_used ? f->used : f->stable_used;
}

static int file_rename(struct memory_disk *disk, const struct op *op)
{
    int at = file_find(disk, &op->name), old = file_find(disk, &op->target);
    if (at < 0)
        return -ENOENT;
    if (old >= 0)
        disk->files[old].named = false;
    disk->files[at].name = op->target;
    return 0;
}

static int allocate(struct memory_disk *disk, const struct op *op)
{
    struct memory_file *f = file_of(disk, op->file);
    uint64_t more = op->len > f->size ? op->len - f->size : 0;
    if (disk->free_bytes < more)
        return -ENOSPC;
    disk->free_bytes -= more;
    file_room(f, op->len);
    f->size += more;
    if ((op->flags & OP_ALLOCATE_ZEROS) != 0 && f->used > 0)
        memset(f->data, 0, f->used);
    return 0;
}

/* Would a crash leave the manifest as it is? */
static bool manifest_stable(const struct memory_disk *disk)
{
    static const struct file_name name = {.kind = FILE_MANIFEST};
    int at = file_find(disk, &name);
    return at < 0 || disk->files[at].stable_named;
}

static int carry_out(struct memory_disk *disk, struct op *op)
{
    int at;
    switch (op->kind) {
    case OP_OPEN:
        return file_open(disk, op);
    case OP_ALLOCATE:
        return allocate(disk, op);
    case OP_READ:
        return file_read(disk, op);
    case OP_WRITE:
        return file_write(disk, op, op->len);
    case OP_SYNC:
        file_sync(file_of(disk, op->file));
        return 0;
    case OP_RENAME:
        return file_rename(disk, op);
    case OP_SYNC_FOLDER:
        for (int i = 0; i < MEMORY_FILES; i++) {
            disk->files[i].stable_named = disk->files[i].named;
            disk->files[i].stable_name = disk->files[i].name;
        }
        return 0;
    case OP_UNLINK:
        at = file_find(disk, &op->name);
        if (at < 0)
            return -ENOENT;
        disk->unlinked_early += op->name.kind == FILE_SEGMENT && !manifest_stable(disk);
        disk->free_bytes += disk->files[at].size;
        disk->files[at].named = false;
        return 0;
    case OP_CLOSE_FILE:
        KHO_ASSERT(disk->handles[op->file] != 0);
        disk->handles[op->file] = 0;
        return 0;
    case OP_SPACE:
        op->offset = disk->free_bytes;
        return 0;
    default:
        return -EINVAL;
    }
}

void memory_disk_execute(struct memory_disk *disk, struct op *op)
{
    disk->executed++;
    if (disk->fail_count > 0 && op->kind == disk->fail_kind) {
        if (disk->fail_after > 0) {
            disk->fail_after--;
        } else {
            disk->fail_count--;
            op->result = disk->fail_error;
            /* As with close(2): the handle is gone, whatever it says. */
            if (op->kind == OP_CLOSE_FILE)
                carry_out(disk, op);
            if (disk->fail_error == 0)
                op->result = file_write(disk, op, op->len / 2);
            return;
        }
    }
    bool manifest =
        op->kind == OP_OPEN && (op->flags & OP_OPEN_CREATE) != 0 && op->name.kind == FILE_MANIFEST;
    op->result = manifest && disk->manifest_error != 0 ? disk->manifest_error : carry_out(disk, op);
}

void memory_disk_tear(struct memory_disk *disk, const struct op *op, uint64_t mask)
{
    struct memory_file *f = file_of(disk, op->file);
    for (uint32_t i = 0; i * DISK_SECTOR < op->len; i++) {
        size_t skip = (size_t)i * DISK_SECTOR;
        uint64_t at = op->offset + skip;
        if ((mask >> (i % 64) & 1) == 0)
            continue;
        memcpy(f->stable + at, op->data + skip, DISK_SECTOR);
        f->stable_used = kho_max(f->stable_used, at + DISK_SECTOR);
    }
}

void memory_disk_crash(struct memory_disk *disk)
{
    memset(disk->handles, 0, sizeof disk->handles);
    disk->fail_count = 0;
    for (int i = 0; i < MEMORY_FILES; i++) {
        struct memory_file *f = &disk->files[i];
        f->named = f->stable_named;
        f->name = f->stable_name;
        if (!f->named) {
            file_free(f);
            continue;
        }
        uint64_t used = kho_max(f->used, f->stable_used);
        if (used > 0)
            memcpy(f->data, f->stable, used);
        f->used = f->stable_used;
    }
}

size_t memory_disk_list(const struct memory_disk *disk, struct file_found *ret, size_t max)
{
    size_t count = 0;
    for (int i = 0; i < MEMORY_FILES && count < max; i++)
        if (disk->files[i].named)
            ret[count++] =
                (struct file_found){.name = disk->files[i].name, .size = disk->files[i].size};
    return count;
}

struct memory_file *memory_disk_file(struct memory_disk *disk, enum file_kind kind, uint64_t id)
{
    struct file_name name = {.kind = (uint8_t)kind, .id = id};
    int at = file_find(disk, &name);
    return at >= 0 ? &disk->files[at] : NULL;
}

void memory_disk_flip(struct memory_file *file, uint64_t offset, uint8_t mask)
{
    KHO_ASSERT(offset < file->size);
    file->data[offset] ^= mask;
    file->stable[offset] ^= mask;
    file->used = kho_max(file->used, offset + 1);
    file->stable_used = kho_max(file->stable_used, offset + 1);
}

void memory_disk_fill(struct memory_file *file, uint64_t offset, uint64_t length, uint8_t byte)
{
    KHO_ASSERT(offset + length <= file->size);
    memset(file->data + offset, byte, length);
    memset(file->stable + offset, byte, length);
    file->used = kho_max(file->used, offset + length);
    file->stable_used = kho_max(file->stable_used, offset + length);
}

void memory_disk_remove(struct memory_file *file)
{
    file_free(file);
}
