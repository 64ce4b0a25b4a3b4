/* engine.c: the bench 'engine': the groups of rows one after another in a folder of their own,
 * which goes in the end, whatever happened. */
#include "engine.h"

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <kho/base.h>

#include "journal.h"

static volatile sig_atomic_t interrupted;

static void on_signal(int number)
{
    interrupted = number;
}

bool engine_interrupted(void)
{
    return interrupted != 0;
}

/* --- Folders ---------------------------------------------------------------------------------- */

void engine_path(const struct engine *engine, const char *name, char *to)
{
    int len = snprintf(to, ENGINE_PATH_MAX, "%s/%s", engine->folder, name);
    KHO_ASSERT(len > 0 && len < ENGINE_PATH_MAX);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *place)
{
    (void)st;
    (void)kind;
    (void)place;
    return remove(path);
}

void engine_remove(const char *path)
{
    enum { OPEN_FOLDERS = 8 };
    if (nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        fprintf(stderr, "kho-bench: %s can't be removed: %s\n", path, strerror(errno));
}

/* /var/tmp lies on a disk where /tmp may lie in memory, which direct I/O refuses. */
static int folder_make(struct engine *engine)
{
    const char *base = engine->options->folder;
    if (base == NULL)
        base = getenv("TMPDIR");
    if (base == NULL || base[0] == '\0')
        base = "/var/tmp";
    if (strlen(base) > ENGINE_PATH_MAX / 2) {
        fprintf(stderr, "kho-bench: --folder: the path is longer than %d bytes\n",
                ENGINE_PATH_MAX / 2);
        return -1;
    }
    snprintf(engine->folder, sizeof engine->folder, "%s/kho-bench-XXXXXX", base);
    if (mkdtemp(engine->folder) == NULL) {
        fprintf(stderr, "kho-bench: can't make a folder in %s: %s; name another with --folder\n",
                base, strerror(errno));
        return -1;
    }
    return 0;
}

/* What the largest group may need at once: a GiB a round of values and one of the floor's new files
 * beside its old one and the segments ahead of need; or the data set, whose records take less than
 * 320 bytes each. */
static int room_check(const struct engine *engine)
{
    const struct engine_options *o = engine->options;
    struct statvfs fs;
    double gib = 1024.0 * 1024 * 1024;
    double values = 2 * (double)o->rounds * (o->seconds < 1 ? o->seconds : 1) + 3;
    double herd = (double)o->records * 320 / gib + 3;
    double need = values > herd ? values : herd;
    if (statvfs(engine->folder, &fs) != 0) {
        fprintf(stderr, "kho-bench: %s: %s\n", engine->folder, strerror(errno));
        return -1;
    }
    double free_gib = (double)fs.f_bavail * (double)fs.f_frsize / gib;
    if (free_gib >= need)
        return 0;
    fprintf(stderr,
            "kho-bench: %s has %.1f GiB free, and up to %.1f may be needed: name another folder "
            "with --folder, or shrink the run with --records, --rounds or --seconds\n",
            engine->folder, free_gib, need);
    return -1;
}

/* --- Words ------------------------------------------------------------------------------------ */

void engine_progress(const struct engine *engine, const char *format, ...)
{
    va_list arguments;
    if (!engine->terminal)
        return;
    fputs("\r", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputs("\033[K", stderr);
}

void engine_row_done(struct engine *engine, const struct engine_row *row)
{
    if (!engine_options_want(engine->options, row->name))
        return;
    engine_progress(engine, "%s", "");
    row_print(row);
    row_report(row, &engine->report);
}

/* --- The run ---------------------------------------------------------------------------------- */

static int engine_run(struct engine *engine)
{
    static int (*const groups[])(struct engine *) = {engine_append, engine_stored, engine_compact};
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    int error = folder_make(engine);
    if (error != 0)
        return error;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    error = room_check(engine);
    if (error == 0)
        rows_print_head();
    for (size_t i = 0; error == 0 && i < KHO_COUNT_OF(groups); i++)
        error = groups[i](engine);
    engine_progress(engine, "%s", "");
    engine_remove(engine->folder);
    if (engine_interrupted()) {
        fprintf(stderr, "kho-bench: stopped by signal %d\n", (int)interrupted);
        error = -1;
    }
    return error;
}

int engine_main(int argc, char **argv)
{
    char error[ENGINE_ERROR_MAX];
    struct engine_options options;
    if (engine_options_read(argc, argv, &options, error) != 0) {
        fprintf(stderr, "kho-bench: %s\n'kho-bench help engine' lists the options\n", error);
        return 2;
    }
    if (options.help) {
        fputs(engine_help, stdout);
        return 0;
    }
    struct engine engine = {.options = &options, .terminal = isatty(STDERR_FILENO) == 1};
    journal_open(EVENT_WARNING);
    report_init(&engine.report, "engine");
    bool ok = engine_run(&engine) == 0;
    if (options.json != NULL && report_write(&engine.report, ok, options.json) != 0)
        ok = false;
    report_fini(&engine.report);
    return ok ? 0 : 1;
}
