/* The chatd protocol, as protocol/README.md specifies it: HELLO and AUTH or RESUME in one write, SUBSCRIBE, then EPHEMERAL
 * (relay) or SEND (durable). */
#include "chatd.h"

#define TIME_BYTES 5
#define ACK_EVERY_NS (CHATD_LIMIT_ACK_EVERY_MS * NS_PER_MS)
#define ACK_INTERVAL_MIN_NS (CHATD_LIMIT_ACK_INTERVAL_MIN_MS * NS_PER_MS)

static uint8_t *write_bytes(uint8_t *to, const void *bytes, size_t size) {
    to = write_varint(to, size);
    if (size > 0) {
        memcpy(to, bytes, size);
    }
    return to + size;
}

static void queue_hello(struct connection *connection) {
    uint8_t frame[64];
    uint8_t *to = open_frame(frame, CHATD_OP_HELLO, 0);
    *to++ = 1;                       /* major */
    to = write_varint(to, 0);        /* features */
    to = write_u16(to, UINT16_MAX);  /* frame_bytes_max */
    to = write_varint(to, 0);        /* window_frames and window_bytes: the server's choice */
    to = write_varint(to, 0);
    to = write_bytes(to, "loadgen", 7);
    queue_frame(connection, frame, to);
}

static void queue_resume(struct connection *connection) {
    uint8_t frame[128];
    uint8_t *to = open_frame(frame, CHATD_OP_RESUME, 0);
    to = write_bytes(to, connection->plan->proof, connection->plan->proof_size);
    to = write_varint(to, 0);        /* log_epoch, and an empty cursor */
    to = write_bytes(to, NULL, 0);
    queue_frame(connection, frame, to);
}

static void queue_auth(struct connection *connection) {
    const struct plan_line *plan = connection->plan;
    uint8_t frame[4096];
    uint8_t *to = open_frame(frame, CHATD_OP_AUTH, 0);
    *to++ = plan->credential;
    to = write_varint(to, plan->device);
    to = write_bytes(to, plan->identity, strlen(plan->identity));
    to = write_bytes(to, plan->proof, plan->proof_size);
    to = write_bytes(to, "loadgen", 7);
    queue_frame(connection, frame, to);
}

static void greet(struct connection *connection) {
    const struct plan_line *plan = connection->plan;
    if (plan->proof_size > (plan->credential == 0 ? 64 : 2048) || strlen(plan->identity) > 64) {
        die("connection %u: the credential is too long", connection->index);
    }
    queue_hello(connection);
    if (plan->credential == 0) {
        queue_resume(connection);
    } else {
        queue_auth(connection);
    }
}

static void queue_subscribe(struct connection *connection, uint64_t cid) {
    uint8_t frame[32];
    uint8_t *to = open_frame(frame, CHATD_OP_SUBSCRIBE, 0);
    to = write_varint(to, cid);
    to = write_varint(to, CHATD_TOPIC_EPHEMERAL);
    queue_frame(connection, frame, to);
    connection->awaiting++;
}

/* Who publishes must be a subscriber too, unless the channel stands in both lists. */
static void subscribe_all(struct connection *connection) {
    const struct plan_line *plan = connection->plan;
    for (uint32_t place = 0; place < plan->subscribe.count; place++) {
        queue_subscribe(connection, plan->subscribe.at[place].id);
    }
    for (uint32_t place = 0; place < plan->publish.count; place++) {
        if (channel_find(&plan->subscribe, plan->publish.at[place].id) == NULL) {
            queue_subscribe(connection, plan->publish.at[place].id);
        }
    }
}

/* EPHEMERAL has the same bytes before every payload: length, op, flags, cid, sender 0, kind. */
static void prepare_head(struct connection *connection) {
    if (connection->plan->publish.count == 0 || connection->load->stores) {
        return;
    }
    uint8_t *to = open_frame(connection->head, CHATD_OP_EPHEMERAL, 0);
    to = write_varint(to, connection->plan->publish.at[0].id);
    to = write_varint(to, 0);
    to = write_varint(to, CHATD_EPHEMERAL_CUSTOM);
    connection->head_size = (uint32_t)(to - connection->head);
    write_u16(connection->head, connection->head_size - HEADER_BYTES + connection->load->options.payload_bytes);
}

