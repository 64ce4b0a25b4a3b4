/* disk.c: the core's file ops, carried out by the ring.
 *
 * An op becomes one job (a pooled struct with the ring's task in it) and mostly one request. More
 * than one where the world makes it so: a short read or write goes on where it stopped, rounded
 * down to the alignment that direct I/O wants; a file that is created has its old namesake unlinked
 * first. EINTR, EAGAIN and ENOMEM are tried again RETRIES_MAX times, a little later each time; a
 * sync is not, since the kernel may forget what it reported once (R4). OP_CLOSE_FILE waits until
 * all other ops of its file have ended. OP_SPACE is a system call: statvfs doesn't wait for the
 * disk.
 *
 * Every op ends once, with its final result, in the `done` queue; the driver's loop hands it back.
 */
#include "disk.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { RETRIES_MAX = 10, FILES_MAX = 1 << 20 };

struct job {
    struct task task;
    struct disk *disk;
    struct op *op;
    struct queue link; /* among the waiting, or in the pool */
    uint64_t retry_ns; /* when waiting */
    uint32_t base;     /* READ, WRITE: where the request under way starts, within the op */
    uint32_t reached;  /* and how far all of them came */
    uint32_t tries;
    bool unlinked; /* OPEN: the old namesake is gone */
    char name[FOLDER_NAME_MAX];
    char target[FOLDER_NAME_MAX];
};

struct file {
    int fd; /* -1: not open */
    uint32_t jobs;
    struct op *closing; /* OP_CLOSE_FILE, waiting for the jobs */
};

struct disk {
    struct uring *uring;
    const struct shard_folder *folder;
    struct queue *done;
    struct file *files;
    uint32_t file_count;
    struct queue pool;    /* of struct job.link */
    struct queue waiting; /* of struct job.link, for another try */
    struct kho_now now;
};

static void job_ended(struct task *task, int result);

struct disk *disk_create(struct uring *uring, const struct shard_folder *folder, struct queue *done)
{
    struct disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL)
        return NULL;
    disk->uring = uring;
    disk->folder = folder;
    disk->done = done;
    queue_init(&disk->pool);
    queue_init(&disk->waiting);
    return disk;
}

static void jobs_free(struct queue *queue)
{
    QUEUE_FOREACH_SAFE (link, queue)
        free(KHO_CONTAINER_OF(link, struct job, link));
}

void disk_destroy(struct disk *disk)
{
    if (disk == NULL)
        return;
    for (uint32_t i = 0; i < disk->file_count; i++) {
        if (disk->files[i].fd >= 0)
            close(disk->files[i].fd);
    }
    jobs_free(&disk->pool);
    jobs_free(&disk->waiting);
    free(disk->files);
    free(disk);
}

static void op_end(struct disk *disk, struct op *op, int result)
{
    op->result = result;
    queue_push(disk->done, &op->link);
}

/* --- Files ------------------------------------------------------------------------------------ */

static struct file *file_of(struct disk *disk, int32_t handle)
{
    KHO_ASSERT(handle >= 0 && (uint32_t)handle < disk->file_count);
    return &disk->files[handle];
}

/* Makes room in the table for a handle that the core picked. */
static bool file_room(struct disk *disk, int32_t handle)
{
    KHO_ASSERT(handle >= 0 && handle < FILES_MAX);
    if ((uint32_t)handle < disk->file_count)
        return true;
    uint32_t count = (uint32_t)kho_max((uint64_t)handle + 1, 2 * (uint64_t)disk->file_count);
    struct file *files = realloc(disk->files, count * sizeof *files);
    if (files == NULL)
        return false;
    for (uint32_t i = disk->file_count; i < count; i++)
        files[i] = (struct file){.fd = -1};
    disk->files = files;
    disk->file_count = count;
    return true;
}

static bool op_has_file(const struct op *op)
{
    return op->kind == OP_OPEN || op->kind == OP_ALLOCATE || op->kind == OP_READ ||
           op->kind == OP_WRITE || op->kind == OP_SYNC;
}

