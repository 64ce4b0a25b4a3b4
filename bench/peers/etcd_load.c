/* etcd_load.c: etcd's own protocol, gRPC: one HTTP/2 stream a call, through libcurl, so that no
 * JSON gateway stands between. A unit of writes is one put, or one transaction of B puts; a unit of
 * reads is one linearizable range of one key. A call has ended well when grpc-status is 0, and of a
 * transaction only when its puts have run; anything else ends the program.
 *
 * A gRPC message is a byte 0, its length in 32 bits, big-endian, and a protocol buffer. Of those
 * only fields with a length (wire type 2) and varints (0) occur in what is used here:
 *
 *   PutRequest    1 key, 2 value
 *   TxnRequest    2 success: RequestOp { 2 PutRequest }, repeated; without conditions they run
 *   RangeRequest  1 key
 *   TxnResponse   2 succeeded (varint), 3 responses, repeated
 *   RangeResponse 2 kvs: KeyValue { 1 key, 5 value } */
#include <nghttp2/nghttp2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lane.h"

enum {
    HEAD = 5,           /* bytes before a gRPC message */
    PUT_MAX = 512,      /* bytes of a put in a request, all of its heads included */
    ANSWER_MAX = 65536, /* bytes of an answer */
    WIRE_VARINT = 0,
    WIRE_BYTES = 2,
};

struct link {
    struct lane *lane;
    nghttp2_session *session;
};

struct call {
    struct etcd *etcd;
    struct link *link;
    struct peer_unit unit;
    unsigned char *request, *answer;
    size_t request_len, sent, answer_len;
    bool granted; /* grpc-status was 0 */
};

struct etcd {
    struct peer peer;
    struct lane *lanes;
    struct link *links; /* one a lane */
    struct call *calls; /* flight of them a lane */
    size_t under_way;
};

/* --- Protocol buffers ------------------------------------------------------------------------- */

static unsigned char *varint_put(unsigned char *to, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *to++ = (unsigned char)(value | 0x80);
    *to++ = (unsigned char)value;
    return to;
}

static size_t varint_len(uint64_t value)
{
    size_t len = 1;
    for (; value >= 0x80; value >>= 7)
        len++;
    return len;
}

/* The head of a field with a length. */
static unsigned char *field_put(unsigned char *to, unsigned field, size_t len)
{
    *to++ = (unsigned char)(field << 3 | WIRE_BYTES);
    return varint_put(to, len);
}

static size_t field_len(size_t len)
{
    return 1 + varint_len(len) + len;
}

struct field {
    unsigned number;
    uint64_t value;             /* of a varint; else the length */
    const unsigned char *bytes; /* NULL: a varint */
};

