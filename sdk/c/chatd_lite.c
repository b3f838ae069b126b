/* The lite client. What is due is kept as flags; pump() turns flags into frames when the output buffer has room, so a full
 * buffer delays but never loses anything. Input is parsed in place in one frame buffer. */
#include "chatd_lite.h"
#include "chatd_schema.h"
#include "lite_wire.h"
#include "sha256.h"
_Static_assert(CHATD_LITE_FRAME_BYTES >= CHATD_LIMIT_LITE_FRAME_BYTES_MIN, "every frame a lite device must receive fits 128 bytes");
_Static_assert(CHATD_LITE_FRAME_BYTES <= CHATD_FRAME_BODY_BYTES_MAX, "length is 16 bits");

enum { OFFLINE, GREETING, LIVE };

static struct writer frame(struct chatd_lite *c, uint8_t op) {
    return frame_in(c->out + c->out_bytes, c->out + sizeof c->out, op, 0);
}

static int frame_done(struct chatd_lite *c, struct writer *w) {
    size_t n = frame_end(w);
    c->out_bytes += n;
    if (n) c->last_output_ms = c->now_ms;
    return n != 0;
}

/* ---- small helpers ---- */
static void raise_event(struct chatd_lite *c, const struct chatd_lite_event *e) { c->config.handle(c->config.context, e); }

static int fail(struct chatd_lite *c, uint32_t close_reason) {
    struct chatd_lite_event e = {.type = CHATD_LITE_CLOSED, .code = close_reason};
    c->state = OFFLINE;
    c->failed = 1;
    raise_event(c, &e);
    return 0;
}

static struct chatd_lite_position *position_of(struct chatd_lite *c, uint64_t cid) {
    for (size_t i = 0; i < CHATD_LITE_CONVERSATIONS; i++)
        if (cid && c->positions[i].cid == cid) return &c->positions[i];
    return NULL;
}

static void reserve_cseq(struct chatd_lite *c) {
    if (c->cseq_next < c->cseq_reserved) return;
    c->cseq_reserved = c->cseq_next + CHATD_LITE_CSEQ_BLOCK;
    struct chatd_lite_event e = {.type = CHATD_LITE_RESERVE_CSEQ, .seq = c->cseq_reserved};
    raise_event(c, &e);
}

/* ---- what is due ---- */
static void pump_ack(struct chatd_lite *c) {
    uint64_t open = c->received - c->acked;
    if (!open || c->now_ms - c->last_ack_ms < CHATD_LIMIT_ACK_INTERVAL_MIN_MS) return;
    if (2 * open < CHATD_LITE_WINDOW_FRAMES && c->now_ms - c->last_ack_ms < CHATD_LIMIT_ACK_EVERY_MS) return;
    struct writer w = frame(c, CHATD_OP_ACK);
    put_varint(&w, c->received);
    if (!frame_done(c, &w)) return;
    c->acked = c->received;
    c->last_ack_ms = c->now_ms;
}

static void pump_send(struct chatd_lite *c) {
    if (!c->pending_due || c->now_ms < c->retry_at_ms || sizeof c->out - c->out_bytes < c->pending_bytes) return;
    memcpy(c->out + c->out_bytes, c->pending, c->pending_bytes);
    c->out_bytes += c->pending_bytes;
    c->pending_due = 0;
}

