/* answer.h: calls on a simulated client, and copies of what they ended with.
 *
 * An answer is the caller's; it stays in place until `done`, then answer_fini() frees the copies.
 */
#ifndef KHO_SIM_ANSWER_H
#define KHO_SIM_ANSWER_H

#include "cluster.h"

struct answer {
    struct queue link; /* among the client's, while under way */
    bool done;
    bool crashed; /* the client went away before */
    enum client_verb verb;
    kho_call_id call;
    uint64_t begun_ns, ended_ns;
    int status;
    size_t count;
    struct kho_result *results; /* keys and values copied */
    struct kho_cursor next;
    int list_done;
    struct kho_verify_result *verify; /* `count` of them; names copied */
    struct kho_digest *digests;
    struct kho_node_status *nodes; /* names and numbers left out */
    struct kho_repair_result repair;
    void (*then)(struct answer *answer, void *arg); /* runs when done; may free the answer */
    void *arg;
};

void answer_fini(struct answer *answer);

/* The call began (0) or its error. */
int answer_records(struct answer *answer, struct client_end *end, enum client_verb verb,
                   const char *collection, const struct kho_item *items, size_t count,
                   uint32_t deadline_ms);
int answer_list(struct answer *answer, struct client_end *end, const char *collection,
                const struct kho_cursor *from, size_t limit, unsigned flags, uint32_t deadline_ms);
int answer_compare(struct answer *answer, struct client_end *end, enum client_verb verb,
                   const char *collection, uint32_t deadline_ms);
int answer_repair(struct answer *answer, struct client_end *end, const char *collection);
int answer_flush(struct answer *answer, struct client_end *end, uint32_t deadline_ms);
int answer_map_push(struct answer *answer, struct client_end *end, uint32_t deadline_ms);
int answer_readmit(struct answer *answer, struct client_end *end, const char *node,
                   uint32_t deadline_ms);
int answer_member(struct answer *answer, struct client_end *end,
                  const struct kho_node_change *change, uint32_t deadline_ms);
int answer_collection_create(struct answer *answer, struct client_end *end, const char *name,
                             uint32_t deadline_ms);

/* Runs the simulation until it is done, at most `ns`: true if it is. */
bool answer_wait(struct answer *answer, struct client_end *end, uint64_t ns);

/* Runs until no client of the cluster has a call under way, at most `ns`: true if so. */
bool answers_over(struct cluster *cluster, uint64_t ns);

/* For cluster.c: what a client's core handed out, and what is lost with it. */
void answer_take(struct client_end *end, const struct client_done *done);
void answers_lost(struct client_end *end);

#endif
