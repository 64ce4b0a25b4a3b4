/* options.c: flags (getopt_long) and the configuration file (inih) of kho-node.
 *
 * One table describes each option: its name on the command line and in the file, its kind, its
 * range and where it goes. Flags are read first and remembered as given; the file then fills what
 * no flag has set, so that its order on the command line doesn't matter.
 *
 * The file is INI: "name = value" lines, at the top or in a section [node]; "#" and ";" begin
 * comments. A name that isn't an option is refused rather than ignored: a mistyped limit would
 * otherwise be no limit at all. */
#include "options.h"

#include <assert.h>
#include <errno.h>
#include <getopt.h>
#include <ini.h>

#include "folder.h"
#include "listen.h"
#include "op.h"
#include "shard.h"

enum kind { KIND_TEXT, KIND_SIZE, KIND_NUMBER, KIND_SWITCH, KIND_LEVEL };

struct spec {
    const char *name;
    enum kind kind;
    bool in_file;
    size_t offset;
    uint64_t min, max; /* TEXT: max is the room */
};

#define MIB    ((uint64_t)1 << 20)
#define GIB    ((uint64_t)1 << 30)
#define DAY_MS ((uint64_t)24 * 3600 * 1000)
/* The driver's own of a shard: its receive buffer and its ring. */
#define DRIVER_BYTES ((uint64_t)2 << 20)
#define AT(member)   offsetof(struct options, member)

static const struct spec run_specs[] = {
    {"data", KIND_TEXT, true, AT(data), 1, OPTIONS_PATH_MAX},
    {"config", KIND_TEXT, false, AT(config), 1, OPTIONS_PATH_MAX},
    {"listen", KIND_TEXT, true, AT(listen), 1, 256},
    {"insecure", KIND_SWITCH, true, AT(insecure), 0, 1},
    {"shards", KIND_NUMBER, true, AT(shards), 1, FOLDER_SHARDS_MAX},
    {"memory", KIND_SIZE, true, AT(memory_bytes), 64 * MIB, 16384 * GIB},
    {"connections", KIND_NUMBER, true, AT(connections), 1, 16384},
    {"reserve", KIND_SIZE, true, AT(reserve_bytes), 0, 16384 * GIB},
    {"compact-rate", KIND_SIZE, true, AT(compact_rate), 0, 16 * GIB},
    {"scrub-days", KIND_NUMBER, true, AT(scrub_days), 0, 3650},
    {"idle-mark-ms", KIND_NUMBER, true, AT(idle_mark_ms), 1, 60000},
    {"commits", KIND_NUMBER, true, AT(commits), 1, 16},
    {"watch-us", KIND_NUMBER, true, AT(watch_us), 0, 1000},
    {"log-level", KIND_LEVEL, true, AT(log_level), 0, 0},
    {"help", KIND_SWITCH, false, AT(help), 0, 1},
};

static const struct spec init_specs[] = {
    {"data", KIND_TEXT, false, AT(data), 1, OPTIONS_PATH_MAX},
    {"shards", KIND_NUMBER, false, AT(shards), 1, FOLDER_SHARDS_MAX},
    {"segment-size", KIND_SIZE, false, AT(segment_bytes), 32 * MIB, 256 * MIB},
    {"json", KIND_SWITCH, false, AT(json), 0, 1},
    {"help", KIND_SWITCH, false, AT(help), 0, 1},
};

enum { SPECS_MAX = 16 };
static_assert(KHO_COUNT_OF(run_specs) <= SPECS_MAX, "room in the tables below");
static_assert(KHO_COUNT_OF(init_specs) <= SPECS_MAX, "room in the tables below");

struct reader {
    const struct spec *specs;
    size_t count;
    struct options *options;
    bool given[SPECS_MAX];
    bool in_file; /* reading the file: what a flag gave stays */
    char *error;  /* of OPTIONS_ERROR_MAX bytes; the first refusal stays */
};

