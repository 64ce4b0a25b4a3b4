/* folder.c: the data folder's identity, lock, alignment and list of files.
 *
 * Making it: folders, then DIR/node under a temporary name, synced, renamed, DIR synced, its parent
 * synced: the folder is a node's when DIR/node is there, and not before. Opening: DIR, the
 * identity, the lock; then for each shard its folder, a probe file for O_DIRECT and its alignment,
 * the list.
 *
 * DIR/node, text, lines in this order, each ended by "\n":
 *     kho-node 1                   format version
 *     incarnation <32 hex digits>  random, of this folder alone; not zero
 *     shards <n>                   1 to 256
 *     segment-bytes <n>            32 MiB to 256 MiB, a multiple of 1 MiB
 *     created-ms <n>               since 1970
 *     checksum <16 hex digits>     XXH3-64 of all lines before this one
 * A reader refuses another format version, a checksum that differs, and anything behind it.
 *
 * It fails with a sentence that names the path, the cause and the remedy. */
#include "folder.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <kho/hash.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include "journal.h"

#define IDENTITY_NAME "node"
#define LOCK_NAME     "lock"
#define PROBE_NAME    "probe.new"
#define MIB           ((uint64_t)1 << 20)

enum { IDENTITY_MAX = 512, IDENTITY_FORMAT = 1 };

/* --- Names ------------------------------------------------------------------------------------ */

void folder_file_name(const struct file_name *name, char *ret)
{
    const char *suffix = name->temporary ? ".new" : "";
    if (name->kind == FILE_SEGMENT)
        snprintf(ret, FOLDER_NAME_MAX, "segment-%016llx%s", (unsigned long long)name->id, suffix);
    else
        snprintf(ret, FOLDER_NAME_MAX, "%s%s", name->kind == FILE_MAP ? "map" : "manifest", suffix);
}

bool folder_file_parse(const char *text, struct file_name *ret_name)
{
    struct file_name name = {.kind = 0};
    char again[FOLDER_NAME_MAX];
    if (strncmp(text, "segment-", 8) == 0) {
        name.kind = FILE_SEGMENT;
        name.id = strtoull(text + 8, NULL, 16);
    } else if (strncmp(text, "manifest", 8) == 0) {
        name.kind = FILE_MANIFEST;
    } else if (strncmp(text, "map", 3) == 0) {
        name.kind = FILE_MAP;
    } else {
        return false;
    }
    size_t len = strlen(text);
    name.temporary = len > 4 && strcmp(text + len - 4, ".new") == 0;
    /* What doesn't read back to the same text was not written by folder_file_name(). */
    folder_file_name(&name, again);
    if (strcmp(again, text) != 0)
        return false;
    *ret_name = name;
    return true;
}

void folder_id_text(const struct kho_id *id, char ret[33])
{
    for (size_t i = 0; i < sizeof id->bytes; i++)
        snprintf(ret + 2 * i, 3, "%02x", id->bytes[i]);
}

static void shard_name(uint32_t shard, char ret[16])
{
    KHO_ASSERT(shard < FOLDER_SHARDS_MAX);
    snprintf(ret, 16, "shard-%03u", shard);
}

/* --- Identity --------------------------------------------------------------------------------- */

static size_t identity_format(const struct identity *identity, char *to)
{
    char incarnation[33];
    folder_id_text(&identity->incarnation, incarnation);
    size_t len = (size_t)snprintf(
        to, IDENTITY_MAX,
        "kho-node %d\nincarnation %s\nshards %u\nsegment-bytes %llu\ncreated-ms %llu\n",
        IDENTITY_FORMAT, incarnation, identity->shard_count,
        (unsigned long long)identity->segment_bytes, (unsigned long long)identity->created_ms);
    return len + (size_t)snprintf(to + len, IDENTITY_MAX - len, "checksum %016llx\n",
                                  (unsigned long long)XXH3_64bits(to, len));
}

/* Takes "name <number>\n" at *at. The caller compares the whole text, so here only the place of the
 * number matters. */
static bool number_take(const char **at, const char *name, uint64_t *ret)
{
    size_t len = strlen(name);
    if (strncmp(*at, name, len) != 0)
        return false;
    char *end;
    *ret = strtoull(*at + len, &end, 10);
    if (end == *at + len || *end != '\n')
        return false;
    *at = end + 1;
    return true;
}

