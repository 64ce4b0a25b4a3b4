/* fuzz.h: what a fuzz target gives. Built twice: with libFuzzer (KHO_FUZZ, clang), and with
 * replay.c, which feeds the target its seeds, the files it is given, and a bounded number of
 * mutations of both, so that every test run exercises the parsers under the sanitizers. */
#ifndef KHO_TESTS_FUZZ_H
#define KHO_TESTS_FUZZ_H

#include <kho/base.h>

/* One input; returns 0. A defect aborts or is found by a sanitizer. */
int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t len);
/* Writes the n-th valid input to `to` (room for `max` bytes); returns its length, 0: no more. */
size_t fuzz_seed(unsigned n, uint8_t *to, size_t max);

#endif