bool options_size(const char *text, uint64_t *ret_bytes)
{
    static const struct {
        const char *suffix;
        unsigned shift;
    } units[] = {{"", 0},     {"B", 0},  {"K", 10},   {"KiB", 10}, {"M", 20},
                 {"MiB", 20}, {"G", 30}, {"GiB", 30}, {"T", 40},   {"TiB", 40}};
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno != 0)
        return false;
    for (size_t i = 0; i < KHO_COUNT_OF(units); i++) {
        if (strcmp(end, units[i].suffix) != 0)
            continue;
        if (number > UINT64_MAX >> units[i].shift)
            return false;
        *ret_bytes = (uint64_t)number << units[i].shift;
        return true;
    }
    return false;
}

void options_size_text(uint64_t bytes, char *ret, size_t size)
{
    static const char units[] = {'T', 'G', 'M', 'K'};
    for (unsigned i = 0; i < KHO_COUNT_OF(units); i++) {
        unsigned shift = 40 - 10 * i;
        if (bytes != 0 && bytes % ((uint64_t)1 << shift) == 0) {
            snprintf(ret, size, "%llu%c", (unsigned long long)(bytes >> shift), units[i]);
            return;
        }
    }
    snprintf(ret, size, "%llu", (unsigned long long)bytes);
}

static void refuse(struct reader *reader, const struct spec *spec, const char *value,
                   const char *allowed)
{
    if (reader->error[0] == '\0')
        snprintf(reader->error, OPTIONS_ERROR_MAX, "%s%s: \"%.200s\" is not %s",
                 reader->in_file ? "" : "--", spec->name, value, allowed);
}

static bool number_set(struct reader *reader, const struct spec *spec, const char *value,
                       uint64_t *to)
{
    uint64_t number = 0;
    bool good;
    if (spec->kind == KIND_SIZE) {
        good = options_size(value, &number);
    } else {
        char *end;
        errno = 0;
        number = strtoull(value, &end, 10);
        good = value[0] >= '0' && value[0] <= '9' && *end == '\0' && errno == 0;
    }
    if (good && number >= spec->min && number <= spec->max) {
        *to = number;
        return true;
    }
    char allowed[128], min[32], max[32];
    if (spec->kind == KIND_SIZE) {
        options_size_text(spec->min, min, sizeof min);
        options_size_text(spec->max, max, sizeof max);
        snprintf(allowed, sizeof allowed, "a size from %s to %s (bytes, or with K, M, G, T)", min,
                 max);
    } else {
        snprintf(allowed, sizeof allowed, "a number from %llu to %llu",
                 (unsigned long long)spec->min, (unsigned long long)spec->max);
    }
    refuse(reader, spec, value, allowed);
    return false;
}

/* A switch stands alone on the command line (value NULL) and has a value in the file. */
static bool switch_set(struct reader *reader, const struct spec *spec, const char *value,
                       uint64_t *to)
{
    static const char *const yes[] = {"yes", "true", "on", "1"};
    static const char *const no[] = {"no", "false", "off", "0"};
    if (value == NULL) {
        *to = 1;
        return true;
    }
    for (size_t i = 0; i < KHO_COUNT_OF(yes); i++) {
        if (strcmp(value, yes[i]) == 0 || strcmp(value, no[i]) == 0) {
            *to = strcmp(value, yes[i]) == 0;
            return true;
        }
    }
    refuse(reader, spec, value, "yes or no");
    return false;
}

static bool level_set(struct reader *reader, const struct spec *spec, const char *value,
                      uint64_t *to)
{
    static const char *const names[] = {
        [EVENT_INFO] = "info", [EVENT_WARNING] = "warning", [EVENT_ERROR] = "error"};
    for (uint64_t level = EVENT_INFO; level <= EVENT_ERROR; level++) {
        if (strcmp(value, names[level]) == 0) {
            *to = level;
            return true;
        }
    }
    refuse(reader, spec, value, "info, warning or error");
    return false;
}

static bool text_set(struct reader *reader, const struct spec *spec, const char *value, char *to)
{
    size_t len = strlen(value);
    if (len < spec->min || len >= spec->max) {
        char allowed[64];
        snprintf(allowed, sizeof allowed, "a text of 1 to %llu bytes",
                 (unsigned long long)spec->max - 1);
        refuse(reader, spec, value, allowed);
        return false;
    }
    memcpy(to, value, len + 1);
    return true;
}

