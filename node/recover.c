/* recover.c: brings a shard's folder back to life (recover.h).
 *
 * Phases, each at most one op at a time:
 *
 *     temporary   unlinks every *.new: what wasn't renamed was never used
 *     manifest    open, read, close, check that it is this folder's
 *     map         the same
 *     segments    opens each; syncs those that weren't sealed
 *     folder      syncs it: what the manifest and the map say is stable from here on
 *     strays      segments that the manifest doesn't list: retired ones go; others were never used,
 *                 so they hold zeros and go; one that holds something stays and is named in an
 * event gone        syncs the folder again where files went scan        scan.c
 *
 * No file goes on the word of a manifest whose rename may still be lost: the one before it may list
 * that file.
 *
 * A folder without any file is fresh and ready with nothing. A manifest that is damaged, missing
 * beside other files, or of another folder ends the start: what the shard may have lost can't be
 * told then, and guessing would break R2. */
#include "recover.h"

enum {
    PHASE_TEMPORARY,
    PHASE_MANIFEST,
    PHASE_MAP,
    PHASE_SEGMENTS,
    PHASE_FOLDER,
    PHASE_STRAYS,
    PHASE_GONE,
    PHASE_SCAN,
    PHASE_DONE
};
/* Steps within a phase that works on one file after the other. */
enum { STEP_OPEN, STEP_READ, STEP_CLOSE, STEP_UNLINK, STEP_SYNC };

int recover_init(struct recover *recover, struct depot *depot)
{
    *recover = (struct recover){.depot = depot};
    return scan_init(&recover->scan, depot);
}

static void buffer_release(struct recover *recover)
{
    world_release(recover->depot->world, recover->buffer, recover->buffer_bytes);
    recover->buffer = NULL;
    recover->buffer_bytes = 0;
}

void recover_fini(struct recover *recover)
{
    if (recover->depot == NULL)
        return;
    scan_fini(&recover->scan);
    buffer_release(recover);
    world_release(recover->depot->world, recover->files,
                  recover->file_count * sizeof *recover->files);
    recover->depot = NULL;
}

static int give_up(const struct recover *recover, const char *what, int error, const char *remedy)
{
    char text[160];
    world_event(recover->depot->world, EVENT_ERROR, "can't start: %s: %s; %s", what,
                depot_error_text(error, text, sizeof text), remedy);
    return error;
}

static const struct file_found *file_find(const struct recover *recover, enum file_kind kind,
                                          uint64_t id)
{
    for (size_t i = 0; i < recover->file_count; i++) {
        const struct file_found *f = &recover->files[i];
        if (!f->name.temporary && f->name.kind == kind && f->name.id == id)
            return f;
    }
    return NULL;
}

static int push(struct recover *recover, enum op_kind kind, struct file_name name, int32_t file,
                uint8_t step)
{
    uint8_t *data = recover->buffer;
    uint32_t len = (uint32_t)recover->buffer_bytes;
    recover->step = step;
    recover->op = (struct op){.file = file, .conn = -1, .name = name};
    if (kind == OP_READ) {
        recover->op.data = data;
        recover->op.len = len;
    }
    if (kind == OP_OPEN && name.kind == FILE_SEGMENT)
        recover->op.flags = OP_OPEN_DIRECT;
    depot_push(recover->depot, &recover->op, kind, PURPOSE_RECOVER, recover);
    return 1;
}

static int phase_begin(struct recover *recover, uint8_t phase)
{
    recover->phase = phase;
    recover->at = 0;
    recover->step = STEP_OPEN;
    return 0;
}

/* --- Small files ------------------------------------------------------------------------------ */

static int buffer_make(struct recover *recover, uint64_t bytes)
{
    uint32_t alignment = recover->depot->options.alignment;
    buffer_release(recover);
    bytes = kho_round_up(bytes > 0 ? bytes : 1, alignment);
    if (bytes > MANIFEST_LENGTH_MAX + alignment)
        return KHO_EMALFORMED;
    recover->buffer = world_allocate(recover->depot->world, bytes, alignment);
    if (recover->buffer == NULL)
        return -ENOMEM;
    recover->buffer_bytes = bytes;
    memset(recover->buffer, 0, bytes);
    return 0;
}

