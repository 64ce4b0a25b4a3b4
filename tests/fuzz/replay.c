/* replay.c: runs a fuzz target without libFuzzer: seeds, given files, and mutations of them.
 *   fuzz_NAME [MUTATIONS [FILE…]] */
#include "fuzz.h"

enum { INPUT_MAX = 1 << 17, MUTATIONS_DEFAULT = 20000 };

static struct kho_random g_random; /* fixed seed: the same inputs in every run */
static unsigned long g_inputs;

static void feed(const uint8_t *bytes, size_t len)
{
    uint8_t *exact =
        malloc(len + (len == 0)); /* exact size, so that ASan sees a read past the end */
    if (exact == NULL)
        abort();
    memcpy(exact, bytes, len);
    LLVMFuzzerTestOneInput(exact, len);
    free(exact);
    g_inputs++;
}
static void mutate_and_feed(const uint8_t *seed, size_t len, uint8_t *room)
{
    memcpy(room, seed, len);
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
int main(int argc, char **argv)
{
    long mutations = argc > 1 ? strtol(argv[1], NULL, 10) : MUTATIONS_DEFAULT;
    static uint8_t seed[INPUT_MAX], room[INPUT_MAX];
    kho_random_init(&g_random, 1);
    unsigned seeds = 0;
    while (fuzz_seed(seeds, seed, INPUT_MAX) > 0)
        seeds++;
    if (seeds == 0)
        return 1;
    for (unsigned n = 0; n < seeds; n++) {
        size_t len = fuzz_seed(n, seed, INPUT_MAX);
        feed(seed, len);
        for (long i = 0; i < mutations / (long)seeds; i++)
            mutate_and_feed(seed, len, room);
    }
    for (int i = 2; i < argc; i++) {
        FILE *file = fopen(argv[i], "rb");
        if (file == NULL) {
            fprintf(stderr, "%s: can't be read\n", argv[i]);
            return 1;
        }
        feed(seed, fread(seed, 1, INPUT_MAX, file));
        fclose(file);
    }
    printf("%lu inputs from %u seeds\n", g_inputs, seeds);
    return 0;
}
