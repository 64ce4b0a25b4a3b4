/* import.c: see import.h.
 *
 * The happy path: advance() takes records from the splitter into the current batch, sends it when
 * it is full (or when nothing is under way), and reads on when the splitter runs dry; each end of a
 * read, a batch or a wait calls it again. A regular file is read where it is wanted; a pipe or a
 * terminal is polled, so that a slow one doesn't hold up the replies.
 *
 * Equal keys: of a regular file it is known which record of a key is the last (look-ahead). In a
 * stream a record whose key is in the current batch takes the earlier one's place; one whose key
 * may be in a batch under way waits until all those have ended.
 *
 * Failures: a bad record is told (the first few) and skipped. A record that the cluster refuses for
 * a cause that will hit the next as well (unavailable, full) stops the reading; what is under way
 * ends, and a second run goes on where this one stopped. */
#include "import.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "batch.h"
#include "cli.h"
#include "print.h"
#include "seen.h"

enum { BATCHES_MAX = 8, TOLD_MAX = 10, PACE_MS = 10 };

struct import {
    struct connection *connection;
    const struct import_options *options;
    struct import_counts counts;
    struct splitter splitter;
    struct progress progress;
    struct seen seen;
    bool looked_ahead;
    uint64_t expected;           /* records, by the look-ahead */
    struct format_record record; /* taken from the splitter, not yet in a batch */
    bool have_record;
    bool barrier;    /* the record waits until no batch is under way */
    uint64_t number; /* of the next record */
    uint64_t read_bytes;
    struct batch *current;
    struct batch *waiting; /* for room */
    unsigned under_way;
    uint64_t told;
    int exit;
    bool stopping;
    bool read_end;
    bool finished;
    double begun;
    double pace_begun; /* moved ahead after a stall, so that no burst makes up for it */
    uint64_t taken;    /* records since then */
    bool polls;        /* the source is a pipe, a terminal, a socket */
    bool polling;
    int file_flags; /* of it, before libuv changed them */
    uv_poll_t poll;
    uv_timer_t pace;
};

static void advance(struct import *im);
static void batch_go_on(struct batch *batch);

static bool may_tell(struct import *im)
{
    im->told++;
    if (im->told == TOLD_MAX + 1) {
        progress_clear(&im->progress);
        say("further records that fail are counted only");
    }
    if (im->told <= TOLD_MAX)
        progress_clear(&im->progress);
    return im->told <= TOLD_MAX;
}

static void stop(struct import *im, int code)
{
    im->exit = exit_worse(im->exit, code);
    im->stopping = true;
}

/* --- Batches ---------------------------------------------------------------------------------- */

static void tell_slot(struct import *im, const struct batch *batch, const struct slot *slot)
{
    struct key_text key;
    bool first_stop = batch_failure_is_general(slot->status) && !im->stopping;
    if (!may_tell(im) && !first_stop)
        return;
    say("%s:%llu: %s: %s%s", im->splitter.options.source, (unsigned long long)slot->line,
        key_escape(batch->bytes + slot->key, slot->key_len, &key), kho_strerror(slot->status),
        first_stop ? "; the import stops here, run it again to go on" : "");
}

static void batch_finish(struct batch *batch)
{
    struct import *im = batch->owner;
    for (size_t i = 0; i < batch->count; i++) {
        const struct slot *slot = &batch->slots[i];
        switch (slot->state) {
        case SLOT_STORED:
            im->counts.stored++;
            im->counts.bytes += slot->value_len;
            break;
        case SLOT_SKIPPED:
            im->counts.skipped++;
            break;
        case SLOT_REPEATED:
            break;
        case SLOT_WAITING:
        case SLOT_FAILED:
            im->counts.failed++;
            tell_slot(im, batch, slot);
            im->exit = exit_worse(im->exit, exit_of(slot->status));
            if (batch_failure_is_general(slot->status))
                im->stopping = true;
            break;
        }
    }
    im->under_way--;
    batch_destroy(batch);
}

static void results_cb(struct kho *client, const struct kho_result *results, size_t count,
                       void *arg)
{
    struct batch *batch = arg;
    struct import *im = batch->owner;
    (void)client;
    if (!batch->asked)
        batch_take_stat(batch, results, count);
    else
        batch_take_put(batch, results, count);
    batch_go_on(batch);
    advance(im);
}

static void room_cb(struct kho *client, int status, void *arg)
{
    struct import *im = arg;
    struct batch *batch = im->waiting;
    (void)client;
    (void)status;
    im->waiting = NULL;
    while (batch != NULL) {
        struct batch *next = batch->next;
        batch->next = NULL;
        batch_go_on(batch);
        batch = next;
    }
    advance(im);
}

