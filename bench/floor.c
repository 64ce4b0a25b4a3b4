/* floor.c: bare reads and writes on a ring of its own.
 *
 * A plan keeps `depth` requests in flight, each with a buffer of its own; what ends is submitted
 * anew at once. Registered buffers count against RLIMIT_MEMLOCK on some kernels: where they are
 * refused, plain ones are used. Any request that fails or is short ends the plan. */
#include "floor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <kho/base.h>

#include "clock.h"
#include "histogram.h"

enum { FILES_MAX = 1024, DEPTH_MAX = 256, MIB = 1 << 20 };

struct floor {
    int fds[FILES_MAX];
    uint64_t sizes[FILES_MAX]; /* whole units of FLOOR_ALIGNMENT */
    uint32_t count;
    struct histogram latency;
};

struct request {
    uint8_t *buffer;
    uint64_t began_ns;
};

struct run {
    struct floor *floor;
    const struct floor_plan *plan;
    struct io_uring ring;
    struct kho_random random;
    struct request requests[DEPTH_MAX];
    uint8_t *memory;
    bool registered;
    uint32_t file; /* the next sequential request's place */
    uint64_t offset;
    bool ended; /* the last file's end was reached */
};

static int complain(const char *what, int error)
{
    fprintf(stderr, "kho-bench: %s: %s\n", what, strerror(error));
    return -1;
}

/* --- Files ------------------------------------------------------------------------------------ */

static int file_fill(int fd, uint64_t bytes, uint64_t seed)
{
    uint8_t *memory = aligned_alloc(FLOOR_ALIGNMENT, MIB);
    struct kho_random random;
    int error = memory == NULL ? ENOMEM : 0;
    kho_random_init(&random, seed);
    for (size_t i = 0; error == 0 && i < MIB; i += sizeof(uint64_t))
        kho_store64(memory + i, kho_random_next(&random));
    for (uint64_t at = 0; error == 0 && at < bytes; at += MIB) {
        kho_store64(memory, at);
        ssize_t n = pwrite(fd, memory, MIB, (off_t)at);
        error = n == MIB ? 0 : n < 0 ? errno : EIO;
    }
    if (error == 0 && fsync(fd) != 0)
        error = errno;
    free(memory);
    return error;
}

static int make(const char *path, uint64_t bytes, bool filled, struct floor **ret_floor)
{
    struct floor *floor = calloc(1, sizeof *floor);
    if (floor == NULL)
        return complain(path, ENOMEM);
    bytes -= bytes % MIB;
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_DIRECT | O_CLOEXEC, 0600);
    int error = fd < 0 ? errno : posix_fallocate(fd, 0, (off_t)bytes);
    floor->fds[0] = fd;
    floor->sizes[0] = bytes;
    floor->count = 1;
    if (error == 0 && filled)
        error = file_fill(fd, bytes, 1);
    else if (error == 0 && fsync(fd) != 0)
        error = errno;
    if (error != 0) {
        floor_close(floor);
        return complain(path, error);
    }
    *ret_floor = floor;
    return 0;
}

int floor_make(const char *path, uint64_t bytes, struct floor **ret_floor)
{
    return make(path, bytes, true, ret_floor);
}

int floor_make_new(const char *path, uint64_t bytes, struct floor **ret_floor)
{
    return make(path, bytes, false, ret_floor);
}

static int file_add(struct floor *floor, int folder_fd, const char *name)
{
    struct stat st;
    int fd = openat(folder_fd, name, O_RDONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        return errno;
    floor->fds[floor->count] = fd;
    if (fstat(fd, &st) != 0) {
        close(fd);
        return errno;
    }
    floor->sizes[floor->count++] = (uint64_t)st.st_size & ~(uint64_t)(FLOOR_ALIGNMENT - 1);
    return 0;
}

int floor_open(const char *folder, const char *prefix, struct floor **ret_floor)
{
    struct dirent *entry;
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return complain(folder, errno);
    struct floor *floor = calloc(1, sizeof *floor);
    int error = floor == NULL ? ENOMEM : 0;
    while (error == 0 && floor->count < FILES_MAX && (entry = readdir(dir)) != NULL)
        if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            strchr(entry->d_name, '.') == NULL)
            error = file_add(floor, dirfd(dir), entry->d_name);
    if (error == 0 && floor->count == 0)
        error = ENOENT;
    closedir(dir);
    if (error != 0) {
        floor_close(floor);
        return complain(folder, error);
    }
    *ret_floor = floor;
    return 0;
}

void floor_close(struct floor *floor)
{
    for (uint32_t i = 0; floor != NULL && i < floor->count; i++)
        if (floor->fds[i] >= 0)
            close(floor->fds[i]);
    free(floor);
}

/* --- A plan ----------------------------------------------------------------------------------- */

