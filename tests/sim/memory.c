/* memory.c: nodes whose memory is used up (DESIGN section 6): new keys are refused as full, updates
 * and deletes of what all replicas have pass.
 *
 * A node doesn't start with less memory than a million records take, and no run writes so many. But
 * each collection that has a record takes a table for every partition: a few dozen further
 * collections are the ballast. When the first round's faults are over and the updates were tried,
 * the admin gives the nodes more memory, since a repair may have new keys to bring. */
#include "workload.h"

enum { FILL_KEYS = 4, FILL_KEYS_MAX = FILL_KEYS * VNET_NODES_MAX * NODE_SHARDS_MAX };
static const uint64_t memory_ample = 128ull << 20;

void memory_plan(struct plan *plan, struct cluster_options *options)
{
    plan->full = true;
    plan->keys = (uint32_t)kho_max(plan->keys, 16);
    options->partitions = 512;
    options->ballast = 96;
    /* The least that a node takes; buffers of commits leave 2 MiB of it to the index. */
    options->memory_max = 64ull << 20;
    options->commits_max = 3;
}

/* Records in one more collection, enough for all shards to have some; true once half of them were
 * refused as full. */
static bool fill_one(struct workload *w, struct client_end *end, uint32_t collection)
{
    const struct cluster_options *o = &w->cluster->options;
    char name[24], keys[FILL_KEYS_MAX][12];
    struct kho_item items[FILL_KEYS_MAX];
    struct answer a = {0};
    size_t count = (size_t)FILL_KEYS * o->nodes * o->shards, full = 0;
    memset(items, 0, sizeof items);
    snprintf(name, sizeof name, "ballast-%u", collection);
    for (size_t i = 0; i < count; i++) {
        int len = snprintf(keys[i], sizeof keys[i], "b-%zu", i);
        items[i] = (struct kho_item){.key = keys[i], .key_len = (size_t)len};
    }
    int rc = answer_records(&a, end, CLIENT_PUT, name, items, count, 10000);
    if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S) || a.count != count)
        sim_fail(w->sim, "a put into %s doesn't end (%d)", name, rc);
    for (size_t i = 0; i < a.count && !w->sim->failed; i++) {
        full += a.results[i].status == KHO_EFULL;
        if (a.results[i].status != 0 && a.results[i].status != KHO_EFULL &&
            a.results[i].status != KHO_EINDOUBT)
            sim_fail(w->sim, "a put into %s fails: %d", name, a.results[i].status);
    }
    answer_fini(&a);
    return full >= count / 2;
}

void memory_fill(struct workload *w)
{
    struct client_end *end = &w->cluster->clients[0];
    bool full = false;
    /* Some keys are there before; the others are new ones. */
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i += 2)
        workload_put(w, end, &w->slots[i], false);
    for (uint32_t i = 0; i < w->cluster->options.ballast && !full && !w->sim->failed; i++)
        full = fill_one(w, end, i);
    if (!full && !w->sim->failed)
        sim_fail(w->sim, "%u collections don't fill the memory of a node",
                 w->cluster->options.ballast);
    sim_trace(w->sim, "the memory of the nodes is full");
}

/* --- At the bound ----------------------------------------------------------------------------- */

/* True if all replicas have an entry of the key. */
static bool everywhere(struct workload *w, const struct slot *slot)
{
    for (uint32_t k = 0; k < w->cluster->options.replicas; k++) {
        struct wire_probe_answer got;
        if (verdict_probe(w, slot, k, &got) != 0 ||
            (got.state != WIRE_PRESENT && got.state != WIRE_TOMBSTONE))
            return false;
    }
    return true;
}

void memory_check(struct workload *w, struct client_end *end)
{
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++) {
        if (!everywhere(w, &w->slots[i]))
            continue;
        workload_put(w, end, &w->slots[i], i % 3 == 0);
        w->checked.updates_full++;
    }
}

void memory_raise(struct workload *w)
{
    w->cluster->options.memory_max = memory_ample;
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++) {
        struct node *node = &w->cluster->nodes[i];
        node_kill(node);
        node_start(node);
        if (!node_wait_serving(node, 120 * SIM_S))
            sim_fail(w->sim, "%s doesn't come up with more memory: %s", node->name, node->failure);
    }
}
