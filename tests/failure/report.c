/* report.c: a row a story and class, each violation with its first run, and the sums. */
#include "report.h"
#include "sites.h"

enum { ROWS_MAX = 1024, SORTS_MAX = 12, TEXT = 200 };

struct row {
    const char *story, *class;
    uint64_t runs[2], fired[2]; /* once, for ever; runs in which it fired, and how often */
    uint64_t violations;
    struct {
        char text[TEXT];
        uint64_t n, count;
        bool for_ever;
        uint32_t crash_depth;
        void *crash[FAILURE_DEPTH * 2];
    } sorts[SORTS_MAX];
    uint32_t sort_count;
};

static struct row rows[ROWS_MAX];
static uint32_t row_count;

static struct row *row_of(const char *story, const char *class)
{
    for (uint32_t i = 0; i < row_count; i++)
        if (rows[i].story == story && rows[i].class == class)
            return &rows[i];
    KHO_ASSERT(row_count < ROWS_MAX);
    rows[row_count] = (struct row){.story = story, .class = class};
    return &rows[row_count++];
}

/* Violations are of a sort if they say the same, numbers aside, and aborted at the same place. */
static bool alike(const struct row *row, uint32_t sort, const struct failure_report *report)
{
    const char *a = row->sorts[sort].text, *b = report->violation;
    if (row->sorts[sort].crash_depth != report->crash_depth ||
        memcmp(row->sorts[sort].crash, report->crash,
               report->crash_depth * sizeof report->crash[0]) != 0)
        return false;
    for (size_t i = 0; *a != '\0' && *b != '\0' && i < 40; i++) {
        while (*a >= '0' && *a <= '9')
            a++;
        while (*b >= '0' && *b <= '9')
            b++;
        if (*a != *b)
            return false;
        if (*a != '\0')
            a++, b++;
    }
    return true;
}

void report_run(const char *story, const char *class, uint64_t n, bool for_ever,
                const struct failure_report *report)
{
    struct row *row = row_of(story, class);
    row->runs[for_ever] += report->fired > 0;
    row->fired[for_ever] += report->fired;
    if (report->violation[0] == '\0')
        return;
    row->violations++;
    for (uint32_t i = 0; i < row->sort_count; i++)
        if (alike(row, i, report)) {
            row->sorts[i].count++;
            return;
        }
    if (row->sort_count == SORTS_MAX)
        return;
    uint32_t at = row->sort_count++;
    snprintf(row->sorts[at].text, TEXT, "%.199s", report->violation);
    row->sorts[at].n = n;
    row->sorts[at].for_ever = for_ever;
    row->sorts[at].count = 1;
    row->sorts[at].crash_depth = report->crash_depth;
    memcpy(row->sorts[at].crash, report->crash, sizeof report->crash);
}

void report_row(const char *story, const char *class)
{
    static bool head;
    const struct row *row = row_of(story, class);
    if (!head)
        printf("%-10s %-24s %9s %9s %10s\n", "story", "class", "once", "for ever", "violations");
    head = true;
    printf("%-10s %-24s %9llu %9llu %10llu\n", story, class, (unsigned long long)row->runs[0],
           (unsigned long long)row->runs[1], (unsigned long long)row->violations);
    for (uint32_t i = 0; i < row->sort_count; i++) {
        printf("    %llu times: %s\n", (unsigned long long)row->sorts[i].count, row->sorts[i].text);
        sites_print_stack(row->sorts[i].crash, row->sorts[i].crash_depth);
        printf("    again: kho-failures --story %s --class %s --at %llu%s\n", story, class,
               (unsigned long long)row->sorts[i].n, row->sorts[i].for_ever ? " --for-ever" : "");
    }
}

static void json_write(FILE *to, const struct sites_summary *sum)
{
    fprintf(to, "[\n");
    for (uint32_t i = 0; i < row_count; i++)
        fprintf(to,
                "  {\"story\": \"%s\", \"class\": \"%s\", \"once\": %llu, \"for_ever\": %llu, "
                "\"violations\": %llu},\n",
                rows[i].story, rows[i].class, (unsigned long long)rows[i].runs[0],
                (unsigned long long)rows[i].runs[1], (unsigned long long)rows[i].violations);
    fprintf(to, "  {\"calls\": %u, \"reached\": %u, \"failed\": %u, \"places\": %u}\n]\n",
            sum->calls, sum->reached, sum->failed, sum->places);
}

bool report_end(const struct failure_sites *sites, const char *json)
{
    uint64_t once = 0, ever = 0, violations = 0, silent = 0;
    for (uint32_t i = 0; i < row_count; i++) {
        once += rows[i].runs[0];
        ever += rows[i].runs[1];
        violations += rows[i].violations;
        bool fired = false;
        bool first = true; /* of the rows of that class */
        for (uint32_t k = 0; k < row_count; k++) {
            bool same = strcmp(rows[k].class, rows[i].class) == 0;
            fired |= same && rows[k].runs[0] > 0;
            first &= !same || k >= i;
        }
        if (!fired && first)
            printf("%s never fired\n", rows[i].class);
        silent += !fired;
    }
    struct sites_summary sum = sites_print(sites);
    printf("%u calls allocate: %u were reached, %u failed, in %u different ways\n", sum.calls,
           sum.reached, sum.failed, sum.places);
    printf("%llu failures once, %llu for ever; %llu violations\n", (unsigned long long)once,
           (unsigned long long)ever, (unsigned long long)violations);
    FILE *to = json != NULL ? fopen(json, "w") : NULL;
    if (to != NULL) {
        json_write(to, &sum);
        fclose(to);
    } else if (json != NULL) {
        printf("can't write %s\n", json);
        return false;
    }
    return violations == 0 && silent == 0;
}