static int run_init(struct run *run)
{
    const struct floor_plan *plan = run->plan;
    struct iovec iovecs[DEPTH_MAX];
    struct io_uring_params params = {.flags =
                                         IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN};
    kho_random_init(&run->random, plan->seed);
    int error = -io_uring_queue_init_params(DEPTH_MAX, &run->ring, &params);
    if (error == EINVAL) {
        params = (struct io_uring_params){0};
        error = -io_uring_queue_init_params(DEPTH_MAX, &run->ring, &params);
    }
    if (error != 0)
        return error;
    run->memory = aligned_alloc(FLOOR_ALIGNMENT, (size_t)plan->depth * plan->bytes);
    if (run->memory == NULL)
        error = ENOMEM;
    for (uint32_t i = 0; error == 0 && i < plan->depth; i++) {
        uint8_t *buffer = run->memory + (size_t)i * plan->bytes;
        run->requests[i].buffer = buffer;
        iovecs[i] = (struct iovec){.iov_base = buffer, .iov_len = plan->bytes};
        for (size_t k = 0; k < plan->bytes; k += sizeof(uint64_t))
            kho_store64(buffer + k, kho_random_next(&run->random));
    }
    if (error == 0) {
        run->registered = io_uring_register_buffers(&run->ring, iovecs, plan->depth) == 0;
        error = -io_uring_register_files(&run->ring, run->floor->fds, run->floor->count);
    }
    if (error != 0) {
        io_uring_queue_exit(&run->ring);
        free(run->memory);
    }
    return error;
}

/* Where the next request goes; files shorter than it were refused. */
static uint32_t place_choose(struct run *run, uint64_t *ret_offset)
{
    const struct floor *floor = run->floor;
    uint32_t bytes = run->plan->bytes;
    if (run->plan->random) {
        uint32_t file = (uint32_t)kho_random_below(&run->random, floor->count);
        uint64_t places = (floor->sizes[file] - bytes) / FLOOR_ALIGNMENT + 1;
        *ret_offset = kho_random_below(&run->random, places) * FLOOR_ALIGNMENT;
        return file;
    }
    if (run->offset + bytes > floor->sizes[run->file]) {
        run->file = (run->file + 1) % floor->count;
        run->offset = 0;
        run->ended = run->plan->once && run->file == 0;
    }
    *ret_offset = run->offset;
    run->offset += bytes;
    return run->file;
}

/* False: there is no more to be done. */
static bool request_begin(struct run *run, struct request *request)
{
    uint32_t bytes = run->plan->bytes;
    int index = (int)(request - run->requests);
    uint64_t offset;
    int file = (int)place_choose(run, &offset);
    if (run->ended)
        return false;
    struct io_uring_sqe *sqe = io_uring_get_sqe(&run->ring);
    KHO_ASSERT(sqe != NULL);
    if (run->plan->write && run->registered)
        io_uring_prep_write_fixed(sqe, file, request->buffer, bytes, offset, index);
    else if (run->plan->write)
        io_uring_prep_write(sqe, file, request->buffer, bytes, offset);
    else if (run->registered)
        io_uring_prep_read_fixed(sqe, file, request->buffer, bytes, offset, index);
    else
        io_uring_prep_read(sqe, file, request->buffer, bytes, offset);
    if (run->plan->write)
        sqe->rw_flags = RWF_DSYNC;
    io_uring_sqe_set_flags(sqe, IOSQE_FIXED_FILE);
    io_uring_sqe_set_data(sqe, request);
    request->began_ns = clock_ns();
    return true;
}

/* Takes all that has ended; those go on while the clock is before `end_ns`. 0 or an errno. */
static int run_reap(struct run *run, uint64_t end_ns, uint32_t *in_flight)
{
    struct io_uring_cqe *cqe;
    while (io_uring_peek_cqe(&run->ring, &cqe) == 0) {
        struct request *request = io_uring_cqe_get_data(cqe);
        int result = cqe->res;
        uint64_t now_ns = clock_ns();
        io_uring_cqe_seen(&run->ring, cqe);
        (*in_flight)--;
        if (result != (int)run->plan->bytes)
            return result < 0 ? -result : EIO;
        histogram_add(&run->floor->latency, now_ns - request->began_ns, 1);
        if (now_ns < end_ns && !run->ended && request_begin(run, request))
            (*in_flight)++;
    }
    return 0;
}

int floor_run(struct floor *floor, const struct floor_plan *plan, struct floor_figures *ret_figures)
{
    struct run run = {.floor = floor, .plan = plan};
    uint32_t in_flight = 0;
    KHO_ASSERT(plan->depth >= 1 && plan->depth <= DEPTH_MAX);
    for (uint32_t i = 0; i < floor->count; i++)
        if (floor->sizes[i] < plan->bytes)
            return complain("a file is shorter than the floor's request", EINVAL);
    int error = run_init(&run);
    if (error != 0)
        return complain("the floor's ring", error);
    histogram_clear(&floor->latency);
    uint64_t began_ns = clock_ns(), end_ns = began_ns + (uint64_t)(plan->seconds * 1e9);
    while (in_flight < plan->depth && request_begin(&run, &run.requests[in_flight]))
        in_flight++;
    while (error == 0 && in_flight > 0) {
        int submitted = io_uring_submit_and_wait(&run.ring, 1);
        error =
            submitted < 0 && submitted != -EINTR ? -submitted : run_reap(&run, end_ns, &in_flight);
    }
    *ret_figures = (struct floor_figures){.requests = floor->latency.count,
                                          .seconds = (double)(clock_ns() - began_ns) / 1e9,
                                          .p50_ns = histogram_percentile(&floor->latency, 50)};
    /* The ring's end waits for what an error has left under way; then the buffers may go. */
    io_uring_queue_exit(&run.ring);
    free(run.memory);
    return error == 0 ? 0 : complain("the floor's request", error);
}
