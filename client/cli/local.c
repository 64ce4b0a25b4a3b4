/* local.c: the folder of a local cluster: its description, its lock, its ports.
 *
 * The description is written beside its place and renamed. A folder that holds something else is
 * left alone: `local_create` takes an absent or empty one only. */
#include "local.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "print.h"

const char *local_path(const struct local *local, const struct local_node *node, const char *file,
                       char *path)
{
    int len = snprintf(path, PATH_MAX, "%s/%s%s%s", local->dir, node != NULL ? node->name : "",
                       node != NULL ? "/" : "", file);
    if (len < 0 || len >= PATH_MAX)
        path[0] = '\0'; /* opens as nothing */
    return path;
}

const struct local_node *local_find(const struct local *local, const char *name)
{
    for (size_t i = 0; i < local->count; i++)
        if (strcmp(local->nodes[i].name, name) == 0)
            return &local->nodes[i];
    return NULL;
}

/* The text behind "word " in a line, or NULL: it is another line. */
static const char *text_behind(const char *line, const char *word)
{
    size_t len = strlen(word);
    return strncmp(line, word, len) == 0 && line[len] == ' ' ? line + len + 1 : NULL;
}

static bool take_text(char *to, size_t room, const char *text)
{
    return text != NULL && *text != '\0' && (size_t)snprintf(to, room, "%s", text) < room;
}

/* "a 7701" */
static bool take_node(struct local *local, const char *text)
{
    struct local_node *node = &local->nodes[local->count];
    size_t len = strcspn(text, " ");
    if (local->count == LOCAL_NODES_MAX || len == 0 || len >= sizeof node->name ||
        text[len] == '\0')
        return false;
    char *rest;
    unsigned long port = strtoul(text + len + 1, &rest, 10);
    if (*rest != '\0' || port == 0 || port > 65535)
        return false;
    memcpy(node->name, text, len);
    node->name[len] = '\0';
    node->port = (uint16_t)port;
    local->count++;
    return true;
}

static bool take_shards(struct local *local, const char *text)
{
    char *rest;
    unsigned long shards = strtoul(text, &rest, 10);
    if (rest == text || *rest != '\0' || shards == 0 || shards > LOCAL_SHARDS_MAX)
        return false;
    local->shards = (unsigned)shards;
    return true;
}

/* One line of DIR/cluster. False: it isn't one. */
static bool take_line(struct local *local, const char *line)
{
    if (line[0] == '#' || line[0] == '\0')
        return true;
    const char *node = text_behind(line, "node");
    if (node != NULL)
        return take_node(local, node);
    const char *shards = text_behind(line, "shards");
    if (shards != NULL)
        return take_shards(local, shards);
    return take_text(local->memory, sizeof local->memory, text_behind(line, "memory")) ||
           take_text(local->segment_size, sizeof local->segment_size,
                     text_behind(line, "segment-size"));
}

static int read_description(const char *file, struct local *local)
{
    char line[256];
    int rc = 0;
    FILE *in = fopen(file, "re");
    if (in == NULL)
        return -errno;
    local->shards = 1;
    for (unsigned number = 1; rc == 0 && fgets(line, sizeof line, in) != NULL; number++) {
        line[strcspn(line, "\n")] = '\0';
        if (!take_line(local, line)) {
            say("%s:%u: '%s' isn't a line of a local cluster", file, number, line);
            rc = -EINVAL;
        }
    }
    fclose(in);
    if (rc == 0 && local->count == 0) {
        say("%s names no node", file);
        rc = -EINVAL;
    }
    return rc;
}

char *local_addresses(const char *dir)
{
    struct local local = {.lock = -1};
    char file[PATH_MAX];
    if ((size_t)snprintf(file, sizeof file, "%s/cluster", dir) >= sizeof file ||
        read_description(file, &local) != 0)
        return NULL;
    size_t room = 24 * local.count;
    char *list = must(calloc(1, room));
    for (size_t i = 0, at = 0; i < local.count; i++)
        at += (size_t)snprintf(list + at, room - at, "%s127.0.0.1:%u", i > 0 ? "," : "",
                               local.nodes[i].port);
    return list;
}

bool local_cluster_id(const char *dir, uint8_t *ret_id)
{
    char file[PATH_MAX];
    uint8_t head[8 + LOCAL_CLUSTER_ID]; /* of a map: magic, formats, id (kho/map.h) */
    if ((size_t)snprintf(file, sizeof file, "%s/map", dir) >= sizeof file)
        return false;
    FILE *map = fopen(file, "rb");
    if (map == NULL)
        return false;
    bool whole = fread(head, sizeof head, 1, map) == 1 && memcmp(head, "khoM", 4) == 0;
    fclose(map);
    if (whole)
        memcpy(ret_id, head + 8, LOCAL_CLUSTER_ID);
    return whole;
}

