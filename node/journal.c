/* journal.c: log lines on standard error, and notifications to systemd.
 *
 * A line is time, level and text: "2026-01-31T08:15:00.123Z info serving on …". Colours only on a
 * terminal (and not with NO_COLOR). Where standard error is the journal's own stream
 * (JOURNAL_STREAM names its device and inode) the line is "<6>text" instead: the journal keeps the
 * time itself and reads the priority from the prefix (sd-daemon(3)).
 *
 * A line that can't be written is lost: there is nowhere to say so, and a node must not stop for
 * it. */
#include "journal.h"

#include <stdarg.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 1000 };

enum style { STYLE_PLAIN, STYLE_COLOR, STYLE_JOURNAL };

static struct {
    enum event_level level;
    enum style style;
} journal = {.level = EVENT_INFO, .style = STYLE_PLAIN};

static bool stream_is_journal(void)
{
    const char *stream = getenv("JOURNAL_STREAM");
    struct stat st;
    char own[64];
    if (stream == NULL || fstat(STDERR_FILENO, &st) != 0)
        return false;
    snprintf(own, sizeof own, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    return strcmp(stream, own) == 0;
}

void journal_open(enum event_level level)
{
    const char *no_color = getenv("NO_COLOR");
    journal.level = level;
    if (stream_is_journal())
        journal.style = STYLE_JOURNAL;
    else if (isatty(STDERR_FILENO) && (no_color == NULL || no_color[0] == '\0'))
        journal.style = STYLE_COLOR;
}

static size_t line_prefix(enum event_level level, char *to, size_t size)
{
    static const char *const names[] = {
        [EVENT_INFO] = "info", [EVENT_WARNING] = "warning", [EVENT_ERROR] = "error"};
    static const char *const colored[] = {[EVENT_INFO] = "info",
                                          [EVENT_WARNING] = "\033[33mwarning\033[0m",
                                          [EVENT_ERROR] = "\033[31merror\033[0m"};
    static const int priorities[] = {[EVENT_INFO] = 6, [EVENT_WARNING] = 4, [EVENT_ERROR] = 3};
    if (journal.style == STYLE_JOURNAL)
        return (size_t)snprintf(to, size, "<%d>", priorities[level]);
    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    size_t len = strftime(to, size, "%Y-%m-%dT%H:%M:%S", &utc);
    return len + (size_t)snprintf(to + len, size - len, ".%03dZ %s ", (int)(now.tv_nsec / 1000000),
                                  (journal.style == STYLE_COLOR ? colored : names)[level]);
}

void journal_write(enum event_level level, const char *format, ...)
{
    KHO_ASSERT(level >= EVENT_INFO && level <= EVENT_ERROR);
    if (level < journal.level)
        return;
    char line[LINE_MAX_BYTES + 2];
    size_t start = line_prefix(level, line, sizeof line);
    va_list arguments;
    va_start(arguments, format);
    int text = vsnprintf(line + start, LINE_MAX_BYTES - start, format, arguments);
    va_end(arguments);
    if (text < 0)
        return;
    size_t len = kho_min(start + (size_t)text, LINE_MAX_BYTES - 1);
    /* A name from the network or the disk must not be able to begin a line of its own. */
    for (size_t i = start; i < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    line[len++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, len);
    (void)written;
}

void journal_notify(const char *state)
{
    const char *path = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path == NULL || (path[0] != '/' && path[0] != '@') ||
        strlen(path) >= sizeof address.sun_path)
        return;
    size_t len = strlen(path);
    memcpy(address.sun_path, path, len);
    if (path[0] == '@')
        address.sun_path[0] = '\0'; /* the abstract name space */
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return;
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len);
    if (sendto(fd, state, strlen(state), MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
               size) < 0)
        journal_write(EVENT_WARNING, "NOTIFY_SOCKET %s: the service manager can't be told", path);
    close(fd);
}