static bool varint_take(const unsigned char **at, const unsigned char *end, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned shift = 0; *at < end && shift < 64; shift += 7) {
        unsigned char byte = *(*at)++;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* The next field. False at the end, or where what is there isn't understood. */
static bool field_take(const unsigned char **at, const unsigned char *end, struct field *ret_field)
{
    uint64_t tag, value;
    if (!varint_take(at, end, &tag) || !varint_take(at, end, &value))
        return false;
    *ret_field = (struct field){.number = (unsigned)(tag >> 3), .value = value};
    if ((tag & 7) == WIRE_VARINT)
        return true;
    if ((tag & 7) != WIRE_BYTES || value > (uint64_t)(end - *at))
        return false;
    ret_field->bytes = *at;
    *at += value;
    return true;
}

/* The first field of that number. */
static bool field_find(const unsigned char *at, const unsigned char *end, unsigned number,
                       struct field *ret_field)
{
    while (field_take(&at, end, ret_field))
        if (ret_field->number == number)
            return true;
    return false;
}

/* --- Requests --------------------------------------------------------------------------------- */

static unsigned char *put_make(const struct values *values, unsigned char *to, uint64_t number)
{
    to = field_put(to, 1, VALUE_KEY);
    value_key(number, (char *)to);
    to = field_put(to + VALUE_KEY, 2, values->max);
    return to + value_make(values, number, 0, (char *)to);
}

static unsigned char *txn_make(const struct peer *peer, unsigned char *to, const uint64_t *numbers)
{
    size_t put = field_len(VALUE_KEY) + field_len(peer->values.max);
    for (uint64_t i = 0; i < peer->batch; i++) {
        to = field_put(to, 2, field_len(put));
        to = field_put(to, 2, put);
        to = put_make(&peer->values, to, numbers[i]);
    }
    return to;
}

static void request_make(const struct peer *peer, struct call *call)
{
    unsigned char *begin = call->request + HEAD, *end = begin;
    if (!call->unit.writes) {
        end = field_put(end, 1, VALUE_KEY);
        value_key(call->unit.numbers[0], (char *)end);
        end += VALUE_KEY;
    } else if (peer->batch == 1) {
        end = put_make(&peer->values, end, call->unit.numbers[0]);
    } else {
        end = txn_make(peer, end, call->unit.numbers);
    }
    size_t len = (size_t)(end - begin);
    call->request[0] = 0;
    for (unsigned i = 0; i < 4; i++)
        call->request[1 + i] = (unsigned char)(len >> (24 - 8 * i));
    call->request_len = HEAD + len;
}

static ssize_t on_read(nghttp2_session *session, int32_t stream, uint8_t *to, size_t room,
                       uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct call *call = source->ptr;
    size_t left = call->request_len - call->sent, len = left < room ? left : room;
    (void)session, (void)stream, (void)arg;
    memcpy(to, call->request + call->sent, len);
    call->sent += len;
    if (len == left)
        *flags |= NGHTTP2_DATA_FLAG_EOF;
    return (ssize_t)len;
}

/* nghttp2 copies names and values; it takes them as bytes that it may change. */
static nghttp2_nv header(const char *name, const char *value)
{
    union {
        const char *text;
        uint8_t *bytes;
    } as_name = {.text = name}, as_value = {.text = value};
    return (nghttp2_nv){as_name.bytes, as_value.bytes, strlen(name), strlen(value),
                        NGHTTP2_NV_FLAG_NONE};
}

static void call_begin(struct call *call, uint64_t now_ns)
{
    struct etcd *e = call->etcd;
    if (!peer_draw(&e->peer, &call->unit, now_ns))
        return;
    const char *path = !call->unit.writes   ? "/etcdserverpb.KV/Range"
                       : e->peer.batch == 1 ? "/etcdserverpb.KV/Put"
                                            : "/etcdserverpb.KV/Txn";
    const nghttp2_nv headers[] = {header(":method", "POST"),
                                  header(":scheme", "http"),
                                  header(":authority", e->peer.at),
                                  header(":path", path),
                                  header("content-type", "application/grpc"),
                                  header("te", "trailers")};
    const nghttp2_data_provider body = {.source.ptr = call, .read_callback = on_read};
    request_make(&e->peer, call);
    call->sent = call->answer_len = 0;
    call->granted = false;
    if (nghttp2_submit_request(call->link->session, NULL, headers,
                               sizeof headers / sizeof headers[0], &body, call) < 0)
        peer_die(&e->peer, "no more streams can be opened");
    e->under_way++;
}

/* --- Answers ---------------------------------------------------------------------------------- */

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t len, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    (void)flags, (void)arg;
    if (call == NULL || len > ANSWER_MAX - call->answer_len)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    memcpy(call->answer + call->answer_len, bytes, len);
    call->answer_len += len;
    return 0;
}

/* Trailers come here, too. */
static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags,
                     void *arg)
{
    static const char status[] = "grpc-status";
    struct call *call = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags, (void)arg;
    if (call != NULL && name_len == sizeof status - 1 && memcmp(name, status, name_len) == 0)
        call->granted = value_len == 1 && value[0] == '0';
    return 0;
}

/* As many responses as there were puts, and all of them because the transaction went through. */
static bool txn_took_place(const struct peer *peer, const unsigned char *at,
                           const unsigned char *end)
{
    struct field field;
    uint64_t responses = 0;
    bool succeeded = false;
    while (field_take(&at, end, &field)) {
        if (field.number == 2 && field.bytes == NULL)
            succeeded = field.value == 1;
        responses += field.number == 3;
    }
    return succeeded && responses == peer->batch;
}

static void call_take(struct call *call)
{
    struct peer *peer = &call->etcd->peer;
    const unsigned char *at = call->answer + HEAD, *end = call->answer + call->answer_len;
    struct field pair, value = {.bytes = NULL};
    if (!call->granted || call->answer_len < HEAD)
        peer_die(peer, "the server answers with an error");
    if (call->unit.writes) {
        if (peer->batch > 1 && !txn_took_place(peer, at, end))
            peer_die(peer, "a transaction didn't take place");
        return;
    }
    bool found = field_find(at, end, 2, &pair) && pair.bytes != NULL &&
                 field_find(pair.bytes, pair.bytes + pair.value, 5, &value);
    peer_check(peer, call->unit.numbers[0], found ? value.bytes : NULL, (size_t)value.value);
}

