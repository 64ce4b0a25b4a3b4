/* verdict.c: what must hold when everything is healed: all calls end, every record can be read, a
 * repair makes all replicas equal, every acknowledged record is on all of them; and the history is
 * that of a register for each key. */
#include "workload.h"

#include "medium_check.h"
#include "raw.h"
#include <kho/map.h>

/* A disk may take most of a second for one op, which is no reason to call a record out of reach. */
enum { REPAIR_TRIES = 8, PAGE = 16, READ_MS = 10000 };

/* --- The replicas, asked one by one ----------------------------------------------------------- */

static int probe(struct raw *raw, const struct slot *slot, uint32_t partition, struct key_hash hash,
                 struct wire_probe_answer *ret_answer)
{
    uint8_t body[WIRE_PROBE_ASK];
    struct wire_probe_ask ask = {
        .collection = slot->event ? 2 : 1, .partition = partition, .hash = hash};
    struct wire_head head;
    const uint8_t *answer;
    wire_probe_ask_encode(&ask, body);
    raw_send(raw, WIRE_PROBE, 0, 1, raw->hello.epoch, raw->hello.map_hash, body, sizeof body);
    int rc = raw_receive(raw, &head, &answer);
    if (rc != 0)
        return rc;
    if (head.status != 0 || head.count != 1)
        return head.status != 0 ? head.status : KHO_EMALFORMED;
    wire_probe_answer_decode(answer, ret_answer);
    return 0;
}

int verdict_probe(struct workload *w, const struct slot *slot, uint32_t k,
                  struct wire_probe_answer *ret_answer)
{
    const struct cluster_options *o = &w->cluster->options;
    uint32_t collection = slot->event ? 2 : 1;
    struct key_hash hash = key_hash(collection, slot->bytes, slot->len, w->cluster->map_seed);
    uint32_t partition = (uint32_t)(hash.low & (o->partitions - 1));
    struct raw raw;
    struct node *node = &w->cluster->nodes[workload_replica(w, partition, k)];
    memset(ret_answer, 0, sizeof *ret_answer);
    int rc = raw_open_shard(&raw, node, partition % node->shard_count, &w->cluster->id, 0);
    if (rc == 0)
        rc = probe(&raw, slot, partition, hash, ret_answer);
    sim_trace(w->sim, "replica %s of key %u: state %u, version %llu.%u (%d)", node->name,
              slot->history_key, ret_answer->state, (unsigned long long)ret_answer->version.counter,
              ret_answer->version.writer, rc);
    raw_close(&raw);
    return rc;
}

/* The newest version of the key is of a write that no client was told of, which reached fewer
 * replicas than an acknowledgement takes, and none of them has its value any more: nobody can read
 * the key until a repair has the version given up. */
static bool orphaned(struct workload *w, const struct slot *slot)
{
    const struct cluster_options *o = &w->cluster->options;
    uint32_t holders = 0;
    struct version newest = {0};
    bool whole = false;
    for (uint32_t k = 0; k < o->replicas; k++) {
        struct wire_probe_answer got;
        if (verdict_probe(w, slot, k, &got) != 0 || got.state == WIRE_UNKNOWN)
            return false;
        int order = version_compare(got.version, newest);
        if (got.state == WIRE_ABSENT || order < 0)
            continue;
        holders = order > 0 ? 1 : holders + 1;
        whole = (order == 0 && whole) || got.state != WIRE_VALUE_UNKNOWN;
        newest = got.version;
    }
    return !whole && holders < o->write_quorum &&
           version_compare(newest, history_acknowledged(&w->history, slot->history_key)) > 0;
}

static int read_one(struct raw *raw, uint32_t collection, const uint8_t *key, size_t key_len,
                    uint32_t partition, struct key_hash hash)
{
    uint8_t body[WIRE_READ_ASK + KHO_KEY_MAX];
    const uint8_t *answer;
    struct wire_head head;
    struct wire_read_ask ask = {.collection = collection,
                                .partition = partition,
                                .key_len = (uint16_t)key_len,
                                .ask = KHO_READ_HEAD,
                                .hash = hash,
                                .key = key};
    wire_read_ask_encode(&ask, body);
    raw_send(raw, WIRE_READ, 0, 1, raw->hello.epoch, raw->hello.map_hash, body,
             WIRE_READ_ASK + key_len);
    return raw_receive(raw, &head, &answer);
}

