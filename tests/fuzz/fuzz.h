/* fuzz.h: what a fuzz target gives. Built twice: with libFuzzer (KHO_FUZZ, clang; seeds.c), and
 * with replay.c, which feeds the target its seeds, the files it is given, and a bounded number of
 * mutations of both, so that every test run exercises the parsers under the sanitizers. */
#ifndef KHO_TESTS_FUZZ_H
#define KHO_TESTS_FUZZ_H

#include <kho/base.h>

enum { FUZZ_INPUT_MAX = 1 << 17 };

/* One input; returns 0. A defect aborts or is found by a sanitizer. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
/* Writes the n-th valid input to `to` (room for `max` bytes); returns its length, 0: no more. */
size_t fuzz_seed(unsigned n, uint8_t *to, size_t max);

/* An input taken apart from its beginning; behind its end come zeros. */
struct fuzz_input {
    const uint8_t *bytes;
    size_t len;
};

static inline uint64_t fuzz_take(struct fuzz_input *in, size_t bytes)
{
    uint64_t number = 0;
    size_t n = kho_min(bytes, in->len);
    for (size_t i = 0; i < n; i++)
        number |= (uint64_t)in->bytes[i] << (8 * i);
    in->bytes += n;
    in->len -= n;
    return number;
}
/* At most `want` of the bytes that are left; *ret_len says how many. */
static inline const uint8_t *fuzz_take_bytes(struct fuzz_input *in, size_t want, size_t *ret_len)
{
    const uint8_t *at = in->bytes;
    *ret_len = kho_min(want, in->len);
    in->bytes += *ret_len;
    in->len -= *ret_len;
    return at;
}

/* A copy of exactly that size, so that a sanitizer sees a read past its end; to be free()d. */
static inline uint8_t *fuzz_copy(const uint8_t *bytes, size_t len)
{
    uint8_t *copy = malloc(len + (len == 0));
    KHO_ASSERT(copy != NULL);
    if (len > 0)
        memcpy(copy, bytes, len);
    return copy;
}

#endif
