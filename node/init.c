/* init.c: `kho-node init`: draws an incarnation and makes the data folder that carries it.
 *
 * It prints what was made (as JSON with --json) once all of it is on stable storage; it refuses a
 * folder with anything in it, so that no records can be lost by a mistyped path. */
#include "init.h"

#include <errno.h>
#include <sys/random.h>
#include <time.h>

#include "folder.h"

int init_run(const struct options *options)
{
    char error[FOLDER_ERROR_MAX], incarnation[33], size[32];
    struct identity identity = {.shard_count = (uint32_t)options->shards,
                                .segment_bytes = options->segment_bytes};
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    identity.created_ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    ssize_t drawn = getrandom(identity.incarnation.bytes, sizeof identity.incarnation.bytes, 0);
    if (drawn != (ssize_t)sizeof identity.incarnation.bytes ||
        kho_id_is_zero(&identity.incarnation)) {
        fprintf(stderr, "kho-node: no random bytes for the incarnation: %s\n", strerror(errno));
        return 1;
    }
    if (folder_init(options->data, &identity, error) != 0) {
        fprintf(stderr, "kho-node: %s\n", error);
        return 1;
    }
    folder_id_text(&identity.incarnation, incarnation);
    options_size_text(identity.segment_bytes, size, sizeof size);
    if (options->json)
        printf("{\"incarnation\":\"%s\",\"shards\":%u,\"segment_bytes\":%llu,"
               "\"created_ms\":%llu}\n",
               incarnation, identity.shard_count, (unsigned long long)identity.segment_bytes,
               (unsigned long long)identity.created_ms);
    else
        printf("%s: incarnation %s, %u shard%s, segments of %s\nstart it: kho-node run %s\n",
               options->data, incarnation, identity.shard_count,
               identity.shard_count == 1 ? "" : "s", size, options->data);
    return fflush(stdout) == 0 ? 0 : 1;
}