static void file_close(struct disk *disk, struct file *file)
{
    struct op *op = file->closing;
    KHO_ASSERT(file->jobs == 0 && op != NULL);
    /* What was written is stable already or was never promised: close() has nothing to tell. */
    if (file->fd >= 0)
        close(file->fd);
    *file = (struct file){.fd = -1};
    op_end(disk, op, 0);
}

/* --- Jobs ------------------------------------------------------------------------------------- */

static struct job *job_take(struct disk *disk, struct op *op)
{
    struct queue *link = queue_pop(&disk->pool);
    struct job *job = link != NULL ? KHO_CONTAINER_OF(link, struct job, link) : malloc(sizeof *job);
    if (job == NULL)
        return NULL;
    *job = (struct job){.task = {.ended = job_ended}, .disk = disk, .op = op};
    queue_init(&job->link);
    if (op_has_file(op))
        file_of(disk, op->file)->jobs++;
    return job;
}

static void job_end(struct job *job, int result)
{
    struct disk *disk = job->disk;
    struct op *op = job->op;
    struct file *file = op_has_file(op) ? file_of(disk, op->file) : NULL;
    queue_push_front(&disk->pool, &job->link);
    op_end(disk, op, result);
    if (file == NULL)
        return;
    file->jobs--;
    if (file->jobs == 0 && file->closing != NULL)
        file_close(disk, file);
}

static int open_flags(const struct job *job)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW;
    if ((job->op->flags & OP_OPEN_CREATE) != 0)
        flags |= O_CREAT | O_EXCL;
    if ((job->op->flags & OP_OPEN_DIRECT) != 0 && job->disk->folder->direct)
        flags |= O_DIRECT;
    return flags;
}

/* Fills the request that the job needs next. */
static void job_submit(struct job *job)
{
    struct uring *uring = job->disk->uring;
    int folder_fd = job->disk->folder->fd;
    struct op *op = job->op;
    int fd = op_has_file(op) ? file_of(job->disk, op->file)->fd : -1;
    switch (op->kind) {
    case OP_OPEN:
        if ((op->flags & OP_OPEN_CREATE) != 0 && !job->unlinked)
            uring_unlink(uring, &job->task, folder_fd, job->name);
        else
            uring_open(uring, &job->task, folder_fd, job->name, open_flags(job));
        break;
    case OP_ALLOCATE:
        uring_allocate(uring, &job->task, fd, op->len, (op->flags & OP_ALLOCATE_ZEROS) != 0);
        break;
    case OP_READ:
        uring_read(uring, &job->task, fd, op->data + job->base, op->len - job->base,
                   op->offset + job->base);
        break;
    case OP_WRITE:
        uring_write(uring, &job->task, fd, op->data + job->base, op->len - job->base,
                    op->offset + job->base, (op->flags & OP_WRITE_DURABLE) != 0);
        break;
    case OP_SYNC:
        uring_sync(uring, &job->task, fd);
        break;
    case OP_SYNC_FOLDER:
        uring_sync(uring, &job->task, folder_fd);
        break;
    case OP_RENAME:
        uring_rename(uring, &job->task, folder_fd, job->name, job->target);
        break;
    default:
        KHO_ASSERT(op->kind == OP_UNLINK);
        uring_unlink(uring, &job->task, folder_fd, job->name);
    }
}

/* True: the job goes on by itself a little later. */
static bool job_retry(struct job *job, int result)
{
    if (result != -EINTR && result != -EAGAIN && result != -ENOMEM)
        return false;
    if (job->op->kind == OP_SYNC || job->op->kind == OP_SYNC_FOLDER || job->tries >= RETRIES_MAX)
        return false;
    /* 1 ms, 2 ms, … 512 ms: a second in all. */
    job->retry_ns = job->disk->now.mono_ns + ((uint64_t)1000000 << job->tries);
    job->tries++;
    queue_push(&job->disk->waiting, &job->link);
    return true;
}

