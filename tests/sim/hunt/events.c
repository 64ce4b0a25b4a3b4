/* events.c: which lines of a trace matter, and whose they are. */
#include "events.h"

#include <ctype.h>

void events_init(struct events *e, uint32_t key)
{
    memset(e, 0, sizeof *e);
    e->key = key;
}

static bool begins(const char *line, const char *with)
{
    return strncmp(line, with, strlen(with)) == 0;
}

/* "n2", or "n2.1" of a shard, at the beginning. Returns its length. */
static size_t node_name(const char *text, unsigned *ret_node)
{
    if (text[0] != 'n' || !isdigit((unsigned char)text[1]))
        return 0;
    size_t len = 2;
    while (isdigit((unsigned char)text[len]) || text[len] == '.')
        len++;
    *ret_node = (unsigned)(text[1] - '0');
    return len;
}

/* The node that a line is about, the first it names; -1: none. */
static int node_of(const char *line)
{
    unsigned node;
    if (begins(line, "round ") || begins(line, "plan"))
        return -1;
    for (const char *at = line; *at != '\0'; at++) {
        if (at != line && isalnum((unsigned char)at[-1]))
            continue;
        if (node_name(at, &node) > 0)
            return (int)node;
        if (begins(at, "node ") && isdigit((unsigned char)at[5]))
            return at[5] - '0';
    }
    return -1;
}

uint32_t events_key(const char *failure)
{
    const char *at = strstr(failure, "key ");
    return at != NULL && isdigit((unsigned char)at[4]) ? (uint32_t)strtoul(at + 4, NULL, 10)
                                                       : EVENTS_NO_KEY;
}

static bool of_key(const struct events *e, const char *line)
{
    return e->key != EVENTS_NO_KEY && events_key(line) == e->key;
}

/* Of a node's own lines: starts, phases, warnings, errors, what its disk does to it. */
static bool node_matters(const char *line)
{
    unsigned node;
    size_t len = node_name(line, &node);
    if (len == 0)
        return false;
    const char *rest = line + len;
    if (begins(rest, ": ["))
        return rest[3] != '1' || strstr(rest, "is ready") != NULL;
    return begins(rest, ": starts") || begins(rest, ": phase") || begins(rest, ": the commit") ||
           begins(rest, ": cut") || begins(rest, ": a read at") || begins(rest, " has its own");
}

static bool matters(const char *line)
{
    static const char *const beginnings[] = {
        "fault: ", "damage: ", "round ", "plan",    "everything is healed",
        "admin: ", "repair: ", "FAILED", "a node ", "the search"};
    for (size_t i = 0; i < sizeof beginnings / sizeof beginnings[0]; i++)
        if (begins(line, beginnings[i]))
            return true;
    return node_matters(line);
}

static void keep(struct event_line *line, uint64_t order, uint64_t now_ns, const char *text)
{
    line->at_ns = now_ns;
    line->order = order;
    snprintf(line->text, sizeof line->text, "%s", text);
}

void events_listen(void *events, uint64_t now_ns, const char *line)
{
    struct events *e = events;
    if (matters(line)) {
        keep(&e->lines[e->count % EVENTS_KEPT], e->count, now_ns, line);
        e->count++;
    } else if (of_key(e, line)) {
        bool history = begins(line, "history: ");
        if (history && !e->history) {
            e->history = true;
            e->key_count = 0;
        }
        if (e->history && !history)
            return;
        keep(&e->key_lines[e->key_count % EVENTS_KEY_KEPT], e->key_count, now_ns, line);
        e->key_count++;
    }
}

/* --- For people ------------------------------------------------------------------------------- */

static void print_line(const struct event_line *line, FILE *to)
{
    fprintf(to, "  %12.6f  %s\n", (double)line->at_ns / 1e9, line->text);
}

static void print_section(const struct events *e, int node, FILE *to)
{
    bool any = false;
    for (uint64_t i = e->count - kho_min(e->count, EVENTS_KEPT); i < e->count; i++) {
        const struct event_line *line = &e->lines[i % EVENTS_KEPT];
        if (node_of(line->text) != node || begins(line->text, "FAILED"))
            continue;
        if (!any && node < 0)
            fprintf(to, "cluster\n");
        else if (!any)
            fprintf(to, "n%d\n", node);
        any = true;
        print_line(line, to);
    }
}

void events_print(const struct events *e, FILE *to)
{
    if (e->count > EVENTS_KEPT)
        fprintf(to, "(%llu earlier events are left out)\n",
                (unsigned long long)(e->count - EVENTS_KEPT));
    for (int node = -1; node < 10; node++)
        print_section(e, node, to);
    if (e->key_count == 0)
        return;
    fprintf(to, "key %u", e->key);
    if (e->key_count > EVENTS_KEY_KEPT)
        fprintf(to, " (%llu earlier operations are left out)",
                (unsigned long long)(e->key_count - EVENTS_KEY_KEPT));
    fprintf(to, "\n");
    for (uint64_t i = e->key_count - kho_min(e->key_count, EVENTS_KEY_KEPT); i < e->key_count; i++)
        if (e->history)
            fprintf(to, "  %s\n", e->key_lines[i % EVENTS_KEY_KEPT].text + strlen("history: "));
        else
            print_line(&e->key_lines[i % EVENTS_KEY_KEPT], to);
}
