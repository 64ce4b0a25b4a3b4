/* replay.c: runs a fuzz target without libFuzzer: its seeds, the given files (of folders: all), and
 * mutations of them.
 *   fuzz_NAME [MUTATIONS [FILE|FOLDER…]] */
#include "fuzz.h"

#include <dirent.h>

enum { MUTATIONS_DEFAULT = 20000, INPUTS_MAX = 4096 };

static struct kho_random g_random; /* fixed seed: the same inputs in every run */
static unsigned long g_inputs;

struct input {
    uint8_t *bytes;
    size_t len;
};
static struct input g_starts[INPUTS_MAX];
static unsigned g_start_count;

static void feed(const uint8_t *bytes, size_t len)
{
    uint8_t *exact = fuzz_copy(bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    g_inputs++;
}
static void mutate_and_feed(const struct input *start, uint8_t *room)
{
    size_t len = start->len;
    memcpy(room, start->bytes, len);
    for (uint64_t n = 1 + kho_random_below(&g_random, 4); n > 0 && len > 0; n--) {
        size_t at = (size_t)kho_random_below(&g_random, len);
        switch (kho_random_below(&g_random, 5)) {
        case 0:
            room[at] ^= (uint8_t)(1u << kho_random_below(&g_random, 8));
            break;
        case 1:
            room[at] = (uint8_t)kho_random_next(&g_random);
            break;
        case 2:
            len = at;
            break;
        case 3:
            memset(room + at, kho_random_below(&g_random, 2) ? 0xFF : 0,
                   len - at < 4 ? len - at : 4);
            break;
        default:
            memmove(room + at, room + len / 2,
                    (len - len / 2) < (len - at) ? len - len / 2 : len - at);
            break;
        }
    }
    feed(room, len);
}

static void start_add(const uint8_t *bytes, size_t len)
{
    KHO_ASSERT(g_start_count < INPUTS_MAX);
    g_starts[g_start_count].bytes = fuzz_copy(bytes, len);
    g_starts[g_start_count++].len = len;
}
static bool file_add(const char *path)
{
    static uint8_t bytes[FUZZ_INPUT_MAX];
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return false;
    start_add(bytes, fread(bytes, 1, sizeof bytes, file));
    fclose(file);
    return true;
}
static bool path_add(const char *path)
{
    struct dirent **names;
    int count = scandir(path, &names, NULL, alphasort);
    if (count < 0)
        return file_add(path);
    bool good = true;
    for (int i = 0; i < count; i++) {
        char file[4096];
        snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
        if (names[i]->d_name[0] != '.')
            good &= file_add(file);
        free(names[i]);
    }
    free(names);
    return good;
}

int main(int argc, char **argv)
{
    unsigned long mutations = argc > 1 ? strtoul(argv[1], NULL, 10) : MUTATIONS_DEFAULT;
    static uint8_t room[FUZZ_INPUT_MAX];
    size_t len;
    kho_random_init(&g_random, 1);
    while ((len = fuzz_seed(g_start_count, room, sizeof room)) > 0)
        start_add(room, len);
    unsigned seeds = g_start_count;
    for (int i = 2; i < argc; i++)
        if (!path_add(argv[i])) {
            fprintf(stderr, "%s: can't be read\n", argv[i]);
            return 1;
        }
    if (g_start_count == 0) {
        fprintf(stderr, "nothing to begin with\n");
        return 1;
    }
    for (unsigned i = 0; i < g_start_count; i++)
        feed(g_starts[i].bytes, g_starts[i].len);
    for (unsigned long i = 0; i < mutations; i++)
        mutate_and_feed(&g_starts[i % g_start_count], room);
    printf("%lu inputs: %u seeds, %u files and %lu mutations of them\n", g_inputs, seeds,
           g_start_count - seeds, mutations);
    for (unsigned i = 0; i < g_start_count; i++)
        free(g_starts[i].bytes);
    return 0;
}
