/* frames.c: addresses from backtrace(3), names from addr2line. */
#include "frames.h"

#include <execinfo.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { FRAMES_MAX = 24 };

void frames_print(void)
{
    void *frames[FRAMES_MAX];
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES_MAX), STDERR_FILENO);
}

/* "…/kho-sim(+0x1234)[0x…]" of the program of this name: the address behind the +; NULL: another
 * line. */
static const char *own_address(const char *line, const char *name)
{
    const char *end = line + strcspn(line, "\n"), *at = strstr(line, "(+0x");
    size_t len = strlen(name);
    if (at == NULL || at > end || (size_t)(at - line) < len || strncmp(at - len, name, len) != 0)
        return NULL;
    return at + 2;
}

/* What leads from the signal to the end says nothing. */
static bool dull(const char *name)
{
    return strstr(name, "frames_print") != NULL || strstr(name, "on_abort") != NULL ||
           strstr(name, "kho_assert_failed") != NULL || name[0] == '?';
}

void frames_resolve(char *text, size_t size)
{
    char program[512], command[2048];
    ssize_t path = readlink("/proc/self/exe", program, sizeof program - 1);
    if (path <= 0 || strstr(text, "(+0x") == NULL)
        return;
    program[path] = '\0';
    const char *name_of = strrchr(program, '/') + 1;
    int at = snprintf(command, sizeof command, "addr2line -fpsi -e '%s'", program);
    for (const char *line = text; *line != '\0' && (size_t)at < sizeof command;
         line += strcspn(line, "\n"), line += *line == '\n') {
        const char *address = own_address(line, name_of);
        if (address != NULL)
            /* A return address is behind its call. */
            at += snprintf(command + at, sizeof command - (size_t)at, " 0x%llx",
                           strtoull(address, NULL, 16) - 1);
    }
    if ((size_t)at + 16 >= sizeof command)
        return;
    snprintf(command + at, sizeof command - (size_t)at, " 2>/dev/null");
    FILE *names = popen(command, "re");
    char name[256], *resolved = calloc(1, size);
    size_t len = 0;
    while (names != NULL && resolved != NULL && fgets(name, sizeof name, names) != NULL) {
        const char *inlined = " (inlined by) ";
        bool skip = strncmp(name, inlined, strlen(inlined)) == 0;
        const char *from = name + (skip ? strlen(inlined) : 0);
        if (dull(from) || len + strlen(from) >= size)
            continue;
        memcpy(resolved + len, from, strlen(from) + 1);
        len += strlen(from);
    }
    if (names != NULL && pclose(names) == 0 && len > 0)
        memcpy(text, resolved, len + 1);
    free(resolved);
}