static int manifest_use(struct recover *recover)
{
    struct depot *depot = recover->depot;
    struct manifest *m = &depot->manifest;
    const struct shard_options *options = &depot->options;
    int error = manifest_decode(m, recover->buffer, recover->buffer_bytes);
    if (error != 0)
        return give_up(recover, "the file 'manifest' is damaged", error,
                       "make the folder anew with 'kho-node init', then 'kho node readmit' and "
                       "'kho repair'");
    if (!kho_id_equal(&m->identity.incarnation, &options->incarnation))
        return give_up(recover, "the file 'manifest' is of another data folder", KHO_EINCARNATION,
                       "put this folder's own files back, or make it anew");
    if (m->identity.shard != options->shard || m->shard_count != options->shard_count)
        return give_up(recover, "the file 'manifest' is of another shard", KHO_ESHARD,
                       "put this shard's own files back, or make the folder anew");
    return 0;
}

static int map_use(struct recover *recover)
{
    struct depot *depot = recover->depot;
    const uint8_t *bytes = recover->buffer;
    uint32_t length = kho_load32(bytes + 76);
    struct kho_id cluster = depot->manifest.identity.cluster;
    struct map map;
    int error = KHO_EMALFORMED;
    if (recover->buffer_bytes >= KHO_MAP_HEAD && length <= recover->buffer_bytes)
        error = depot_map_copy(depot, bytes, length, &map);
    if (error == 0) {
        error = depot_map_first(depot, &map);
        if (error == 0)
            depot_map_adopt(depot, &map);
        else
            depot_map_release(depot, &map);
    }
    if (error != 0)
        return give_up(recover, "the file 'map' is damaged", error,
                       "replace it by that of another node of the cluster");
    if (!kho_id_equal(&depot->map.cluster, &cluster) ||
        depot->map.partitions != depot->manifest.partitions) {
        return give_up(recover, "the file 'map' is of another cluster", KHO_ECLUSTER,
                       "replace it by that of another node of this cluster");
    }
    if (depot->self < 0)
        world_event(depot->world, EVENT_WARNING,
                    "the map of epoch %llu doesn't name this folder: no records are served until "
                    "a map does",
                    (unsigned long long)depot->epoch);
    return 0;
}

/* Reads one small file whole. 1: under way; 0: it is in the buffer; or an error. */
static int small_file(struct recover *recover, const struct file_found *found, int32_t file,
                      bool completed)
{
    int result = completed ? recover->op.result : 0;
    if (!completed) {
        int error = buffer_make(recover, found->size);
        if (error != 0)
            return error;
        return push(recover, OP_OPEN, found->name, file, STEP_OPEN);
    }
    if (recover->step == STEP_CLOSE)
        return recover->at != 0 ? -EIO : 0;
    if (recover->step == STEP_OPEN)
        return result < 0 ? result : push(recover, OP_READ, found->name, file, STEP_READ);
    if (result < 0)
        recover->at = 1; /* remembered until the handle is closed */
    return push(recover, OP_CLOSE_FILE, found->name, file, STEP_CLOSE);
}

static int phase_manifest(struct recover *recover, bool completed)
{
    const struct file_found *found = file_find(recover, FILE_MANIFEST, 0);
    if (found == NULL) {
        for (size_t i = 0; i < recover->file_count; i++)
            if (!recover->files[i].name.temporary)
                return give_up(recover, "the file 'manifest' is missing beside other files",
                               -ENOENT,
                               "put it back, or make the folder anew with 'kho-node init', then "
                               "'kho node readmit'");
        recover->fresh = true;
        return phase_begin(recover, PHASE_DONE);
    }
    int state = small_file(recover, found, DEPOT_FILE_MANIFEST, completed);
    if (state > 0)
        return state;
    if (state < 0)
        return give_up(recover, "the file 'manifest' can't be read", state,
                       "mend the disk, or make the folder anew and readmit it");
    int error = manifest_use(recover);
    return error != 0 ? error : phase_begin(recover, PHASE_MAP);
}

static int phase_map(struct recover *recover, bool completed)
{
    const struct file_found *found = file_find(recover, FILE_MAP, 0);
    if (found == NULL) {
        if (recover->depot->manifest.segments.count > 0)
            return give_up(recover, "the file 'map' is missing", -ENOENT,
                           "put back that of any node of the cluster");
        return phase_begin(recover, PHASE_SEGMENTS);
    }
    int state = small_file(recover, found, DEPOT_FILE_MAP, completed);
    if (state > 0)
        return state;
    if (state < 0)
        return give_up(recover, "the file 'map' can't be read", state,
                       "replace it by that of another node of the cluster");
    int error = map_use(recover);
    return error != 0 ? error : phase_begin(recover, PHASE_SEGMENTS);
}

