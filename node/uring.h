/* uring.h: the shard's io_uring, as the rest of the driver sees it: requests that end once each.
 *
 * A request is a task, embedded in its owner. It is filled in now, handed to the kernel by the next
 * uring_wait(), and its `ended` is called with the raw result (a count, 0 or -errno) from
 * uring_reap(), which may start further tasks. Until then the task, its buffer and its names stay
 * where they are. */
#ifndef KHO_NODE_URING_H
#define KHO_NODE_URING_H

#include "op.h"

struct uring;

struct task {
    void (*ended)(struct task *task, int result);
};

enum { URING_ERROR_MAX = 512 };

/* A ring of the calling thread, the only one that may use it; `tasks_max` requests may be under way
 * at once. NULL, with the cause and the remedy in `error`: *ret_refused tells that this machine
 * doesn't allow io_uring at all. */
struct uring *uring_create(uint32_t tasks_max, char *error, bool *ret_refused);
/* Takes NULL. Requests under way are cancelled and waited for by the kernel. */
void uring_destroy(struct uring *uring);
/* How the ring was made, for the log. */
const char *uring_mode(const struct uring *uring);

/* Makes areas known to the kernel, once, so that it doesn't look up and pin their pages for each
 * read and write that lies in one of them. They stay where they are until uring_destroy(); `areas`
 * is sorted. 0; or -errno, and requests go on without: -ENOMEM where they are more than
 * RLIMIT_MEMLOCK allows. */
int uring_register(struct uring *uring, struct io_area *areas, uint32_t count);
/* uring_wait() looks so long for something to end before it sleeps, while that pays; 0, the
 * beginning: it sleeps at once. */
void uring_watch(struct uring *uring, uint64_t watch_ns);
/* Submits what was filled in and waits until something ends, a signal comes or `timeout_ns` have
 * passed; 0: doesn't wait, UINT64_MAX: as long as it takes. 0 or -errno: the ring is broken. */
int uring_wait(struct uring *uring, uint64_t timeout_ns);
/* Calls `ended` of all that has ended; returns how many. */
uint32_t uring_reap(struct uring *uring);

void uring_open(struct uring *uring, struct task *task, int folder_fd, const char *name, int flags);
void uring_unlink(struct uring *uring, struct task *task, int folder_fd, const char *name);
void uring_rename(struct uring *uring, struct task *task, int folder_fd, const char *from,
                  const char *to);
void uring_sync(struct uring *uring, struct task *task, int fd);
void uring_allocate(struct uring *uring, struct task *task, int fd, uint64_t len, bool zeros);
void uring_read(struct uring *uring, struct task *task, int fd, uint8_t *to, uint32_t len,
                uint64_t offset);
/* `durable`: done when the bytes are stable (RWF_DSYNC). */
void uring_write(struct uring *uring, struct task *task, int fd, const uint8_t *from, uint32_t len,
                 uint64_t offset, bool durable);
void uring_accept(struct uring *uring, struct task *task, int fd);
void uring_receive(struct uring *uring, struct task *task, int fd, uint8_t *to, uint32_t len);
void uring_send(struct uring *uring, struct task *task, int fd, const uint8_t *from, uint32_t len);
/* Ends when `fd` is readable, or has an error: with poll(2)'s events. */
void uring_readable(struct uring *uring, struct task *task, int fd);

#endif
