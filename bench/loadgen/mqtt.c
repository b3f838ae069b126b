/* MQTT 3.1.1 at QoS 0 (OASIS standard, 29 October 2014, sections 2 and 3), for mosquitto. Topics are `c/ID`. */
#include "load.h"

#include <stdio.h>

#define KEEP_ALIVE_S 65535
#define TOPIC_BYTES_MAX 24

enum packet { CONNACK = 2, PUBLISH = 3, SUBACK = 9, PINGRESP = 13 };

static uint8_t *write_topic(uint8_t *to, uint64_t id) {
    char topic[TOPIC_BYTES_MAX];
    int size = snprintf(topic, sizeof topic, "c/%llu", (unsigned long long)id);
    to = write_u16(to, (size_t)size);
    memcpy(to, topic, (size_t)size);
    return to + size;
}

/* A packet: type and flags, length of the rest, the rest. */
static void queue_packet(struct connection *connection, uint8_t type, const uint8_t *rest, size_t size) {
    uint8_t header[5] = {type};
    connection_queue(connection, header, (size_t)(write_varint(header + 1, size) - header));
    connection_queue(connection, rest, size);
}

static void greet(struct connection *connection) {
    static const uint8_t CONNECT[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 2 /* clean session */, KEEP_ALIVE_S >> 8,
                                      KEEP_ALIVE_S & 0xFF, 0, 0 /* the server names the client */};
    queue_packet(connection, 0x10, CONNECT, sizeof CONNECT);
    const struct channels *subscribe = &connection->plan->subscribe;
    for (uint32_t place = 0; place < subscribe->count; place++) {
        uint8_t rest[TOPIC_BYTES_MAX + 8];
        uint8_t *to = write_topic(write_u16(rest, place + 1), subscribe->at[place].id);
        *to++ = 0; /* QoS 0 */
        queue_packet(connection, 0x82, rest, (size_t)(to - rest));
    }
    connection->awaiting = 1 + subscribe->count;
    if (connection->plan->publish.count > 0) {
        uint8_t topic[TOPIC_BYTES_MAX + 2];
        size_t size = (size_t)(write_topic(topic, connection->plan->publish.at[0].id) - topic);
        uint8_t *to = connection->head;
        *to++ = 0x30;
        to = write_varint(to, size + connection->load->options.payload_bytes);
        memcpy(to, topic, size);
        connection->head_size = (uint32_t)(to + size - connection->head);
    }
}

static uint8_t *finish(uint8_t *to) {
    return to;
}

static void on_publish(struct connection *connection, const uint8_t *body, size_t size) {
    size_t topic_size = size >= 2 ? read_u16(body) : size;
    if (topic_size + 2 > size || topic_size < 3) {
        die("connection %u: a PUBLISH that ends in its topic", connection->index);
    }
    uint64_t id = 0;
    for (size_t at = 4; at < topic_size + 2; at++) {
        id = id * 10 + (uint64_t)(body[at] - '0');
    }
    struct channel *channel = channel_find(&connection->plan->subscribe, id);
    if (channel == NULL) {
        die("connection %u: a message of a topic it did not subscribe to", connection->index);
    }
    connection->load->work->on_payload(connection, channel, body + 2 + topic_size, size - 2 - topic_size);
}

static void on_packet(struct connection *connection, uint8_t first, const uint8_t *body, size_t size) {
    switch (first >> 4) {
        case CONNACK:
            if (size != 2 || body[1] != 0) {
                die("connection %u: the broker refuses the connection", connection->index);
            }
            adapter_answered(connection);
            break;
        case SUBACK:
            if (size != 3 || body[2] != 0) {
                die("connection %u: the broker refuses a subscription", connection->index);
            }
            adapter_answered(connection);
            break;
        case PUBLISH: on_publish(connection, body, size); break;
        case PINGRESP: break;
        default: die("connection %u: unexpected packet 0x%02x", connection->index, first);
    }
}

static const uint8_t *consume(struct connection *connection, const uint8_t *from, const uint8_t *end) {
    while (end - from >= 2) {
        uint64_t size;
        const uint8_t *body = read_varint(from + 1, end, &size);
        if (body == NULL || (uint64_t)(end - body) < size) {
            break;
        }
        on_packet(connection, *from, body, size);
        from = body + size;
    }
    return from;
}

static void heartbeat(struct connection *connection) {
    static const uint8_t PINGREQ[] = {0xC0, 0};
    connection_queue(connection, PINGREQ, sizeof PINGREQ);
}

const struct adapter ADAPTER_MQTT = {
    .name = "mqtt",
    .greet = greet,
    .consume = consume,
    .begin = adapter_begin,
    .finish = finish,
    .heartbeat = heartbeat,
};
