/* admin.c: repairs, new collections and readmitted nodes in the middle of it all.
 *
 * Nothing is demanded of such a call while faults go on but that it ends, and that no promise of
 * the records breaks. */
#include "workload.h"

#include <errno.h>
#include <kho/map.h>

struct errand {
    struct answer answer;
    struct workload *w;
};

static void readmit_soon(struct workload *w);

static struct client_end *client_draw(struct workload *w)
{
    struct client_end *end = &w->cluster->clients[dice_below(&w->admin_dice, w->plan.clients)];
    return end->client != NULL ? end : NULL;
}

static void errand_done(struct answer *a, void *arg)
{
    struct errand *errand = arg;
    struct workload *w = errand->w;
    bool readmit = a->verb == CLIENT_READMIT;
    bool let_in = !a->crashed && (a->status == 0 || a->status == -EALREADY);
    w->admin_calls--;
    sim_trace(w->sim, "admin: verb %d ends: %d", (int)a->verb, a->status);
    answer_fini(a);
    free(errand);
    if (readmit && let_in)
        w->readmit = false;
    else if (readmit && !w->quiet)
        readmit_soon(w);
}

static struct errand *errand_make(struct workload *w)
{
    struct errand *errand = calloc(1, sizeof *errand);
    KHO_ASSERT(errand != NULL);
    errand->w = w;
    errand->answer.then = errand_done;
    errand->answer.arg = errand;
    w->admin_calls++;
    return errand;
}

/* What came of submitting it. */
static bool errand_begun(struct errand *errand, int rc)
{
    if (rc == 0)
        return true;
    errand->w->admin_calls--;
    free(errand);
    return false;
}

void admin_repair(struct workload *w)
{
    struct client_end *end = client_draw(w);
    if (end == NULL || w->admin_calls >= w->plan.admins)
        return;
    sim_trace(w->sim, "admin: client %u repairs", end->index);
    sim_fault(w->sim, SIM_FAULT_repair);
    struct errand *errand = errand_make(w);
    errand_begun(errand, answer_repair(&errand->answer, end, NULL));
}

void admin_collection(struct workload *w)
{
    struct client_end *end = client_draw(w);
    char name[16];
    if (end == NULL || w->admin_calls >= w->plan.admins || w->collections == 12)
        return;
    snprintf(name, sizeof name, "more-%u", w->collections++);
    sim_trace(w->sim, "admin: client %u makes collection %s", end->index, name);
    sim_fault(w->sim, SIM_FAULT_collection);
    struct errand *errand = errand_make(w);
    errand_begun(errand, answer_collection_create(&errand->answer, end, name, w->plan.deadline_ms));
}

const struct map *workload_map(const struct workload *w)
{
    const struct map *newest = NULL;
    for (uint32_t n = 0; n < w->cluster->options.nodes; n++) {
        const struct node *node = &w->cluster->nodes[n];
        for (uint32_t s = 0; node->up && s < node->shard_count; s++) {
            const struct map *map = shard_map(node->shards[s].shard);
            if (map != NULL && (newest == NULL || map->epoch > newest->epoch))
                newest = map;
        }
    }
    return newest;
}

uint32_t workload_replica(const struct workload *w, uint32_t partition, uint32_t k)
{
    const struct map *map = workload_map(w);
    return map != NULL ? map_replica(map, partition, k)
                       : (partition + k) % w->cluster->options.nodes;
}

/* Never fewer nodes that hold something than replicas: the change would be refused. */
static enum kho_node_verb verb_draw(struct workload *w, const struct map *map)
{
    uint32_t up = 0;
    for (uint32_t i = 0; i < map->node_count; i++) {
        struct map_node node;
        map_node(map, i, &node);
        up += node.state == MAP_NODE_UP;
    }
    switch (dice_below(&w->admin_dice, 8)) {
    case 0:
    case 1:
        return up > map->width ? KHO_NODE_DRAIN : KHO_NODE_UNDRAIN;
    case 2:
    case 3:
        return KHO_NODE_UNDRAIN;
    case 4:
        return KHO_NODE_HOME;
    case 5:
        return KHO_NODE_BALANCE;
    default:
        return KHO_NODE_SET;
    }
}

void admin_member(struct workload *w)
{
    struct client_end *end = client_draw(w);
    const struct map *map = workload_map(w);
    const struct cluster_options *o = &w->cluster->options;
    if (end == NULL || map == NULL || w->admin_calls >= w->plan.admins || w->plan.beyond ||
        o->nodes <= o->replicas || o->ballast > 0)
        return;
    struct kho_node_change change = {
        .struct_size = sizeof change,
        .verb = verb_draw(w, map),
        .name = w->cluster->nodes[dice_below(&w->admin_dice, o->nodes)].name,
        .weight = (unsigned)dice_between(&w->admin_dice, 1, 3)};
    sim_trace(w->sim, "admin: client %u changes node %s: %d", end->index, change.name,
              (int)change.verb);
    sim_fault(w->sim, SIM_FAULT_member);
    struct errand *errand = errand_make(w);
    errand_begun(errand, answer_member(&errand->answer, end, &change, w->plan.deadline_ms));
}

static void readmit_try(void *owner, uint64_t arg)
{
    struct workload *w = owner;
    (void)arg;
    if (w->quiet || w->sim->failed)
        return;
    struct client_end *end = client_draw(w);
    if (end == NULL) {
        readmit_soon(w);
        return;
    }
    struct errand *errand = errand_make(w);
    if (!errand_begun(errand,
                      answer_readmit(&errand->answer, end, w->cluster->nodes[w->weak].name, 3000)))
        readmit_soon(w);
}

static void readmit_soon(struct workload *w)
{
    sim_after(w->sim, 1 + dice_below(&w->admin_dice, 500 * SIM_MS), readmit_try, w, 0);
}

void admin_wipe(struct workload *w)
{
    struct node *node = &w->cluster->nodes[w->weak];
    if (w->wiped == 2 || w->readmit || w->troubled >= 0 || !node_serving(node))
        return;
    node_kill(node);
    node_wipe(node);
    node_start(node);
    sim_fault(w->sim, SIM_FAULT_wipe);
    w->wiped++;
    w->readmit = true;
    readmit_soon(w);
}

void admin_readmit(struct workload *w, struct client_end *end)
{
    int status = 0;
    for (int tries = 0; tries < 10 && w->readmit && !w->sim->failed; tries++) {
        struct answer a = {0};
        int rc = answer_readmit(&a, end, w->cluster->nodes[w->weak].name, 20000);
        if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S)) {
            sim_fail(w->sim, "readmit doesn't end (%d)", rc);
            return;
        }
        status = a.status;
        w->readmit = status != 0 && status != -EALREADY;
        answer_fini(&a);
        if (status == KHO_EINCARNATION && tries == 4) {
            /* It was let in by a map that others never got, while one of them was away, and is that
             * map's alone now: what helps is a folder made anew. */
            struct node *node = &w->cluster->nodes[w->weak];
            node_kill(node);
            node_wipe(node);
            node_start(node);
        }
        cluster_run(w->cluster, SIM_S);
    }
    if (w->readmit)
        sim_fail(w->sim, "%s can't be readmitted: %d", w->cluster->nodes[w->weak].name, status);
}
