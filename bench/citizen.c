/* citizen.c: makes up citizens, identity files and activation events.
 *
 * A citizen number (Decree 137/2015/ND-CP, article 13, and Circular 07/2016/TT-BCA) is 12 digits:
 * 3 of the province where the birth was registered, 1 of sex and century (20th: 0 male, 1 female;
 * 21st: 2, 3), 2 of the year of birth, 6 random ones. Numbers must be unique, look random, follow
 * the frequencies of places and ages, and number i must be known without the others. So: all
 * numbers in use are laid out in a row, cell by cell (a province, a year, a sex), each cell as long
 * as it weighs and at most 10^6; a seeded permutation takes i to a place in that row; the place
 * gives cell and serial, and a second permutation, of the cell's own, takes the serial to the six
 * digits.
 *
 * All else of record i is drawn from a generator seeded with seed, kind and i. It fails only at the
 * start: by a scale out of range, or for want of memory. */
#include "citizen.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"

enum {
    YEAR_FIRST = 1922, /* a hundred years old */
    YEAR_LAST = 2007,  /* cards are issued from the age of 14 */
    YEARS = YEAR_LAST - YEAR_FIRST + 1,
    SERIALS = 1000000,
    SERIAL_BITS = 20,
    CELL_UNIT = 8, /* numbers a unit of weight; the heaviest cell keeps below SERIALS */
    YEAR_WEIGHT_MAX = 16,
    GUIDE_SHIFT = 12,
    NUMBER_BITS = 27,
    MOVES_ONE_IN = 100
};

enum table {
    TABLE_FAMILY,
    TABLE_MIDDLE_MALE,
    TABLE_MIDDLE_FEMALE,
    TABLE_GIVEN_MALE,
    TABLE_GIVEN_FEMALE,
    TABLE_ETHNICITY,
    TABLE_OCCUPATION,
    TABLE_DISTRICT
};

enum kind { KIND_CITIZEN = 1, KIND_MOVE, KIND_EID, KIND_ACTIVATION, KIND_CELL };

/* --- Randomness ------------------------------------------------------------------------------ */

/* The finaliser of splitmix64 (Steele, Lea and Flood, 2014): a bijection of 64 bits. */
static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
}

/* A stream of bits. */
struct draw {
    uint64_t state, pool;
    unsigned bits;
};

static struct draw draw_begin(uint64_t seed, enum kind kind, uint64_t i)
{
    return (struct draw){.state = mix(seed + (uint64_t)kind * 0x9E3779B97F4A7C15u) ^ mix(i + 1)};
}

static unsigned draw_bits(struct draw *draw, unsigned n)
{
    if (draw->bits < n) {
        draw->state += 0x9E3779B97F4A7C15u;
        draw->pool = mix(draw->state);
        draw->bits = 64;
    }
    unsigned value = (unsigned)(draw->pool & ((1u << n) - 1));
    draw->pool >>= n;
    draw->bits -= n;
    return value;
}

/* In [0, bound), bound at most 2^10; the bias is below bound / 2^20. */
static unsigned draw_below(struct draw *draw, unsigned bound)
{
    return (unsigned)(((uint64_t)draw_bits(draw, 20) * bound) >> 20);
}

/* A keyed bijection of n bits: odd multiplications, additions and folds of the upper half are each
 * invertible. */
static uint32_t permute_bits(uint32_t x, unsigned n, uint64_t key)
{
    uint32_t mask = (1u << n) - 1;
    for (int round = 0; round < 3; round++) {
        key = mix(key + 0x9E3779B97F4A7C15u);
        x = (x * ((uint32_t)key | 1u) + (uint32_t)(key >> 32)) & mask;
        x ^= x >> (n / 2);
    }
    return x;
}

/* The same of [0, bound), bound above half of 2^n: what leaves the range goes round again. */
static uint32_t permute(uint32_t x, uint32_t bound, unsigned n, uint64_t key)
{
    do
        x = permute_bits(x, n, key);
    while (x >= bound);
    return x;
}

/* --- Tables ---------------------------------------------------------------------------------- */