static int on_close(nghttp2_session *session, int32_t stream, uint32_t error, void *arg)
{
    struct call *call = nghttp2_session_get_stream_user_data(session, stream);
    (void)arg;
    if (call == NULL)
        return 0;
    if (error != NGHTTP2_NO_ERROR)
        peer_die(&call->etcd->peer, nghttp2_http2_strerror(error));
    call_take(call);
    call->etcd->under_way--;
    uint64_t now_ns = clock_ns();
    peer_take(&call->etcd->peer, &call->unit, now_ns);
    call_begin(call, now_ns);
    return 0;
}

/* --- The run ---------------------------------------------------------------------------------- */

/* Hands the lane what the session has to send. */
static void link_pump(struct link *link)
{
    const uint8_t *bytes;
    ssize_t len;
    while ((len = nghttp2_session_mem_send(link->session, &bytes)) > 0)
        lane_put(link->lane, bytes, (size_t)len);
    if (len < 0)
        peer_die(link->lane->peer, nghttp2_strerror((int)len));
}

static size_t take(struct lane *lane)
{
    struct etcd *e = lane->owner;
    struct link *link = &e->links[lane - e->lanes];
    ssize_t taken =
        nghttp2_session_mem_recv(link->session, (const uint8_t *)lane->in, lane->in_len);
    if (taken < 0)
        peer_die(lane->peer, nghttp2_strerror((int)taken));
    link_pump(link);
    return (size_t)taken;
}

static bool busy(const void *owner)
{
    return ((const struct etcd *)owner)->under_way > 0;
}

static void phase_run(struct etcd *e, enum peer_phase phase)
{
    peer_begin(&e->peer, phase);
    for (size_t i = 0; i < e->peer.lanes * e->peer.flight; i++)
        call_begin(&e->calls[i], clock_ns());
    for (size_t i = 0; i < e->peer.lanes; i++)
        link_pump(&e->links[i]);
    lanes_run(e->lanes, e->peer.lanes, take, busy);
}

static void call_open(struct etcd *e, struct call *call, struct link *link)
{
    struct peer *peer = &e->peer;
    call->etcd = e;
    call->link = link;
    call->unit.numbers = peer_alloc(peer, peer->batch, sizeof(uint64_t));
    call->request = peer_alloc(peer, peer->batch, PUT_MAX);
    call->answer = peer_alloc(peer, 1, ANSWER_MAX);
}

static void link_open(struct etcd *e, size_t i)
{
    nghttp2_session_callbacks *callbacks;
    struct link *link = &e->links[i];
    link->lane = &e->lanes[i];
    lane_open(link->lane, &e->peer, e);
    if (nghttp2_session_callbacks_new(&callbacks) != 0)
        peer_die(&e->peer, "no memory");
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    if (nghttp2_session_client_new(&link->session, callbacks, link) != 0 ||
        nghttp2_submit_settings(link->session, NGHTTP2_FLAG_NONE, NULL, 0) != 0)
        peer_die(&e->peer, "no memory");
    nghttp2_session_callbacks_del(callbacks);
}

static void etcd_open(struct etcd *e)
{
    struct peer *peer = &e->peer;
    e->lanes = peer_alloc(peer, peer->lanes, sizeof *e->lanes);
    e->links = peer_alloc(peer, peer->lanes, sizeof *e->links);
    e->calls = peer_alloc(peer, peer->lanes * peer->flight, sizeof *e->calls);
    for (size_t i = 0; i < peer->lanes; i++)
        link_open(e, i);
    for (size_t i = 0; i < peer->lanes * peer->flight; i++)
        call_open(e, &e->calls[i], &e->links[i % peer->lanes]);
}

static void etcd_close(struct etcd *e)
{
    for (size_t i = 0; i < e->peer.lanes * e->peer.flight; i++) {
        free(e->calls[i].unit.numbers);
        free(e->calls[i].request);
        free(e->calls[i].answer);
    }
    for (size_t i = 0; i < e->peer.lanes; i++) {
        nghttp2_session_del(e->links[i].session);
        lane_close(&e->lanes[i]);
    }
    free(e->calls);
    free(e->links);
    free(e->lanes);
}

int main(int argc, char **argv)
{
    static struct etcd e;
    struct peer *peer = &e.peer;
    peer_init(peer, "etcd_load", argc, argv);
    if (peer->records > 0 && peer->batch > 1)
        peer_die(peer, "reads one record a call");
    etcd_open(&e);
    phase_run(&e, PEER_LOAD);
    phase_run(&e, PEER_RUN);
    peer->batch = 1; /* what was written in transactions is read back one by one */
    phase_run(&e, PEER_READBACK);
    etcd_close(&e);
    return peer_end(peer);
}