static bool option_set(struct reader *reader, const struct spec *spec, const char *value)
{
    void *to = (char *)reader->options + spec->offset;
    switch (spec->kind) {
    case KIND_TEXT:
        return text_set(reader, spec, value, to);
    case KIND_SIZE:
    case KIND_NUMBER:
        return number_set(reader, spec, value, to);
    case KIND_SWITCH:
        return switch_set(reader, spec, value, to);
    case KIND_LEVEL:
        return level_set(reader, spec, value, to);
    }
    return false;
}

static bool flags_read(struct reader *reader, int argc, char **argv)
{
    struct option table[SPECS_MAX + 1];
    memset(table, 0, sizeof table);
    for (size_t i = 0; i < reader->count; i++) {
        bool alone = reader->specs[i].kind == KIND_SWITCH;
        table[i].name = reader->specs[i].name;
        table[i].has_arg = alone ? no_argument : required_argument;
        table[i].val = 256 + (int)i;
    }
    /* argv[0] is the command's name, which getopt passes over like a program's. */
    optind = 0;
    opterr = 0;
    for (;;) {
        int at = optind == 0 ? 1 : optind;
        int code = getopt_long(argc, argv, "-:h", table, NULL);
        if (code == -1)
            break;
        const struct spec *spec = code >= 256 ? &reader->specs[code - 256] : NULL;
        if (code == 'h') {
            reader->options->help = 1;
        } else if (code == 1 && !reader->given[0]) {
            reader->given[0] = true; /* a bare word is the data folder */
            if (!option_set(reader, &reader->specs[0], optarg))
                return false;
        } else if (code == 1) {
            snprintf(reader->error, OPTIONS_ERROR_MAX,
                     "\"%.200s\": one data folder only, and \"%.200s\" is named already", optarg,
                     reader->options->data);
            return false;
        } else if (code == ':') {
            snprintf(reader->error, OPTIONS_ERROR_MAX, "%.200s needs a value", argv[at]);
            return false;
        } else if (spec == NULL) {
            snprintf(reader->error, OPTIONS_ERROR_MAX,
                     "\"%.200s\" is not an option of this command", argv[at]);
            return false;
        } else {
            reader->given[code - 256] = true;
            if (!option_set(reader, spec, optarg))
                return false;
        }
    }
    return true;
}

static int file_entry(void *argument, const char *section, const char *name, const char *value)
{
    struct reader *reader = argument;
    if (section[0] != '\0' && strcmp(section, "node") != 0) {
        if (reader->error[0] == '\0')
            snprintf(reader->error, OPTIONS_ERROR_MAX,
                     "[%.100s] is not a section of this file; options stand in [node]", section);
        return 0;
    }
    for (size_t i = 0; i < reader->count; i++) {
        const struct spec *spec = &reader->specs[i];
        if (!spec->in_file || strcmp(spec->name, name) != 0)
            continue;
        return reader->given[i] || option_set(reader, spec, value);
    }
    if (reader->error[0] == '\0')
        snprintf(reader->error, OPTIONS_ERROR_MAX, "\"%.100s\" is not an option; see kho-node help",
                 name);
    return 0;
}

static bool file_read(struct reader *reader)
{
    const char *path = reader->options->config;
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        snprintf(reader->error, OPTIONS_ERROR_MAX, "--config %.700s: %s", path, strerror(errno));
        return false;
    }
    reader->in_file = true;
    int line = ini_parse_file(file, file_entry, reader);
    bool unread = ferror(file) != 0;
    fclose(file);
    if (line == 0 && !unread)
        return true;
    char cause[OPTIONS_ERROR_MAX];
    snprintf(cause, sizeof cause, "%s",
             unread                     ? "it can't be read"
             : reader->error[0] != '\0' ? reader->error
                                        : "expected \"name = value\"");
    snprintf(reader->error, OPTIONS_ERROR_MAX, "--config %.400s, line %d: %.500s", path, line,
             cause);
    return false;
}