/* The weight of a year of birth: a pyramid with a broad middle, in steps. */
static unsigned year_weight(int year)
{
    static const struct {
        int until;
        unsigned weight;
    } steps[] = {{1930, 1},  {1940, 2},  {1945, 3},  {1950, 5},  {1955, 8},
                 {1960, 10}, {1965, 11}, {1970, 12}, {1975, 13}, {1980, 14},
                 {1992, 16}, {1997, 14}, {2002, 12}, {9999, 11}};
    size_t i = 0;
    while (year >= steps[i].until)
        i++;
    return steps[i].weight;
}

static void picks_fill(uint16_t *picks, const unsigned *weights, size_t count)
{
    uint64_t total = 0, sum = 0;
    size_t at = 0;
    for (size_t i = 0; i < count; i++)
        total += weights[i];
    for (size_t i = 0; i < count; i++) {
        sum += weights[i];
        for (; at < sum * CITIZEN_PICKS / total; at++)
            picks[at] = (uint16_t)i;
    }
}

static void picks_of(struct census *census, enum table table, const struct weighted *from,
                     size_t count)
{
    unsigned weights[64];
    for (size_t i = 0; i < count; i++)
        weights[i] = from[i].weight;
    picks_fill(census->picks[table], weights, count);
}

static void picks_of_districts(struct census *census)
{
    unsigned weights[64];
    for (size_t i = 0; i < district_count; i++)
        weights[i] = districts[i].weight;
    picks_fill(census->picks[TABLE_DISTRICT], weights, district_count);
}

static unsigned pick(const struct census *census, enum table table, struct draw *draw)
{
    return census->picks[table][draw_bits(draw, 12)];
}

static int cells_make(struct census *census)
{
    census->cell_count = (uint32_t)province_count * YEARS * 2;
    census->cell_base = calloc(census->cell_count + 1, sizeof *census->cell_base);
    if (census->cell_base == NULL)
        return -ENOMEM;
    uint32_t base = 0, cell = 0;
    for (size_t p = 0; p < province_count; p++) {
        for (int y = 0; y < YEARS; y++) {
            for (int sex = 0; sex < 2; sex++) {
                census->cell_base[cell++] = base;
                base += provinces[p].weight * year_weight(YEAR_FIRST + y) * CELL_UNIT;
            }
        }
    }
    census->cell_base[cell] = base;
    census->number_count = base;
    size_t guides = (base >> GUIDE_SHIFT) + 2;
    census->cell_guide = calloc(guides, sizeof *census->cell_guide);
    if (census->cell_guide == NULL)
        return -ENOMEM;
    for (size_t g = 0, c = 0; g < guides; g++) {
        while (c + 1 < census->cell_count && census->cell_base[c + 1] <= g << GUIDE_SHIFT)
            c++;
        census->cell_guide[g] = (uint16_t)c;
    }
    return 0;
}

static uint64_t scaled(uint64_t figure, double scale)
{
    double n = floor((double)figure * scale + 0.5);
    return n < 1 ? 1 : (uint64_t)n;
}

int census_init(struct census *census, uint64_t seed, double scale)
{
    *census = (struct census){.seed = seed};
    int error = -EINVAL;
    if (!(scale > 0) || scale > 1000)
        return error;
    census->citizens = scaled(HANOI_CITIZENS, scale);
    census->eids = scaled(HANOI_EIDS, scale);
    census->activations_1 = scaled(HANOI_ACTIVATIONS_1, scale);
    census->activations_2 = scaled(HANOI_ACTIVATIONS_2, scale);
    census->updates = census->citizens / MOVES_ONE_IN;
    error = cells_make(census);
    if (error == 0 && (census->citizens > census->number_count ||
                       census->number_count <= 1u << (NUMBER_BITS - 1)))
        error = -EINVAL;
    if (error != 0) {
        census_fini(census);
        return error;
    }
    picks_of(census, TABLE_FAMILY, families, family_count);
    picks_of(census, TABLE_MIDDLE_MALE, middles_male, middle_male_count);
    picks_of(census, TABLE_MIDDLE_FEMALE, middles_female, middle_female_count);
    picks_of(census, TABLE_GIVEN_MALE, givens_male, given_male_count);
    picks_of(census, TABLE_GIVEN_FEMALE, givens_female, given_female_count);
    picks_of(census, TABLE_ETHNICITY, ethnicities, ethnicity_count);
    picks_of(census, TABLE_OCCUPATION, occupations, occupation_count);
    picks_of_districts(census);
    return 0;
}

