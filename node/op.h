/* op.h: what a shard's core asks of the world, as data.
 *
 * An op is embedded in its owner and pushed to the shard's outbox. The driver (uring.c, or the
 * simulator) drains the outbox after each turn, carries every op out, and hands it back exactly
 * once through shard_completed() with `result` set: 0 or a count, or -errno. Ops under way at the
 * same time are not ordered among each other: what must come later, the core asks for later. Until
 * an op has ended its owner and its buffers stay where they are, whatever happens to the
 * connection.
 *
 * The driver continues short reads and writes and retries EINTR, EAGAIN and ENOMEM a bounded number
 * of times; it reports final results only: a read or write of fewer bytes than asked is a failure
 * (-EIO), but for OP_READ past the end of a file, which reports the bytes there were.
 *
 * Files and connections have small integers as handles: the core picks a file's before it opens it,
 * the driver picks a connection's before it hands it over. A file handle may be used again only
 * after OP_CLOSE_FILE ended, a connection's only after OP_CLOSE ended. */
#ifndef KHO_NODE_OP_H
#define KHO_NODE_OP_H

#include <kho/base.h>

enum op_kind {
    /* Opens `name` as handle `file`. flags: OP_OPEN_CREATE (O_CREAT | O_EXCL; an old temporary file
     * of that name is unlinked first), OP_OPEN_DIRECT (O_DIRECT). Result 0 or -errno. */
    OP_OPEN = 1,
    /* Fallocates `file` to `len` bytes: -ENOSPC before anything else is written. Flag
     * OP_ALLOCATE_ZEROS: what it has already reads as zeros from then on, though nothing is written
     * for that; -EOPNOTSUPP where the file system can't. */
    OP_ALLOCATE,
    OP_READ,   /* `len` bytes at `offset` into `data`; result: bytes read */
    OP_WRITE,  /* `len` bytes at `offset`; flag OP_WRITE_DURABLE: RWF_DSYNC, done when stable */
    OP_SYNC,   /* fsync of `file` */
    OP_RENAME, /* `name` to `target`, replacing what is there */
    OP_SYNC_FOLDER, /* fsync of the shard's folder: creations, renames and unlinks become durable */
    OP_UNLINK,      /* `name` */
    OP_CLOSE_FILE,  /* ends after all other ops of `file` have ended */
    OP_SPACE,       /* free bytes of the file system into `offset`; result 0 */
    OP_SEND,        /* `len` bytes of `data` to `conn`, whole or an error */
    OP_RECEIVE, /* starts (len 1) or stops (len 0) delivery of bytes from `conn`; ends at once */
    OP_CLOSE    /* closes `conn`; its ops under way end first, cancelled ones with -ECANCELED */
};

enum { OP_OPEN_CREATE = 1, OP_OPEN_DIRECT = 2, OP_WRITE_DURABLE = 4, OP_ALLOCATE_ZEROS = 8 };

/* Which part of the core gets the completion. */
enum op_owner { OP_OWNER_STORE = 1, OP_OWNER_CONN };

enum file_kind { FILE_SEGMENT = 1, FILE_MANIFEST, FILE_MAP };

/* A file of the shard's folder. The driver makes the path: "segment-%016llx", "manifest", "map",
 * with
 * ".new" behind a temporary one. `id` is a segment's; 0 for the others. */
struct file_name {
    uint8_t kind; /* enum file_kind */
    bool temporary;
    uint64_t id;
};

/* A file that is in the folder at start. */
struct file_found {
    struct file_name name;
    uint64_t size;
};

struct op {
    struct queue link; /* in the outbox, then free for the driver */
    uint8_t kind;      /* enum op_kind */
    uint8_t owner;     /* enum op_owner */
    uint8_t flags;
    uint8_t purpose; /* the owner's own: what to do at completion */
    int32_t file;
    int32_t conn;
    int32_t result;
    struct file_name name, target;
    uint64_t offset;
    uint8_t *data; /* file I/O: aligned to the shard's alignment, as are offset and len */
    uint32_t len;
    void *context;   /* the owner's own */
    uint64_t driver; /* the driver's own */
};

/* Memory that ops of files use again and again, from the core's beginning to its end. */
struct io_area {
    uint8_t *memory;
    size_t bytes;
};
enum { IO_AREAS_MAX = 128 };

/* A log line of the core, an output like an op. The driver prints and frees nothing: it copies. */
enum event_level { EVENT_INFO = 1, EVENT_WARNING, EVENT_ERROR };

struct event {
    uint8_t level;
    char text[320]; /* names the thing, the cause and the remedy; NUL-terminated */
};

#endif
