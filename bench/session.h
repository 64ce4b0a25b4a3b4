/* session.h: one client of the library on a loop of its own, whose admin calls are waited for. */
#ifndef KHO_BENCH_SESSION_H
#define KHO_BENCH_SESSION_H

#include <stdbool.h>
#include <uv.h>

#include <kho/kho.h>

enum { SESSION_DEADLINE_MS = 120000 };

struct session {
    uv_loop_t loop;
    struct kho *client;
    bool ended;
    int status;
};

/* Opens a client of the cluster at `seeds`. `plain`: it compresses no values. 0, or what went
 * wrong.
 */
int session_open(struct session *session, const char *seeds, bool plain);
/* Waits until all is on all replicas or given up. Takes a zeroed struct. */
void session_close(struct session *session);

/* For calls with a callback of done: hand in session_done and the session, then wait; `error` is
 * what the call returned. The status of either. */
void session_done(struct kho *client, int status, void *session);
int session_wait(struct session *session, int error);

/* A collection that exists is no error. */
int session_collection(struct session *session, const char *name);
int session_flush(struct session *session);

#endif
