/* uring.c: the only file that knows liburing: makes the ring and fills its requests.
 *
 * The ring is asked for with everything that suits one thread which submits and reaps once a turn
 * (SINGLE_ISSUER, DEFER_TASKRUN: 6.1; COOP_TASKRUN, TASKRUN_FLAG: 5.19) and then with less, as long
 * as the kernel says EINVAL. It takes a short list of operations only. A full submission queue is
 * submitted early; the completion queue is sized for all that may be under way, so that it doesn't
 * overflow.
 *
 * Where the kernel refuses rings the cause is named with its remedy: the sysctl
 * kernel.io_uring_disabled, a seccomp filter (containers), a kernel without io_uring. A ring that
 * fails later (uring_wait) can't be mended: the node leaves, as in a crash, and recovery does the
 * rest. */
#include "uring.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <poll.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct uring {
    struct io_uring ring;
    char mode[96];
    struct io_area areas[IO_AREAS_MAX]; /* that are registered, by rising address */
    uint32_t area_count;
    uint64_t watch_ns; /* how long uring_wait() looks before it sleeps; 0: not at all */
    uint32_t trust;    /* that watching pays, up to TRUST_MAX */
};

enum { SUBMISSIONS = 1024, COMPLETIONS_MAX = 65536, TRUST_MAX = 8, TRUST_MIN = 4 };

/* --- Making it -------------------------------------------------------------------------------- */

/* kernel.io_uring_disabled: 0 to 2, or -1 where the kernel has no such switch (before 6.6). */
static int sysctl_disabled(void)
{
    FILE *file = fopen("/proc/sys/kernel/io_uring_disabled", "re");
    if (file == NULL)
        return -1;
    int digit = fgetc(file);
    fclose(file);
    return digit >= '0' && digit <= '9' ? digit - '0' : -1;
}

static bool refusal_explain(int code, char *error)
{
    int disabled = sysctl_disabled();
    if (code == -ENOSYS) {
        snprintf(
            error, URING_ERROR_MAX,
            "this kernel has no io_uring, or a seccomp filter hides it: Linux 5.15 or newer is "
            "needed, in a container with io_uring_setup, io_uring_enter and "
            "io_uring_register allowed");
    } else if (code == -EPERM && disabled > 0) {
        snprintf(error, URING_ERROR_MAX,
                 "io_uring is switched off (kernel.io_uring_disabled = %d): %s", disabled,
                 disabled == 1
                     ? "put kho-node's user into the group of kernel.io_uring_group, or set the "
                       "sysctl to 0"
                     : "set it to 0 with sysctl -w kernel.io_uring_disabled=0");
    } else if (code == -EPERM || code == -EACCES) {
        snprintf(error, URING_ERROR_MAX,
                 "io_uring is refused (%s) though the sysctl allows it: a seccomp or security "
                 "policy filters it, as containers do by default; allow io_uring_setup, "
                 "io_uring_enter and io_uring_register",
                 strerror(-code));
    } else {
        snprintf(error, URING_ERROR_MAX, "io_uring can't be set up: %s%s", strerror(-code),
                 code == -ENOMEM ? "; on kernels before 5.12 raise RLIMIT_MEMLOCK" : "");
        return false;
    }
    return true;
}

/* liburing 2.3 declares the two calls below, but its shared library lacks them. */
static int ring_register(const struct io_uring *ring, unsigned what, const void *list, size_t count)
{
    long code = syscall(SYS_io_uring_register, ring->ring_fd, what, list, (unsigned)count);
    return code < 0 ? -errno : 0;
}

/* From now on the ring carries out what is listed here and registers nothing but buffers, whoever
 * comes to fill its queue. It was made disabled for that, and is enabled by the thread that uses
 * it. */