/* Takes the folder, so that two commands don't start or stop its nodes at once. */
static int take_folder(const char *dir, struct local *local)
{
    char path[PATH_MAX];
    if (realpath(dir, path) == NULL)
        return -errno;
    if (strlen(path) >= sizeof local->dir)
        return -ENAMETOOLONG;
    strcpy(local->dir, path);
    local->lock = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (local->lock < 0)
        return -errno;
    return flock(local->lock, LOCK_EX) == 0 ? 0 : -errno;
}

int local_load(const char *dir, struct local *ret_local)
{
    char file[PATH_MAX];
    *ret_local = (struct local){.lock = -1};
    int rc = take_folder(dir, ret_local);
    if (rc == 0)
        rc = read_description(local_path(ret_local, NULL, "cluster", file), ret_local);
    if (rc != 0)
        local_fini(ret_local);
    if (rc != 0 && rc != -ENOENT && rc != -EINVAL)
        say("can't read the local cluster in %s: %s", dir, kho_strerror(rc));
    return rc;
}

static bool port_is_free(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return false;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    bool free_port =
        bind(fd, (struct sockaddr *)(void *)&address, sizeof address) == 0 && listen(fd, 1) == 0;
    close(fd);
    return free_port;
}

static bool folder_is_empty(const char *dir)
{
    DIR *folder = opendir(dir);
    bool empty = folder != NULL;
    struct dirent *entry;
    while (empty && (entry = readdir(folder)) != NULL)
        empty = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0;
    if (folder != NULL)
        closedir(folder);
    return empty;
}

/* Where to look for free ports. A node that is down has left its port to whoever asks: so a folder
 * of another name than the usual one looks in a place of its own, below the ports that the kernel
 * gives to clients. */
static unsigned first_port(const char *dir)
{
    const char *slash = strrchr(dir, '/');
    uint32_t hash = 2166136261u; /* FNV-1a */
    if (slash != NULL && strcmp(slash + 1, LOCAL_DIR) == 0)
        return LOCAL_PORT_FIRST;
    for (const char *at = dir; *at != '\0'; at++)
        hash = (hash ^ (uint8_t)*at) * 16777619u;
    return LOCAL_PORT_FIRST + 10 * (1 + hash % 2000);
}

int local_create(const char *dir, size_t count, struct local *ret_local)
{
    *ret_local = (struct local){.lock = -1};
    int rc = mkdir(dir, 0755) == 0 || errno == EEXIST ? 0 : -errno;
    if (rc == 0)
        rc = take_folder(dir, ret_local);
    if (rc == 0 && !folder_is_empty(ret_local->dir))
        rc = -ENOTEMPTY;
    if (rc != 0) {
        say("can't make a local cluster in %s: %s", dir, kho_strerror(rc));
        local_fini(ret_local);
        return rc;
    }
    unsigned port = first_port(ret_local->dir);
    for (size_t i = 0; i < count; i++, port++) {
        while (port < 65536 && !port_is_free((uint16_t)port))
            port++;
        ret_local->nodes[i].name[0] = (char)('a' + i);
        ret_local->nodes[i].port = (uint16_t)port;
    }
    ret_local->count = count;
    return 0;
}

int local_save(const struct local *local)
{
    char file[PATH_MAX], part[PATH_MAX];
    FILE *out = fopen(local_path(local, NULL, "cluster.part", part), "we");
    if (out == NULL)
        goto fail;
    fprintf(out, "# A local cluster of kho; 'kho local' reads and writes this.\n");
    for (size_t i = 0; i < local->count; i++)
        fprintf(out, "node %s %u\n", local->nodes[i].name, local->nodes[i].port);
    fprintf(out, "shards %u\nmemory %s\nsegment-size %s\n", local->shards, local->memory,
            local->segment_size);
    bool good = fflush(out) == 0 && fsync(fileno(out)) == 0;
    if (fclose(out) != 0 || !good)
        goto fail;
    if (rename(part, local_path(local, NULL, "cluster", file)) == 0)
        return 0;
fail:;
    int rc = -errno;
    say("can't write %s/cluster: %s", local->dir, kho_strerror(rc));
    return rc;
}

void local_fini(struct local *local)
{
    if (local->lock >= 0)
        close(local->lock);
    local->lock = -1;
}
