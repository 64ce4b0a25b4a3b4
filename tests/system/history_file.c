/* history_file.c: lines are written with one call each time, so that what was written before a kill
 * is whole in the page cache, and appended, so that threads don't mix theirs. */
#include "history_file.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kho/base.h>
#include <kho/hash.h>

struct file_head {
    char magic[4];
    uint32_t format;
};

int history_file_create(const char *path)
{
    struct file_head head = {.magic = {'k', 'h', 'o', 'H'}, .format = HISTORY_FORMAT};
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        return -errno;
    if (write(fd, &head, sizeof head) == (ssize_t)sizeof head)
        return fd;
    int error = errno;
    close(fd);
    return -error;
}

void history_file_append(int fd, const struct history_line *lines, size_t count)
{
    if (write(fd, lines, count * sizeof *lines) == (ssize_t)(count * sizeof *lines))
        return;
    /* Without its lines nothing that follows could be judged. */
    perror("the history can't be written");
    _exit(70);
}

struct history_line *history_file_read(const char *path, size_t *ret_count)
{
    struct file_head head;
    struct stat stat;
    struct history_line *lines = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &stat) != 0) {
        perror(path);
        goto out;
    }
    if (read(fd, &head, sizeof head) != (ssize_t)sizeof head ||
        memcmp(head.magic, "khoH", 4) != 0 || head.format != HISTORY_FORMAT) {
        fprintf(stderr, "%s: no history of format %d\n", path, HISTORY_FORMAT);
        goto out;
    }
    size_t count = ((size_t)stat.st_size - sizeof head) / sizeof *lines, at = 0;
    lines = malloc(count * sizeof *lines + 1);
    KHO_ASSERT(lines != NULL);
    while (at < count * sizeof *lines) {
        ssize_t got = read(fd, (uint8_t *)lines + at, count * sizeof *lines - at);
        if (got <= 0) {
            fprintf(stderr, "%s: can't be read to its end\n", path);
            free(lines);
            lines = NULL;
            goto out;
        }
        at += (size_t)got;
    }
    *ret_count = count;
out:
    if (fd >= 0)
        close(fd);
    return lines;
}

/* --- Values ----------------------------------------------------------------------------------- */

uint8_t *history_value_make(uint64_t id, size_t value_max, size_t *ret_len)
{
    uint64_t state = id, dice = kho_splitmix(&state);
    uint64_t max = dice % 100 < 85 ? 400 : dice % 100 < 98 ? 4000 : value_max;
    size_t len = 8 + (size_t)((dice >> 8) % kho_max(kho_min(max, value_max), 1));
    uint8_t *bytes = malloc(len + 8);
    KHO_ASSERT(bytes != NULL);
    kho_store64(bytes, id);
    /* Of 128 bytes so many are noise: all (what doesn't compress), half, none. */
    size_t noise = (dice & 128) == 0 ? 0 : (dice & 64) != 0 ? 128 : 64;
    for (size_t i = 8; i < len; i += 8) {
        uint64_t random = kho_splitmix(&state);
        kho_store64(bytes + i, i % 128 < noise ? random : 0x206F686B206F686Bu + (id & 1));
    }
    *ret_len = len;
    return bytes;
}

uint64_t history_value_id(const uint8_t *bytes, size_t len, size_t value_max)
{
    uint64_t id = bytes != NULL && len >= 8 ? kho_load64(bytes) : 0;
    size_t want_len;
    if (id == 0)
        return 0;
    uint8_t *want = history_value_make(id, value_max, &want_len);
    bool same = want_len == len && memcmp(want, bytes, len) == 0;
    free(want);
    return same ? id : 0;
}

uint64_t history_value_hash(const uint8_t *bytes, size_t len)
{
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes, len));
    return kho_load64(canonical.digest);
}
