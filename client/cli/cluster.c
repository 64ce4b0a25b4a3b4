/* cluster.c: see cluster.h. The map's copy is written beside its place and renamed, so that it is
 * whole or not there. */
#include "cluster.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "print.h"

struct making {
    const char *map_file;
    int status;
    bool done;
};

static int write_whole(const char *file, const void *bytes, size_t len)
{
    char part[4096];
    if ((size_t)snprintf(part, sizeof part, "%s.part", file) >= sizeof part)
        return -ENAMETOOLONG;
    FILE *out = fopen(part, "we");
    if (out == NULL)
        return -errno;
    bool good = fwrite(bytes, 1, len, out) == len && fflush(out) == 0 && fsync(fileno(out)) == 0;
    int rc = good ? 0 : -errno;
    if (fclose(out) != 0 && rc == 0)
        rc = -errno;
    if (rc == 0 && rename(part, file) != 0)
        rc = -errno;
    if (rc != 0)
        unlink(part);
    return rc;
}

static void init_cb(int status, const char *message, const void *map, size_t map_len, void *arg)
{
    struct making *making = arg;
    making->status = status;
    making->done = true;
    if (status != 0) {
        say("the cluster isn't made: %s",
            message != NULL && *message != '\0' ? message : kho_strerror(status));
        return;
    }
    int rc = write_whole(making->map_file, map, map_len);
    if (rc != 0)
        say("the nodes have the map, but no copy could be written to %s: %s", making->map_file,
            kho_strerror(rc));
}

int cluster_init_at(const struct kho_cluster_plan *plan, uint32_t deadline_ms, const char *map_file)
{
    uv_loop_t loop;
    struct making making = {.map_file = map_file};
    int rc = uv_loop_init(&loop);
    if (rc == 0) {
        rc = kho_cluster_init(&loop, plan, deadline_ms, init_cb, &making);
        if (rc == 0) {
            uv_run(&loop, UV_RUN_DEFAULT);
            uv_loop_close(&loop);
            return making.done ? making.status : KHO_EINTERNAL;
        }
        uv_run(&loop, UV_RUN_DEFAULT);
        uv_loop_close(&loop);
    }
    say("the cluster isn't made: %s", kho_strerror(rc));
    return rc;
}
