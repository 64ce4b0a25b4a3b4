/* disk.c: ops in two steps (disk.h).
 *
 * op.driver is the number of the op in its upper half and the moment of its beginning in its lower:
 * what a sync makes stable had ended before that. */
#include "disk.h"

#include <errno.h>

static const uint8_t zeros[IMAGE_SECTOR];

void disk_init(struct disk *disk, const struct image *image, bool plain)
{
    memset(disk, 0, sizeof *disk);
    image_copy(&disk->seen, image);
    if (!plain)
        image_copy(&disk->stable, image);
    disk->plain = plain;
}

void disk_fini(struct disk *disk)
{
    for (uint32_t i = 0; i < disk->count; i++)
        free(disk->pending[i].bytes);
    free(disk->pending);
    image_clear(&disk->seen);
    image_clear(&disk->stable);
    memset(disk, 0, sizeof *disk);
}

void disk_killed(struct disk *to, const struct disk *from, struct kho_random *dice)
{
    uint64_t op = 0;
    bool stays = true;
    disk_init(to, &from->stable, false);
    to->clock = from->clock + 1;
    to->ops = from->ops;
    to->pending = malloc((from->count + 1) * sizeof *to->pending);
    KHO_ASSERT(to->pending != NULL);
    to->room = from->count + 1;
    for (uint32_t i = 0; i < from->count; i++) {
        struct unit u = from->pending[i];
        if (u.op != op)
            stays = u.ended || kho_random_next(dice) % 2 == 0;
        op = u.op;
        if (!stays)
            continue;
        if (!u.ended)
            u.when = to->clock;
        u.ended = true;
        if (u.kind == UNIT_SECTOR) {
            uint8_t *bytes = malloc(IMAGE_SECTOR);
            KHO_ASSERT(bytes != NULL);
            memcpy(bytes, u.bytes, IMAGE_SECTOR);
            u.bytes = bytes;
        }
        to->pending[to->count++] = u;
        disk_apply(&u, &to->seen);
    }
}

size_t disk_list(const struct disk *disk, struct file_found *ret)
{
    for (uint32_t i = 0; i < disk->seen.entry_count; i++) {
        const struct image_entry *e = &disk->seen.entries[i];
        ret[i] = (struct file_found){.name = e->name, .size = disk->seen.files[e->file]->size};
    }
    return disk->seen.entry_count;
}

/* --- Units ------------------------------------------------------------------------------------ */

void disk_apply(const struct unit *unit, struct image *image)
{
    switch (unit->kind) {
    case UNIT_SECTOR:
        image_sector_write(image, unit->file, unit->sector, unit->bytes);
        break;
    case UNIT_SIZE:
        image_resize(image, unit->file, unit->size);
        break;
    case UNIT_LINK:
        image_link(image, &unit->name, unit->file);
        break;
    case UNIT_RENAME:
        image_rename(image, &unit->name, &unit->target);
        break;
    default:
        KHO_ASSERT(unit->kind == UNIT_UNLINK);
        image_unlink(image, &unit->name);
    }
}

static void unit_add(struct disk *disk, const struct op *op, struct unit unit)
{
    unit.op = op->driver >> 32;
    disk_apply(&unit, &disk->seen);
    if (disk->plain)
        return;
    if (disk->count == disk->room) {
        disk->room = disk->room * 2 + 64;
        disk->pending = realloc(disk->pending, disk->room * sizeof *disk->pending);
        KHO_ASSERT(disk->pending != NULL);
    }
    if (unit.kind == UNIT_SECTOR) {
        uint8_t *bytes = malloc(IMAGE_SECTOR);
        KHO_ASSERT(bytes != NULL);
        memcpy(bytes, unit.bytes, IMAGE_SECTOR);
        unit.zero = memcmp(bytes, zeros, IMAGE_SECTOR) == 0;
        unit.bytes = bytes;
    }
    disk->pending[disk->count++] = unit;
}