static bool incarnation_take(const char **at, struct kho_id *ret)
{
    const char *name = "incarnation ";
    size_t len = strlen(name);
    if (strncmp(*at, name, len) != 0 || strlen(*at) < len + 33)
        return false;
    for (size_t i = 0; i < sizeof ret->bytes; i++) {
        char digits[3] = {(*at)[len + 2 * i], (*at)[len + 2 * i + 1], '\0'};
        ret->bytes[i] = (uint8_t)strtoul(digits, NULL, 16);
    }
    *at += len + 33;
    return true;
}

/* NULL, or what is wrong with the text. */
static const char *identity_parse(const char *text, struct identity *ret_identity)
{
    struct identity identity = {.shard_count = 0};
    uint64_t format, shards;
    const char *at = text;
    char again[IDENTITY_MAX];
    if (!number_take(&at, "kho-node ", &format))
        return "it is not a kho-node identity file";
    if (format != IDENTITY_FORMAT)
        return "it is of a format that this program doesn't know; use the kho-node that made it or "
               "a newer one";
    if (!incarnation_take(&at, &identity.incarnation) || !number_take(&at, "shards ", &shards) ||
        !number_take(&at, "segment-bytes ", &identity.segment_bytes) ||
        !number_take(&at, "created-ms ", &identity.created_ms))
        return "it is damaged: a line is missing or broken";
    identity.shard_count = (uint32_t)kho_min(shards, UINT32_MAX);
    /* One way only to write an identity: comparing covers the checksum and the file's end. */
    identity_format(&identity, again);
    if (strcmp(again, text) != 0)
        return "it is damaged: its checksum differs";
    if (kho_id_is_zero(&identity.incarnation) || shards == 0 || shards > FOLDER_SHARDS_MAX ||
        identity.segment_bytes < 32 * MIB || identity.segment_bytes > 256 * MIB ||
        identity.segment_bytes % MIB != 0)
        return "it names a shard count or a segment size out of range";
    *ret_identity = identity;
    return NULL;
}

static int identity_read(const char *path, int folder_fd, struct identity *ret, char *error)
{
    char text[IDENTITY_MAX];
    int fd = openat(folder_fd, IDENTITY_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: %s%s", path, IDENTITY_NAME, strerror(errno),
                 errno == ENOENT ? "; this is no data folder: make one with kho-node init" : "");
        return -1;
    }
    ssize_t len = read(fd, text, sizeof text - 1);
    int code = errno;
    close(fd);
    if (len < 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: %s", path, IDENTITY_NAME, strerror(code));
        return -1;
    }
    text[len] = '\0';
    const char *wrong = identity_parse(text, ret);
    if (wrong == NULL)
        return 0;
    snprintf(error, FOLDER_ERROR_MAX,
             "%s/%s: %s. Restore it from a copy, or make the folder anew and let it in with "
             "'kho node readmit'",
             path, IDENTITY_NAME, wrong);
    return -1;
}

/* --- File systems ----------------------------------------------------------------------------- */

struct file_system {
    uint32_t magic; /* statfs(2), linux/magic.h */
    const char *name;
    const char *warning;
    const char *refusal;
};

static const struct file_system file_systems[] = {
    {0xEF53, "ext4", NULL, NULL},
    {0x58465342, "xfs", NULL, NULL},
    {0x9123683E, "btrfs", NULL, NULL},
    {0x794c7630, "overlayfs", NULL, NULL},
    {0x01021994, "tmpfs", "its files are memory: all records are gone after a reboot", NULL},
    {0x858458f6, "ramfs", "its files are memory: all records are gone after a reboot", NULL},
    {0x6969, "nfs", "durability and locks depend on the server; use a local disk", NULL},
    {0x2fc12fc1, "zfs", NULL,
     "io_uring writes to ZFS were seen to end in wrong data (OpenZFS issue 16133); use ext4 or "
     "XFS"},
};

