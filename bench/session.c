/* session.c: runs the loop until the call's callback has run. */
#include "session.h"

void session_done(struct kho *client, int status, void *arg)
{
    struct session *session = arg;
    (void)client;
    session->ended = true;
    session->status = status;
}

int session_wait(struct session *session, int error)
{
    if (error != 0)
        return error;
    while (!session->ended)
        uv_run(&session->loop, UV_RUN_ONCE);
    session->ended = false;
    return session->status;
}

int session_open(struct session *session, const char *seeds, bool plain)
{
    struct kho_options options;
    *session = (struct session){.client = NULL};
    int error = uv_loop_init(&session->loop);
    if (error != 0)
        return error;
    kho_options_init(&options);
    options.cluster = seeds;
    if (plain)
        options.compress_min = UINT32_MAX;
    error = kho_open(&session->loop, &options, session_done, session, &session->client);
    if (error != 0) {
        uv_loop_close(&session->loop);
        return error;
    }
    error = session_wait(session, 0);
    if (error != 0)
        session_close(session);
    return error;
}

void session_close(struct session *session)
{
    if (session->client == NULL)
        return;
    kho_close(session->client, NULL, NULL);
    uv_run(&session->loop, UV_RUN_DEFAULT);
    uv_loop_close(&session->loop);
    session->client = NULL;
}

int session_collection(struct session *session, const char *name)
{
    int error =
        session_wait(session, kho_collection_create(session->client, name, -1, 0,
                                                    SESSION_DEADLINE_MS, session_done, session));
    return error == KHO_ECOLLECTIONEXISTS ? 0 : error;
}

int session_flush(struct session *session)
{
    return session_wait(session,
                        kho_flush(session->client, SESSION_DEADLINE_MS, session_done, session));
}
