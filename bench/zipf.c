/* zipf.c: an inversion of the distribution function that is exact for the first two ranks and close
 * for the others; only the sum needs all ranks, and for ten billion of them YCSB gives it. */
#include "zipf.h"

#include <math.h>

#define THETA           0.99
#define SCRAMBLED_RANKS UINT64_C(10000000000)
#define SCRAMBLED_SUM   26.46902820178302

static void derive(struct zipf *zipf)
{
    double two = 1 + pow(0.5, THETA);
    zipf->alpha = 1 / (1 - THETA);
    zipf->eta = (1 - pow(2.0 / (double)zipf->count, 1 - THETA)) / (1 - two / zipf->sum);
}

void zipf_init(struct zipf *zipf, uint64_t count)
{
    *zipf = (struct zipf){.count = 0};
    zipf_grow(zipf, count);
}

void zipf_grow(struct zipf *zipf, uint64_t count)
{
    while (zipf->count < count)
        zipf->sum += 1 / pow((double)++zipf->count, THETA);
    derive(zipf);
}

uint64_t zipf_draw(const struct zipf *zipf, struct dice *dice)
{
    double u = dice_real(dice), at = u * zipf->sum;
    if (at < 1)
        return 0;
    if (at < 1 + pow(0.5, THETA))
        return 1;
    uint64_t rank =
        (uint64_t)((double)zipf->count * pow(zipf->eta * u - zipf->eta + 1, zipf->alpha));
    return rank < zipf->count ? rank : zipf->count - 1;
}

void zipf_init_scrambled(struct zipf *zipf)
{
    *zipf = (struct zipf){.count = SCRAMBLED_RANKS, .sum = SCRAMBLED_SUM};
    derive(zipf);
}

/* FNV-1a over the eight bytes, the lowest first. */
static uint64_t fnv(uint64_t value)
{
    uint64_t hash = 0xCBF29CE484222325u;
    for (int i = 0; i < 8; i++, value >>= 8)
        hash = (hash ^ (value & 0xFF)) * 0x100000001B3u;
    return hash;
}

uint64_t zipf_draw_scrambled(const struct zipf *zipf, struct dice *dice, uint64_t count)
{
    return fnv(zipf_draw(zipf, dice)) % count;
}