/* -1: refused, with the reason in `error`. */
static int system_check(const char *path, int fd, const struct file_system **ret_system,
                        char *error)
{
    static const struct file_system other = {0, "another file system", NULL, NULL};
    struct statfs fs;
    if (fstatfs(fd, &fs) != 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: %s", path, strerror(errno));
        return -1;
    }
    *ret_system = &other;
    for (size_t i = 0; i < KHO_COUNT_OF(file_systems); i++) {
        if ((uint32_t)fs.f_type == file_systems[i].magic)
            *ret_system = &file_systems[i];
    }
    if ((*ret_system)->refusal == NULL)
        return 0;
    snprintf(error, FOLDER_ERROR_MAX, "%s lies on %s: %s", path, (*ret_system)->name,
             (*ret_system)->refusal);
    return -1;
}

static void system_warn(const char *path, const struct file_system *system)
{
    if (system->warning != NULL)
        journal_write(EVENT_WARNING, "%s lies on %s: %s", path, system->name, system->warning);
}

/* Reads stx_dio_mem_align and stx_dio_offset_align: 32-bit fields at 0x98 and 0x9C of struct statx
 * (linux/stat.h since 6.1), by their place, since older headers call it spare room. */
static uint32_t alignment_of(int fd)
{
    const uint32_t dioalign = 0x2000, fallback = 4096, least = 512, most = 65536;
    struct statx stx;
    uint32_t mem, offset;
    memset(&stx, 0, sizeof stx);
    static_assert(sizeof stx >= 0xA0, "struct statx is 256 bytes");
    if (statx(fd, "", AT_EMPTY_PATH, dioalign, &stx) != 0 || (stx.stx_mask & dioalign) == 0)
        return fallback;
    memcpy(&mem, (const char *)&stx + 0x98, sizeof mem);
    memcpy(&offset, (const char *)&stx + 0x9C, sizeof offset);
    uint32_t align = mem > offset ? mem : offset;
    if (offset == 0 || (align & (align - 1)) != 0 || align > most)
        return fallback;
    return align < least ? least : align;
}

/* What a file in the shard's folder can do; says EROFS and EACCES before anything depends on it. */
static int folder_probe(const char *path, struct shard_folder *shard, char *error)
{
    const int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
    unlinkat(shard->fd, PROBE_NAME, 0);
    int fd = openat(shard->fd, PROBE_NAME, flags | O_DIRECT, 0600);
    shard->direct = fd >= 0;
    if (fd < 0 && errno == EINVAL) {
        unlinkat(shard->fd, PROBE_NAME, 0); /* some leave it behind */
        fd = openat(shard->fd, PROBE_NAME, flags, 0600);
        if (fd >= 0)
            journal_write(EVENT_WARNING,
                          "%s/%s lies on %s, which takes no O_DIRECT: writes go through the page "
                          "cache, still synced before each acknowledgement, but slower",
                          path, shard->name, shard->system);
    }
    if (fd < 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: no file can be made there: %s%s", path,
                 shard->name, strerror(errno),
                 errno == EROFS    ? "; mount it writable"
                 : errno == EACCES ? "; give the folder to the user that runs kho-node"
                                   : "");
        return -1;
    }
    shard->alignment = alignment_of(fd);
    close(fd);
    unlinkat(shard->fd, PROBE_NAME, 0);
    return 0;
}

/* --- Making it -------------------------------------------------------------------------------- */

/* False, with the first thing that is in the way in `error`; a mount point's lost+found isn't. */
static bool folder_empty(const char *path, int fd, char *error)
{
    int listed = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    if (dir == NULL) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: %s", path, strerror(errno));
        if (listed >= 0)
            close(listed);
        return false;
    }
    struct dirent *entry;
    bool empty = true;
    while (empty && (entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            strcmp(entry->d_name, "lost+found") == 0)
            continue;
        empty = false;
        snprintf(error, FOLDER_ERROR_MAX,
                 "%s is not empty (it holds \"%.100s\"): name a new or an empty folder", path,
                 entry->d_name);
    }
    closedir(dir);
    return empty;
}

