/* Are kho-node's flags and its configuration file, whatever is written in them, read to options in
 * their ranges or refused with a sentence? Input: the words of the command line, a line each, then
 * after a line "%" the file. */
#include "fuzz.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "node/options.h"

enum { WORDS_MAX = 24 };

static volatile uint64_t g_sink;

/* A file in memory that keeps its name; made once. */
static const char *config_path(const uint8_t *bytes, size_t len)
{
    static char path[64];
    static int fd = -1;
    if (fd < 0) {
        fd = memfd_create("config", MFD_CLOEXEC);
        KHO_ASSERT(fd >= 0);
        snprintf(path, sizeof path, "--config=/proc/self/fd/%d", fd);
    }
    KHO_ASSERT(ftruncate(fd, 0) == 0);
    KHO_ASSERT(len == 0 || pwrite(fd, bytes, len, 0) == (ssize_t)len);
    return path;
}

static void options_look(const struct options *options)
{
    char text[32], error[OPTIONS_ERROR_MAX] = "";
    uint64_t bytes;
    if (options->help)
        return;
    KHO_ASSERT(options->data[0] != '\0');
    KHO_ASSERT(memchr(options->data, 0, sizeof options->data) != NULL);
    options_size_text(options->memory_bytes, text, sizeof text);
    KHO_ASSERT(options_size(text, &bytes) && bytes == options->memory_bytes);
    KHO_ASSERT(options->shards <= 1024);
    for (uint32_t shards = 1; shards <= 8; shards++)
        if (options_shards_check(options, shards, error) == 0)
            g_sink += options_shard_memory(options, shards);
        else
            KHO_ASSERT(error[0] != '\0' && memchr(error, 0, sizeof error) != NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len)
{
    char *argv[WORDS_MAX + 3] = {NULL}, error[OPTIONS_ERROR_MAX];
    static struct options options;
    char *text = malloc(len + 1), *at = text;
    int argc = 1;
    KHO_ASSERT(text != NULL);
    memcpy(text, bytes, len);
    text[len] = '\0';
    argv[0] = (char[]){"run"};
    const char *file = NULL;
    while (at != NULL && file == NULL && argc <= WORDS_MAX) {
        char *end = strchr(at, '\n');
        if (end != NULL)
            *end = '\0';
        if (strcmp(at, "%") == 0)
            file = end != NULL ? end + 1 : at + 1;
        else if (at[0] != '\0')
            argv[argc++] = at;
        at = end != NULL ? end + 1 : NULL;
    }
    char path[64];
    if (file != NULL) {
        snprintf(path, sizeof path, "%s",
                 config_path((const uint8_t *)file, len - (size_t)(file - text)));
        argv[argc++] = path;
    }
    argv[argc] = NULL;
    for (int init = 0; init < 2; init++) {
        int status = init ? options_read_init(argc, argv, &options, error)
                          : options_read_run(argc, argv, &options, error);
        KHO_ASSERT(memchr(error, 0, sizeof error) != NULL);
        KHO_ASSERT((status == 0) == (error[0] == '\0'));
        if (status == 0 && !init)
            options_look(&options);
    }
    free(text);
    return 0;
}

size_t fuzz_seed(unsigned n, uint8_t *to, size_t max)
{
    static const char *const seeds[] = {
        "d\n--memory\n1G\n--shards=2\n--listen\n[::1]:7700\n--insecure\n--log-level=warning\n",
        "--data=x\n%\n[node]\nmemory = 512M\nlisten = 127.0.0.1:0\ninsecure = yes\nshards = 2\n",
        "d\n%\n# a comment\nconnections = 12 ; another\nscrub-days = 0\nwatch-us=0\ncommits: 3\n",
        "d\n--segment-size=64M\n--json\n",
        "--reserve=1T\n--compact-rate\n64KiB\n--idle-mark-ms=7\n--commits=2\nd\n",
        "-h\n",
        "d\n%\n[other]\nx=y\n",
    };
    if (n >= KHO_COUNT_OF(seeds) || strlen(seeds[n]) > max)
        return 0;
    memcpy(to, seeds[n], strlen(seeds[n]));
    return strlen(seeds[n]);
}
