/* Frames of the chatd protocol, read and written: what chatd.c and chatd_pull.c share. */
#ifndef LOADGEN_CHATD_H
#define LOADGEN_CHATD_H

#include "load.h"

#include "chatd_schema.h"

#define HEADER_BYTES CHATD_FRAME_HEADER_BYTES

struct reader {
    struct connection *connection;
    const uint8_t *at;
    const uint8_t *end;
    uint8_t op;
    uint8_t flags;
};

static inline uint64_t take_varint(struct reader *reader) {
    uint64_t value;
    reader->at = read_varint(reader->at, reader->end, &value);
    if (reader->at == NULL) {
        die("connection %u: frame 0x%02x is too short", reader->connection->index, reader->op);
    }
    return value;
}

static inline const uint8_t *take(struct reader *reader, size_t size) {
    const uint8_t *at = reader->at;
    if ((size_t)(reader->end - at) < size) {
        die("connection %u: frame 0x%02x is too short", reader->connection->index, reader->op);
    }
    reader->at += size;
    return at;
}

static inline const uint8_t *take_bytes(struct reader *reader, size_t *size) {
    *size = take_varint(reader);
    return take(reader, *size);
}

static inline uint8_t *open_frame(uint8_t *frame, uint8_t op, uint8_t flags) {
    frame[2] = op;
    frame[3] = flags;
    return frame + HEADER_BYTES;
}

static inline void queue_frame(struct connection *connection, uint8_t *frame, const uint8_t *end) {
    write_u16(frame, (size_t)(end - frame - HEADER_BYTES));
    connection_queue(connection, frame, (size_t)(end - frame));
}

/* chatd.c: all DELIVERs so far */
void chatd_ack(struct connection *connection);

/* chatd_pull.c */
void chatd_on_pull_end(struct reader *reader);
bool chatd_on_pull_error(struct connection *connection, uint64_t retry_after_ms);
void chatd_pull_tick(struct connection *connection);

#endif
