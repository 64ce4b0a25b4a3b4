/* story_real.c: kho-node as it ships, with its ring, threads and folder, in a process of the
 * story's, and libkho as services link it.
 *
 * Either side's allocations fail. The node ends in an orderly way or serves; calls end typed; and a
 * node started anew has what was acknowledged. Threads race, so the N-th allocation isn't quite the
 * same from run to run. */
#include "stories.h"

#include <arpa/inet.h>
#include <errno.h>
#include <kho/kho.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

enum { RECORDS = 4, VALUE = 300, LARGE = 400000, DEADLINE_MS = 1000, WELL_MS = 20000 };

struct real {
    char folder[64];
    char address[32];
    pid_t node;
    bool acked[RECORDS];
};

/* node/main.c's main(), renamed by the build. */
int kho_node_main(int argc, char **argv);

/* --- The node --------------------------------------------------------------------------------- */

static int node_call(const char *const *words, int count)
{
    char *argv[16] = {0};
    KHO_ASSERT(count < 16);
    for (int i = 0; i < count; i++)
        argv[i] = strdup(words[i]);
    int code = kho_node_main(count, argv);
    for (int i = 0; i < count; i++)
        free(argv[i]);
    return code;
}

/* `fails`: its chances count. */
static void node_start(struct real *r, bool fails)
{
    const char *run[] = {
        "kho-node",      "run", r->folder,   "--listen", r->address,  "--memory", "128M",
        "--connections", "16",  "--reserve", "0",        "--commits", "2"};
    r->node = fork();
    KHO_ASSERT(r->node >= 0);
    if (r->node > 0)
        return;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getenv("KHO_FAILURE_STACKS") == NULL && freopen("/dev/null", "w", stderr) == NULL)
        _exit(2);
    if (fails)
        failure_begin();
    int code = node_call(run, KHO_COUNT_OF(run));
    failure_end();
    failure_check_heap();
    failure_helper_ended();
    _exit(code);
}

/* SIGTERM, and its end, which is its own. */
static void node_stop(struct real *r, bool must)
{
    int state = 0;
    kill(r->node, SIGTERM);
    while (waitpid(r->node, &state, 0) < 0 && errno == EINTR)
        ;
    /* Before it has set up its signals, SIGTERM is its end. */
    if (!must && WIFSIGNALED(state) && WTERMSIG(state) == SIGTERM)
        return;
    if (WIFSIGNALED(state))
        failure_violation("the node was ended by signal %d", WTERMSIG(state));
    if (!failure_helper_has_ended())
        failure_violation("the node didn't come to its end, but exited with %d",
                          WEXITSTATUS(state));
    if (must && WEXITSTATUS(state) != 0)
        failure_violation("the node exited with %d though all is well", WEXITSTATUS(state));
}

/* A port that is free now. */
static void address_choose(struct real *r)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof in;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    KHO_ASSERT(fd >= 0 && bind(fd, (struct sockaddr *)&in, sizeof in) == 0);
    KHO_ASSERT(getsockname(fd, (struct sockaddr *)&in, &len) == 0);
    close(fd);
    snprintf(r->address, sizeof r->address, "127.0.0.1:%u", (unsigned)ntohs(in.sin_port));
}

/* --- The cluster and its client --------------------------------------------------------------- */

struct made {
    int status;
    bool told;
};

static void made(int status, const char *message, const void *map, size_t map_len, void *arg)
{
    struct made *m = arg;
    (void)map, (void)map_len;
    m->status = status;
    m->told = true;
    if (status != 0 && message == NULL)
        failure_violation("the making of a cluster fails without a sentence");
}

static int cluster_make(const struct real *r, uint32_t deadline_ms)
{
    struct kho_cluster_plan plan = {
        .struct_size = sizeof plan, .addresses = r->address, .partitions = 16};
    struct made m = {0};
    uv_loop_t loop;
    if (uv_loop_init(&loop) != 0)
        failure_violation("no loop");
    int rc = kho_cluster_init(&loop, &plan, deadline_ms, made, &m);
    uv_run(&loop, UV_RUN_DEFAULT);
    if (uv_loop_close(&loop) != 0)
        failure_violation("a handle stays on the loop");
    if (rc == 0 && !m.told)
        failure_violation("the making of a cluster never ends");
    failure_typed(rc, "kho_cluster_init");
    failure_typed(m.status, "the making of a cluster");
    return rc != 0 ? rc : m.status;
}

/* A node that has just been started takes connections a moment later. */
static int cluster_make_soon(const struct real *r, uint32_t deadline_ms, int tries)
{
    int rc = -ECONNREFUSED;
    for (int i = 0; i < tries && (rc == -ECONNREFUSED || rc == KHO_EDEADLINE); i++) {
        if (i > 0)
            usleep(20000);
        rc = cluster_make(r, deadline_ms);
    }
    return rc;
}

static void value_fill(uint8_t *value, size_t len, int i)
{
    for (size_t k = 0; k < len; k++)
        value[k] = (uint8_t)(k * 31 + k / 256 + (size_t)i);
}

static size_t value_len(int i)
{
    return i == RECORDS - 1 ? LARGE : VALUE;
}

