/* PostgreSQL frontend/backend protocol 3.0 (postgresql.org, chapter 55): pipelined prepared INSERTs, as pgbench does with
 * \startpipeline. Everything that one turn sends is one transaction: Sync stands after the last INSERT, and what was inserted
 * is answered when ReadyForQuery says that the transaction is on disk. */
#include "load.h"

#define PREPARED "i"

static uint8_t *write_u32(uint8_t *to, size_t value) {
    return write_u16(write_u16(to, value >> 16), value & 0xFFFF);
}

static uint32_t read_u32(const uint8_t *from) {
    return (uint32_t)read_u16(from) << 16 | read_u16(from + 2);
}

static uint8_t *write_text(uint8_t *to, const char *text) {
    size_t size = strlen(text) + 1;
    memcpy(to, text, size);
    return to + size;
}

/* Fill in the length of a message whose length field is at `from`; it counts itself. */
static uint8_t *close_message(uint8_t *from, uint8_t *end) {
    write_u32(from, (size_t)(end - from));
    return end;
}

static uint8_t *seal(uint8_t *to) {
    *to = 'S';
    return write_u32(to + 1, 4);
}

static void greet(struct connection *connection) {
    uint8_t bytes[512];
    uint8_t *to = write_u32(bytes + 4, 3u << 16);
    to = write_text(write_text(to, "user"), "bench");
    to = write_text(write_text(to, "database"), "postgres");
    *to++ = 0;
    to = close_message(bytes, to);
    uint8_t *parse = to;
    *to = 'P';
    to = write_text(to + 5, PREPARED);
    to = write_text(to, "INSERT INTO event (conversation, body) VALUES ($1, $2)");
    to = write_u16(to, 0);           /* the server infers the types: bigint, bytea */
    to = seal(close_message(parse + 1, to));
    connection_queue(connection, bytes, (size_t)(to - bytes));
    connection->awaiting = 2;        /* ReadyForQuery after the greeting, and after the statement */
}

static uint8_t *begin(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal) {
    (void)ordinal;
    size_t payload_bytes = connection->load->options.payload_bytes;
    uint8_t *length = to + 1;
    *to = 'B';
    to = write_text(to + 5, "");     /* portal */
    to = write_text(to, PREPARED);
    to = write_u16(write_u16(to, 1), 1); /* all parameters are binary */
    to = write_u32(write_u16(to, 2), 8);
    to = write_u32(write_u32(to, channel->id >> 32), channel->id & 0xFFFFFFFFu);
    to = write_u32(to, payload_bytes);
    write_u32(length, (size_t)(to - length) + payload_bytes + 2);
    return to;
}

static uint8_t *finish(uint8_t *to) {
    to = write_u16(to, 0);           /* results as text: there are none */
    *to = 'E';
    to = write_u32(to + 1, 4 + 1 + 4);
    *to++ = 0;
    return write_u32(to, 0);         /* portal, all rows */
}

static void on_ready_for_query(struct connection *connection) {
    adapter_answered(connection);
    for (; connection->uncommitted > 0; connection->uncommitted--) {
        connection->load->work->on_answer(connection, connection->answered++, 0);
    }
}

static const uint8_t *consume(struct connection *connection, const uint8_t *from, const uint8_t *end) {
    while (end - from >= 5) {
        uint32_t size = read_u32(from + 1);
        if ((size_t)(end - from) < size + 1u) {
            break;
        }
        switch (*from) {
            case 'C': connection->uncommitted++; break;
            case 'Z': on_ready_for_query(connection); break;
            case 'E': die("connection %u: PostgreSQL says %.*s", connection->index, (int)size - 5, (const char *)from + 5);
            default: break;          /* parameters, and that each step is done */
        }
        from += size + 1;
    }
    return from;
}

static void heartbeat(struct connection *connection) {
    (void)connection;
}

const struct adapter ADAPTER_POSTGRES = {
    .name = "postgres",
    .stores = true,
    .greet = greet,
    .consume = consume,
    .begin = begin,
    .finish = finish,
    .heartbeat = heartbeat,
    .seal = seal,
};
