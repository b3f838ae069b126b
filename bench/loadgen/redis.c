/* Redis: RESP3, so that one connection may both publish and subscribe (redis.io, "Redis serialization protocol").
 *
 * Relay uses PUBLISH, which Redis answers with the number of receivers. The answer travels with the messages for the same
 * connection: CLIENT REPLY OFF was tried and changed nothing (0.51 and 0.52 µs per delivery, 4.8 and 4.8 with one in flight).
 * Durable uses XADD to one stream per conversation; the reply (the entry's id) is the answer. */
#include "load.h"

#include <stdio.h>

static void queue_text(struct connection *connection, const char *text) {
    connection_queue(connection, text, strlen(text));
}

static void prepare_head(struct connection *connection, uint64_t id) {
    char key[32];
    int key_size = snprintf(key, sizeof key, "c.%llu", (unsigned long long)id);
    uint32_t payload_bytes = connection->load->options.payload_bytes;
    const char *format = connection->load->stores
                             ? "*5\r\n$4\r\nXADD\r\n$%d\r\n%s\r\n$1\r\n*\r\n$1\r\np\r\n$%u\r\n"
                             : "*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%s\r\n$%u\r\n";
    int size = snprintf((char *)connection->head, sizeof connection->head, format, key_size, key, payload_bytes);
    connection->head_size = (uint32_t)size;
}

static void greet(struct connection *connection) {
    const struct channels *subscribe = &connection->plan->subscribe;
    queue_text(connection, "*2\r\n$5\r\nHELLO\r\n$1\r\n3\r\n");
    for (uint32_t place = 0; !connection->load->stores && place < subscribe->count; place++) {
        char line[96];
        char key[32];
        int key_size = snprintf(key, sizeof key, "c.%llu", (unsigned long long)subscribe->at[place].id);
        snprintf(line, sizeof line, "*2\r\n$9\r\nSUBSCRIBE\r\n$%d\r\n%s\r\n", key_size, key);
        queue_text(connection, line);
        connection->awaiting++;
    }
    queue_text(connection, "*1\r\n$4\r\nPING\r\n");
    connection->awaiting++;
}

static uint8_t *begin(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal) {
    if (connection->head_size == 0 || connection->plan->publish.count > 1) {
        prepare_head(connection, channel->id);
    }
    return adapter_begin(connection, to, channel, ordinal);
}

/* The number after a type byte; returns the byte after its line, or NULL when the line is not all there. */
static const uint8_t *header(const uint8_t *from, const uint8_t *end, int64_t *value) {
    const uint8_t *at = from + 1;
    bool negative = at < end && *at == '-';
    at += negative;
    int64_t sum = 0;
    for (; at < end && *at >= '0' && *at <= '9'; at++) {
        sum = sum * 10 + (*at - '0');
    }
    *value = negative ? -sum : sum;
    return end - at >= 2 && at[0] == '\r' ? at + 2 : NULL;
}

static const uint8_t *bulk(const uint8_t *from, const uint8_t *end, const uint8_t **text, size_t *size) {
    int64_t length;
    if (from >= end || *from != '$' || (from = header(from, end, &length)) == NULL || length < 0 ||
        end - from < length + 2) {
        return NULL;
    }
    *text = from;
    *size = (size_t)length;
    return from + length + 2;
}

/* Skip one value of any type, nested ones included; NULL when it is not all there. */
static const uint8_t *skip_value(const uint8_t *from, const uint8_t *end) {
    uint64_t values = 1;
    while (values > 0) {
        if (from >= end) {
            return NULL;
        }
        uint8_t type = *from;
        int64_t length;
        values--;
        if (strchr("$=!*~>%", type) == NULL) {
            const uint8_t *line_end = memchr(from, '\n', (size_t)(end - from));
            if (line_end == NULL) {
                return NULL;
            }
            from = line_end + 1;
            continue;
        }
        if ((from = header(from, end, &length)) == NULL) {
            return NULL;
        }
        if (length < 0) {
            continue;
        }
        if (type == '*' || type == '~' || type == '>') {
            values += (uint64_t)length;
        } else if (type == '%') {
            values += 2 * (uint64_t)length;
        } else if (end - from < length + 2) {
            return NULL;
        } else {
            from += length + 2;
        }
    }
    return from;
}

static uint64_t channel_id(const uint8_t *name, size_t size) {
    uint64_t id = 0;
    for (size_t at = 2; at < size; at++) {
        id = id * 10 + (uint64_t)(name[at] - '0');
    }
    return id;
}

/* `message CHANNEL PAYLOAD`, or the confirmation of SUBSCRIBE. */
static const uint8_t *on_push(struct connection *connection, const uint8_t *from, const uint8_t *end) {
    const uint8_t *word, *name, *payload;
    size_t word_size, name_size, payload_size;
    int64_t count;
    const uint8_t *at = header(from, end, &count);
    if (at == NULL || (at = bulk(at, end, &word, &word_size)) == NULL) {
        return NULL;
    }
    if (word_size != 7 || memcmp(word, "message", 7) != 0) {
        at = skip_value(from, end);
        if (at != NULL) {
            adapter_answered(connection);
        }
        return at;
    }
    if ((at = bulk(at, end, &name, &name_size)) == NULL || (at = bulk(at, end, &payload, &payload_size)) == NULL) {
        return NULL;
    }
    struct channel *channel = channel_find(&connection->plan->subscribe, channel_id(name, name_size));
    if (channel == NULL) {
        die("connection %u: a message of a channel it did not subscribe to", connection->index);
    }
    connection->load->work->on_payload(connection, channel, payload, payload_size);
    return at;
}

static const uint8_t *consume(struct connection *connection, const uint8_t *from, const uint8_t *end) {
    while (from < end) {
        const uint8_t *next = *from == '>' ? on_push(connection, from, end) : skip_value(from, end);
        if (next == NULL) {
            return from;
        }
        switch (*from) {
            case '-':
                die("connection %u: Redis says '%.*s'", connection->index, (int)(next - from - 2), (const char *)from);
            case '+':
                adapter_answered(connection);
                break;
            case '$':
                connection->load->work->on_answer(connection, connection->answered++, 0);
                break;
            default:
                break;
        }
        from = next;
    }
    return from;
}

static void heartbeat(struct connection *connection) {
    queue_text(connection, "*1\r\n$4\r\nPING\r\n");
}

const struct adapter ADAPTER_REDIS = {
    .name = "redis",
    .stores = true,
    .greet = greet,
    .consume = consume,
    .begin = begin,
    .finish = adapter_finish_line,
    .heartbeat = heartbeat,
};
