/* nodes.c: see nodes.h. Where there is nothing yet to take a share of, a cell says "-". */
#include "nodes.h"

#include <string.h>

uint64_t node_number(const struct kho_node_status *node, const char *name)
{
    for (size_t i = 0; i < node->stat_count; i++)
        if (strcmp(node->stat_names[i], name) == 0)
            return node->stats[i];
    return 0;
}

bool node_damaged(const struct kho_node_status *node)
{
    return node_number(node, "episodes") != 0 || node_number(node, "suspect") != 0;
}

const char *node_state(const struct kho_node_status *node, enum table_mark *ret_mark)
{
    *ret_mark = MARK_BAD;
    if (node->status == KHO_EUNAVAILABLE || node->status == KHO_EDEADLINE)
        return "unreachable";
    if (node->status != 0)
        return kho_strerror(node->status);
    if (node_number(node, "suspect") != 0)
        return "suspect: run 'kho repair'";
    if (node_number(node, "readonly") != 0)
        return "read-only: a disk write failed";
    if (node_number(node, "episodes") != 0)
        return "damaged: run 'kho repair'";
    *ret_mark = MARK_GOOD;
    return "up";
}

/* --- What it is and holds --------------------------------------------------------------------- */

enum { NUMBERS = 5 };

static void node_row(struct table *table, const struct kho_node_status *node)
{
    enum table_mark mark;
    const char *state = node_state(node, &mark);
    struct small_text text;
    table_add(table, node->name);
    table_addf(table, "%s:%u", node->address, node->port);
    table_add(table, node->zone);
    if (node->status != 0) {
        for (int i = 0; i < NUMBERS; i++)
            table_add(table, "-");
    } else {
        table_addf(table, "%llu", (unsigned long long)node->epoch);
        table_add(table, human_count(node_number(node, "records"), &text));
        table_add(table, human_bytes(node_number(node, "memory_bytes"), &text));
        table_add(table, human_bytes(node_number(node, "disk_free"), &text));
        table_add(table, human_count(node_number(node, "episodes"), &text));
    }
    table_add_marked(table, state, mark);
}

void nodes_table(const struct kho_node_status *nodes, size_t count, struct table *ret_table)
{
    static const char *const titles[] = {"NODE",    "ADDRESS",    "ZONE",      ">EPOCH", ">RECORDS",
                                         ">MEMORY", ">DISK FREE", ">EPISODES", "STATE"};
    table_init(ret_table, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < count; i++)
        node_row(ret_table, &nodes[i]);
}

/* --- What it does ----------------------------------------------------------------------------- */

static void add_bytes(struct table *table, uint64_t bytes)
{
    struct small_text text;
    table_add(table, human_bytes(bytes, &text));
}

static void add_percent(struct table *table, uint64_t part, uint64_t whole)
{
    if (whole == 0)
        table_add(table, "-");
    else
        table_addf(table, "%.0f %%", (double)part * 100 / (double)whole);
}

static void work_row(struct table *table, const struct kho_node_status *node)
{
    struct small_text text;
    uint64_t sealed = node_number(node, "sealed_bytes"), hits = node_number(node, "cache_hits");
    uint64_t records = node_number(node, "records");
    table_add(table, node->name);
    table_add(table, human_count(node_number(node, "segments"), &text));
    add_bytes(table, node_number(node, "segment_bytes"));
    add_percent(table, node_number(node, "dead_bytes"), sealed);
    add_bytes(table, node_number(node, "compacted_in"));
    add_bytes(table, node_number(node, "scrubbed_bytes"));
    table_add(table, sealed == 0 ? "-" /* only full segments are looked at */
                                 : human_seconds((double)node_number(node, "scrub_age"), &text));
    add_percent(table, hits, hits + node_number(node, "disk_reads"));
    if (records == 0)
        table_add(table, "-");
    else
        add_bytes(table, (node_number(node, "index_bytes") + records / 2) / records);
}

void nodes_work_table(const struct kho_node_status *nodes, size_t count, struct table *ret_table)
{
    static const char *const titles[] = {
        "NODE",      ">SEGMENTS",       ">LOG",   ">DEAD",         ">COMPACTED",
        ">SCRUBBED", ">CHECKED WITHIN", ">CACHE", ">INDEX/RECORD",
    };
    table_init(ret_table, titles, sizeof titles / sizeof titles[0]);
    for (size_t i = 0; i < count; i++)
        if (nodes[i].status == 0)
            work_row(ret_table, &nodes[i]);
}
