/* trainer.c: the only file with libzstd. Its trainer wants some hundred times the dictionary's size
 * of samples; here it gets entries spread evenly over all, up to SAMPLE_BYTES. What it puts before
 * the content is for zstd's own decoder and is cut off: LZ4 takes bare bytes. */
#include "trainer.h"

#ifdef KHO_ZSTD

#include <stdlib.h>
#include <string.h>
#include <zdict.h>

enum { SAMPLE_BYTES = 16 << 20 };

struct samples {
    uint8_t *bytes;
    size_t *sizes;
    size_t used;
    unsigned count;
};

static void samples_take(struct samples *samples, const struct entries *entries)
{
    size_t step = entries->at[entries->count] / SAMPLE_BYTES + 1;
    for (size_t i = 0; i < entries->count; i += step) {
        size_t at = entries->at[i], size = entries->at[i + 1] - at;
        if (samples->used + size > SAMPLE_BYTES)
            break;
        memcpy(samples->bytes + samples->used, entries->bytes + at, size);
        samples->used += size;
        samples->sizes[samples->count++] = size;
    }
}

bool trainer_present(void)
{
    return true;
}

size_t trainer_run(const struct entries *entries, uint8_t *to, size_t room, const char **ret_why)
{
    struct samples samples = {.bytes = malloc(SAMPLE_BYTES),
                              .sizes = malloc((entries->count + 1) * sizeof *samples.sizes)};
    size_t len = 0;
    *ret_why = "no memory";
    if (samples.bytes != NULL && samples.sizes != NULL && entries->count > 0) {
        samples_take(&samples, entries);
        size_t made = ZDICT_trainFromBuffer(to, room, samples.bytes, samples.sizes, samples.count);
        if (ZDICT_isError(made)) {
            *ret_why = ZDICT_getErrorName(made);
        } else {
            size_t head = ZDICT_getDictHeaderSize(to, made);
            len = made - head;
            memmove(to, to + head, len);
        }
    }
    free(samples.bytes);
    free(samples.sizes);
    return len;
}

#else

bool trainer_present(void)
{
    return false;
}

size_t trainer_run(const struct entries *entries, uint8_t *to, size_t room, const char **ret_why)
{
    (void)entries;
    (void)to;
    (void)room;
    *ret_why = "built without libzstd";
    return 0;
}

#endif