/* All keys that are on some disk, or were told to a client. */
static size_t all_keys(struct workload *w, struct medium_key **ret_keys)
{
    struct medium_view view;
    size_t count = w->slot_count;
    struct medium_key *keys = calloc(count + 1, sizeof *keys);
    KHO_ASSERT(keys != NULL);
    for (size_t i = 0; i < count; i++) {
        keys[i] =
            (struct medium_key){.collection = w->slots[i].event ? 2 : 1, .len = w->slots[i].len};
        memcpy(keys[i].bytes, w->slots[i].bytes, w->slots[i].len);
    }
    medium_view_take(w, &view);
    for (uint32_t n = 0; n < w->cluster->options.nodes && !w->sim->failed; n++)
        for (uint32_t k = 0; k < w->cluster->options.shards; k++)
            medium_check_orphans(w, &view.scans[n][k], &keys, &count);
    medium_view_fini(&view);
    *ret_keys = keys;
    return count;
}

/* Each record is read on each replica, so that rot shows which no reader has met: a repair mends
 * what is known. */
static void read_each(struct workload *w)
{
    const struct cluster_options *o = &w->cluster->options;
    struct medium_key *keys;
    size_t count = all_keys(w, &keys);
    for (uint32_t n = 0; n < o->nodes * o->shards && !w->sim->failed; n++) {
        struct node *node = &w->cluster->nodes[n / o->shards];
        struct raw raw;
        int rc = raw_open_shard(&raw, node, n % o->shards, &w->cluster->id, 0);
        for (size_t i = 0; i < count && rc == 0; i++) {
            const struct medium_key *key = &keys[i];
            struct key_hash hash =
                key_hash(key->collection, key->bytes, key->len, w->cluster->map_seed);
            uint32_t partition = (uint32_t)(hash.low & (o->partitions - 1));
            if (partition % o->shards == n % o->shards)
                rc = read_one(&raw, key->collection, key->bytes, key->len, partition, hash);
        }
        if (rc != 0)
            sim_fail(w->sim, "%s doesn't answer reads: %d", node->name, rc);
        raw_close(&raw);
    }
    free(keys);
}

/* A fresh client reads every key. Every read has to succeed, but, before a repair, those of what a
 * write in doubt left behind without a value. */
static void read_all(struct workload *w, struct client_end *end, bool repaired)
{
    const char *when = repaired ? "repaired" : "healed";
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++) {
        const struct slot *slot = &w->slots[i];
        struct kho_item item = {.key = slot->bytes, .key_len = slot->len};
        struct answer a = {0};
        size_t op = history_begin(&w->history, slot->history_key, end->index, HISTORY_READ, 0);
        int rc = answer_records(&a, end, CLIENT_GET, slot->event ? "events" : "records", &item, 1,
                                READ_MS);
        if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S) || a.count != 1) {
            sim_fail(w->sim, "%s: get of key %u doesn't end (%d)", when, slot->history_key, rc);
            return;
        }
        int status = a.results[0].status;
        bool excused = status == KHO_EDAMAGED && !repaired && orphaned(w, slot);
        if (status != 0 && status != KHO_ENOTFOUND && !excused) {
            for (uint32_t k = 0; k < w->cluster->options.replicas; k++)
                (void)verdict_probe(w, slot, k, &(struct wire_probe_answer){0});
            sim_fail(w->sim, "%s: get of key %u fails: %s", when, slot->history_key,
                     kho_error_name(status) != NULL ? kho_error_name(status) : "a system error");
        }
        read_end(w, slot, op, &a.results[0], false);
        answer_fini(&a);
    }
}

static void flush(struct workload *w, struct client_end *end)
{
    struct answer a = {0};
    if (end->client == NULL || w->sim->failed)
        return;
    int rc = answer_flush(&a, end, 20000);
    if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S))
        sim_fail(w->sim, "client %u: flush doesn't end (%d)", end->index, rc);
    answer_fini(&a);
}

/* Nodes that missed a map get it: until then they are behind and serve nothing, and a change that
 * its admin didn't see to the end is in force nowhere. */
