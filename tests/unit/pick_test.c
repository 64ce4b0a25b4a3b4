/* Which records kho-bench's loads are about, and when: the frequencies of fixed seeds against the
 * distributions' own, with bounds that chance passes once in a million seeds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <string.h>

#include "bench/mix.h"
#include "bench/pick.h"
#include "bench/schedule.h"
#include "bench/zipf.h"

enum { RECORDS = 1000, DRAWS = 1000000 };

static uint64_t counts[RECORDS + 10];

static void count_picks(struct pick *pick, uint64_t seed)
{
    struct dice dice = dice_of(seed);
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < DRAWS; i++) {
        uint64_t at = pick_draw(pick, &dice);
        assert_in_range(at, 0, pick->count - 1);
        counts[at]++;
    }
}

/* Within five standard deviations of a binomial. */
static void assert_share(uint64_t count, double share)
{
    double mean = DRAWS * share;
    assert_true(fabs((double)count - mean) < 5 * sqrt(mean * (1 - share)));
}

/* Ranks 0 and 1 are exact by the paper, the others close: decades of them within a tenth. */
static void zipfian_ranks(void **state)
{
    struct zipf zipf;
    struct dice dice = dice_of(3);
    double sum = 0, decades[3] = {0};
    uint64_t found[3] = {0};
    (void)state;
    zipf_init(&zipf, RECORDS);
    for (int r = 0; r < RECORDS; r++) {
        double weight = pow(r + 1, -0.99);
        sum += weight;
        if (r >= 2)
            decades[r < 10 ? 0 : r < 100 ? 1 : 2] += weight;
    }
    assert_true(fabs(zipf.sum - sum) < 1e-9);
    memset(counts, 0, sizeof counts);
    for (size_t i = 0; i < DRAWS; i++) {
        uint64_t rank = zipf_draw(&zipf, &dice);
        assert_in_range(rank, 0, RECORDS - 1);
        counts[rank]++;
        if (rank >= 2)
            found[rank < 10 ? 0 : rank < 100 ? 1 : 2]++;
    }
    assert_share(counts[0], 1 / sum);
    assert_share(counts[1], pow(2, -0.99) / sum);
    for (int d = 0; d < 3; d++)
        assert_true(fabs((double)found[d] / DRAWS / (decades[d] / sum) - 1) < 0.1);
}

/* Grown in steps it is as if it had been made so large. */
static void zipfian_grown(void **state)
{
    struct zipf grown, made;
    (void)state;
    zipf_init(&grown, 2);
    for (uint64_t n = 3; n <= RECORDS; n += 7)
        zipf_grow(&grown, n);
    zipf_grow(&grown, RECORDS);
    zipf_init(&made, RECORDS);
    assert_int_equal(grown.count, made.count);
    assert_true(fabs(grown.sum - made.sum) < 1e-9 && fabs(grown.eta - made.eta) < 1e-12);
}

/* YCSB's: the most frequent record has rank 0's share among ten billion (1 / 26.469) and its part
 * of the rest; it lies anywhere, and every record is drawn. */
static void scrambled(void **state)
{
    struct pick pick;
    uint64_t most = 0, least = DRAWS, at = 0;
    (void)state;
    pick_init(&pick, PICK_ZIPFIAN, RECORDS);
    count_picks(&pick, 5);
    for (uint64_t i = 0; i < RECORDS; i++) {
        at = counts[i] > most ? i : at;
        most = counts[i] > most ? counts[i] : most;
        least = counts[i] < least ? counts[i] : least;
    }
    assert_in_range(most, (uint64_t)(DRAWS * 0.037), (uint64_t)(DRAWS * 0.041));
    assert_true(at != 0 && least > 0);
}

/* Chi-square of 1,000 cells: 999, give or take five times its deviation of 45. */
static void uniform(void **state)
{
    struct pick pick;
    double chi = 0, mean = (double)DRAWS / RECORDS;
    (void)state;
    pick_init(&pick, PICK_UNIFORM, RECORDS);
    count_picks(&pick, 7);
    for (size_t i = 0; i < RECORDS; i++)
        chi += ((double)counts[i] - mean) * ((double)counts[i] - mean) / mean;
    assert_true(chi > 999 - 5 * 45 && chi < 999 + 5 * 45);
}

/* The newest comes most often; what is inserted becomes the newest. */
static void latest(void **state)
{
    struct pick pick;
    (void)state;
    pick_init(&pick, PICK_LATEST, RECORDS);
    count_picks(&pick, 11);
    assert_share(counts[RECORDS - 1], 1 / pick.zipf.sum);
    assert_true(counts[RECORDS - 1] > counts[RECORDS - 2]);
    assert_true(counts[RECORDS - 2] > counts[RECORDS - 20]);
    pick_grow(&pick, RECORDS + 10);
    count_picks(&pick, 12);
    assert_share(counts[RECORDS + 9], 1 / pick.zipf.sum);
    /* Few records: nothing outside. */
    pick_init(&pick, PICK_LATEST, 1);
    count_picks(&pick, 13);
    assert_int_equal(counts[0], DRAWS);
}

static void in_turn(void **state)
{
    struct pick pick;
    struct dice dice = dice_of(1);
    (void)state;
    pick_init(&pick, PICK_TURN, 3);
    for (uint64_t i = 0; i < 10; i++)
        assert_int_equal(pick_draw(&pick, &dice), i % 3);
}

/* Shares add up; letters in either case. */
static void mixes(void **state)
{
    char letter[2] = "a";
    (void)state;
    for (; letter[0] <= 'f'; letter[0]++) {
        const struct mix *mix = mix_find(letter);
        assert_non_null(mix);
        assert_int_equal(mix->read + mix->update + mix->insert + mix->scan + mix->modify, 100);
    }
    assert_null(mix_find("g"));
    assert_null(mix_find("ab"));
    assert_null(mix_find(""));
    assert_ptr_equal(mix_find("E"), mix_find("e"));
}

/* At equal distances from the beginning, to the nanosecond. */
static void schedule_fixed(void **state)
{
    struct schedule schedule;
    (void)state;
    schedule_init(&schedule, 1000000000, 1000, false, 1);
    for (uint64_t i = 1; i <= 100000; i++)
        assert_int_equal(schedule_next(&schedule), 1000000000 + i * 1000000);
}

/* Distances of the given mean; as often as e says longer than that; deviation and mean equal. */
static void schedule_poisson(void **state)
{
    struct schedule schedule;
    const double mean = 1e9 / 50000;
    double squares = 0;
    uint64_t last = 5, longer = 0;
    (void)state;
    schedule_init(&schedule, 5, 50000, true, 9);
    for (size_t i = 0; i < DRAWS; i++) {
        uint64_t at = schedule_next(&schedule);
        assert_true(at >= last);
        double gap = (double)(at - last);
        longer += gap > mean;
        squares += (gap - mean) * (gap - mean);
        last = at;
    }
    assert_true(fabs((double)(last - 5) / DRAWS / mean - 1) < 0.005);
    assert_share(longer, exp(-1));
    assert_true(fabs(sqrt(squares / DRAWS) / mean - 1) < 0.01);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(zipfian_ranks),
        cmocka_unit_test(zipfian_grown),
        cmocka_unit_test(scrambled),
        cmocka_unit_test(uniform),
        cmocka_unit_test(latest),
        cmocka_unit_test(in_turn),
        cmocka_unit_test(mixes),
        cmocka_unit_test(schedule_fixed),
        cmocka_unit_test(schedule_poisson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