/* One PULL at a time, and only with an empty window: its page may then fill it. */
static void pump_pull(struct chatd_lite *c) {
    if (c->pull_cid || c->received != c->acked) return;
    if (c->fetch_wanted) {
        uint8_t range[20];
        struct writer x = {range, range, range + sizeof range, 0};
        put_varint(&x, c->fetch_offset);
        put_varint(&x, c->fetch_length);
        size_t n = (size_t)(x.p - x.start);
        struct writer w = frame(c, CHATD_OP_PULL);
        if (!w.full) w.start[3] = CHATD_FLAG_EXT;
        put_varint(&w, c->fetch_cid);
        put_varint(&w, c->fetch_seq);
        put_varint(&w, c->fetch_seq);
        put_varint(&w, 1);
        put_varint(&w, n + 2);
        put_varint(&w, CHATD_EXTENSION_PULL_BYTE_RANGE);
        put_bytes(&w, range, n);
        if (!frame_done(c, &w)) return;
        c->fetch_wanted = 0;
        c->fetching = 1;
        c->pull_cid = c->fetch_cid;
        return;
    }
    for (size_t i = 0; i < CHATD_LITE_CONVERSATIONS; i++) {
        struct chatd_lite_position *p = &c->positions[i];
        if (!p->cid || !p->behind) continue;
        struct writer w = frame(c, CHATD_OP_PULL);
        put_varint(&w, p->cid);
        put_varint(&w, p->seq + 1);
        put_varint(&w, 0);
        put_varint(&w, CHATD_LITE_WINDOW_FRAMES);
        if (!frame_done(c, &w)) return;
        p->behind = 0;
        c->pull_cid = p->cid;
        return;
    }
}

static void pump(struct chatd_lite *c) {
    if (c->state != LIVE) return;
    pump_ack(c);
    pump_send(c);
    pump_pull(c);
    if (c->now_ms - c->last_output_ms >= c->heartbeat_ms) {
        struct writer w = frame(c, CHATD_OP_PING);
        frame_done(c, &w);
    }
}

/* ---- login ---- */
static void greet(struct chatd_lite *c) {
    struct writer w = frame(c, CHATD_OP_HELLO);
    size_t agent = c->config.agent ? strlen(c->config.agent) : 0;
    put_fixed(&w, CHATD_PROTOCOL_MAJOR, 1);
    put_varint(&w, CHATD_FEATURE_LITE | CHATD_FEATURE_CHALLENGE);
    put_fixed(&w, CHATD_LITE_FRAME_BYTES, 2);
    put_varint(&w, CHATD_LITE_WINDOW_FRAMES);
    put_varint(&w, CHATD_LITE_WINDOW_FRAMES * (uint64_t)(HEADER + CHATD_LITE_FRAME_BYTES));
    put_bytes(&w, c->config.agent, agent > 64 ? 64 : agent);
    frame_done(c, &w);
    if (!c->ticket_bytes) return;
    w = frame(c, CHATD_OP_RESUME);
    put_bytes(&w, c->ticket, c->ticket_bytes);
    put_varint(&w, c->log_epoch);
    put_bytes(&w, NULL, 0); /* this client keeps positions, no sync cursor */
    c->resuming = (uint8_t)frame_done(c, &w);
}

static void authenticate(struct chatd_lite *c) {
    static const char label[] = "chatd.v1 device";
    uint8_t message[sizeof label - 1 + sizeof c->nonce + 8], mac[32];
    size_t n = sizeof label - 1;
    memcpy(message, label, n);
    memcpy(message + n, c->nonce, sizeof c->nonce);
    n += sizeof c->nonce;
    for (size_t i = 0; i < 8; i++) message[n++] = (uint8_t)(c->config.device >> (56 - 8 * i));
    chatd_hmac_sha256(c->config.key, sizeof c->config.key, message, n, mac);
    struct writer w = frame(c, CHATD_OP_AUTH);
    put_fixed(&w, CHATD_CREDENTIAL_DEVICE_KEY, 1);
    put_varint(&w, c->config.device);
    put_bytes(&w, NULL, 0);
    put_bytes(&w, mac, sizeof mac);
    put_bytes(&w, NULL, 0);
    frame_done(c, &w);
    c->nonce_known = 0;
}