static void bring_map(struct workload *w, struct client_end *end)
{
    int status = KHO_EUNAVAILABLE;
    for (int tries = 0; tries < REPAIR_TRIES && status != 0 && !w->sim->failed; tries++) {
        struct answer a = {0};
        int rc = answer_map_push(&a, end, 20000);
        if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S)) {
            sim_fail(w->sim, "map push doesn't end (%d)", rc);
            return;
        }
        status = a.status;
        answer_fini(&a);
        if (status == KHO_EINCARNATION) {
            /* It was let in by a map that lost against an older one's successors. */
            w->readmit = true;
            admin_readmit(w, end);
        }
        if (status != 0)
            cluster_run(w->cluster, SIM_S);
    }
    if (status != 0 && !w->sim->failed)
        sim_fail(w->sim, "the map can't be brought to all nodes: %d", status);
}

static void repair(struct workload *w, struct client_end *end)
{
    int status = 0;
    for (int tries = 0; tries < REPAIR_TRIES && !w->sim->failed; tries++) {
        struct answer a = {0};
        int rc = answer_repair(&a, end, NULL);
        if (rc != 0 || !answer_wait(&a, end, 600 * SIM_S)) {
            sim_fail(w->sim, "repair doesn't end (%d)", rc);
            return;
        }
        status = a.status;
        sim_trace(
            w->sim, "repair: %d, copied %llu, lost %llu, dropped %llu, episodes %llu, closed %llu",
            status, (unsigned long long)a.repair.records_copied,
            (unsigned long long)a.repair.records_lost, (unsigned long long)a.repair.records_dropped,
            (unsigned long long)a.repair.episodes_found,
            (unsigned long long)a.repair.episodes_closed);
        answer_fini(&a);
        if (status == 0)
            return;
        cluster_run(w->cluster, SIM_S);
    }
    if (!w->sim->failed)
        sim_fail(w->sim, "repair fails again and again with %s",
                 kho_error_name(status) != NULL ? kho_error_name(status) : "a system error");
}

static void verify(struct workload *w, struct client_end *end)
{
    struct answer a = {0};
    if (w->sim->failed)
        return;
    int rc = answer_compare(&a, end, CLIENT_VERIFY, NULL, 30000);
    if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S) || a.status != 0)
        sim_fail(w->sim, "verify fails (%d, %d)", rc, a.status);
    for (size_t i = 0; i < a.count && !w->sim->failed; i++)
        if (a.verify[i].partitions_differing != 0 || a.verify[i].partitions_unreached != 0 ||
            a.verify[i].partitions_damaged != 0)
            sim_fail(w->sim, "after repair, %s: %u partitions differ, %u unreached, %u damaged",
                     a.verify[i].collection, a.verify[i].partitions_differing,
                     a.verify[i].partitions_unreached, a.verify[i].partitions_damaged);
    answer_fini(&a);
}

/* --- All of them, by their own word ----------------------------------------------------------- */

/* By a HELLO of now: damage may have been found since the others were said. */
static bool has_episode(struct workload *w, struct node *node, uint32_t shard)
{
    struct raw raw;
    int rc = raw_open_shard(&raw, node, shard, &w->cluster->id, 0);
    raw_close(&raw);
    return rc == 0 && (raw.hello.flags & KHO_HELLO_EPISODE) != 0;
}

/* A value that isn't known stands under an episode, or no repair would look for it; once repaired,
 * every acknowledged or read version is on all replicas, by their own word. */
