/* tables.h: the real names that generated people and places are put together from. */
#ifndef KHO_BENCH_TABLES_H
#define KHO_BENCH_TABLES_H

#include <stddef.h>
#include <stdint.h>

/* A text and how often it comes, in any unit of its table. */
struct weighted {
    const char *text;
    unsigned weight;
};

struct province {
    const char code[4]; /* of the citizen number */
    const char *name;
    unsigned weight; /* where the people who live in Hà Nội were registered at birth */
};

enum { DISTRICT_WARDS = 6 };

struct district {
    const char *name;
    unsigned weight; /* thousands of inhabitants */
    const char *wards[DISTRICT_WARDS];
};

extern const struct province provinces[];
extern const size_t province_count;
extern const struct district districts[];
extern const size_t district_count;
extern const struct weighted families[], middles_male[], middles_female[], givens_male[],
    givens_female[], ethnicities[], occupations[];
extern const size_t family_count, middle_male_count, middle_female_count, given_male_count,
    given_female_count, ethnicity_count, occupation_count;

#endif