void census_fini(struct census *census)
{
    free(census->cell_base);
    free(census->cell_guide);
    census->cell_base = NULL;
    census->cell_guide = NULL;
}

/* --- Writing --------------------------------------------------------------------------------- */

static char *put(char *to, const char *text)
{
    while (*text != '\0')
        *to++ = *text++;
    return to;
}

#define PUT(to, literal)                                                                           \
    do {                                                                                           \
        memcpy(to, literal, sizeof(literal) - 1);                                                  \
        (to) += sizeof(literal) - 1;                                                               \
    } while (0)

static char *put_digits(char *to, uint32_t n, unsigned digits)
{
    for (unsigned i = digits; i-- > 0; n /= 10)
        to[i] = (char)('0' + n % 10);
    return to + digits;
}

static char *put_number(char *to, uint32_t n)
{
    unsigned digits = n < 10 ? 1 : n < 100 ? 2 : n < 1000 ? 3 : 4;
    return put_digits(to, n, digits);
}

static char *put_hex(char *to, struct draw *draw, unsigned bytes)
{
    static const char hex[] = "0123456789abcdef";
    for (unsigned i = 0; i < bytes; i++) {
        unsigned byte = draw_bits(draw, 8);
        *to++ = hex[byte >> 4];
        *to++ = hex[byte & 15];
    }
    return to;
}

/* --- Dates ----------------------------------------------------------------------------------- */

struct date {
    int year;
    unsigned month, day;
};