static int identity_write(int folder_fd, const struct identity *identity)
{
    char text[IDENTITY_MAX];
    size_t len = identity_format(identity, text);
    int code = 0;
    int fd = openat(folder_fd, IDENTITY_NAME ".new", O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return -errno;
    ssize_t written = write(fd, text, len);
    if (written != (ssize_t)len)
        code = written < 0 ? -errno : -ENOSPC;
    else if (fsync(fd) != 0)
        code = -errno;
    close(fd);
    if (code == 0 && renameat(folder_fd, IDENTITY_NAME ".new", folder_fd, IDENTITY_NAME) != 0)
        code = -errno;
    return code;
}

static int folder_fill(int fd, const struct identity *identity)
{
    for (uint32_t shard = 0; shard < identity->shard_count; shard++) {
        char name[16];
        shard_name(shard, name);
        if (mkdirat(fd, name, 0700) != 0)
            return -errno;
        int shard_fd = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int code = shard_fd < 0 || fsync(shard_fd) != 0 ? -errno : 0;
        if (shard_fd >= 0)
            close(shard_fd);
        if (code != 0)
            return code;
    }
    int code = identity_write(fd, identity);
    if (code != 0)
        return code;
    if (fsync(fd) != 0)
        return -errno;
    int parent = openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* A parent that may not be read can't be synced; its own entry is then the admin's business. */
    if (parent >= 0) {
        code = fsync(parent) != 0 ? -errno : 0;
        close(parent);
    }
    return code;
}

int folder_init(const char *path, const struct identity *identity, char *error)
{
    const struct file_system *system;
    if (mkdir(path, 0700) != 0 && errno != EEXIST) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: %s%s", path, strerror(errno),
                 errno == ENOENT ? "; make the folder above it first" : "");
        return -1;
    }
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: %s", path, strerror(errno));
        return -1;
    }
    int result = -1;
    if (faccessat(fd, IDENTITY_NAME, F_OK, 0) == 0) {
        snprintf(error, FOLDER_ERROR_MAX,
                 "%s is a data folder already and stays as it is; name another, or remove it "
                 "first if its records may be lost",
                 path);
        goto out;
    }
    if (!folder_empty(path, fd, error) || system_check(path, fd, &system, error) != 0)
        goto out;
    system_warn(path, system);
    if (fchmod(fd, 0700) != 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: its mode can't be set to 0700: %s", path,
                 strerror(errno));
        goto out;
    }
    int code = folder_fill(fd, identity);
    if (code != 0)
        snprintf(error, FOLDER_ERROR_MAX, "%s: the data folder can't be made: %s", path,
                 strerror(-code));
    else
        result = 0;
out:
    close(fd);
    return result;
}

/* --- Opening it ------------------------------------------------------------------------------- */

/* Reads the pid that the holder wrote: 0 when it hasn't yet. */
static long lock_holder(int fd)
{
    char text[32];
    ssize_t len = pread(fd, text, sizeof text - 1, 0);
    text[len > 0 ? len : 0] = '\0';
    return strtol(text, NULL, 10);
}

static int folder_lock(const char *path, struct folder *folder, char *error)
{
    char text[32];
    int fd = openat(folder->fd, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: %s%s", path, LOCK_NAME, strerror(errno),
                 errno == EROFS    ? "; mount it writable"
                 : errno == EACCES ? "; give the folder to the user that runs kho-node"
                                   : "");
        return -1;
    }
    folder->lock_fd = fd;
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK)
            snprintf(error, FOLDER_ERROR_MAX,
                     "%s is served by another process (pid %ld): stop that one first", path,
                     lock_holder(fd));
        else
            snprintf(error, FOLDER_ERROR_MAX, "%s/%s: %s", path, LOCK_NAME, strerror(errno));
        return -1;
    }
    int len = snprintf(text, sizeof text, "%d\n", (int)getpid());
    if (ftruncate(fd, 0) != 0 || pwrite(fd, text, (size_t)len, 0) != len) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: %s", path, LOCK_NAME, strerror(errno));
        return -1;
    }
    return 0;
}

static int file_add(const char *path, struct shard_folder *shard, const char *text, char *error)
{
    struct file_name name;
    struct stat st;
    if (!folder_file_parse(text, &name)) {
        journal_write(EVENT_WARNING, "%s/%s/%s is no file of kho's and is left alone", path,
                      shard->name, text);
        return 0;
    }
    struct file_found *files =
        realloc(shard->files, (shard->file_count + 1) * sizeof *shard->files);
    if (files == NULL || fstatat(shard->fd, text, &st, AT_SYMLINK_NOFOLLOW) != 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s/%s: %s", path, shard->name, text, strerror(errno));
        if (files != NULL)
            shard->files = files;
        return -1;
    }
    files[shard->file_count++] = (struct file_found){.name = name, .size = (uint64_t)st.st_size};
    shard->files = files;
    return 0;
}