/* The batch's next call, or its end. */
static void batch_go_on(struct batch *batch)
{
    struct import *im = batch->owner;
    if (batch_gather(batch) == 0) {
        batch_finish(batch);
        return;
    }
    struct kho *client = im->connection->client;
    int rc = (batch->asked ? kho_put : kho_stat)(client, im->options->collection, batch->items,
                                                 batch->item_count, im->connection->deadline_ms,
                                                 results_cb, batch, NULL);
    if (rc == KHO_EBUSY) {
        batch->next = im->waiting;
        im->waiting = batch;
        kho_on_room(client, room_cb, im);
        return;
    }
    if (rc == 0)
        return;
    for (size_t i = 0; i < batch->item_count; i++) {
        struct slot *slot = &batch->slots[batch->slot_of[i]];
        slot->state = SLOT_FAILED;
        slot->status = rc;
    }
    batch_finish(batch);
}

static void send_current(struct import *im)
{
    struct batch *batch = im->current;
    im->current = NULL;
    if (batch == NULL)
        return;
    im->under_way++;
    batch->asked = im->options->store_all;
    batch_go_on(batch);
}

/* --- Records ---------------------------------------------------------------------------------- */

/* Seeks the slot of the same key in the current batch and takes it out. */
static void replace_in_current(struct import *im)
{
    for (size_t i = im->current->count; i > 0; i--) {
        struct slot *slot = &im->current->slots[i - 1];
        bool same = slot->state == SLOT_WAITING && slot->key_len == im->record.key_len &&
                    memcmp(im->current->bytes + slot->key, im->record.key, slot->key_len) == 0;
        if (same) {
            slot->state = SLOT_REPEATED;
            im->counts.repeated++;
            return;
        }
    }
}

/* What to do with the record, given what was seen: 1 take it, 0 leave it out, -1 not yet. */
static int judge(struct import *im)
{
    struct seen_entry *entry = seen_key(&im->seen, im->record.key, im->record.key_len);
    if (im->looked_ahead) {
        if (entry->number == im->number || entry->number == UINT64_MAX)
            return 1;
        im->counts.repeated++;
        return 0;
    }
    if (entry->number != UINT64_MAX) {
        if (im->current != NULL && entry->number >= im->current->first)
            replace_in_current(im);
        else if (im->under_way > 0)
            return -1;
        else
            im->counts.repeated++;
    }
    entry->number = im->number;
    return 1;
}

/* Whether the rate allows one record more. */
static bool may_take(struct import *im)
{
    double rate = (double)im->options->rate, now = seconds_now();
    if (im->options->rate == 0)
        return true;
    double behind = (now - im->pace_begun) * rate - (double)im->taken;
    if (behind > rate / 4 + 1) {
        im->pace_begun = now;
        im->taken = 0;
        behind = 0;
    }
    return behind >= 0;
}

static size_t batch_capacity(const struct import *im)
{
    uint64_t capacity = im->options->batch;
    uint64_t share = im->options->rate / 50; /* twenty milliseconds' worth at a time */
    if (im->options->rate > 0 && capacity > share)
        capacity = share > 0 ? share : 1;
    return (size_t)capacity;
}

/* Puts the record at hand into a batch. False: it has to wait. */
static bool place(struct import *im)
{
    int take = judge(im);
    if (take < 0) {
        im->barrier = true;
        send_current(im);
        return false;
    }
    im->have_record = false;
    im->barrier = false;
    im->counts.records++;
    uint64_t number = im->number++;
    if (take == 0)
        return true;
    if (im->current == NULL)
        im->current = batch_create(im, batch_capacity(im), number);
    batch_add(im->current, &im->record, number);
    im->taken++;
    if (batch_full(im->current))
        send_current(im);
    return true;
}

/* --- Reading ---------------------------------------------------------------------------------- */

/* Reads a piece. False: there is nothing to read yet. */
static bool read_piece(struct import *im)
{
    size_t room;
    uint8_t *to = must(splitter_room(&im->splitter, &room));
    ssize_t got = read(im->options->fd, to, room);
    if (got > 0) {
        im->read_bytes += (uint64_t)got;
        splitter_filled(&im->splitter, (size_t)got);
    } else if (got == 0) {
        im->read_end = true;
        splitter_end(&im->splitter);
    } else if (errno == EAGAIN) {
        return false;
    } else if (errno != EINTR) {
        progress_clear(&im->progress);
        say("can't read %s: %s", im->splitter.options.source, strerror(errno));
        stop(im, EXIT_OTHER);
    }
    return true;
}

static void readable_cb(uv_poll_t *poll, int status, int events)
{
    struct import *im = poll->data;
    (void)status; /* read() tells the cause */
    (void)events;
    uv_poll_stop(poll);
    im->polling = false;
    read_piece(im);
    advance(im);
}

/* More bytes: true, they are there now; false: they will be. */
static bool read_on(struct import *im)
{
    if (!im->polls)
        return read_piece(im);
    im->polling = true;
    uv_poll_start(&im->poll, UV_READABLE, readable_cb);
    return false;
}

/* libuv refuses to poll what is always readable: that is read like a file. */
static void open_source(struct import *im)
{
    if (im->options->regular)
        return;
    im->file_flags = fcntl(im->options->fd, F_GETFL);
    im->polls = uv_poll_init(&im->connection->loop, &im->poll, im->options->fd) == 0;
    im->poll.data = im;
}