static int on_welcome(struct chatd_lite *c, struct reader *r, uint8_t op) {
    struct chatd_lite_event e = {.type = CHATD_LITE_ONLINE};
    size_t n;
    if (op == CHATD_OP_RESUMED) (void)read_fixed(r, 1); /* positions are checked by PULL in any case */
    e.user = read_varint(r);
    e.device = read_varint(r);
    (void)read_varint(r); /* session epoch */
    e.seq = read_varint(r);
    (void)read_varint(r); /* features */
    (void)read_fixed(r, 2);
    for (int i = 0; i < 4; i++) (void)read_varint(r); /* window and rates: this client stays far below */
    c->heartbeat_ms = read_varint(r);
    e.time_ms = read_fixed(r, 5) + CHATD_TIME_EPOCH_MS;
    uint64_t log_epoch = read_varint(r);
    (void)read_bytes(r, &n);
    read_copy(r, c->ticket, sizeof c->ticket, &c->ticket_bytes);
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    for (size_t i = 0; i < CHATD_LITE_CONVERSATIONS; i++) {
        if (c->log_epoch && c->log_epoch != log_epoch) c->positions[i].seq = 0; /* other content may stand there now */
        c->positions[i].behind = 1;
    }
    c->log_epoch = log_epoch;
    if (c->cseq_next <= e.seq && !c->pending_cseq) c->cseq_next = e.seq + 1; /* flash was lost: go on after what is stored */
    c->state = LIVE;
    c->pending_due = c->pending_cseq != 0;
    raise_event(c, &e);
    return 1;
}

/* ---- live frames ---- */
static int on_deliver(struct chatd_lite *c, struct reader *r, uint8_t flags) {
    struct chatd_lite_event e = {.type = CHATD_LITE_EVENT};
    e.cid = read_varint(r);
    e.seq = read_varint(r);
    e.sender = read_varint(r);
    e.time_ms = read_fixed(r, 5) + CHATD_TIME_EPOCH_MS;
    e.kind = read_varint(r);
    read_extensions(r, flags);
    if (flags & CHATD_FLAG_DELIVER_STUB) {
        e.type = CHATD_LITE_STUB;
        e.length = read_varint(r);
    }
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    e.payload = r->p;
    e.payload_bytes = (size_t)(r->end - r->p);
    c->received++;
    struct chatd_lite_position *p = position_of(c, e.cid);
    if (!p || e.seq <= p->seq) return 1;
    if (e.seq != p->seq + 1 && !(flags & CHATD_FLAG_DELIVER_HISTORY)) {
        p->behind = 1; /* a hole, perhaps an own event whose answer is still to come: pull it, in order */
        return 1;
    }
    p->seq = e.seq; /* HISTORY may begin above a floor: what lies below is not readable for this user */
    raise_event(c, &e);
    return 1;
}

static int on_ack(struct chatd_lite *c, struct reader *r) {
    struct chatd_lite_event e = {.type = CHATD_LITE_ACKED};
    uint64_t cseq = read_varint(r);
    e.cid = read_varint(r);
    e.seq = read_varint(r);
    e.time_ms = read_fixed(r, 5) + CHATD_TIME_EPOCH_MS;
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    if (cseq != c->pending_cseq) return 1;
    c->pending_cseq = 0;
    c->pending_due = 0;
    struct chatd_lite_position *p = position_of(c, e.cid);
    if (p && e.seq == p->seq + 1) p->seq = e.seq;
    else if (p && e.seq > p->seq) p->behind = 1;
    raise_event(c, &e);
    return 1;
}

static int on_nak(struct chatd_lite *c, struct reader *r, uint8_t flags) {
    struct chatd_lite_event e = {.type = CHATD_LITE_REFUSED};
    uint64_t cseq = read_varint(r);
    e.cid = read_varint(r);
    e.code = (uint32_t)read_fixed(r, 2);
    uint64_t retry_after_ms = read_varint(r);
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    if (cseq != c->pending_cseq) return 1;
    if (flags & CHATD_FLAG_SEND_NAK_RETRYABLE) {
        c->pending_due = 1;
        c->retry_at_ms = c->now_ms + (retry_after_ms ? retry_after_ms : 1);
        return 1;
    }
    c->pending_cseq = 0;
    raise_event(c, &e);
    return 1;
}

static int on_chunk(struct chatd_lite *c, struct reader *r) {
    struct chatd_lite_event e = {.type = CHATD_LITE_CHUNK};
    e.cid = read_varint(r);
    e.seq = read_varint(r);
    e.offset = read_varint(r);
    e.length = read_varint(r);
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    e.payload = r->p;
    e.payload_bytes = (size_t)(r->end - r->p);
    raise_event(c, &e);
    return 1;
}

