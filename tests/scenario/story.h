/* story.h: the words in which a scenario is told: a cluster of three, one client, records put and
 * read, nodes that go and come back. Each word waits until what it does has ended. */
#ifndef KHO_SCENARIO_STORY_H
#define KHO_SCENARIO_STORY_H

#include "tests/sim/answer.h"
#include "tests/sim/cluster.h"
#include "tests/sim/damage.h"
#include "tests/sim/raw.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct story {
    struct sim sim;
    struct cluster *cluster;
    struct node *nodes;
    struct client_end *client; /* the first one */
};

/* What one record ended with. */
struct outcome {
    int status;
    enum kho_outcome outcome;
    struct kho_version version;
    struct kho_token token;
    size_t value_len;
    uint8_t value[4096];
    uint64_t took_ms;
};

/* `options` NULL: the usual ones. */
struct story *story_begin(const struct cluster_options *options, uint64_t seed);
/* Checks that the simulation found nothing wrong, and frees all. */
void story_end(struct story *story);

struct outcome story_write(struct story *s, struct client_end *end, enum client_verb verb,
                           const char *key, const char *value, const struct kho_token *token,
                           uint32_t deadline_ms);
struct outcome story_read(struct story *s, struct client_end *end, enum client_verb verb,
                          const char *key, uint32_t deadline_ms);
/* By the first client, with the usual deadline; must succeed. */
void story_put(struct story *s, const char *key, const char *value);
void story_expect(struct story *s, const char *key, const char *value); /* NULL: not found */
/* Puts `count` records "<prefix><i>" with values that don't compress; reads and compares them. */
void story_fill(struct story *s, const char *prefix, unsigned count);
void story_expect_filled(struct story *s, struct client_end *end, const char *prefix,
                         unsigned count);
/* The bytes of such a value, 64 of them. */
void story_fill_value(const char *prefix, unsigned i, uint8_t *ret_value);
void story_flush(struct story *s);
int story_repair(struct story *s, struct kho_repair_result *ret_result);
/* All replicas are equal and undamaged. */
void story_expect_verified(struct story *s);
/* What a node itself says of a key of "records". */
struct wire_probe_answer story_probe(struct story *s, unsigned node, const char *key);
void story_start(struct story *s, unsigned node);
void story_run_ms(struct story *s, uint64_t ms);

#endif