static int ring_enable(struct io_uring *ring)
{
    static const uint8_t operations[] = {
        IORING_OP_OPENAT,     IORING_OP_UNLINKAT, IORING_OP_RENAMEAT, IORING_OP_FSYNC,
        IORING_OP_FALLOCATE,  IORING_OP_READ,     IORING_OP_WRITE,    IORING_OP_ACCEPT,
        IORING_OP_RECV,       IORING_OP_SEND,     IORING_OP_POLL_ADD, IORING_OP_READ_FIXED,
        IORING_OP_WRITE_FIXED};
    /* The latter is what io_uring_queue_exit() asks for. */
    static const uint8_t registrations[] = {IORING_REGISTER_BUFFERS, IORING_UNREGISTER_RING_FDS};
    struct io_uring_restriction list[KHO_COUNT_OF(operations) + KHO_COUNT_OF(registrations)];
    memset(list, 0, sizeof list);
    for (size_t i = 0; i < KHO_COUNT_OF(operations); i++) {
        list[i].opcode = IORING_RESTRICTION_SQE_OP;
        list[i].sqe_op = operations[i];
    }
    for (size_t i = 0; i < KHO_COUNT_OF(registrations); i++)
        list[KHO_COUNT_OF(operations) + i] = (struct io_uring_restriction){
            .opcode = IORING_RESTRICTION_REGISTER_OP, .register_op = registrations[i]};
    int code = ring_register(ring, IORING_REGISTER_RESTRICTIONS, list, KHO_COUNT_OF(list));
    return code == 0 ? ring_register(ring, IORING_REGISTER_ENABLE_RINGS, NULL, 0) : code;
}

struct uring *uring_create(uint32_t tasks_max, char *error, bool *ret_refused)
{
    static const struct {
        unsigned flags;
        const char *text;
    } attempts[] = {
        {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_COOP_TASKRUN |
             IORING_SETUP_TASKRUN_FLAG,
         "single issuer, deferred task work"},
        {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
         "single issuer, cooperative task work"},
        {IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, "cooperative task work"},
        {0, "plain"},
    };
    struct uring *uring = calloc(1, sizeof *uring);
    int code = uring == NULL ? -ENOMEM : -EINVAL;
    for (size_t i = 0; code == -EINVAL && i < KHO_COUNT_OF(attempts); i++) {
        struct io_uring_params params;
        memset(&params, 0, sizeof params);
        params.flags =
            attempts[i].flags | IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP | IORING_SETUP_R_DISABLED;
        params.cq_entries = (unsigned)kho_min(tasks_max, COMPLETIONS_MAX);
        code = io_uring_queue_init_params(SUBMISSIONS, &uring->ring, &params);
        if (code != 0)
            continue;
        snprintf(uring->mode, sizeof uring->mode, "%s, %u/%u entries", attempts[i].text,
                 params.sq_entries, params.cq_entries);
        /* The process has several threads, so each look-up of the ring's descriptor would cost
         * atomic operations; where the kernel can't keep it (before 5.18), it goes without. */
        io_uring_register_ring_fd(&uring->ring);
        /* Older than 5.11: no wait with a timeout. */
        bool old = (params.features & IORING_FEAT_EXT_ARG) == 0 ||
                   (params.features & IORING_FEAT_NODROP) == 0;
        code = old ? -ENOSYS : ring_enable(&uring->ring);
        if (code == 0)
            return uring;
        io_uring_queue_exit(&uring->ring);
    }
    *ret_refused = refusal_explain(code, error);
    free(uring);
    return NULL;
}

void uring_destroy(struct uring *uring)
{
    if (uring == NULL)
        return;
    io_uring_queue_exit(&uring->ring);
    free(uring);
}

const char *uring_mode(const struct uring *uring)
{
    return uring->mode;
}

/* --- Areas ------------------------------------------------------------------------------------ */

static int area_order(const void *a, const void *b)
{
    const struct io_area *left = a, *right = b;
    uintptr_t l = (uintptr_t)left->memory, r = (uintptr_t)right->memory;
    return (l > r) - (l < r);
}

int uring_register(struct uring *uring, struct io_area *areas, uint32_t count)
{
    struct iovec vectors[IO_AREAS_MAX];
    KHO_ASSERT(uring->area_count == 0 && count <= IO_AREAS_MAX);
    qsort(areas, count, sizeof *areas, area_order);
    for (uint32_t i = 0; i < count; i++)
        vectors[i] = (struct iovec){.iov_base = areas[i].memory, .iov_len = areas[i].bytes};
    int code = io_uring_register_buffers(&uring->ring, vectors, count);
    if (code < 0)
        return code;
    memcpy(uring->areas, areas, count * sizeof *areas);
    uring->area_count = count;
    return 0;
}