static int on_pull_end(struct chatd_lite *c, struct reader *r) {
    uint64_t cid = read_varint(r), next_seq = read_varint(r), head_seq = read_varint(r), floor_seq = read_varint(r);
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    struct chatd_lite_position *p = position_of(c, cid);
    c->pull_cid = 0;
    if (c->fetching) {
        struct chatd_lite_event e = {.type = CHATD_LITE_FETCH_END, .cid = cid, .seq = c->fetch_seq};
        c->fetching = 0;
        raise_event(c, &e);
        return 1;
    }
    if (!p) return 1;
    if (p->seq + 1 < floor_seq) p->seq = floor_seq - 1;
    if (next_seq || p->seq < head_seq) p->behind = 1;
    return 1;
}

static int on_lag(struct chatd_lite *c, struct reader *r) {
    uint64_t cid = read_varint(r);
    for (size_t i = 0; i < CHATD_LITE_CONVERSATIONS; i++)
        if (!cid || c->positions[i].cid == cid) c->positions[i].behind = 1;
    return 1;
}

static int on_error(struct chatd_lite *c, struct reader *r) {
    struct chatd_lite_event e = {.type = CHATD_LITE_ERROR};
    e.code = (uint32_t)read_fixed(r, 2);
    uint8_t op = (uint8_t)read_fixed(r, 1);
    if (r->bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
    if (c->resuming && op == CHATD_OP_RESUME) { /* the ticket is too old: log in by key */
        c->resuming = 0;
        c->ticket_bytes = 0;
        if (c->nonce_known) authenticate(c);
        return 1;
    }
    if (op == CHATD_OP_PULL && c->pull_cid) {
        struct chatd_lite_position *p = position_of(c, c->pull_cid);
        if (p && !c->fetching && e.code >= 400) p->behind = 1; /* temporary: try again */
        c->fetching = 0;
        c->pull_cid = 0;
    }
    raise_event(c, &e);
    return 1;
}

static int on_frame(struct chatd_lite *c, uint8_t op, uint8_t flags, struct reader r) {
    switch (op) {
    case CHATD_OP_CHALLENGE:
        if (r.end - r.p != (ptrdiff_t)sizeof c->nonce) return fail(c, CHATD_CLOSE_BAD_FRAME);
        memcpy(c->nonce, r.p, sizeof c->nonce);
        c->nonce_known = 1;
        if (!c->resuming) authenticate(c);
        return 1;
    case CHATD_OP_WELCOME:
    case CHATD_OP_RESUMED: return on_welcome(c, &r, op);
    case CHATD_OP_DELIVER: return on_deliver(c, &r, flags);
    case CHATD_OP_SEND_ACK: return on_ack(c, &r);
    case CHATD_OP_SEND_NAK: return on_nak(c, &r, flags);
    case CHATD_OP_CHUNK: return on_chunk(c, &r);
    case CHATD_OP_PULL_END: return on_pull_end(c, &r);
    case CHATD_OP_LAG: return on_lag(c, &r);
    case CHATD_OP_ERROR: return on_error(c, &r);
    case CHATD_OP_BYE: return fail(c, (uint32_t)read_fixed(&r, 2));
    case CHATD_OP_PING:
        if (flags & CHATD_FLAG_PING_REPLY_WANTED) {
            struct writer w = frame(c, CHATD_OP_PONG);
            put_raw(&w, r.p, (size_t)(r.end - r.p));
            frame_done(c, &w);
        }
        return 1;
    case CHATD_OP_EPHEMERAL: {
        struct chatd_lite_event e = {.type = CHATD_LITE_EPHEMERAL};
        e.cid = read_varint(&r);
        e.sender = read_varint(&r);
        e.kind = read_varint(&r);
        read_extensions(&r, flags);
        if (r.bad) return fail(c, CHATD_CLOSE_BAD_FRAME);
        e.payload = r.p;
        e.payload_bytes = (size_t)(r.end - r.p);
        raise_event(c, &e);
        return 1;
    }
    default: /* an op this client does not know may be ignored unless it says otherwise */
        return op & CHATD_OP_MUST_UNDERSTAND ? fail(c, CHATD_CLOSE_UNSUPPORTED) : 1;
    }
}

/* ---- the interface ---- */
void chatd_lite_init(struct chatd_lite *c, const struct chatd_lite_config *config) {
    memset(c, 0, sizeof *c);
    c->config = *config;
    c->cseq_next = c->cseq_reserved = config->cseq_first ? config->cseq_first : 1;
}

int chatd_lite_follow(struct chatd_lite *c, uint64_t cid, uint64_t seq) {
    struct chatd_lite_position *p = position_of(c, cid);
    for (size_t i = 0; !p && i < CHATD_LITE_CONVERSATIONS; i++)
        if (!c->positions[i].cid) p = &c->positions[i];
    if (!p) return 0;
    *p = (struct chatd_lite_position){.cid = cid, .seq = seq, .behind = 1};
    pump(c);
    return 1;
}

void chatd_lite_connected(struct chatd_lite *c, uint64_t now_ms) {
    c->state = GREETING;
    c->resuming = c->nonce_known = c->failed = c->fetching = 0;
    c->in_bytes = c->out_bytes = 0;
    c->received = c->acked = c->pull_cid = 0;
    c->now_ms = c->last_output_ms = now_ms;
    c->last_ack_ms = now_ms;
    c->retry_at_ms = 0;
    greet(c);
}

int chatd_lite_input(struct chatd_lite *c, const uint8_t *data, size_t n) {
    while (n && !c->failed) {
        size_t need = c->in_bytes < HEADER ? HEADER : HEADER + ((size_t)c->in[0] << 8 | c->in[1]);
        size_t part = need - c->in_bytes < n ? need - c->in_bytes : n;
        memcpy(c->in + c->in_bytes, data, part);
        c->in_bytes += part;
        data += part;
        n -= part;
        if (c->in_bytes < HEADER) break;
        size_t whole = HEADER + ((size_t)c->in[0] << 8 | c->in[1]);
        if (whole > sizeof c->in) return fail(c, CHATD_CLOSE_BAD_FRAME); /* the server knows frame_bytes_max */
        if (c->in_bytes < whole) continue;
        c->in_bytes = 0;
        if (!on_frame(c, c->in[2], c->in[3], (struct reader){c->in + HEADER, c->in + whole, 0})) return 0;
        pump(c);
    }
    return !c->failed;
}

void chatd_lite_tick(struct chatd_lite *c, uint64_t now_ms) {
    c->now_ms = now_ms;
    pump(c);
}

size_t chatd_lite_output(struct chatd_lite *c, const uint8_t **bytes) {
    *bytes = c->out;
    return c->out_bytes;
}

void chatd_lite_sent(struct chatd_lite *c, size_t n) {
    if (n > c->out_bytes) n = c->out_bytes;
    c->out_bytes -= n;
    memmove(c->out, c->out + n, c->out_bytes);
    pump(c);
}

uint64_t chatd_lite_send(struct chatd_lite *c, uint64_t cid, uint32_t kind, const uint8_t *payload, size_t n) {
    if (c->pending_cseq) return 0;
    reserve_cseq(c);
    struct writer w = frame_in(c->pending, c->pending + sizeof c->pending, CHATD_OP_SEND, 0);
    put_varint(&w, c->cseq_next);
    put_varint(&w, cid);
    put_varint(&w, kind);
    put_raw(&w, payload, n);
    c->pending_bytes = frame_end(&w);
    if (!c->pending_bytes) return 0;
    c->pending_cseq = c->cseq_next++;
    c->pending_due = 1;
    c->retry_at_ms = 0;
    pump(c);
    return c->pending_cseq;
}

int chatd_lite_fetch(struct chatd_lite *c, uint64_t cid, uint64_t seq, uint64_t offset, uint64_t length) {
    if (c->fetch_wanted || c->fetching) return 0;
    c->fetch_cid = cid;
    c->fetch_seq = seq;
    c->fetch_offset = offset;
    c->fetch_length = length;
    c->fetch_wanted = 1;
    pump(c);
    return 1;
}