static void on_welcome(struct reader *reader) {
    struct connection *connection = reader->connection;
    struct load *load = connection->load;
    if (reader->op == CHATD_OP_RESUMED) {
        take(reader, 1);             /* continuity */
    }
    take_varint(reader);             /* user, device, session_epoch */
    take_varint(reader);
    take_varint(reader);
    connection->cseq_stored = take_varint(reader);
    take_varint(reader);             /* features, frame_bytes_max, window_frames, window_bytes, frames_per_s, sends_per_s */
    take(reader, 2);
    take_varint(reader);
    take_varint(reader);
    take_varint(reader);
    take_varint(reader);
    uint64_t heartbeat_ms = take_varint(reader);
    if (load->options.heartbeat_ms == 0 && (load->heartbeat_ms == 0 || heartbeat_ms * 4 / 5 < load->heartbeat_ms)) {
        load->heartbeat_ms = (uint32_t)(heartbeat_ms * 4 / 5);
    }
    prepare_head(connection);
    if (!load->stores) {
        subscribe_all(connection);
    }
    if (connection->awaiting == 0) {
        connection_ready(connection);
    }
}

static void on_subscribed(struct reader *reader) {
    struct connection *connection = reader->connection;
    uint64_t cid = take_varint(reader);
    if (!(take_varint(reader) & CHATD_TOPIC_EPHEMERAL)) {
        die("connection %u: no ephemeral frames of conversation %llu", connection->index, (unsigned long long)cid);
    }
    adapter_answered(connection);
}

static struct channel *subscribed_channel(struct reader *reader, uint64_t cid) {
    struct channel *channel = channel_find(&reader->connection->plan->subscribe, cid);
    if (channel == NULL) {
        die("connection %u: frame 0x%02x of conversation %llu, which is not in its plan", reader->connection->index,
            reader->op, (unsigned long long)cid);
    }
    return channel;
}

static void skip_extensions(struct reader *reader) {
    if (reader->flags & CHATD_FLAG_EXT) {
        size_t size;
        take_bytes(reader, &size);
    }
}

static void hand_over(struct reader *reader, struct channel *channel) {
    struct connection *connection = reader->connection;
    connection->load->work->on_payload(connection, channel, reader->at, (size_t)(reader->end - reader->at));
}

static void on_ephemeral(struct reader *reader) {
    struct channel *channel = subscribed_channel(reader, take_varint(reader));
    take_varint(reader);             /* sender, kind */
    take_varint(reader);
    skip_extensions(reader);
    hand_over(reader, channel);
}

void chatd_ack(struct connection *connection) {
    uint8_t frame[16];
    uint8_t *to = open_frame(frame, CHATD_OP_ACK, 0);
    to = write_varint(to, connection->delivered);
    queue_frame(connection, frame, to);
    connection->delivered_acked = connection->delivered;
    connection->delivered_acked_ns = connection->load->now_ns;
}

static void on_deliver(struct reader *reader) {
    struct connection *connection = reader->connection;
    bool history = reader->flags & CHATD_FLAG_DELIVER_HISTORY;
    if (reader->flags & CHATD_FLAG_DELIVER_STUB || (history && connection->pull_count == 0)) {
        die("connection %u: a DELIVER with flags 0x%02x, and nobody asked", connection->index, reader->flags);
    }
    uint64_t cid = take_varint(reader);
    take_varint(reader);             /* seq, sender, time, kind */
    take_varint(reader);
    take(reader, TIME_BYTES);
    uint64_t kind = take_varint(reader);
    skip_extensions(reader);
    connection->delivered++;
    if (connection->delivered - connection->delivered_acked >= CHATD_LIMIT_ACK_EVERY_FRAMES &&
        connection->load->now_ns - connection->delivered_acked_ns >= ACK_INTERVAL_MIN_NS) {
        chatd_ack(connection);
    }
    if (kind != CHATD_KIND_CUSTOM) {
        return;
    }
    if (history) {
        connection->load->work->on_history(connection, cid, reader->at, (size_t)(reader->end - reader->at));
    } else {
        hand_over(reader, subscribed_channel(reader, cid));
    }
}

static void on_send_answer(struct reader *reader) {
    struct connection *connection = reader->connection;
    uint64_t cseq = take_varint(reader);
    if (cseq <= connection->cseq_stored) {
        die("connection %u: an answer to cseq %llu, which this run did not send", connection->index,
            (unsigned long long)cseq);
    }
    uint64_t ordinal = cseq - connection->cseq_stored - 1;
    take_varint(reader);             /* cid */
    if (reader->op == CHATD_OP_SEND_ACK) {
        connection->load->work->on_answer(connection, ordinal, take_varint(reader));
        return;
    }
    uint16_t code = read_u16(take(reader, 2));
    uint64_t retry_after_ms = take_varint(reader);
    if (!(reader->flags & CHATD_FLAG_SEND_NAK_RETRYABLE)) {
        die("connection %u: SEND refused for good, error %u", connection->index, code);
    }
    connection->load->work->on_refusal(connection, ordinal, retry_after_ms);
}

