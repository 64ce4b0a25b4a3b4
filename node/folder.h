/* folder.h: a node's data folder: its identity, its lock, a folder of files for each shard.
 *
 *     DIR/node              identity, written once (format: folder.c)
 *     DIR/lock              flock()ed while a process serves the folder; holds its pid
 *     DIR/shard-000/ …      segment-<id>, manifest, map, and their temporaries with ".new" */
#ifndef KHO_NODE_FOLDER_H
#define KHO_NODE_FOLDER_H

#include "op.h"

enum { FOLDER_ERROR_MAX = 1024, FOLDER_NAME_MAX = 40, FOLDER_SHARDS_MAX = 256 };

struct identity {
    struct kho_id incarnation;
    uint32_t shard_count;
    uint64_t segment_bytes;
    uint64_t created_ms;
};

/* A shard's own folder. It may be a mount point: each is looked at by itself. */
struct shard_folder {
    char name[16]; /* "shard-000" */
    int fd;
    uint32_t alignment; /* of direct I/O */
    bool direct;        /* the file system takes O_DIRECT */
    const char *system; /* the file system's name, for the log */
    struct file_found *files;
    size_t file_count;
};

struct folder {
    int fd;      /* DIR */
    int lock_fd; /* DIR/lock */
    struct identity identity;
    struct shard_folder *shards; /* identity.shard_count */
};

/* Makes a data folder: 0, or -1 with the cause and the remedy in `error`. On failure what was made
 * is left: the next attempt names it. */
int folder_init(const char *path, const struct identity *identity, char *error);
/* Opens, locks and checks a data folder, finds the alignment of each shard's and lists its files;
 * -1 as above. Warnings go to the journal. */
int folder_open(const char *path, struct folder *ret_folder, char *error);
void folder_close(struct folder *folder);
/* The file's name in the shard's folder, of at most FOLDER_NAME_MAX bytes with its NUL. */
void folder_file_name(const struct file_name *name, char *ret);
/* False: the node doesn't use such a name. */
bool folder_file_parse(const char *text, struct file_name *ret_name);
void folder_id_text(const struct kho_id *id, char ret[33]);

#endif