/* The number of the area that the bytes lie in, or -1. */
static int area_of(const struct uring *uring, const uint8_t *bytes, uint32_t len)
{
    uint32_t low = 0, high = uring->area_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if ((uintptr_t)uring->areas[middle].memory <= (uintptr_t)bytes)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return -1;
    const struct io_area *area = &uring->areas[low - 1];
    size_t at = (size_t)((uintptr_t)bytes - (uintptr_t)area->memory);
    return at < area->bytes && len <= area->bytes - at ? (int)low - 1 : -1;
}

/* --- Turning it ------------------------------------------------------------------------------- */

void uring_watch(struct uring *uring, uint64_t watch_ns)
{
    uring->watch_ns = watch_ns;
}

static uint64_t mono_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Something has ended, or its end only waits for an entry into the kernel. */
static bool ended_some(const struct uring *uring)
{
    const struct io_uring *ring = &uring->ring;
    return io_uring_cq_ready(ring) > 0 ||
           (IO_URING_READ_ONCE(*ring->sq.kflags) & IORING_SQ_TASKRUN) != 0;
}

/* A wait that could have been watched to its end speaks for watching the next, another against. */
static void watch_learn(struct uring *uring, bool soon)
{
    if (soon)
        uring->trust = (uint32_t)kho_min(uring->trust + 1, TRUST_MAX);
    else if (uring->trust > 0)
        uring->trust--;
}

/* Submits, and looks for what ends soon without sleeping: waking a core that sleeps takes longer
 * than much of what is waited for. Whoever else can use the core gets it at each look. False:
 * nothing has ended, or it isn't worth a try. */
static bool watch(struct uring *uring, uint64_t timeout_ns, int *ret_code)
{
    if (uring->watch_ns == 0 || uring->trust < TRUST_MIN)
        return false;
    *ret_code = io_uring_submit(&uring->ring);
    if (*ret_code < 0)
        return true;
    uint64_t end = mono_ns() + kho_min(timeout_ns, uring->watch_ns);
    bool soon = ended_some(uring);
    while (!soon && mono_ns() < end) {
        sched_yield();
        soon = ended_some(uring);
    }
    watch_learn(uring, soon);
    if (soon)
        *ret_code = io_uring_get_events(&uring->ring);
    return soon;
}

static int sleep_until_ended(struct uring *uring, uint64_t timeout_ns)
{
    struct io_uring_cqe *cqe;
    struct __kernel_timespec timeout = {.tv_sec = (long long)(timeout_ns / 1000000000u),
                                        .tv_nsec = (long long)(timeout_ns % 1000000000u)};
    bool learning = uring->watch_ns > 0 && uring->trust < TRUST_MIN;
    uint64_t begun = learning ? mono_ns() : 0;
    int code = io_uring_submit_and_wait_timeout(&uring->ring, &cqe, 1,
                                                timeout_ns == UINT64_MAX ? NULL : &timeout, NULL);
    if (learning)
        watch_learn(uring, mono_ns() - begun < uring->watch_ns);
    return code;
}

int uring_wait(struct uring *uring, uint64_t timeout_ns)
{
    int code;
    if (timeout_ns == 0) {
        /* Deferred task work runs only on entering the kernel with GETEVENTS. */
        code = io_uring_submit_and_get_events(&uring->ring);
    } else if (!watch(uring, timeout_ns, &code)) {
        code = sleep_until_ended(uring, timeout_ns);
    }
    /* EAGAIN and EBUSY: the kernel lacks memory or room right now; what wasn't taken is still in
     * the queue and goes with the next turn. */
    if (code >= 0 || code == -ETIME || code == -EINTR || code == -EAGAIN || code == -EBUSY)
        return 0;
    return code;
}