/* --- Files by the list ------------------------------------------------------------------------ */

static int phase_temporary(struct recover *recover, bool completed)
{
    recover->at += completed;
    for (; recover->at < recover->file_count; recover->at++)
        if (recover->files[recover->at].name.temporary)
            return push(recover, OP_UNLINK, recover->files[recover->at].name, -1, STEP_UNLINK);
    return phase_begin(recover, PHASE_MANIFEST);
}

static bool listed(const struct recover *recover, uint64_t id)
{
    const struct manifest *manifest = &recover->depot->manifest;
    for (uint32_t i = 0; i < manifest->segments.count; i++)
        if (manifest_segment(manifest, i)->id == id)
            return true;
    return false;
}

static int stray_step(struct recover *recover, const struct file_found *found)
{
    struct depot *depot = recover->depot;
    uint64_t start = segment_start(depot->options.alignment);
    int result = recover->op.result;
    switch (recover->step) {
    case STEP_OPEN:
        if (result < 0)
            break;
        return push(recover, OP_READ, found->name, recover->op.file, STEP_READ);
    case STEP_READ:
        /* `at` can't tell whether it is empty, so the buffer does: emptied where it must stay. */
        if (result < 0 || (uint64_t)result <= start ||
            !all_zero(recover->buffer + start, (size_t)result - start))
            buffer_release(recover);
        return push(recover, OP_CLOSE_FILE, found->name, recover->op.file, STEP_CLOSE);
    case STEP_CLOSE:
        if (recover->buffer != NULL)
            return push(recover, OP_UNLINK, found->name, -1, STEP_UNLINK);
        break;
    default:
        recover->unlinked = true;
        recover->unlink_failed |= result < 0;
        return 0;
    }
    world_event(depot->world, EVENT_WARNING,
                "segment-%016llx isn't in the manifest but isn't empty: it is left alone; was an "
                "old manifest put back?",
                (unsigned long long)found->name.id);
    return 0;
}

static int phase_strays(struct recover *recover, bool completed)
{
    struct depot *depot = recover->depot;
    if (completed) {
        int state = stray_step(recover, &recover->files[recover->at]);
        if (state != 0)
            return state;
        recover->at++;
    }
    for (; recover->at < recover->file_count; recover->at++) {
        const struct file_found *f = &recover->files[recover->at];
        if (f->name.temporary || f->name.kind != FILE_SEGMENT || listed(recover, f->name.id))
            continue;
        if (manifest_is_retired(&depot->manifest, f->name.id))
            return push(recover, OP_UNLINK, f->name, -1, STEP_UNLINK);
        depot->manifest.next_segment = kho_max(depot->manifest.next_segment, f->name.id + 1);
        int error = buffer_make(recover, AHEAD_READ);
        if (error != 0)
            return give_up(recover, "reading the folder", error, "raise the node's memory");
        return push(recover, OP_OPEN, f->name, DEPOT_FILE_STRAY, STEP_OPEN);
    }
    buffer_release(recover);
    return phase_begin(recover, PHASE_GONE);
}

static int segment_completed(struct recover *recover, struct segment *s)
{
    struct depot *depot = recover->depot;
    char text[96];
    int result = recover->op.result;
    if (recover->step == STEP_SYNC) {
        if (result < 0)
            return give_up(recover, "a segment can't be synced", result,
                           "mend the disk; if it can't be mended, make the folder anew and "
                           "readmit it");
        return 0;
    }
    /* What fails for want of handles, memory or rights is no loss, and the next start may do. */
    if (result < 0 && result != -ENOENT && result != -EIO)
        return give_up(recover, "a segment can't be opened", result,
                       "give the node the rights, handles or memory that this names, and start it "
                       "again");
    s->open = result >= 0;
    if (!s->open) {
        world_event(depot->world, EVENT_ERROR, "segment-%016llx can't be opened: %s",
                    (unsigned long long)s->id, depot_error_text(result, text, sizeof text));
        return 0;
    }
    if (KHO_PLANTED(start_without_sync))
        return 0;
    return s->sealed ? 0 : push(recover, OP_SYNC, recover->op.name, s->file, STEP_SYNC);
}

