/* options.h: what kho-node is told, by flags and by a configuration file.
 *
 * Flags win over the file, the file over the defaults. Both name options alike. Every refusal names
 * the option, the value and what is allowed. */
#ifndef KHO_NODE_OPTIONS_H
#define KHO_NODE_OPTIONS_H

#include <kho/base.h>

enum { OPTIONS_PATH_MAX = 4096, OPTIONS_ERROR_MAX = 1024 };

struct options {
    char data[OPTIONS_PATH_MAX];
    /* run */
    char config[OPTIONS_PATH_MAX];
    char listen[256];
    uint64_t insecure;
    uint64_t memory_bytes;
    uint64_t connections;
    uint64_t reserve_bytes;
    uint64_t compact_rate;
    uint64_t scrub_days;
    uint64_t idle_mark_ms;
    uint64_t commits;
    uint64_t watch_us;
    uint64_t log_level; /* enum event_level */
    /* init */
    uint64_t segment_bytes;
    uint64_t json;
    /* either */
    uint64_t shards; /* run: what the folder is expected to have, 0: whatever it has */
    uint64_t help;
};

/* Reads the words after the command. 0, or -1 with the reason in `error`. With `help` set nothing
 * else has been checked. */
int options_read_run(int argc, char **argv, struct options *ret_options, char *error);
int options_read_init(int argc, char **argv, struct options *ret_options, char *error);

/* Whether the options suit a folder of so many shards: -1, with the reason in `error`, when another
 * number is expected or `memory_bytes` is too little for so many. */
int options_shards_check(const struct options *options, uint32_t shards, char *error);
/* What of `memory_bytes` one shard's core may ask the heap for: the heap and the driver need some.
 */
uint64_t options_shard_memory(const struct options *options, uint32_t shards);

/* "1G", "64M", "500K", "1234": bytes, as people write sizes. False: not a size. */
bool options_size(const char *text, uint64_t *ret_bytes);
/* The shortest exact way to write `bytes`. */
void options_size_text(uint64_t bytes, char *ret, size_t size);

#endif
