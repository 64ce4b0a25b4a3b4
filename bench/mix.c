/* mix.c: the table of the paper, with the read-modify-write of F. */
#include "mix.h"

#include <stddef.h>

static const struct mix mixes[] = {
    {.letter = 'a', .read = 50, .update = 50, .pick = PICK_ZIPFIAN},
    {.letter = 'b', .read = 95, .update = 5, .pick = PICK_ZIPFIAN},
    {.letter = 'c', .read = 100, .pick = PICK_ZIPFIAN},
    {.letter = 'd', .read = 95, .insert = 5, .pick = PICK_LATEST},
    {.letter = 'e', .scan = 95, .insert = 5, .pick = PICK_ZIPFIAN},
    {.letter = 'f', .read = 50, .modify = 50, .pick = PICK_ZIPFIAN},
};

const struct mix *mix_find(const char *letter)
{
    for (size_t i = 0; i < sizeof mixes / sizeof mixes[0]; i++)
        if ((letter[0] | 0x20) == mixes[i].letter && letter[1] == '\0')
            return &mixes[i];
    return NULL;
}
