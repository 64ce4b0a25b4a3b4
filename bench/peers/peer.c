/* peer.c: options, window and figures. Whatever fails ends the program. */
#include "peer.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "process.h"
#include "report.h"

enum { VALUE_BYTES = 300 };

void peer_die(const struct peer *peer, const char *what)
{
    fprintf(stderr, "%s: %s\n", peer->name, what);
    exit(1);
}

void *peer_alloc(const struct peer *peer, size_t count, size_t size)
{
    void *memory = calloc(count, size);
    if (memory == NULL)
        peer_die(peer, "no memory");
    return memory;
}

/* --- Options ---------------------------------------------------------------------------------- */

static void servers_take(struct peer *peer, char *list)
{
    for (char *word = strtok(list, ","); word != NULL; word = strtok(NULL, ",")) {
        if (peer->server_count == PEER_SERVERS_MAX)
            peer_die(peer, "too many --servers");
        peer->servers[peer->server_count++] = (pid_t)strtol(word, NULL, 10);
    }
}

static uint64_t count_take(const struct peer *peer, const char *word)
{
    char *end;
    errno = 0;
    uint64_t count = strtoull(word, &end, 10);
    if (errno != 0 || end == word || *end != '\0' || count > UINT32_MAX)
        peer_die(peer, "an option wants a number");
    return count;
}

static void option_take(struct peer *peer, int option)
{
    switch (option) {
    case 'a':
        peer->at = optarg;
        break;
    case 's':
        peer->seconds = strtod(optarg, NULL);
        break;
    case 'w':
        peer->warmup = strtod(optarg, NULL);
        break;
    case 'l':
        peer->lanes = count_take(peer, optarg);
        break;
    case 'f':
        peer->flight = count_take(peer, optarg);
        break;
    case 'b':
        peer->batch = count_take(peer, optarg);
        break;
    case 'r':
        peer->records = count_take(peer, optarg);
        break;
    case 'k':
        peer->replicas = count_take(peer, optarg);
        break;
    case 'p':
        servers_take(peer, optarg);
        break;
    case 'j':
        peer->json = optarg;
        break;
    default:
        exit(2);
    }
}

void peer_init(struct peer *peer, const char *name, int argc, char **argv)
{
    static const struct option known[] = {{"at", required_argument, NULL, 'a'},
                                          {"seconds", required_argument, NULL, 's'},
                                          {"warmup", required_argument, NULL, 'w'},
                                          {"lanes", required_argument, NULL, 'l'},
                                          {"flight", required_argument, NULL, 'f'},
                                          {"batch", required_argument, NULL, 'b'},
                                          {"records", required_argument, NULL, 'r'},
                                          {"replicas", required_argument, NULL, 'k'},
                                          {"servers", required_argument, NULL, 'p'},
                                          {"json", required_argument, NULL, 'j'},
                                          {NULL, 0, NULL, 0}};
    int option;
    *peer = (struct peer){.name = name, .seconds = 3, .warmup = 1, .read_back_max = PEER_READ_BACK};
    peer->lanes = peer->flight = peer->batch = 1;
    while ((option = getopt_long(argc, argv, "", known, NULL)) != -1)
        option_take(peer, option);
    if (optind < argc || peer->at == NULL || peer->lanes == 0 || peer->flight == 0 ||
        peer->batch == 0 || !(peer->seconds > 0) || !(peer->warmup >= 0))
        peer_die(peer, "wants --at, and numbers above 0");
    if (values_init(&peer->values, VALUE_BYTES, VALUE_BYTES, true, 1) != 0)
        peer_die(peer, "no memory");
    peer->dice = dice_of(1);
}

/* --- The window ------------------------------------------------------------------------------- */

/* Adds, or takes off, what has been used until now. */
static void sample(struct peer *peer, double sign)
{
    struct process_usage usage;
    peer->rss = 0;
    for (size_t i = 0; i < peer->server_count; i++) {
        if (process_usage(peer->servers[i], &usage) != 0)
            peer_die(peer, "a server has ended");
        peer->servers_cpu += sign * usage.cpu_seconds;
        peer->rss += (double)usage.rss_bytes;
    }
    if (process_usage(getpid(), &usage) != 0)
        peer_die(peer, "can't tell what this process has used");
    peer->client_cpu += sign * usage.cpu_seconds;
    if (peer->server_count == 0)
        peer->rss = (double)usage.rss_bytes;
}