static void close_source(struct import *im)
{
    if (!im->polls)
        return;
    uv_close((uv_handle_t *)&im->poll, NULL);
    /* The terminal or pipe is others', too. */
    if (im->file_flags >= 0)
        fcntl(im->options->fd, F_SETFL, im->file_flags);
}

/* One record more at hand: true. False: there is none for now, or no more. */
static bool take_record(struct import *im)
{
    while (!im->stopping) {
        int rc = splitter_next(&im->splitter, &im->record);
        if (rc == 1) {
            im->have_record = true;
            return true;
        }
        if (rc == 0) {
            if (im->read_end || !read_on(im))
                return false;
            continue;
        }
        im->counts.failed++;
        if (may_tell(im))
            say("%s", im->splitter.message);
        if (rc == -EINVAL)
            stop(im, EXIT_USAGE);
        else
            im->exit = exit_worse(im->exit, EXIT_OTHER);
    }
    return false;
}

static void pace_cb(uv_timer_t *timer)
{
    advance(timer->data);
}

static void finish(struct import *im)
{
    im->counts.seconds = seconds_now() - im->begun;
    im->finished = true;
    uv_close((uv_handle_t *)&im->pace, NULL);
    close_source(im);
    if (im->looked_ahead && !im->stopping && im->number != im->expected) {
        say("%s changed while it was read: %llu records, %llu before; run the import again",
            im->splitter.options.source, (unsigned long long)im->number,
            (unsigned long long)im->expected);
        im->exit = exit_worse(im->exit, EXIT_OTHER);
    }
}

static void advance(struct import *im)
{
    progress_draw(&im->progress, im->counts.stored + im->counts.skipped, im->read_bytes,
                  im->read_bytes);
    while (!im->stopping && !im->polling && !im->finished && im->under_way < BATCHES_MAX) {
        if (!may_take(im)) {
            uv_timer_start(&im->pace, pace_cb, PACE_MS, 0);
            break;
        }
        if (!im->have_record && !take_record(im))
            break;
        if (im->barrier && im->under_way > 0)
            break;
        if (!place(im))
            break;
    }
    bool read_out = im->read_end && !im->have_record;
    /* Nothing under way: no reason to wait for a fuller batch. */
    if (im->current != NULL && !im->stopping && (im->under_way == 0 || read_out))
        send_current(im);
    if (im->stopping) {
        batch_destroy(im->current);
        im->current = NULL;
    }
    if ((im->stopping || read_out) && im->under_way == 0 && im->current == NULL && !im->finished)
        finish(im);
}

/* --- The whole -------------------------------------------------------------------------------- */

int import_look_ahead(const struct import_options *options, struct seen *seen,
                      uint64_t *ret_records)
{
    struct splitter splitter;
    struct format_record record;
    uint64_t number = 0;
    int code = 0, rc;
    splitter_init(&splitter, &options->splitter);
    for (bool end = false; !end;) {
        while ((rc = splitter_next(&splitter, &record)) != 0 && rc != -EINVAL)
            if (rc == 1)
                seen_key(seen, record.key, record.key_len)->number = number++;
        if (splitter.ended || rc == -EINVAL)
            break;
        size_t room;
        uint8_t *to = must(splitter_room(&splitter, &room));
        ssize_t got = read(options->fd, to, room);
        if (got < 0 && errno != EINTR) {
            say("can't read %s: %s", splitter.options.source, strerror(errno));
            code = EXIT_OTHER;
            end = true;
        } else if (got == 0) {
            splitter_end(&splitter);
        } else if (got > 0) {
            splitter_filled(&splitter, (size_t)got);
        }
    }
    splitter_fini(&splitter);
    if (code == 0 && lseek(options->fd, 0, SEEK_SET) != 0) {
        say("can't go back to the start of %s: %s", options->splitter.source, strerror(errno));
        code = EXIT_OTHER;
    }
    *ret_records = number;
    return code;
}

int import_run(struct connection *connection, const struct import_options *options,
               struct import_counts *ret_counts)
{
    struct import *im = must(calloc(1, sizeof *im));
    im->connection = connection;
    im->options = options;
    int code = 0;
    if (options->regular) {
        code = import_look_ahead(options, &im->seen, &im->expected);
        im->looked_ahead = true;
    }
    if (code == 0) {
        splitter_init(&im->splitter, &options->splitter);
        progress_init(&im->progress, "import", options->size);
        im->begun = im->pace_begun = im->progress.begun;
        uv_timer_init(&connection->loop, &im->pace);
        im->pace.data = im;
        open_source(im);
        advance(im);
        connection_wait(connection, &im->finished);
        progress_clear(&im->progress);
        splitter_fini(&im->splitter);
        code = im->exit;
    }
    *ret_counts = im->counts;
    seen_fini(&im->seen);
    /* The handles' memory is theirs until they are closed. */
    uv_run(&connection->loop, UV_RUN_NOWAIT);
    free(im);
    return code;
}
