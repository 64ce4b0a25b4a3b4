/* citizen.h: a population like Hà Nội's, made up from a seed: citizens, their electronic-identity
 * files, and the events of activating those.
 *
 * Record i of a seed is computed alone, without the ones before it, so that what is read back can
 * be compared with what the generator says, and nothing has to be kept. The same seed gives the
 * same bytes on every machine. */
#ifndef KHO_BENCH_CITIZEN_H
#define KHO_BENCH_CITIZEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CITIZEN_NUMBER = 12,       /* digits of a citizen number: the key */
    CITIZEN_RECORD_MAX = 1024, /* bytes of any record made here */
    CITIZEN_PICKS = 4096,      /* entries of a table for weighted choice */
    CITIZEN_TABLES = 8,
};

/* Hà Nội's figures of 2022, at scale 1. */
enum {
    HANOI_CITIZENS = 6018769,
    HANOI_EIDS = 4026354,
    HANOI_ACTIVATIONS_1 = 15121,
    HANOI_ACTIVATIONS_2 = 528785
};

struct census {
    uint64_t seed;
    uint64_t citizens, eids, activations_1, activations_2, updates;
    /* Citizen numbers: one cell for each province, sex and year of birth, of as many numbers as it
     * weighs. */
    uint32_t cell_count;
    uint32_t *cell_base;   /* cell_count + 1 */
    uint16_t *cell_guide;  /* the cell of every 4,096th number, to begin the search at */
    uint32_t number_count; /* in all cells */
    uint16_t picks[CITIZEN_TABLES][CITIZEN_PICKS];
};

/* -EINVAL: the scale makes more citizens than there are numbers for (some 126 million), or none. */
int census_init(struct census *census, uint64_t seed, double scale);
void census_fini(struct census *census);

/* The number of citizen i, without a NUL. Two citizens never share one. */
void citizen_number(const struct census *census, uint64_t i, char *to);
/* Each writes one JSON text without a NUL, at most CITIZEN_RECORD_MAX bytes, and returns its
 * length. Revision 0 is the first; 1 after a move. */
size_t citizen_record(const struct census *census, uint64_t i, unsigned revision, char *to);
size_t eid_record(const struct census *census, uint64_t i, char *to);
size_t activation_record(const struct census *census, uint64_t i, char *to);

/* The citizens who move: the k-th of `updates`, in rising order, and whether i is one. */
uint64_t citizen_moving(const struct census *census, uint64_t k);
bool citizen_moves(const struct census *census, uint64_t i);

#endif
