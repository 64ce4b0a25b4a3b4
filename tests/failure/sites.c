/* sites.c: asks addr2line about the addresses of stacks, and grep about the source. */
#include "sites.h"

#include <link.h>
#include <unistd.h>

enum { CALLS_MAX = 1024, PATH = 256, NAME = 96 };

/* A line of the source that allocates. */
struct call {
    char file[NAME];
    uint32_t line;
    char text[160];
    bool reached, failed;
};

static struct call calls[CALLS_MAX];
static uint32_t call_count;

/* --- The source ------------------------------------------------------------------------------- */

static const char *const pattern =
    "\\b(malloc|calloc|realloc|posix_memalign|strdup|world_allocate|share_allocate"
    "|share_allocate_admitted|share_buffer|client_allocate|client_allocate_zeroed) *\\(";

/* A declaration, a definition, or a word of a comment. */
static bool no_call(const char *text)
{
    while (*text == ' ')
        text++;
    return *text == '*' || strncmp(text, "/*", 2) == 0 || strncmp(text, "static inline", 13) == 0 ||
           strncmp(text, "void *", 6) == 0 ||
           strncmp(text, "struct reply_buffer *share_buffer", 33) == 0 ||
           strncmp(text, "static void *", 13) == 0 || strstr(text, "->allocate(") != NULL;
}

static void calls_find(void)
{
    char command[1024], line[512];
    snprintf(command, sizeof command,
             "cd '%s' && grep -nE '%s' node/*.[ch] client/*.[ch] client/cli/*.[ch] 2>/dev/null",
             KHO_SOURCE, pattern);
    FILE *grep = popen(command, "r");
    KHO_ASSERT(grep != NULL);
    while (call_count < CALLS_MAX && fgets(line, sizeof line, grep) != NULL) {
        struct call *call = &calls[call_count];
        char *colon = strchr(line, ':'), *second = colon != NULL ? strchr(colon + 1, ':') : NULL;
        if (second == NULL || second[1] != ' ' || no_call(second + 1))
            continue;
        line[strcspn(line, "\n")] = '\0';
        *colon = '\0';
        char *text = second + 1;
        while (*text == ' ')
            text++;
        snprintf(call->file, sizeof call->file, "%.95s", line);
        call->line = (uint32_t)strtoul(colon + 1, NULL, 10);
        snprintf(call->text, sizeof call->text, "%.159s", text);
        call_count++;
    }
    pclose(grep);
}

/* --- Addresses -------------------------------------------------------------------------------- */

static int program_base(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)size;
    *(uintptr_t *)arg = info->dlpi_addr; /* the first is the program itself */
    return 1;
}

/* Opens addr2line's answers for the addresses in `file`. */
static FILE *answers_open(const char *file)
{
    char command[512], program[PATH];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    KHO_ASSERT(n > 0);
    program[n] = '\0';
    snprintf(command, sizeof command, "addr2line -a -f -i -e '%s' @'%s'", program, file);
    return popen(command, "r");
}

static void addresses_write(FILE *to, void *const *stack, uint32_t depth, uintptr_t base)
{
    for (uint32_t i = 0; i < depth; i++)
        fprintf(to, "0x%llx\n", (unsigned long long)((uintptr_t)stack[i] - base - 1));
}

/* From the root of the tree on: a compiler may have been given a path with ".." in it. */
static char *short_path(char *place)
{
    static const char *const tops[] = {"/node/", "/client/", "/include/kho/", "/tests/"};
    place[strcspn(place, " \n")] = '\0';
    for (size_t i = 0; i < KHO_COUNT_OF(tops); i++) {
        char *at = strstr(place, tops[i]);
        if (at != NULL)
            return at + 1;
    }
    return place;
}

static void place_match(char *place, bool failed)
{
    char *colon = strrchr(place, ':');
    if (colon == NULL)
        return;
    uint32_t line = (uint32_t)strtoul(colon + 1, NULL, 10);
    *colon = '\0';
    for (uint32_t i = 0; i < call_count; i++) {
        /* A call that is split over lines stands at the first of them or at its arguments. */
        if (strcmp(calls[i].file, place) != 0 || line + 1 < calls[i].line ||
            line > calls[i].line + 1)
            continue;
        calls[i].reached = true;
        calls[i].failed |= failed;
    }
}

static void stacks_match(const struct failure_sites *sites, bool failed)
{
    char name[] = "/tmp/kho-failures.XXXXXX", function[512], place[512];
    uintptr_t base = 0;
    int fd = mkstemp(name);
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    KHO_ASSERT(to != NULL);
    dl_iterate_phdr(program_base, &base);
    for (uint32_t i = 0; i < FAILURE_SITES; i++)
        if (sites->sites[i].depth > 0 && (sites->sites[i].failed || !failed))
            addresses_write(to, sites->sites[i].stack, (uint32_t)kho_min(sites->sites[i].depth, 6),
                            base);
    fclose(to);
    FILE *from = answers_open(name);
    while (from != NULL && fgets(function, sizeof function, from) != NULL) {
        if (strncmp(function, "0x", 2) == 0)
            continue;
        if (fgets(place, sizeof place, from) == NULL)
            break;
        place_match(short_path(place), failed);
    }
    if (from != NULL)
        pclose(from);
    unlink(name);
}

struct sites_summary sites_print(const struct failure_sites *sites)
{
    struct sites_summary sum = {0};
    calls_find();
    stacks_match(sites, false);
    stacks_match(sites, true);
    for (uint32_t i = 0; i < FAILURE_SITES; i++)
        sum.places += sites->sites[i].depth > 0 && sites->sites[i].failed;
    for (uint32_t i = 0; i < call_count; i++) {
        sum.calls++;
        sum.reached += calls[i].reached;
        sum.failed += calls[i].failed;
        if (!calls[i].reached)
            printf("no story reaches %s:%u: %s\n", calls[i].file, calls[i].line, calls[i].text);
    }
    return sum;
}

void sites_print_stack(void *const *stack, uint32_t depth)
{
    char name[] = "/tmp/kho-failures.XXXXXX", function[512], place[512];
    uintptr_t base = 0;
    int fd = mkstemp(name);
    FILE *to = fd >= 0 ? fdopen(fd, "w") : NULL;
    KHO_ASSERT(to != NULL);
    dl_iterate_phdr(program_base, &base);
    addresses_write(to, stack, depth, base);
    fclose(to);
    FILE *from = answers_open(name);
    while (from != NULL && fgets(function, sizeof function, from) != NULL) {
        if (strncmp(function, "0x", 2) == 0)
            continue;
        if (fgets(place, sizeof place, from) == NULL)
            break;
        function[strcspn(function, "\n")] = '\0';
        if (strcmp(function, "??") != 0)
            printf("        %s  %s\n", function, short_path(place));
    }
    if (from != NULL)
        pclose(from);
    unlink(name);
}