uint32_t uring_reap(struct uring *uring)
{
    struct io_uring_cqe *cqe;
    uint32_t count = 0;
    /* Only what is there now: tasks started by `ended` are not submitted before the next wait, and
     * looking into an empty queue may enter the kernel once more. */
    while (io_uring_cq_ready(&uring->ring) > 0 && io_uring_peek_cqe(&uring->ring, &cqe) == 0) {
        struct task *task = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        io_uring_cqe_seen(&uring->ring, cqe);
        KHO_ASSERT(task != NULL);
        task->ended(task, result);
        count++;
    }
    return count;
}

/* --- Requests --------------------------------------------------------------------------------- */

static struct io_uring_sqe *request(struct uring *uring)
{
    struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
    /* A full queue empties by submitting; the kernel takes all of it unless memory is short. */
    for (int tries = 0; sqe == NULL && tries < 1000; tries++) {
        io_uring_submit(&uring->ring);
        sqe = io_uring_get_sqe(&uring->ring);
    }
    KHO_ASSERT(sqe != NULL);
    return sqe;
}

void uring_open(struct uring *uring, struct task *task, int folder_fd, const char *name, int flags)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_openat(sqe, folder_fd, name, flags, 0600);
    io_uring_sqe_set_data(sqe, task);
}

void uring_unlink(struct uring *uring, struct task *task, int folder_fd, const char *name)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_unlinkat(sqe, folder_fd, name, 0);
    io_uring_sqe_set_data(sqe, task);
}

void uring_rename(struct uring *uring, struct task *task, int folder_fd, const char *from,
                  const char *to)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_renameat(sqe, folder_fd, from, folder_fd, to, 0);
    io_uring_sqe_set_data(sqe, task);
}

void uring_sync(struct uring *uring, struct task *task, int fd)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_fsync(sqe, fd, 0);
    io_uring_sqe_set_data(sqe, task);
}

void uring_allocate(struct uring *uring, struct task *task, int fd, uint64_t len, bool zeros)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_fallocate(sqe, fd, zeros ? FALLOC_FL_ZERO_RANGE : 0, 0, (off_t)len);
    io_uring_sqe_set_data(sqe, task);
}

void uring_read(struct uring *uring, struct task *task, int fd, uint8_t *to, uint32_t len,
                uint64_t offset)
{
    struct io_uring_sqe *sqe = request(uring);
    int area = area_of(uring, to, len);
    if (area >= 0)
        io_uring_prep_read_fixed(sqe, fd, to, len, offset, area);
    else
        io_uring_prep_read(sqe, fd, to, len, offset);
    io_uring_sqe_set_data(sqe, task);
}

void uring_write(struct uring *uring, struct task *task, int fd, const uint8_t *from, uint32_t len,
                 uint64_t offset, bool durable)
{
    struct io_uring_sqe *sqe = request(uring);
    int area = area_of(uring, from, len);
    if (area >= 0)
        io_uring_prep_write_fixed(sqe, fd, from, len, offset, area);
    else
        io_uring_prep_write(sqe, fd, from, len, offset);
    sqe->rw_flags = durable ? RWF_DSYNC : 0;
    io_uring_sqe_set_data(sqe, task);
}

void uring_accept(struct uring *uring, struct task *task, int fd)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_accept(sqe, fd, NULL, NULL, SOCK_CLOEXEC);
    io_uring_sqe_set_data(sqe, task);
}

void uring_receive(struct uring *uring, struct task *task, int fd, uint8_t *to, uint32_t len)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_recv(sqe, fd, to, len, 0);
    io_uring_sqe_set_data(sqe, task);
}

void uring_send(struct uring *uring, struct task *task, int fd, const uint8_t *from, uint32_t len)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_send(sqe, fd, from, len, MSG_NOSIGNAL | MSG_WAITALL);
    io_uring_sqe_set_data(sqe, task);
}

void uring_readable(struct uring *uring, struct task *task, int fd)
{
    struct io_uring_sqe *sqe = request(uring);
    io_uring_prep_poll_add(sqe, fd, POLLIN);
    io_uring_sqe_set_data(sqe, task);
}