static void put(struct real *r, struct kho_blocking *client, int i, uint32_t deadline_ms)
{
    static uint8_t value[LARGE];
    char key[16];
    struct kho_results *results = NULL;
    snprintf(key, sizeof key, "key-%d", i);
    value_fill(value, value_len(i), i);
    struct kho_item item = {
        .key = key, .key_len = strlen(key), .value = value, .value_len = value_len(i)};
    int rc = kho_blocking_put(client, "real", &item, 1, deadline_ms, &results);
    failure_typed(rc, "kho_blocking_put");
    if (rc != 0)
        return;
    failure_typed(results->records[0].status, "a put");
    if ((results->records[0].status == 0) != (results->records[0].outcome == KHO_APPLIED))
        failure_violation("a put ended with %d and outcome %d", results->records[0].status,
                          (int)results->records[0].outcome);
    r->acked[i] |= results->records[0].outcome == KHO_APPLIED;
    kho_results_free(results);
}

static void get(const struct real *r, struct kho_blocking *client, int i, uint32_t deadline_ms,
                bool must)
{
    static uint8_t value[LARGE];
    char key[16];
    struct kho_results *results = NULL;
    snprintf(key, sizeof key, "key-%d", i);
    value_fill(value, value_len(i), i);
    struct kho_item item = {.key = key, .key_len = strlen(key)};
    int rc = kho_blocking_get(client, "real", &item, 1, deadline_ms, &results);
    failure_typed(rc, "kho_blocking_get");
    int status = rc != 0 ? rc : results->records[0].status;
    failure_typed(status, "a get");
    if (status == KHO_ENOTFOUND && r->acked[i])
        failure_violation("record %d isn't found, though it was acknowledged", i);
    if (must && status != 0 && status != KHO_ENOTFOUND)
        failure_violation("record %d can't be read when all is well: %d", i, status);
    if (status == 0 && (results->records[0].value_len != value_len(i) ||
                        memcmp(results->records[0].value, value, value_len(i)) != 0))
        failure_violation("record %d: wrong bytes", i);
    if (rc == 0)
        kho_results_free(results);
}

static void use(struct real *r, uint32_t deadline_ms, bool must)
{
    struct kho_blocking *client = NULL;
    struct kho_options options;
    struct kho_results *results = NULL;
    struct kho_cursor from = {{0}};
    kho_options_init(&options);
    options.cluster = r->address;
    options.deadline_ms = deadline_ms;
    options.unavailable_after_ms = deadline_ms;
    int rc = kho_blocking_open(&options, &client);
    failure_typed(rc, "kho_blocking_open");
    if (rc != 0 && must)
        failure_violation("no client can be opened when all is well: %d", rc);
    if (rc != 0)
        return;
    rc = kho_blocking_collection_create(client, "real", -1, 0, deadline_ms);
    failure_typed(rc, "a creation");
    if (rc != 0 && rc != KHO_ECOLLECTIONEXISTS && must)
        failure_violation("no collection can be made when all is well: %d", rc);
    for (int i = 0; i < RECORDS; i++) {
        if (must)
            get(r, client, i, deadline_ms, true);
        put(r, client, i, deadline_ms);
        if (must && !r->acked[i])
            failure_violation("record %d can't be put when all is well", i);
        if (!r->acked[i])
            break; /* the others would wait as long */
    }
    for (int i = 0; i < RECORDS && (must || r->acked[i]); i++)
        get(r, client, i, deadline_ms, must);
    rc = kho_blocking_list(client, "real", &from, 100, KHO_LIST_WITH_VALUES, deadline_ms, &results);
    failure_typed(rc, "a list");
    if (rc == 0)
        kho_results_free(results);
    failure_typed(kho_blocking_flush(client, deadline_ms), "a flush");
    kho_blocking_close(client);
}

/* --- The story -------------------------------------------------------------------------------- */

static void folder_make(const struct real *r)
{
    const char *init[] = {"kho-node", "init", r->folder, "--segment-size", "32M", "--json"};
    if (node_call(init, KHO_COUNT_OF(init)) != 0)
        failure_violation("a folder can't be made");
}

/* The making of a cluster that failed half-way leaves a folder that belongs to that cluster but has
 * no map of it; nothing can be in it. It is made anew, as an admin would. */
static void folder_make_anew(struct real *r)
{
    char command[128];
    for (int i = 0; i < RECORDS; i++)
        if (r->acked[i])
            failure_violation("a folder with records has lost its map");
    node_stop(r, true);
    snprintf(command, sizeof command, "rm -rf '%s'/*", r->folder);
    KHO_ASSERT(system(command) == 0);
    folder_make(r);
    node_start(r, false);
}

void story_real(void)
{
    struct real r = {.folder = "/var/tmp/kho-failures.XXXXXX"};
    if (mkdtemp(r.folder) == NULL || freopen("/dev/null", "w", stdout) == NULL)
        failure_violation("no folder: %s", strerror(errno));
    failure_folder(r.folder);
    folder_make(&r);
    address_choose(&r);
    node_start(&r, true);
    failure_begin();
    if (cluster_make_soon(&r, DEADLINE_MS, 10) == 0)
        use(&r, DEADLINE_MS, false);
    failure_end();
    node_stop(&r, false);
    node_start(&r, false);
    int rc = cluster_make_soon(&r, WELL_MS, 500);
    if (rc == KHO_ECLUSTER) {
        folder_make_anew(&r);
        rc = cluster_make_soon(&r, WELL_MS, 500);
    }
    if (rc != 0 && rc != -EEXIST)
        failure_violation("no cluster can be made when all is well: %d", rc);
    use(&r, WELL_MS, true);
    node_stop(&r, true);
    failure_check_heap();
}