static void probe_all(struct workload *w, bool repaired)
{
    const struct cluster_options *o = &w->cluster->options;
    struct raw raws[VNET_NODES_MAX * NODE_SHARDS_MAX];
    uint32_t shards = o->shards, raw_count = o->nodes * shards;
    for (uint32_t n = 0; n < raw_count; n++) {
        struct node *node = &w->cluster->nodes[n / shards];
        int rc = raw_open_shard(&raws[n], node, n % shards, &w->cluster->id, 0);
        if (rc != 0 || raws[n].hello.status != 0) {
            sim_fail(w->sim, "%s turns a probe away: %d, %d", node->name, rc,
                     rc == 0 ? raws[n].hello.status : 0);
            return;
        }
    }
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++) {
        const struct slot *slot = &w->slots[i];
        struct version least = history_acknowledged(&w->history, slot->history_key);
        uint32_t collection = slot->event ? 2 : 1;
        struct key_hash hash = key_hash(collection, slot->bytes, slot->len, w->cluster->map_seed);
        uint32_t partition = key_partition(collection, slot->bytes, slot->len, w->cluster->map_seed,
                                           KHO_NO_SEPARATOR, o->partitions, hash);
        for (uint32_t k = 0; k < o->replicas && !w->sim->failed; k++) {
            uint32_t n = workload_replica(w, partition, k);
            struct wire_probe_answer got = {0};
            int rc = probe(&raws[n * shards + partition % shards], slot, partition, hash, &got);
            if (rc == 0 && got.state == WIRE_VALUE_UNKNOWN &&
                !has_episode(w, &w->cluster->nodes[n], partition % shards))
                sim_fail(w->sim, "%s lost the value of key %u and has no episode open",
                         w->cluster->nodes[n].name, slot->history_key);
            if (repaired && (rc != 0 || got.state >= WIRE_VALUE_UNKNOWN ||
                             version_compare(got.version, least) < 0))
                sim_fail(w->sim,
                         "after repair, %s has key %u in state %u, version %llu.%u (%d); "
                         "%llu.%u was told to a client",
                         w->cluster->nodes[n].name, slot->history_key, got.state,
                         (unsigned long long)got.version.counter, got.version.writer, rc,
                         (unsigned long long)least.counter, least.writer);
        }
    }
    for (uint32_t n = 0; n < raw_count; n++)
        raw_close(&raws[n]);
}

/* --- Listing ---------------------------------------------------------------------------------- */

static struct slot *slot_of(struct workload *w, const struct kho_result *r)
{
    for (size_t i = 0; i < w->slot_count; i++)
        if (w->slots[i].len == r->key_len && memcmp(w->slots[i].bytes, r->key, r->key_len) == 0)
            return &w->slots[i];
    return NULL;
}

/* The last read of a key, which had the last word on it. */
static const struct history_op *last_read(const struct workload *w, uint32_t key)
{
    for (size_t i = w->history.count; i-- > 0;)
        if (w->history.ops[i].key == key && w->history.ops[i].kind == HISTORY_READ &&
            w->history.ops[i].end == HISTORY_OK)
            return &w->history.ops[i];
    return NULL;
}

static void list_one(struct workload *w, const struct kho_result *r, uint32_t *times)
{
    struct slot *slot = slot_of(w, r);
    if (slot == NULL)
        return; /* an append in doubt whose key nobody was told */
    const struct history_op *op = last_read(w, slot->history_key);
    uint64_t value = r->value != NULL ? value_check(w, slot, r->value, r->value_len) : 0;
    times[slot - w->slots]++;
    if (op == NULL || op->value != value || value == 0)
        sim_fail(w->sim, "list tells value %llu of key %u, get said %llu",
                 (unsigned long long)value, slot->history_key,
                 (unsigned long long)(op != NULL ? op->value : 0));
}

static void list_all(struct workload *w, struct client_end *end)
{
    uint32_t *times = calloc(w->slot_count + 1, sizeof *times);
    KHO_ASSERT(times != NULL);
    for (int event = 0; event < 2; event++) {
        struct kho_cursor cursor = {{0}};
        for (int done = 0; !done && !w->sim->failed;) {
            struct answer a = {0};
            int rc = answer_list(&a, end, event ? "events" : "records", &cursor, PAGE,
                                 KHO_LIST_WITH_VALUES, 30000);
            if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S) || a.status != 0)
                sim_fail(w->sim, "list fails (%d, %d)", rc, a.status);
            for (size_t i = 0; i < a.count && !w->sim->failed; i++)
                list_one(w, &a.results[i], times);
            cursor = a.next;
            done = a.list_done;
            answer_fini(&a);
        }
    }
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++) {
        const struct history_op *op = last_read(w, w->slots[i].history_key);
        if (times[i] != (op != NULL && op->value != 0))
            sim_fail(w->sim, "list tells key %u %u times", w->slots[i].history_key, times[i]);
    }
    free(times);
}

/* Whatever was begun has ended: repairs and other errands, too. */
static void calls_over(struct workload *w)
{
    if (!answers_over(w->cluster, 600 * SIM_S) && !w->sim->failed)
        sim_fail(w->sim, "a call is still under way ten minutes after all was healed");
    else if (w->admin_calls > 0 && !w->sim->failed)
        sim_fail(w->sim, "%u calls of an admin ended nowhere", w->admin_calls);
}