/* By kind, id and temporariness, so that recovery doesn't depend on the folder's order. */
static int file_compare(const void *a, const void *b)
{
    const struct file_name *x = &((const struct file_found *)a)->name;
    const struct file_name *y = &((const struct file_found *)b)->name;
    if (x->kind != y->kind)
        return x->kind < y->kind ? -1 : 1;
    if (x->id != y->id)
        return x->id < y->id ? -1 : 1;
    return (int)x->temporary - (int)y->temporary;
}

static int folder_list(const char *path, struct shard_folder *shard, char *error)
{
    int listed = openat(shard->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = listed < 0 ? NULL : fdopendir(listed);
    struct dirent *entry;
    int result = 0;
    if (dir == NULL) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: %s", path, shard->name, strerror(errno));
        if (listed >= 0)
            close(listed);
        return -1;
    }
    while (result == 0 && (errno = 0, entry = readdir(dir)) != NULL) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            result = file_add(path, shard, entry->d_name, error);
    }
    /* A listing that ends early would make recovery believe in a shorter log. */
    if (result == 0 && errno != 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s/%s: its files can't be listed: %s", path, shard->name,
                 strerror(errno));
        result = -1;
    }
    closedir(dir);
    if (shard->file_count > 0)
        qsort(shard->files, shard->file_count, sizeof *shard->files, file_compare);
    return result;
}

static int shard_open(const char *path, struct folder *folder, uint32_t number, char *error)
{
    struct shard_folder *shard = &folder->shards[number];
    const struct file_system *system;
    shard_name(number, shard->name);
    shard->fd = openat(folder->fd, shard->name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (shard->fd < 0) {
        snprintf(error, FOLDER_ERROR_MAX,
                 "%s/%s: %s. The shard's records are not there: mount its disk, or make the folder "
                 "anew and let it in with 'kho node readmit'",
                 path, shard->name, strerror(errno));
        return -1;
    }
    if (system_check(path, shard->fd, &system, error) != 0)
        return -1;
    shard->system = system->name;
    if (number == 0 || strcmp(folder->shards[0].system, system->name) != 0)
        system_warn(path, system);
    if (folder_probe(path, shard, error) != 0)
        return -1;
    return folder_list(path, shard, error);
}

static int shards_open(const char *path, struct folder *folder, char *error)
{
    uint32_t count = folder->identity.shard_count;
    folder->shards = calloc(count, sizeof *folder->shards);
    if (folder->shards == NULL) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: %s", path, strerror(ENOMEM));
        return -1;
    }
    for (uint32_t i = 0; i < count; i++)
        folder->shards[i].fd = -1;
    for (uint32_t i = 0; i < count; i++) {
        if (shard_open(path, folder, i, error) != 0)
            return -1;
    }
    return 0;
}

int folder_open(const char *path, struct folder *ret_folder, char *error)
{
    struct folder folder = {.lock_fd = -1};
    folder.fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder.fd < 0) {
        snprintf(error, FOLDER_ERROR_MAX, "%s: %s%s", path, strerror(errno),
                 errno == ENOENT ? "; make a data folder with kho-node init" : "");
        return -1;
    }
    if (identity_read(path, folder.fd, &folder.identity, error) != 0 ||
        folder_lock(path, &folder, error) != 0 || shards_open(path, &folder, error) != 0) {
        folder_close(&folder);
        return -1;
    }
    *ret_folder = folder;
    return 0;
}

void folder_close(struct folder *folder)
{
    for (uint32_t i = 0; folder->shards != NULL && i < folder->identity.shard_count; i++) {
        if (folder->shards[i].fd >= 0)
            close(folder->shards[i].fd);
        free(folder->shards[i].files);
    }
    free(folder->shards);
    /* The pid stays in the file: who reads it has found the lock free. */
    if (folder->lock_fd >= 0)
        close(folder->lock_fd);
    if (folder->fd >= 0)
        close(folder->fd);
    *folder = (struct folder){.fd = -1, .lock_fd = -1};
}
