/* redis_load.c: Redis over its own protocol. A unit of writes is B SETs in one piece, and one WAIT
 * where replicas are asked for: when the WAIT is answered, all of them are on as many replicas. A
 * unit of reads is B GETs. A connection has one unit under way, as what follows a WAIT waits, too.
 *
 * The primary answers a SET after its own fdatasync (appendfsync always), and so does a replica a
 * WAIT. A WAIT that fell short and an answer that is an error end the program. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lane.h"

enum { WAIT_MS = 10000, COMMAND_MAX = 96 /* bytes of a command, without value */ };

struct unit {
    struct peer_unit what;
    uint64_t answered, answers; /* how many came, of how many */
};

struct redis {
    struct peer peer;
    struct lane *lanes;
    struct unit *units; /* one a lane */
    size_t under_way;
};

static char *line_end(char *at)
{
    *at++ = '\r';
    *at++ = '\n';
    return at;
}

static void add_set(struct lane *lane, uint64_t number)
{
    const struct values *values = &lane->peer->values;
    char *begin = lane_room(lane, COMMAND_MAX + values->max), *at = begin;
    at += sprintf(at, "*3\r\n$3\r\nSET\r\n$%d\r\n", VALUE_KEY);
    value_key(number, at);
    at += VALUE_KEY;
    at += sprintf(at, "\r\n$%zu\r\n", values->max);
    at += value_make(values, number, 0, at);
    lane->out_len += (size_t)(line_end(at) - begin);
}

static void add_get(struct lane *lane, uint64_t number)
{
    char text[COMMAND_MAX];
    int head = sprintf(text, "*2\r\n$3\r\nGET\r\n$%d\r\n", VALUE_KEY);
    value_key(number, text + head);
    const char *end = line_end(text + head + VALUE_KEY);
    lane_put(lane, text, (size_t)(end - text));
}

static void add_wait(struct lane *lane)
{
    char text[COMMAND_MAX], ms[16];
    int digits = sprintf(ms, "%d", WAIT_MS);
    int len = sprintf(text, "*3\r\n$4\r\nWAIT\r\n$1\r\n%u\r\n$%d\r\n%s\r\n",
                      (unsigned)lane->peer->replicas, digits, ms);
    lane_put(lane, text, (size_t)len);
}

static void unit_begin(struct redis *r, size_t i, uint64_t now_ns)
{
    struct peer *peer = &r->peer;
    struct unit *unit = &r->units[i];
    if (!peer_draw(peer, &unit->what, now_ns))
        return;
    unit->answered = 0;
    unit->answers = peer->batch;
    for (uint64_t k = 0; k < peer->batch; k++) {
        if (unit->what.writes)
            add_set(&r->lanes[i], unit->what.numbers[k]);
        else
            add_get(&r->lanes[i], unit->what.numbers[k]);
    }
    if (unit->what.writes && peer->replicas > 0) {
        add_wait(&r->lanes[i]);
        unit->answers++;
    }
    r->under_way++;
}

/* A value, of which the first `line` bytes tell the length. Its length with the line, or 0 while it
 * isn't whole. */
static size_t value_take(struct peer *peer, uint64_t number, const char *at, size_t len,
                         size_t line)
{
    long value_len = strtol(at + 1, NULL, 10);
    if (value_len < 0) {
        peer_check(peer, number, NULL, 0);
        return line;
    }
    if (len < line + (size_t)value_len + 2)
        return 0;
    peer_check(peer, number, at + line, (size_t)value_len);
    return line + (size_t)value_len + 2;
}

/* The next answer of a unit. Its length, or 0 while it isn't whole. */
static size_t answer_take(struct peer *peer, const struct unit *unit, const char *at, size_t len)
{
    const char *end = memchr(at, '\n', len);
    if (end == NULL)
        return 0;
    size_t line = (size_t)(end + 1 - at);
    if (!unit->what.writes && at[0] == '$')
        return value_take(peer, unit->what.numbers[unit->answered], at, len, line);
    bool is_wait = unit->answered == peer->batch;
    if (unit->what.writes && is_wait && at[0] == ':') {
        if (strtoull(at + 1, NULL, 10) < peer->replicas)
            peer_die(peer, "a WAIT fell short: a write isn't on as many replicas");
        return line;
    }
    if (!unit->what.writes || is_wait || line != 5 || memcmp(at, "+OK\r\n", 5) != 0)
        peer_die(peer, "the server answers with an error");
    return line;
}

static size_t take(struct lane *lane)
{
    struct redis *r = lane->owner;
    size_t i = (size_t)(lane - r->lanes), at = 0;
    struct unit *unit = &r->units[i];
    while (at < lane->in_len && unit->answered < unit->answers) {
        size_t len = answer_take(&r->peer, unit, lane->in + at, lane->in_len - at);
        if (len == 0)
            break;
        at += len;
        if (++unit->answered < unit->answers)
            continue;
        uint64_t now_ns = clock_ns();
        r->under_way--;
        peer_take(&r->peer, &unit->what, now_ns);
        unit_begin(r, i, now_ns);
    }
    return at;
}

static bool busy(const void *owner)
{
    return ((const struct redis *)owner)->under_way > 0;
}

static void phase_run(struct redis *r, enum peer_phase phase)
{
    peer_begin(&r->peer, phase);
    for (size_t i = 0; i < r->peer.lanes; i++)
        unit_begin(r, i, clock_ns());
    lanes_run(r->lanes, r->peer.lanes, take, busy);
}

int main(int argc, char **argv)
{
    static struct redis r;
    struct peer *peer = &r.peer;
    peer_init(peer, "redis_load", argc, argv);
    if (peer->flight != 1 || peer->replicas > 9)
        peer_die(peer, "takes a --flight of 1 and at most 9 --replicas");
    r.lanes = peer_alloc(peer, peer->lanes, sizeof *r.lanes);
    r.units = peer_alloc(peer, peer->lanes, sizeof *r.units);
    for (size_t i = 0; i < peer->lanes; i++) {
        lane_open(&r.lanes[i], peer, &r);
        r.units[i].what.numbers = peer_alloc(peer, peer->batch, sizeof(uint64_t));
    }
    for (enum peer_phase phase = PEER_LOAD; phase <= PEER_READBACK; phase++)
        phase_run(&r, phase);
    for (size_t i = 0; i < peer->lanes; i++) {
        lane_close(&r.lanes[i]);
        free(r.units[i].what.numbers);
    }
    free(r.lanes);
    free(r.units);
    return peer_end(peer);
}
