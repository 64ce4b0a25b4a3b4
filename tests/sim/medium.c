/* medium.c: bytes of files and entries of a folder, each in two states.
 *
 * A file's bytes lie in chunks of 16 KiB; a chunk that was never written with anything but zeros
 * isn't there. Each chunk has the bytes that a read sees, the stable ones, and for each sector when
 * it was last written without being made stable (0: it is stable). */
#include "medium.h"

/* --- Bytes ------------------------------------------------------------------------------------ */

static bool all_zero(const uint8_t *bytes, size_t len)
{
    return len == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, len - 1) == 0);
}

static struct chunk *chunk_get(const struct inode *inode, uint64_t offset)
{
    size_t at = offset / CHUNK;
    return at < inode->chunk_count ? inode->chunks[at] : NULL;
}

static struct chunk *chunk_make(struct inode *inode, uint64_t offset)
{
    size_t at = offset / CHUNK;
    if (at >= inode->chunk_count) {
        size_t count = at + 1 + at / 2;
        inode->chunks = realloc(inode->chunks, count * sizeof(struct chunk *));
        KHO_ASSERT(inode->chunks != NULL);
        for (size_t i = inode->chunk_count; i < count; i++)
            inode->chunks[i] = NULL;
        inode->chunk_count = count;
    }
    if (inode->chunks[at] == NULL) {
        inode->chunks[at] = calloc(1, sizeof(struct chunk));
        KHO_ASSERT(inode->chunks[at] != NULL);
    }
    return inode->chunks[at];
}

void inode_size(struct inode *inode, uint64_t size, bool stable, uint64_t now)
{
    if (size > inode->size) {
        inode->size = size;
        inode->sized = now;
    }
    if (stable && size > inode->stable_size)
        inode->stable_size = size;
    if (inode->stable_size >= inode->size)
        inode->sized = 0;
}

/* One sector's bytes become visible, and stable too where `stable`. */
static void sector_write(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len,
                         bool stable, uint64_t now)
{
    if (chunk_get(inode, offset) == NULL && all_zero(bytes, len))
        return;
    struct chunk *chunk = chunk_make(inode, offset);
    memcpy(chunk->seen + offset % CHUNK, bytes, len);
    chunk->bad &= ~(1u << offset % CHUNK / MEDIUM_SECTOR);
    uint64_t *written = &chunk->written[offset % CHUNK / MEDIUM_SECTOR];
    if (stable) {
        memcpy(chunk->stable + offset % CHUNK, bytes, len);
        *written = 0;
    } else {
        *written = now;
    }
}

void inode_write(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len,
                 bool stable, uint64_t now)
{
    inode_size(inode, offset + len, stable, now);
    while (len > 0) {
        size_t part = (size_t)kho_min(len, MEDIUM_SECTOR - offset % MEDIUM_SECTOR);
        sector_write(inode, offset, bytes, part, stable, now);
        offset += part;
        bytes += part;
        len -= part;
    }
}

void inode_zero(struct inode *inode, uint64_t now)
{
    inode->zeroed = true;
    static const uint8_t zeros[CHUNK];
    for (size_t i = 0; i < inode->chunk_count; i++)
        if (inode->chunks[i] != NULL && i * CHUNK < inode->size)
            inode_write(inode, i * CHUNK, zeros, (size_t)kho_min(CHUNK, inode->size - i * CHUNK),
                        false, now);
}

size_t inode_read(const struct inode *inode, uint64_t offset, uint8_t *to, size_t len)
{
    if (offset >= inode->size)
        return 0;
    len = (size_t)kho_min(len, inode->size - offset);
    for (size_t done = 0; done < len;) {
        uint64_t at = offset + done;
        size_t part = (size_t)kho_min(len - done, CHUNK - at % CHUNK);
        const struct chunk *chunk = chunk_get(inode, at);
        if (chunk != NULL)
            memcpy(to + done, chunk->seen + at % CHUNK, part);
        else
            memset(to + done, 0, part);
        done += part;
    }
    return len;
}

/* What was written before `when` becomes stable. */
void inode_sync(struct inode *inode, uint64_t when)
{
    for (size_t i = 0; i < inode->chunk_count; i++) {
        struct chunk *chunk = inode->chunks[i];
        for (size_t s = 0; chunk != NULL && s < CHUNK_SECTORS; s++)
            if (chunk->written[s] != 0 && chunk->written[s] <= when) {
                memcpy(chunk->stable + s * MEDIUM_SECTOR, chunk->seen + s * MEDIUM_SECTOR,
                       MEDIUM_SECTOR);
                chunk->written[s] = 0;
            }
    }
    inode->zeroed = false;
    if (inode->sized != 0 && inode->sized <= when) {
        inode->stable_size = inode->size;
        inode->sized = 0;
    }
}

uint64_t inode_used(const struct inode *inode)
{
    for (size_t i = inode->chunk_count; i-- > 0;) {
        const struct chunk *chunk = inode->chunks[i];
        if (chunk == NULL || all_zero(chunk->seen, CHUNK))
            continue;
        for (size_t n = CHUNK; n > 0; n--)
            if (chunk->seen[n - 1] != 0)
                return kho_min(i * CHUNK + n, inode->size);
    }
    return 0;
}

void inode_spoil(struct inode *inode, uint64_t offset, size_t len)
{
    uint64_t end = offset + len;
    for (uint64_t at = offset & ~(uint64_t)(MEDIUM_SECTOR - 1); at < end; at += MEDIUM_SECTOR)
        chunk_make(inode, at)->bad |= 1u << at % CHUNK / MEDIUM_SECTOR;
}

