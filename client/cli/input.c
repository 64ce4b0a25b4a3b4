/* input.c: see input.h. A value is read whole, at most one byte beyond the largest that can be
 * stored, so that too long a file is told by its name. */
#include "input.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "print.h"

enum { VALUE_MAX = 16 << 20, KEY_MAX = 1024 };

static int read_whole(int fd, const char *name, struct input *ret_input)
{
    size_t len = 0, capacity = 1 << 16;
    uint8_t *bytes = must(malloc(capacity));
    for (;;) {
        if (len == capacity)
            bytes = must(realloc(bytes, capacity *= 2));
        ssize_t got = read(fd, bytes + len, capacity - len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0) {
            say("can't read %s: %s", name, strerror(errno));
            free(bytes);
            return EXIT_OTHER;
        }
        if (got == 0)
            break;
        len += (size_t)got;
        if (len > VALUE_MAX) {
            say("%s has more than %d bytes, the most that a value may have", name, VALUE_MAX);
            free(bytes);
            return EXIT_USAGE;
        }
    }
    *ret_input = (struct input){.bytes = bytes, .len = len, .owned = bytes};
    return 0;
}

int input_value(const char *argument, struct input *ret_input)
{
    if (strcmp(argument, "-") == 0)
        return read_whole(STDIN_FILENO, "standard input", ret_input);
    if (argument[0] != '@') {
        *ret_input = (struct input){.bytes = argument, .len = strlen(argument)};
        return 0;
    }
    int fd = open(argument + 1, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        say("can't open the value's file %s: %s (a value that begins with '@' comes through "
            "standard input: '-')",
            argument + 1, strerror(errno));
        return EXIT_USAGE;
    }
    int rc = read_whole(fd, argument + 1, ret_input);
    close(fd);
    return rc;
}

int input_key(const struct args *args, const char *argument, struct input *ret_input)
{
    if (!args_flag(args, "escaped")) {
        *ret_input = (struct input){.bytes = argument, .len = strlen(argument)};
    } else {
        uint8_t *bytes = must(malloc(KEY_MAX));
        int len = key_unescape(argument, bytes, KEY_MAX);
        if (len == -EINVAL) {
            say("'%s': with --escaped a '%%' is followed by two hex digits", argument);
            free(bytes);
            return EXIT_USAGE;
        }
        *ret_input = (struct input){
            .bytes = bytes, .len = len < 0 ? (size_t)KEY_MAX + 1 : (size_t)len, .owned = bytes};
    }
    if (ret_input->len > 0 && ret_input->len <= KEY_MAX)
        return 0;
    say("%s; this one has %s", kho_strerror(KHO_EKEYSIZE), ret_input->len == 0 ? "none" : "more");
    input_fini(ret_input);
    return EXIT_USAGE;
}

void input_fini(struct input *input)
{
    free(input->owned);
    input->owned = NULL;
}
