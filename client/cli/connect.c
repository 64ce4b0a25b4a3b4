/* connect.c: finds the cluster (--cluster, KHO_CLUSTER, the local folder), opens a client on a loop
 * of its own and runs that loop until a call has ended.
 *
 * One connection a process, in static memory: a client that can't finish closing within its grace
 * (a replica is away, its writes are held back) is left to the end of the process. */
#include "connect.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cli.h"
#include "local.h"
#include "print.h"

enum { CLOSE_GRACE_MS = 300, DEADLINE_MS = 10000 };

static struct connection the_connection;

char *cluster_addresses(const struct args *args, const char **ret_dir)
{
    *ret_dir = NULL;
    const char *given = args_text(args, "cluster");
    if (given == NULL && args_text(args, "dir") == NULL)
        given = getenv("KHO_CLUSTER");
    if (given != NULL && *given != '\0')
        return must(strdup(given));
    const char *dir = args_text(args, "dir");
    char *local = local_addresses(dir != NULL ? dir : LOCAL_DIR);
    if (local == NULL)
        say("no cluster is named and there is none in %s: give --cluster HOST:PORT,…, set "
            "KHO_CLUSTER, or start one with 'kho local up'",
            dir != NULL ? dir : LOCAL_DIR);
    *ret_dir = dir != NULL ? dir : LOCAL_DIR;
    return local;
}

void waited_status_cb(struct kho *client, int status, void *arg)
{
    struct waited_status *waited = arg;
    (void)client;
    waited->status = status;
    waited->done = true;
}

void connection_wait(struct connection *connection, const bool *done)
{
    while (!*done) {
        if (uv_run(&connection->loop, UV_RUN_ONCE) == 0 && !*done) {
            say("%s: the loop has nothing left to wait for", kho_strerror(KHO_EINTERNAL));
            exit(EXIT_OTHER);
        }
    }
}

struct connection *connection_open_at(const char *addresses, const char *dir, uint32_t deadline_ms,
                                      int *ret_status)
{
    struct connection *connection = &the_connection;
    uint8_t cluster_id[LOCAL_CLUSTER_ID];
    struct kho_options options;
    struct waited_status opened = {.done = false};
    *connection = (struct connection){.deadline_ms = deadline_ms};
    connection->cluster = must(strdup(addresses));
    int rc = uv_loop_init(&connection->loop);
    if (rc < 0) {
        free(connection->cluster);
        *ret_status = rc;
        return NULL;
    }
    kho_options_init(&options);
    options.cluster = connection->cluster;
    options.deadline_ms = deadline_ms;
    if (dir != NULL && local_cluster_id(dir, cluster_id))
        options.cluster_id = cluster_id;
    rc = kho_open(&connection->loop, &options, waited_status_cb, &opened, &connection->client);
    if (rc == 0) {
        connection_wait(connection, &opened.done);
        rc = opened.status;
    }
    if (rc == 0)
        return connection;
    *ret_status = rc;
    connection_close(connection);
    return NULL;
}

static void tell_unopened(const char *addresses, uint32_t deadline_ms, int status)
{
    struct small_text time;
    if (status == -EINVAL)
        say("'%s' isn't a list of HOST:PORT,HOST:PORT", addresses);
    else if (status == KHO_EDEADLINE || exit_of(status) == EXIT_UNAVAILABLE)
        say("no node of %s gave the cluster's map within %s: %s; are they running ('kho local "
            "status', 'kho local up')?",
            addresses, human_seconds(deadline_ms / 1000.0, &time), kho_strerror(status));
    else
        say("%s: %s", addresses, kho_strerror(status));
}

struct connection *connection_open(const struct args *args, int *ret_exit)
{
    uint32_t deadline_ms = DEADLINE_MS;
    int status = 0;
    *ret_exit = EXIT_USAGE;
    if (!args_duration(args, "deadline", &deadline_ms))
        return NULL;
    const char *dir;
    char *addresses = cluster_addresses(args, &dir);
    if (addresses == NULL)
        return NULL;
    struct connection *connection = connection_open_at(addresses, dir, deadline_ms, &status);
    if (connection == NULL) {
        tell_unopened(addresses, deadline_ms, status);
        *ret_exit = exit_of(status);
    }
    free(addresses);
    return connection;
}

static void closed_cb(struct kho *client, int status, void *arg)
{
    struct connection *connection = arg;
    (void)client;
    (void)status;
    connection->closed = true;
    connection->client = NULL;
}

static void grace_over_cb(uv_timer_t *timer)
{
    struct connection *connection = timer->data;
    connection->timed_out = true;
}

void connection_close(struct connection *connection)
{
    static uv_timer_t timer;
    if (connection == NULL)
        return;
    if (connection->client != NULL) {
        uv_timer_init(&connection->loop, &timer);
        timer.data = connection;
        uv_timer_start(&timer, grace_over_cb, CLOSE_GRACE_MS, 0);
        kho_close(connection->client, closed_cb, connection);
        while (!connection->closed && !connection->timed_out)
            uv_run(&connection->loop, UV_RUN_ONCE);
        uv_close((uv_handle_t *)&timer, NULL);
    }
    if (!connection->timed_out) {
        uv_run(&connection->loop, UV_RUN_DEFAULT);
        uv_loop_close(&connection->loop);
    }
    free(connection->cluster);
    connection->cluster = NULL;
}