/* A request of a read or write ended with `result` bytes, at least 0. */
static void transfer_ended(struct job *job, uint32_t result)
{
    const struct op *op = job->op;
    uint32_t end = job->base + result;
    KHO_ASSERT(end <= op->len);
    bool progress = end > job->reached;
    job->reached = progress ? end : job->reached;
    if (job->reached == op->len) {
        job_end(job, (int)op->len);
        return;
    }
    if (!progress) {
        /* A read that gets no further is at the file's end. */
        job_end(job, op->kind == OP_READ ? (int)job->reached : -EIO);
        return;
    }
    job->base = job->reached & ~(job->disk->folder->alignment - 1);
    job_submit(job);
}

static void open_ended(struct job *job, int result)
{
    struct op *op = job->op;
    if ((op->flags & OP_OPEN_CREATE) != 0 && !job->unlinked) {
        if (result < 0 && result != -ENOENT) {
            job_end(job, result);
            return;
        }
        job->unlinked = true;
        job_submit(job);
        return;
    }
    if (result >= 0)
        file_of(job->disk, op->file)->fd = result;
    job_end(job, result < 0 ? result : 0);
}

static void job_ended(struct task *task, int result)
{
    struct job *job = KHO_CONTAINER_OF(task, struct job, task);
    struct op *op = job->op;
    if (job_retry(job, result))
        return;
    if (op->kind == OP_OPEN) {
        open_ended(job, result);
    } else if ((op->kind == OP_READ || op->kind == OP_WRITE) && result >= 0) {
        transfer_ended(job, (uint32_t)result);
    } else if (op->kind == OP_ALLOCATE && result == -EOPNOTSUPP &&
               (op->flags & OP_ALLOCATE_ZEROS) == 0) {
        /* No fallocate here: the zeros that the core writes ahead of need allocate as well. */
        int fd = file_of(job->disk, op->file)->fd;
        job_end(job, ftruncate(fd, (off_t)op->len) == 0 ? 0 : -errno);
    } else {
        job_end(job, result < 0 ? result : 0);
    }
}

/* --- The door --------------------------------------------------------------------------------- */

static void space_look(struct disk *disk, struct op *op)
{
    struct statvfs fs;
    int result = 0;
    if (fstatvfs(disk->folder->fd, &fs) != 0)
        result = -errno;
    else
        op->offset = (uint64_t)fs.f_bavail * fs.f_frsize;
    op_end(disk, op, result);
}

static void close_start(struct disk *disk, struct op *op)
{
    struct file *file = file_of(disk, op->file);
    KHO_ASSERT(file->closing == NULL);
    file->closing = op;
    if (file->jobs == 0)
        file_close(disk, file);
}

void disk_start(struct disk *disk, struct op *op, struct kho_now now)
{
    disk->now = now;
    if (op->kind == OP_SPACE) {
        space_look(disk, op);
        return;
    }
    if (op->kind == OP_CLOSE_FILE) {
        close_start(disk, op);
        return;
    }
    if (op->kind == OP_OPEN) {
        if (!file_room(disk, op->file)) {
            op_end(disk, op, -ENOMEM);
            return;
        }
        KHO_ASSERT(file_of(disk, op->file)->fd < 0);
    }
    struct job *job = job_take(disk, op);
    if (job == NULL) {
        op_end(disk, op, -ENOMEM);
        return;
    }
    if (op->kind == OP_OPEN || op->kind == OP_UNLINK || op->kind == OP_RENAME) {
        folder_file_name(&op->name, job->name);
        if (op->kind == OP_RENAME)
            folder_file_name(&op->target, job->target);
    }
    job_submit(job);
}

uint64_t disk_deadline(const struct disk *disk)
{
    uint64_t first = UINT64_MAX;
    QUEUE_FOREACH (link, &disk->waiting)
        first = kho_min(first, KHO_CONTAINER_OF(link, struct job, link)->retry_ns);
    return first;
}

void disk_tick(struct disk *disk, struct kho_now now)
{
    disk->now = now;
    QUEUE_FOREACH_SAFE (link, &disk->waiting) {
        struct job *job = KHO_CONTAINER_OF(link, struct job, link);
        if (job->retry_ns > now.mono_ns)
            continue;
        queue_remove(&job->link);
        job_submit(job);
    }
}