static void on_lag(struct reader *reader) {
    struct connection *connection = reader->connection;
    uint64_t cid = take_varint(reader);
    uint64_t from_seq = take_varint(reader);
    uint64_t to_seq = take_varint(reader);
    if (cid == 0) {
        die("connection %u: LAG(0): the server cannot say what it did not push", connection->index);
    }
    connection->load->results.lagged += to_seq - from_seq + 1;
    connection_pull(connection, (struct range){cid, from_seq, to_seq});
}

static void on_error(struct reader *reader) {
    struct connection *connection = reader->connection;
    unsigned code = read_u16(take(reader, 2));
    unsigned op = *take(reader, 1);
    take_varint(reader);             /* ref */
    uint64_t retry_after_ms = take_varint(reader);
    if (op == CHATD_OP_PULL && (reader->flags & CHATD_FLAG_ERROR_RETRYABLE) &&
        chatd_on_pull_error(connection, retry_after_ms)) {
        return;
    }
    size_t size;
    const uint8_t *text = take_bytes(reader, &size);
    die("connection %u: ERROR %u to frame 0x%02x: %.*s", connection->index, code, op, (int)size, (const char *)text);
}

static _Noreturn void on_end(struct reader *reader) {
    die("connection %u: the server says %s, reason %u", reader->connection->index,
        reader->op == CHATD_OP_BYE ? "BYE" : "GOAWAY", (unsigned)read_u16(take(reader, 2)));
}

static void on_ping(struct reader *reader) {
    uint8_t frame[HEADER_BYTES + 32];
    size_t size = (size_t)(reader->end - reader->at);
    if ((reader->flags & CHATD_FLAG_PING_REPLY_WANTED) && size <= 32) {
        uint8_t *to = open_frame(frame, CHATD_OP_PONG, 0);
        memcpy(to, reader->at, size);
        queue_frame(reader->connection, frame, to + size);
    }
}

static void on_frame(struct reader *reader) {
    switch (reader->op) {
        case CHATD_OP_EPHEMERAL: on_ephemeral(reader); break;
        case CHATD_OP_SEND_ACK:
        case CHATD_OP_SEND_NAK: on_send_answer(reader); break;
        case CHATD_OP_DELIVER: on_deliver(reader); break;
        case CHATD_OP_WELCOME:
        case CHATD_OP_RESUMED: on_welcome(reader); break;
        case CHATD_OP_SUBSCRIBE: on_subscribed(reader); break;
        case CHATD_OP_PING: on_ping(reader); break;
        case CHATD_OP_LAG: on_lag(reader); break;
        case CHATD_OP_PULL_END: chatd_on_pull_end(reader); break;
        case CHATD_OP_ERROR: on_error(reader); break;
        case CHATD_OP_PONG:
        case CHATD_OP_RECEIPT:
        case CHATD_OP_NOTICE: break;
        case CHATD_OP_BYE:
        case CHATD_OP_GOAWAY: on_end(reader);
        default: die("connection %u: unexpected frame 0x%02x", reader->connection->index, reader->op);
    }
}

static const uint8_t *consume(struct connection *connection, const uint8_t *from, const uint8_t *end) {
    while (end - from >= HEADER_BYTES) {
        const uint8_t *body = from + HEADER_BYTES;
        size_t size = read_u16(from);
        if ((size_t)(end - body) < size) {
            break;
        }
        struct reader reader = {connection, body, body + size, from[2], from[3]};
        on_frame(&reader);
        from = body + size;
    }
    return from;
}

static uint8_t *begin(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal) {
    if (connection->head_size > 0) {
        memcpy(to, connection->head, connection->head_size);
        return to + connection->head_size;
    }
    uint8_t *frame = to;
    to = open_frame(frame, CHATD_OP_SEND, 0);
    to = write_varint(to, connection->cseq_stored + 1 + ordinal);
    to = write_varint(to, channel->id);
    to = write_varint(to, CHATD_KIND_CUSTOM);
    write_u16(frame, (size_t)(to - frame - HEADER_BYTES) + connection->load->options.payload_bytes);
    return to;
}

static uint8_t *finish(uint8_t *to) {
    return to;
}

static void heartbeat(struct connection *connection) {
    static const uint8_t FRAME[HEADER_BYTES] = {0, 0, CHATD_OP_PING, 0};
    connection_queue(connection, FRAME, sizeof FRAME);
}

/* DELIVERs that no later one has acknowledged, and PULLs that wait. */
static void tick(struct connection *connection) {
    if (connection->delivered != connection->delivered_acked &&
        connection->load->now_ns - connection->delivered_acked_ns >= ACK_EVERY_NS) {
        chatd_ack(connection);
    }
    chatd_pull_tick(connection);
}

const struct adapter ADAPTER_CHATD = {
    .name = "chatd",
    .stores = true,
    .delivers_stored = true,
    .greet = greet,
    .consume = consume,
    .begin = begin,
    .finish = finish,
    .heartbeat = heartbeat,
    .tick = tick,
};