bool inode_spoilt(const struct inode *inode, uint64_t offset, size_t len)
{
    uint64_t end = offset + len;
    for (uint64_t at = offset & ~(uint64_t)(MEDIUM_SECTOR - 1); at < end; at += MEDIUM_SECTOR) {
        const struct chunk *chunk = chunk_get(inode, at);
        if (chunk != NULL && (chunk->bad >> at % CHUNK / MEDIUM_SECTOR & 1) != 0)
            return true;
    }
    return false;
}

void inode_cut(struct inode *inode, struct sim *sim, struct kho_random *dice, bool whole)
{
    bool all = dice_below(dice, 3) == 0, nothing = !all && (whole || dice_below(dice, 2) == 0);
    size_t unit = dice_below(dice, 2) == 0 ? 1 : 8;
    uint64_t kept = 0, lost = 0;
    if (inode->sized != 0 && (all || (!nothing && dice_below(dice, 2) == 0)))
        inode->stable_size = inode->size;
    for (size_t i = 0; i < inode->chunk_count; i++) {
        struct chunk *chunk = inode->chunks[i];
        bool stays = false;
        for (size_t s = 0; chunk != NULL && s < CHUNK_SECTORS; s++) {
            if (s % unit == 0)
                stays = all || (!nothing && dice_below(dice, 2) == 0);
            if (chunk->written[s] == 0)
                continue;
            chunk->written[s] = 0;
            kept += stays;
            lost += !stays;
            if (stays)
                memcpy(chunk->stable + s * MEDIUM_SECTOR, chunk->seen + s * MEDIUM_SECTOR,
                       MEDIUM_SECTOR);
        }
        if (chunk != NULL)
            memcpy(chunk->seen, chunk->stable, CHUNK);
    }
    inode->size = inode->stable_size;
    inode->sized = 0;
    if (kept > 0)
        sim_fault(sim, SIM_FAULT_unsynced_kept);
    if (lost > 0)
        sim_fault(sim, SIM_FAULT_unsynced_lost);
    if (kept > 0 && lost > 0)
        sim_fault(sim, unit == 1 ? SIM_FAULT_torn_512 : SIM_FAULT_torn_4096);
    if (lost > 0 && inode->zeroed)
        sim_fault(sim, SIM_FAULT_stale);
    inode->zeroed = false;
}

struct inode *inode_copy(const struct inode *inode)
{
    struct inode *copy = malloc(sizeof *copy);
    KHO_ASSERT(copy != NULL);
    *copy = *inode;
    copy->next = NULL;
    copy->handles = 0;
    copy->chunks = calloc(inode->chunk_count + 1, sizeof(struct chunk *));
    KHO_ASSERT(copy->chunks != NULL);
    for (size_t i = 0; i < inode->chunk_count; i++) {
        if (inode->chunks[i] == NULL)
            continue;
        copy->chunks[i] = malloc(sizeof(struct chunk));
        KHO_ASSERT(copy->chunks[i] != NULL);
        memcpy(copy->chunks[i], inode->chunks[i], sizeof(struct chunk));
    }
    return copy;
}

void inode_free(struct inode *inode)
{
    for (size_t i = 0; i < inode->chunk_count; i++)
        free(inode->chunks[i]);
    free(inode->chunks);
    free(inode);
}

/* --- The folder ------------------------------------------------------------------------------- */

bool name_equal(const struct file_name *a, const struct file_name *b)
{
    return a->kind == b->kind && a->temporary == b->temporary && a->id == b->id;
}

struct entry *dir_find(struct dir *dir, const struct file_name *name)
{
    for (size_t i = 0; i < dir->count; i++)
        if (name_equal(&dir->entries[i].name, name))
            return &dir->entries[i];
    return NULL;
}

static void dir_remove(struct dir *dir, const struct file_name *name)
{
    struct entry *entry = dir_find(dir, name);
    if (entry != NULL)
        *entry = dir->entries[--dir->count];
}

static void dir_add(struct dir *dir, const struct file_name *name, struct inode *inode)
{
    dir_remove(dir, name);
    if (dir->count == dir->room) {
        dir->room = dir->room * 2 + 32;
        dir->entries = realloc(dir->entries, dir->room * sizeof *dir->entries);
        KHO_ASSERT(dir->entries != NULL);
    }
    dir->entries[dir->count++] = (struct entry){*name, inode};
}

void dir_change(struct dir *dir, const struct change *change)
{
    switch (change->kind) {
    case CHANGE_CREATE:
        dir_add(dir, &change->name, change->inode);
        break;
    case CHANGE_RENAME:
        /* Lost where the creation before it was. */
        if (dir_find(dir, &change->name) == NULL)
            break;
        dir_remove(dir, &change->name);
        dir_add(dir, &change->to, change->inode);
        break;
    case CHANGE_UNLINK:
        dir_remove(dir, &change->name);
        break;
    }
}

void dir_assign(struct dir *to, const struct dir *from)
{
    to->count = 0;
    for (size_t i = 0; i < from->count; i++)
        dir_add(to, &from->entries[i].name, from->entries[i].inode);
}

void dir_free(struct dir *dir)
{
    free(dir->entries);
    *dir = (struct dir){0};
}

bool dir_holds(const struct dir *dir, const struct inode *inode)
{
    for (size_t i = 0; i < dir->count; i++)
        if (dir->entries[i].inode == inode)
            return true;
    return false;
}

void inode_poke(struct inode *inode, uint64_t offset, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        struct chunk *chunk = chunk_make(inode, offset + i);
        chunk->seen[(offset + i) % CHUNK] = bytes[i];
        chunk->stable[(offset + i) % CHUNK] = bytes[i];
    }
}
