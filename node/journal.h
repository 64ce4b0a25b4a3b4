/* journal.h: the node's log lines and its words to the service manager. Driver only: it writes to
 * standard error and reads the environment. */
#ifndef KHO_NODE_JOURNAL_H
#define KHO_NODE_JOURNAL_H

#include "op.h"

/* What is less grave than `level` (EVENT_INFO: nothing) is left out from now on. */
void journal_open(enum event_level level);
/* One line, whatever the text holds: control bytes are replaced, what passes 1,000 bytes is cut. */
void journal_write(enum event_level level, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Tells the service manager `state` ("READY=1"), where one listens (NOTIFY_SOCKET). */
void journal_notify(const char *state);

#endif
