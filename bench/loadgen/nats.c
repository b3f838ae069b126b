/* NATS client protocol: text lines, MSG with a payload of stated length (docs.nats.io, reference "Client Protocol").
 * Subjects are `c.ID`; the subscription id is the channel's place in the plan, so a MSG finds its channel without a search. */
#include "load.h"

#include <stdio.h>

#define LINE_BYTES_MAX 4096 /* max_control_line of the server */

static void greet(struct connection *connection) {
    static const char OPTIONS[] =
        "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":false,\"lang\":\"c\",\"version\":\"1\",\"protocol\":1}\r\n";
    connection_queue(connection, OPTIONS, sizeof OPTIONS - 1);
    const struct channels *subscribe = &connection->plan->subscribe;
    for (uint32_t place = 0; place < subscribe->count; place++) {
        char line[64];
        int size = snprintf(line, sizeof line, "SUB c.%llu %u\r\n", (unsigned long long)subscribe->at[place].id, place + 1);
        connection_queue(connection, line, (size_t)size);
    }
    /* PONG comes after everything before it has been done. */
    connection_queue(connection, "PING\r\n", 6);
    connection->awaiting = 1;
    if (connection->plan->publish.count > 0) {
        int size = snprintf((char *)connection->head, sizeof connection->head, "PUB c.%llu %u\r\n",
                            (unsigned long long)connection->plan->publish.at[0].id, connection->load->options.payload_bytes);
        connection->head_size = (uint32_t)size;
    }
}

static const uint8_t *number(const uint8_t *from, const uint8_t *end, uint64_t *value) {
    *value = 0;
    for (; from < end && *from >= '0' && *from <= '9'; from++) {
        *value = *value * 10 + (uint64_t)(*from - '0');
    }
    return from;
}

/* `MSG subject sid size` and the payload; returns the byte after it, or NULL when it is not all there. */
static const uint8_t *on_message(struct connection *connection, const uint8_t *line, const uint8_t *line_end,
                                 const uint8_t *end) {
    const uint8_t *at = memchr(line + 4, ' ', (size_t)(line_end - line - 4));
    uint64_t sid = 0, size = 0;
    if (at != NULL) {
        at = number(at + 1, line_end, &sid);
        at = at < line_end ? number(at + 1, line_end, &size) : NULL;
    }
    if (at != line_end || sid == 0 || sid > connection->plan->subscribe.count) {
        die("connection %u: unexpected '%.*s'", connection->index, (int)(line_end - line), (const char *)line);
    }
    const uint8_t *payload = line_end + 2;
    if ((size_t)(end - payload) < size + 2 || payload > end) {
        return NULL;
    }
    connection->load->work->on_payload(connection, &connection->plan->subscribe.at[sid - 1], payload, size);
    return payload + size + 2;
}

static const uint8_t *consume(struct connection *connection, const uint8_t *from, const uint8_t *end) {
    while (from < end) {
        const uint8_t *line_end = memchr(from, '\r', (size_t)(end - from));
        if (line_end == NULL || end - line_end < 2) {
            if (end - from > LINE_BYTES_MAX) {
                die("connection %u: a line longer than %d bytes", connection->index, LINE_BYTES_MAX);
            }
            return from;
        }
        if (memcmp(from, "MSG ", 4) == 0) {
            const uint8_t *next = on_message(connection, from, line_end, end);
            if (next == NULL) {
                return from;
            }
            from = next;
            continue;
        }
        if (memcmp(from, "PING", 4) == 0) {
            connection_queue(connection, "PONG\r\n", 6);
        } else if (memcmp(from, "PONG", 4) == 0) {
            adapter_answered(connection);
        } else if (memcmp(from, "INFO", 4) != 0) {
            die("connection %u: the server says '%.*s'", connection->index, (int)(line_end - from), (const char *)from);
        }
        from = line_end + 2;
    }
    return from;
}

static void heartbeat(struct connection *connection) {
    connection_queue(connection, "PING\r\n", 6);
}

const struct adapter ADAPTER_NATS = {
    .name = "nats",
    .greet = greet,
    .consume = consume,
    .begin = adapter_begin,
    .finish = adapter_finish_line,
    .heartbeat = heartbeat,
};
