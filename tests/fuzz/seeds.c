/* seeds.c: gives libFuzzer what a target knows to be valid:
 *   fuzz_NAME --seeds=FOLDER writes the target's seeds there and ends. */
#include "fuzz.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);

static void seed_write(const char *folder, unsigned n, const uint8_t *bytes, size_t len)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/seed-%u", folder, n);
    FILE *file = fopen(path, "wb");
    if (file == NULL || fwrite(bytes, 1, len, file) != len || fclose(file) != 0) {
        fprintf(stderr, "%s: can't be written\n", path);
        exit(1);
    }
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    static const char option[] = "--seeds=";
    static uint8_t seed[FUZZ_INPUT_MAX];
    if (*argc < 2 || strncmp((*argv)[1], option, sizeof option - 1) != 0)
        return 0;
    size_t len;
    for (unsigned n = 0; (len = fuzz_seed(n, seed, sizeof seed)) > 0; n++)
        seed_write((*argv)[1] + sizeof option - 1, n, seed, len);
    exit(0);
}