uint64_t options_shard_memory(const struct options *options, uint32_t shards)
{
    uint64_t part = options->memory_bytes / shards;
    return part - part / 16 - DRIVER_BYTES;
}

int options_shards_check(const struct options *options, uint32_t shards, char *error)
{
    char least[32], memory[32];
    if (options->shards != 0 && options->shards != shards) {
        snprintf(
            error, OPTIONS_ERROR_MAX,
            "--shards %llu: %.700s was made with %u, and that is fixed: leave --shards out, or "
            "make a new folder with kho-node init --shards %llu and let it in with "
            "'kho node readmit'",
            (unsigned long long)options->shards, options->data, shards,
            (unsigned long long)options->shards);
        return -1;
    }
    const uint64_t need = (uint64_t)shards * 72 * MIB;
    if (options->memory_bytes >= need)
        return 0;
    options_size_text(kho_round_up(need, MIB), least, sizeof least);
    options_size_text(options->memory_bytes, memory, sizeof memory);
    snprintf(error, OPTIONS_ERROR_MAX,
             "--memory %s is too little for %u shard%s (72M each): at least %s", memory, shards,
             shards == 1 ? "" : "s", least);
    return -1;
}

/* What spans options. */
static bool run_check(struct options *options, char *error)
{
    char host[256], port[8];
    if (options->data[0] == '\0') {
        snprintf(error, OPTIONS_ERROR_MAX,
                 "no data folder: name it (kho-node run DIR), or set data in the file");
        return false;
    }
    if (!listen_split(options->listen, host, sizeof host, port, sizeof port)) {
        snprintf(error, OPTIONS_ERROR_MAX,
                 "--listen: \"%s\" is not HOST:PORT (or [IPV6]:PORT) with a port from 0 to 65535",
                 options->listen);
        return false;
    }
    return options_shards_check(options, (uint32_t)kho_max(options->shards, 1), error) == 0;
}

int options_read_run(int argc, char **argv, struct options *ret_options, char *error)
{
    struct shard_options shard;
    struct options options = {.memory_bytes = GIB, .connections = 256, .log_level = EVENT_INFO};
    struct reader reader = {
        .specs = run_specs, .count = KHO_COUNT_OF(run_specs), .options = &options, .error = error};
    shard_options_init(&shard);
    options.reserve_bytes = shard.reserve_bytes;
    options.compact_rate = shard.compact_rate;
    options.scrub_days = shard.scrub_ms / DAY_MS;
    options.idle_mark_ms = shard.idle_mark_ms;
    options.commits = shard.commits_max;
    options.watch_us = 50;
    snprintf(options.listen, sizeof options.listen, "127.0.0.1:7700");
    error[0] = '\0';
    if (!flags_read(&reader, argc, argv))
        return -1;
    if (!options.help) {
        if (options.config[0] != '\0' && !file_read(&reader))
            return -1;
        if (!run_check(&options, error))
            return -1;
    }
    *ret_options = options;
    return 0;
}

int options_read_init(int argc, char **argv, struct options *ret_options, char *error)
{
    struct options options = {.shards = 1, .segment_bytes = 256 * MIB, .log_level = EVENT_INFO};
    struct reader reader = {.specs = init_specs,
                            .count = KHO_COUNT_OF(init_specs),
                            .options = &options,
                            .error = error};
    error[0] = '\0';
    if (!flags_read(&reader, argc, argv))
        return -1;
    if (!options.help && options.data[0] == '\0') {
        snprintf(error, OPTIONS_ERROR_MAX, "no data folder: name it (kho-node init DIR)");
        return -1;
    }
    if (!options.help && options.segment_bytes % MIB != 0) {
        snprintf(error, OPTIONS_ERROR_MAX,
                 "--segment-size: \"%llu\" is not a multiple of 1M, from 32M to 256M",
                 (unsigned long long)options.segment_bytes);
        return -1;
    }
    *ret_options = options;
    return 0;
}