/* The disks themselves, once calls have ended. */
static void check_disks(struct workload *w, bool repaired)
{
    struct medium_view view;
    medium_view_take(w, &view);
    if (!w->sim->failed)
        medium_check_records(w, &view, repaired);
    if (!w->sim->failed && repaired)
        medium_check_digests(w, &view);
    medium_view_fini(&view);
}

void verdict(struct workload *w)
{
    sim_run(w->sim, w->sim->now_ns + 120 * SIM_S, &w->idle);
    if (!w->sim->failed && !w->idle)
        sim_fail(w->sim, "%u calls haven't ended two minutes after all was healed",
                 w->calls_under_way);
    if (w->sim->failed)
        return;
    /* What is rotten where nobody reads is found before the repair, not behind it. */
    cluster_run(w->cluster, 2 * w->cluster->options.scrub_ms * SIM_MS);
    struct client_end *end = &w->cluster->clients[cluster_client_add(w->cluster)];
    admin_readmit(w, end);
    bring_map(w, end);
    if (w->plan.full && w->round == 1 && !w->sim->failed)
        memory_check(w, end);
    if (w->plan.full && w->round == 1 && !w->sim->failed)
        memory_raise(w);
    if (!w->sim->failed)
        probe_all(w, false);
    if (!w->sim->failed)
        read_all(w, end, false);
    /* What clients still hold back for replicas that lagged must not arrive behind the repair. */
    for (uint32_t i = 0; i < w->cluster->client_count; i++)
        flush(w, &w->cluster->clients[i]);
    /* Judged here, too, so that a repair can't hide what went before. */
    if (!w->sim->failed)
        check_history(&w->history);
    if (!w->sim->failed)
        check_disks(w, false);
    /* What an episode hides is read once the repair has closed it, and mended by another. */
    for (int round = 0; round < 2 && !w->sim->failed; round++) {
        repair(w, end);
        if (!w->sim->failed)
            read_each(w);
    }
    if (!w->sim->failed)
        repair(w, end);
    verify(w, end);
    if (!w->sim->failed)
        read_all(w, end, true);
    if (!w->sim->failed)
        probe_all(w, true);
    if (!w->sim->failed)
        check_disks(w, true);
    if (!w->sim->failed)
        medium_check_votes(w);
    if (!w->sim->failed)
        list_all(w, end);
    if (!w->sim->failed)
        calls_over(w);
    if (!w->sim->failed)
        check_history(&w->history);
}

/* Two replicas are damaged: a read may say so, and must say so in time. What it tells is judged by
 * the history like any other: no wrong bytes, no older value, no record that is missing. */
void verdict_beyond(struct workload *w)
{
    w->quiet = true;
    vnet_open_all(w->cluster->net);
    folders_return(w);
    for (uint32_t i = 0; i < w->cluster->options.nodes && !w->sim->failed; i++) {
        struct node *node = &w->cluster->nodes[i];
        node_sleep(node, 0);
        disk_heal(node);
        for (int ms = 0; node->stopping && ms < 60000 && !w->sim->failed; ms++)
            cluster_run(w->cluster, SIM_MS);
        if (!node->up && !w->sim->failed)
            node_start(node);
    }
    sim_run(w->sim, w->sim->now_ns + 120 * SIM_S, &w->idle);
    if (!w->sim->failed && !w->idle)
        sim_fail(w->sim, "%u calls haven't ended two minutes after the faults", w->calls_under_way);
    if (w->sim->failed)
        return;
    struct client_end *end = &w->cluster->clients[cluster_client_add(w->cluster)];
    for (size_t i = 0; i < w->slot_count && !w->sim->failed; i++) {
        const struct slot *slot = &w->slots[i];
        struct kho_item item = {.key = slot->bytes, .key_len = slot->len};
        struct answer a = {0};
        size_t op = history_begin(&w->history, slot->history_key, end->index, HISTORY_READ, 0);
        int rc = answer_records(&a, end, CLIENT_GET, slot->event ? "events" : "records", &item, 1,
                                READ_MS);
        if (rc != 0 || !answer_wait(&a, end, 60 * SIM_S) || a.count != 1)
            sim_fail(w->sim, "beyond: get of key %u doesn't end (%d)", slot->history_key, rc);
        else
            read_end(w, slot, op, &a.results[0], false);
        answer_fini(&a);
    }
    if (!w->sim->failed)
        calls_over(w);
    if (!w->sim->failed)
        check_history(&w->history);
}