/* Units that a sync covers become stable. `op` 0: any op's that ended by `when`. */
static void settle(struct disk *disk, bool names, uint16_t file, uint64_t op, uint64_t when)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->count; i++) {
        struct unit *u = &disk->pending[i];
        bool name = u->kind >= UNIT_LINK;
        bool covered = name == names && (names || u->file == file) &&
                       (op != 0 ? u->op == op : u->ended && u->when <= when);
        if (covered) {
            disk_apply(u, &disk->stable);
            free(u->bytes);
        } else {
            disk->pending[kept++] = *u;
        }
    }
    disk->count = kept;
}

static bool file_used(const struct disk *disk, uint16_t file)
{
    for (int i = 0; i < DISK_HANDLES; i++)
        if (disk->handles[i] == file + 1)
            return true;
    for (uint32_t i = 0; i < disk->seen.entry_count; i++)
        if (disk->seen.entries[i].file == file)
            return true;
    for (uint32_t i = 0; i < disk->stable.entry_count; i++)
        if (disk->stable.entries[i].file == file)
            return true;
    for (uint32_t i = 0; i < disk->count; i++)
        if (disk->pending[i].kind == UNIT_LINK && disk->pending[i].file == file)
            return true;
    return false;
}

/* Bytes of a file that nothing can name any more are no state. */
static void file_forget(struct disk *disk, uint16_t file)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < disk->count; i++) {
        if (disk->pending[i].kind < UNIT_LINK && disk->pending[i].file == file)
            free(disk->pending[i].bytes);
        else
            disk->pending[kept++] = disk->pending[i];
    }
    disk->count = kept;
    image_file_drop(&disk->seen, file);
    image_file_drop(&disk->stable, file);
}

static uint16_t file_new(struct disk *disk)
{
    for (uint16_t i = 0; i < IMAGE_FILES; i++)
        if (disk->seen.files[i] != NULL && !file_used(disk, i))
            file_forget(disk, i);
    uint16_t file = 0;
    while (file < IMAGE_FILES && disk->seen.files[file] != NULL)
        file++;
    KHO_ASSERT(file < IMAGE_FILES);
    image_file_make(&disk->seen, file);
    if (!disk->plain)
        image_file_make(&disk->stable, file);
    return file;
}

/* --- Ops -------------------------------------------------------------------------------------- */

static uint16_t file_of(const struct disk *disk, const struct op *op)
{
    KHO_ASSERT(op->file >= 0 && op->file < DISK_HANDLES && disk->handles[op->file] != 0);
    return (uint16_t)(disk->handles[op->file] - 1);
}

static void resize(struct disk *disk, const struct op *op, uint16_t file, uint64_t size)
{
    if (size > disk->seen.files[file]->size)
        unit_add(disk, op, (struct unit){.kind = UNIT_SIZE, .file = file, .size = size});
}

static bool in_the_log(const struct disk *disk, uint16_t file)
{
    for (uint32_t i = 0; i < disk->seen.entry_count; i++)
        if (disk->seen.entries[i].file == file)
            return disk->seen.entries[i].name.kind == FILE_SEGMENT &&
                   !disk->seen.entries[i].name.temporary;
    return false;
}

static void write_begin(struct disk *disk, const struct op *op)
{
    uint16_t file = file_of(disk, op);
    bool durable = (op->flags & OP_WRITE_DURABLE) != 0, log = in_the_log(disk, file);
    KHO_ASSERT(op->offset % IMAGE_SECTOR == 0 && op->len % IMAGE_SECTOR == 0);
    resize(disk, op, file, op->offset + op->len);
    for (uint32_t at = 0; at < op->len; at += IMAGE_SECTOR) {
        uint32_t sector = (uint32_t)((op->offset + at) / IMAGE_SECTOR);
        /* The same bytes once more change nothing, unless they become stable by that. */
        bool there = image_sector_equal(&disk->seen, file, sector, op->data + at);
        if (there && (!durable || disk->plain ||
                      image_sector_equal(&disk->stable, file, sector, op->data + at)))
            continue;
        unit_add(disk, op,
                 (struct unit){.kind = UNIT_SECTOR,
                               .file = file,
                               .sector = sector,
                               .log = log,
                               .first = at == 0,
                               .bytes = op->data + at});
    }
}