static void sleep_until(uint64_t at_ns)
{
    struct timespec at = {.tv_sec = (time_t)(at_ns / 1000000000),
                          .tv_nsec = (long)(at_ns % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
        continue;
}

/* A thread of its own, so that the window's ends don't wait for a unit's. */
static void *sampler_main(void *arg)
{
    struct peer *peer = arg;
    sleep_until(peer->begin_ns);
    sample(peer, -1);
    sleep_until(peer->end_ns);
    sample(peer, 1);
    return NULL;
}

void peer_begin(struct peer *peer, enum peer_phase phase)
{
    peer->phase = phase;
    peer->drawn = 0;
    if (phase != PEER_RUN)
        return;
    peer->begin_ns = clock_ns() + (uint64_t)(peer->warmup * 1e9);
    peer->end_ns = peer->begin_ns + (uint64_t)(peer->seconds * 1e9);
    if (pthread_create(&peer->sampler, NULL, sampler_main, peer) != 0)
        peer_die(peer, "can't start a thread");
}

/* --- Units ------------------------------------------------------------------------------------ */

static bool phase_goes_on(const struct peer *peer, uint64_t now_ns)
{
    switch (peer->phase) {
    case PEER_LOAD:
        return peer->next < peer->records;
    case PEER_RUN:
        return now_ns < peer->end_ns;
    default:
        return peer->records == 0 && peer->next > peer->first && peer->drawn < peer->read_back_max;
    }
}

bool peer_draw(struct peer *peer, struct peer_unit *unit, uint64_t now_ns)
{
    if (!phase_goes_on(peer, now_ns))
        return false;
    unit->writes = peer->phase == PEER_LOAD || (peer->phase == PEER_RUN && peer->records == 0);
    unit->began_ns = now_ns;
    for (uint64_t i = 0; i < peer->batch; i++)
        unit->numbers[i] = unit->writes
                               ? peer->next++
                               : peer->first + dice_below(&peer->dice, peer->next - peer->first);
    peer->drawn += peer->batch;
    return true;
}

void peer_take(struct peer *peer, const struct peer_unit *unit, uint64_t now_ns)
{
    if (peer->phase == PEER_READBACK)
        peer->read_back += peer->batch;
    if (peer->phase != PEER_RUN || now_ns < peer->begin_ns || now_ns >= peer->end_ns)
        return;
    histogram_add(&peer->latency, now_ns - unit->began_ns, 1);
    peer->done += peer->batch;
}

void peer_check(struct peer *peer, uint64_t number, const void *value, size_t len)
{
    uint32_t revision;
    if (value == NULL || !value_check(&peer->values, number, value, len, &revision))
        peer->wrong++;
}

void peer_merge(struct peer *peer, const struct peer *from)
{
    histogram_merge(&peer->latency, &from->latency);
    peer->done += from->done;
    peer->read_back += from->read_back;
    peer->wrong += from->wrong;
    peer->next += from->next - from->first;
}

/* --- Figures ---------------------------------------------------------------------------------- */

int peer_end(struct peer *peer)
{
    static const struct {
        const char *name;
        double percent;
    } points[] = {{"p50", 50}, {"p99", 99}, {"p999", 99.9}};
    struct report report;
    double each = peer->done > 0 ? 1e6 / (double)peer->done : 0;
    bool ok = peer->wrong == 0 && peer->done > 0;
    pthread_join(peer->sampler, NULL);
    if (peer->server_count == 0) {
        peer->servers_cpu = peer->client_cpu;
        peer->client_cpu = 0;
    }
    report_init(&report, peer->name);
    report_row(&report, "rate", (double)peer->done / peer->seconds, "records/s");
    for (size_t i = 0; i < sizeof points / sizeof points[0]; i++)
        report_row(&report, points[i].name,
                   (double)histogram_percentile(&peer->latency, points[i].percent) / 1e3, "us");
    report_row(&report, "cpu.nodes", peer->servers_cpu * each, "us/record");
    report_row(&report, "cpu.client", peer->client_cpu * each, "us/record");
    report_row(&report, "memory.rss", peer->rss / 1e6, "MB");
    report_row(&report, "stored", (double)(peer->next - peer->first), "records");
    report_row(&report, "read_back", (double)peer->read_back, "records");
    report_row(&report, "wrong", (double)peer->wrong, "records");
    if (report_write(&report, ok, peer->json != NULL ? peer->json : "-") != 0)
        ok = false;
    if (peer->wrong > 0)
        fprintf(stderr, "%s: %llu records were missing or not as written\n", peer->name,
                (unsigned long long)peer->wrong);
    if (peer->done == 0)
        fprintf(stderr, "%s: nothing ended within the window: give it more --seconds\n",
                peer->name);
    report_fini(&report);
    values_fini(&peer->values);
    return ok ? 0 : 1;
}