static bool leap(int year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static struct date date_draw(struct draw *draw, int year)
{
    static const uint8_t lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    unsigned day = draw_below(draw, leap(year) ? 366 : 365);
    for (unsigned month = 0;; month++) {
        unsigned length = lengths[month] + (month == 1 && leap(year) ? 1u : 0u);
        if (day < length)
            return (struct date){.year = year, .month = month + 1, .day = day + 1};
        day -= length;
    }
}

static char *put_date(char *to, struct date date)
{
    to = put_digits(to, (uint32_t)date.year, 4);
    *to++ = '-';
    to = put_digits(to, date.month, 2);
    *to++ = '-';
    return put_digits(to, date.day, 2);
}

/* A moment of that day in office hours, Hà Nội time. */
static char *put_moment(char *to, struct draw *draw, struct date date)
{
    to = put_date(to, date);
    *to++ = 'T';
    to = put_digits(to, 7 + draw_below(draw, 11), 2);
    *to++ = ':';
    to = put_digits(to, draw_below(draw, 60), 2);
    *to++ = ':';
    to = put_digits(to, draw_below(draw, 60), 2);
    PUT(to, "+07:00");
    return to;
}

/* --- Citizens -------------------------------------------------------------------------------- */

struct citizen {
    unsigned province;
    bool female;
    int year;
    uint32_t digits;
};

static uint32_t cell_of(const struct census *census, uint32_t place)
{
    uint32_t low = census->cell_guide[place >> GUIDE_SHIFT];
    uint32_t high = census->cell_guide[(place >> GUIDE_SHIFT) + 1];
    while (low < high) {
        uint32_t middle = (low + high + 1) / 2;
        if (census->cell_base[middle] <= place)
            low = middle;
        else
            high = middle - 1;
    }
    return low;
}

static struct citizen citizen_at(const struct census *census, uint64_t i)
{
    uint32_t place = permute((uint32_t)i, census->number_count, NUMBER_BITS, census->seed);
    uint32_t cell = cell_of(census, place);
    uint64_t key = mix(census->seed + KIND_CELL) ^ mix(cell);
    return (struct citizen){
        .province = cell / (YEARS * 2),
        .female = cell % 2 == 1,
        .year = YEAR_FIRST + (int)(cell / 2 % YEARS),
        .digits = permute(place - census->cell_base[cell], SERIALS, SERIAL_BITS, key)};
}

static char *put_citizen_number(char *to, const struct citizen *citizen)
{
    unsigned century = citizen->year >= 2000 ? 2 : 0;
    to = put(to, provinces[citizen->province].code);
    *to++ = (char)('0' + century + (citizen->female ? 1 : 0));
    to = put_digits(to, (uint32_t)(citizen->year % 100), 2);
    return put_digits(to, citizen->digits, 6);
}

void citizen_number(const struct census *census, uint64_t i, char *to)
{
    struct citizen citizen = citizen_at(census, i);
    put_citizen_number(to, &citizen);
}

static char *put_name(const struct census *census, char *to, struct draw *draw, bool female)
{
    to = put(to, families[pick(census, TABLE_FAMILY, draw)].text);
    *to++ = ' ';
    if (female) {
        to = put(to, middles_female[pick(census, TABLE_MIDDLE_FEMALE, draw)].text);
        *to++ = ' ';
        return put(to, givens_female[pick(census, TABLE_GIVEN_FEMALE, draw)].text);
    }
    to = put(to, middles_male[pick(census, TABLE_MIDDLE_MALE, draw)].text);
    *to++ = ' ';
    return put(to, givens_male[pick(census, TABLE_GIVEN_MALE, draw)].text);
}

static char *put_ward(const struct census *census, char *to, struct draw *draw)
{
    const struct district *district = &districts[pick(census, TABLE_DISTRICT, draw)];
    to = put(to, district->wards[draw_below(draw, DISTRICT_WARDS)]);
    PUT(to, ", ");
    return put(to, district->name);
}

static char *put_address(const struct census *census, char *to, struct draw *draw)
{
    PUT(to, "số ");
    to = put_number(to, 1 + draw_below(draw, 250));
    if (draw_bits(draw, 1) != 0) {
        PUT(to, " ngõ ");
        to = put_number(to, 1 + draw_below(draw, 400));
    }
    PUT(to, ", ");
    to = put_ward(census, to, draw);
    PUT(to, ", Hà Nội");
    return to;
}

/* By the age in 2022. */
static const char *occupation_of(const struct census *census, struct draw *draw, int year)
{
    const char *drawn = occupations[pick(census, TABLE_OCCUPATION, draw)].text;
    if (year > 2004)
        return "học sinh";
    if (year > 2000)
        return "sinh viên";
    return year <= 1960 ? "hưu trí" : drawn;
}

/* A card ends on the birthday of 25, 40 or 60 years; one issued within two years before such a
 * birthday holds until the next; after 60 for life (Law 59/2014/QH13, article 21). */
static char *put_card(char *to, struct draw *draw, struct date born)
{
    static const int ages[] = {25, 40, 60};
    struct date issued = date_draw(draw, 2021 + (int)draw_bits(draw, 1));
    PUT(to, ",\"card\":{\"issued\":\"");
    to = put_date(to, issued);
    PUT(to, "\",\"expires\":");
    for (size_t i = 0; i < sizeof ages / sizeof ages[0]; i++) {
        struct date expires = born;
        expires.year += ages[i];
        if (expires.year - issued.year <= 2)
            continue;
        if (expires.month == 2 && expires.day == 29 && !leap(expires.year))
            expires.day = 28;
        *to++ = '"';
        to = put_date(to, expires);
        PUT(to, "\"}");
        return to;
    }
    PUT(to, "null}");
    return to;
}

size_t citizen_record(const struct census *census, uint64_t i, unsigned revision, char *to)
{
    struct citizen citizen = citizen_at(census, i);
    struct draw draw = draw_begin(census->seed, KIND_CITIZEN, i);
    struct draw move = draw_begin(census->seed, KIND_MOVE, i);
    struct date born = date_draw(&draw, citizen.year);
    char *p = to;
    PUT(p, "{\"number\":\"");
    p = put_citizen_number(p, &citizen);
    PUT(p, "\",\"name\":\"");
    p = put_name(census, p, &draw, citizen.female);
    PUT(p, "\",\"born\":\"");
    p = put_date(p, born);
    PUT(p, "\",\"sex\":\"");
    p = put(p, citizen.female ? "nữ" : "nam");
    PUT(p, "\",\"ethnicity\":\"");
    p = put(p, ethnicities[pick(census, TABLE_ETHNICITY, &draw)].text);
    PUT(p, "\",\"birthplace\":\"");
    p = put(p, provinces[citizen.province].name);
    PUT(p, "\",\"occupation\":\"");
    p = put(p, occupation_of(census, &draw, citizen.year));
    PUT(p, "\",\"residence\":\"");
    p = put_address(census, p, revision == 0 ? &draw : &move);
    PUT(p, "\"");
    /* Of a stream of its own, so that a move changes the residence alone. */
    draw = draw_begin(census->seed ^ KIND_CELL, KIND_CITIZEN, i);
    p = put_card(p, &draw, born);
    PUT(p, ",\"revision\":");
    p = put_number(p, revision);
    PUT(p, "}");
    return (size_t)(p - to);
}

uint64_t citizen_moving(const struct census *census, uint64_t k)
{
    struct draw draw = draw_begin(census->seed, KIND_MOVE, ~k);
    return k * MOVES_ONE_IN + draw_below(&draw, MOVES_ONE_IN);
}

bool citizen_moves(const struct census *census, uint64_t i)
{
    uint64_t k = i / MOVES_ONE_IN;
    return k < census->updates && citizen_moving(census, k) == i;
}

/* --- Electronic identity --------------------------------------------------------------------- */

size_t eid_record(const struct census *census, uint64_t i, char *to)
{
    static const char *const systems[] = {"Android 11", "Android 12", "Android 13",
                                          "iOS 15.7",   "iOS 16.1",   "iOS 16.2"};
    static const char *const carriers[] = {"86", "96", "97", "98", "91", "94", "90", "93"};
    struct citizen citizen = citizen_at(census, i);
    struct draw draw = draw_begin(census->seed, KIND_EID, i);
    char *p = to;
    PUT(p, "{\"number\":\"");
    p = put_citizen_number(p, &citizen);
    PUT(p, "\",\"level\":");
    p = put_number(p, draw_below(&draw, 36) == 0 ? 1 : 2);
    PUT(p, ",\"collected\":\"");
    p = put_moment(p, &draw, date_draw(&draw, 2022));
    PUT(p, "\",\"office\":\"Công an ");
    p = put_ward(census, p, &draw);
    PUT(p, "\",\"phone\":\"+84");
    p = put(p, carriers[draw_bits(&draw, 3)]);
    p = put_digits(p, draw_bits(&draw, 20) % 10000000u, 7);
    PUT(p, "\",\"device\":{\"id\":\"");
    p = put_hex(p, &draw, 16);
    PUT(p, "\",\"system\":\"");
    p = put(p, systems[draw_below(&draw, 6)]);
    PUT(p, "\"},\"face\":\"");
    p = put_hex(p, &draw, 24);
    PUT(p, "\",\"fingerprints\":[\"");
    p = put_hex(p, &draw, 16);
    PUT(p, "\",\"");
    p = put_hex(p, &draw, 16);
    PUT(p, "\"],\"public_key\":\"");
    p = put_hex(p, &draw, 32);
    PUT(p, "\"}");
    return (size_t)(p - to);
}

size_t activation_record(const struct census *census, uint64_t i, char *to)
{
    struct draw draw = draw_begin(census->seed, KIND_ACTIVATION, i);
    unsigned level = i < census->activations_1 ? 1 : 2;
    uint64_t spread = ((uint64_t)draw_bits(&draw, 24) << 24) | draw_bits(&draw, 24);
    struct citizen citizen = citizen_at(census, spread % census->eids);
    char *p = to;
    PUT(p, "{\"event\":\"activated\",\"number\":\"");
    p = put_citizen_number(p, &citizen);
    PUT(p, "\",\"level\":");
    p = put_number(p, level);
    PUT(p, ",\"at\":\"");
    p = put_moment(p, &draw, date_draw(&draw, 2022));
    PUT(p, "\",\"device\":\"");
    p = put_hex(p, &draw, 16);
    PUT(p, "\",\"request\":\"");
    p = put_hex(p, &draw, 8);
    PUT(p, "\",\"channel\":\"");
    p = put(p, draw_bits(&draw, 2) == 0 ? "office" : "app");
    PUT(p, "\"}");
    return (size_t)(p - to);
}