static int phase_segments(struct recover *recover, bool completed)
{
    struct manifest *manifest = &recover->depot->manifest;
    if (completed) {
        int state = segment_completed(recover, manifest_segment(manifest, (uint32_t)recover->at));
        if (state != 0)
            return state;
        recover->at++;
    }
    if (recover->at < manifest->segments.count) {
        struct segment *s = manifest_segment(manifest, (uint32_t)recover->at);
        struct file_name name = {.kind = FILE_SEGMENT, .id = s->id};
        s->file = depot_segment_file((uint32_t)recover->at);
        return push(recover, OP_OPEN, name, s->file, STEP_OPEN);
    }
    return phase_begin(recover, PHASE_FOLDER);
}

/* The files of retired segments are gone for good. */
static void retired_gone(struct depot *depot)
{
    depot->manifest_dirty |= depot->manifest.retired.count > 0;
    depot->manifest.retired.count = 0;
}

/* 1: under way; 0: done; or an error. */
static int folder_sync(struct recover *recover, bool completed)
{
    if (!completed)
        return push(recover, OP_SYNC_FOLDER, (struct file_name){0}, -1, STEP_SYNC);
    if (recover->op.result < 0)
        return give_up(recover, "the folder can't be synced", recover->op.result,
                       "mend the disk; if it can't be mended, make the folder anew and readmit it");
    return 0;
}

static int phase_folder(struct recover *recover, bool completed)
{
    int state = folder_sync(recover, completed);
    return state != 0 ? state : phase_begin(recover, PHASE_STRAYS);
}

static int phase_gone(struct recover *recover, bool completed, struct kho_now now)
{
    int state = recover->unlinked ? folder_sync(recover, completed) : 0;
    if (state != 0)
        return state;
    if (!recover->unlink_failed)
        retired_gone(recover->depot);
    scan_start(&recover->scan, now);
    return phase_begin(recover, PHASE_SCAN);
}

static int phase_scan(struct recover *recover, struct kho_now now)
{
    int state = scan_run(&recover->scan, now);
    if (state < 0)
        return give_up(recover, "reading the log", state,
                       state == -ENOMEM || state == KHO_EFULL ? "raise the node's memory limit"
                                                              : "report this message");
    return state != 0 ? state : phase_begin(recover, PHASE_DONE);
}

/* --- Driving ---------------------------------------------------------------------------------- */

static int run(struct recover *recover, bool completed, struct kho_now now)
{
    int state = 0;
    while (state == 0) {
        switch (recover->phase) {
        case PHASE_TEMPORARY:
            state = phase_temporary(recover, completed);
            break;
        case PHASE_MANIFEST:
            state = phase_manifest(recover, completed);
            break;
        case PHASE_MAP:
            state = phase_map(recover, completed);
            break;
        case PHASE_STRAYS:
            state = phase_strays(recover, completed);
            break;
        case PHASE_SEGMENTS:
            state = phase_segments(recover, completed);
            break;
        case PHASE_FOLDER:
            state = phase_folder(recover, completed);
            break;
        case PHASE_GONE:
            state = phase_gone(recover, completed, now);
            break;
        case PHASE_SCAN:
            state = phase_scan(recover, now);
            break;
        default:
            return 0;
        }
        completed = false;
    }
    return state;
}

int recover_start(struct recover *recover, const struct file_found *files, size_t count,
                  struct kho_now now)
{
    size_t size = count * sizeof *files;
    recover->files = world_allocate(recover->depot->world, size, 0);
    if (recover->files == NULL)
        return give_up(recover, "reading the folder", -ENOMEM, "raise the node's memory limit");
    if (count > 0)
        memcpy(recover->files, files, size);
    recover->file_count = count;
    phase_begin(recover, PHASE_TEMPORARY);
    return run(recover, false, now);
}

int recover_completed(struct recover *recover, struct op *op, struct kho_now now)
{
    if (op->purpose == PURPOSE_AHEAD || op->purpose == PURPOSE_RESTORE) {
        KHO_ASSERT(recover->phase == PHASE_SCAN);
        if (op->purpose == PURPOSE_AHEAD)
            ahead_completed(&recover->scan.ahead, op);
        else
            restore_completed(&recover->scan.restore, op);
        return run(recover, false, now);
    }
    KHO_ASSERT(op == &recover->op);
    return run(recover, true, now);
}

void recover_progress(const struct recover *recover, uint64_t *ret_done, uint64_t *ret_total)
{
    *ret_total = recover->scan.total_bytes;
    uint64_t done = recover->scan.ahead.bytes_read + recover->scan.restore.bytes_read;
    *ret_done = kho_min(done, *ret_total);
}
