/* clock_shift.c: a library for LD_PRELOAD that moves the wall clock of one program, while it runs.
 *
 * The file that KHO_CLOCK_SHIFT names holds a count of nanoseconds (int64_t, as the machine has it)
 * by which the clocks of CLOCK_REALTIME and its like are moved; a test writes to it at any moment.
 * The monotonic clocks stay. Without the file nothing is moved. */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void shift_map(void)
{
    const char *path = getenv("KHO_CLOCK_SHIFT");
    struct stat stat;
    int fd = path != NULL ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    if (fstat(fd, &stat) == 0 && stat.st_size >= (off_t)sizeof *shift) {
        void *map = mmap(NULL, sizeof *shift, PROT_READ, MAP_SHARED, fd, 0);
        shift = map != MAP_FAILED ? map : NULL;
    }
    close(fd);
}

/* The kernel is asked directly: no look-up of the C library's own function can fail or recurse. */
static int read_clock(clockid_t clock, struct timespec *now)
{
    int rc = (int)syscall(SYS_clock_gettime, clock, now);
    if (rc != 0 || shift == NULL ||
        (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE && clock != CLOCK_TAI))
        return rc;
    int64_t by = *shift;
    now->tv_sec += by / 1000000000;
    now->tv_nsec += by % 1000000000;
    if (now->tv_nsec < 0) {
        now->tv_nsec += 1000000000;
        now->tv_sec--;
    } else if (now->tv_nsec >= 1000000000) {
        now->tv_nsec -= 1000000000;
        now->tv_sec++;
    }
    return 0;
}

__attribute__((visibility("default"))) int clock_gettime(clockid_t clock, struct timespec *now)
{
    return read_clock(clock, now);
}

__attribute__((visibility("default"))) int gettimeofday(struct timeval *restrict now,
                                                        void *restrict zone)
{
    struct timespec exact;
    (void)zone;
    int rc = read_clock(CLOCK_REALTIME, &exact);
    if (rc == 0)
        *now = (struct timeval){.tv_sec = exact.tv_sec, .tv_usec = exact.tv_nsec / 1000};
    return rc;
}

__attribute__((visibility("default"))) time_t time(time_t *ret)
{
    struct timespec exact = {0};
    (void)read_clock(CLOCK_REALTIME, &exact);
    if (ret != NULL)
        *ret = exact.tv_sec;
    return exact.tv_sec;
}