static void allocate_begin(struct disk *disk, const struct op *op)
{
    uint16_t file = file_of(disk, op);
    resize(disk, op, file, op->len);
    if ((op->flags & OP_ALLOCATE_ZEROS) == 0)
        return;
    static uint8_t nothing[IMAGE_SECTOR];
    for (uint32_t s = 0; s < op->len / IMAGE_SECTOR; s++)
        if (!image_sector_equal(&disk->seen, file, s, zeros))
            unit_add(
                disk, op,
                (struct unit){.kind = UNIT_SECTOR, .file = file, .sector = s, .bytes = nothing});
}

static bool open_begin(struct disk *disk, struct op *op)
{
    KHO_ASSERT(op->file >= 0 && op->file < DISK_HANDLES && disk->handles[op->file] == 0);
    if ((op->flags & OP_OPEN_CREATE) != 0) {
        uint16_t file = file_new(disk);
        disk->handles[op->file] = file + 1;
        if (image_find(&disk->seen, &op->name) != NULL)
            unit_add(disk, op, (struct unit){.kind = UNIT_UNLINK, .name = op->name});
        unit_add(disk, op, (struct unit){.kind = UNIT_LINK, .name = op->name, .file = file});
        return true;
    }
    const struct image_entry *entry = image_find(&disk->seen, &op->name);
    if (entry == NULL)
        op->result = -ENOENT;
    else
        disk->handles[op->file] = entry->file + 1;
    return false;
}

bool disk_submit(struct disk *disk, struct op *op)
{
    op->driver = ++disk->ops << 32 | ++disk->clock;
    op->result = 0;
    switch (op->kind) {
    case OP_OPEN:
        return open_begin(disk, op);
    case OP_ALLOCATE:
        allocate_begin(disk, op);
        return true;
    case OP_READ:
        op->result =
            (int32_t)image_read(&disk->seen, file_of(disk, op), op->offset, op->data, op->len);
        return false;
    case OP_WRITE:
        write_begin(disk, op);
        op->result = (int32_t)op->len;
        return true;
    case OP_RENAME:
        if (image_find(&disk->seen, &op->name) == NULL) {
            op->result = -ENOENT;
            return false;
        }
        unit_add(disk, op,
                 (struct unit){.kind = UNIT_RENAME, .name = op->name, .target = op->target});
        return true;
    case OP_UNLINK:
        if (image_find(&disk->seen, &op->name) == NULL) {
            op->result = -ENOENT;
            return false;
        }
        unit_add(disk, op, (struct unit){.kind = UNIT_UNLINK, .name = op->name});
        return true;
    case OP_SYNC:
    case OP_SYNC_FOLDER:
        return true;
    case OP_CLOSE_FILE:
        file_of(disk, op);
        disk->handles[op->file] = 0;
        return false;
    default:
        KHO_ASSERT(op->kind == OP_SPACE);
        op->offset = 1ull << 40;
        return false;
    }
}

void disk_complete(struct disk *disk, struct op *op)
{
    uint64_t number = op->driver >> 32, began = op->driver & UINT32_MAX;
    disk->clock++;
    if (disk->plain)
        return;
    for (uint32_t i = 0; i < disk->count; i++)
        if (disk->pending[i].op == number) {
            disk->pending[i].ended = true;
            disk->pending[i].when = disk->clock;
        }
    if (disk->lies && ++disk->told % 4 == 0)
        return;
    if (op->kind == OP_WRITE && (op->flags & OP_WRITE_DURABLE) != 0)
        settle(disk, false, file_of(disk, op), number, 0);
    else if (op->kind == OP_SYNC)
        settle(disk, false, file_of(disk, op), 0, began);
    else if (op->kind == OP_SYNC_FOLDER)
        settle(disk, true, 0, 0, began);
}
