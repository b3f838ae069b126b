/* Relay: ephemeral messages between connections.
 *
 * Every publisher keeps `window` messages in flight: one counts as in flight until all its subscribers have it. Because
 * publishers and subscribers live in one process, a delivery is the only acknowledgement needed, and all servers do nothing
 * but relay. Ring (connection i to i + 1), fan-out (one to all) and ping (one to one) differ in the plan only. */
#include "load.h"

#include <stdlib.h>

struct publisher {
    uint64_t next;       /* counter of the next message */
    uint64_t complete;   /* all below are with all their subscribers */
    uint16_t *missing;   /* fan > 1: subscribers that a message in flight still lacks, by counter modulo window */
};

static void prepare(struct load *load) {
    for (uint32_t index = 0; index < load->count; index++) {
        struct connection *connection = &load->connections[index];
        const struct channels *publish = &connection->plan->publish;
        if (publish->count == 0) {
            continue;
        }
        if (publish->count > 1 || publish->at[0].fan == 0 || publish->at[0].fan > UINT16_MAX) {
            die("connection %u: relay wants one channel with subscribers per publisher", index);
        }
        struct publisher *publisher = allocate(1, sizeof *publisher);
        if (publish->at[0].fan > 1) {
            publisher->missing = allocate(load->options.window, sizeof *publisher->missing);
        }
        connection->work = publisher;
    }
}

static void start(struct load *load) {
    for (uint32_t index = 0; index < load->count; index++) {
        if (load->connections[index].work != NULL) {
            connection_touch(&load->connections[index]);
        }
    }
}

static uint8_t *fill(struct connection *connection, uint8_t *to, uint8_t *end) {
    struct load *load = connection->load;
    struct publisher *publisher = connection->work;
    if (publisher == NULL || !load->sending) {
        return to;
    }
    const struct channel *channel = &connection->plan->publish.at[0];
    size_t size = load->options.payload_bytes;
    struct stamp stamp = {.generator = load->options.generator, .connection = connection->index, .sent_ns = now_ns()};
    while (publisher->next - publisher->complete < load->options.window && to + HEAD_BYTES_MAX + size <= end) {
        stamp.counter = publisher->next;
        to = load->adapter->begin(connection, to, channel, publisher->next);
        payload_write(to, size, &stamp);
        to = load->adapter->finish(to + size);
        if (publisher->missing != NULL) {
            publisher->missing[publisher->next % load->options.window] = (uint16_t)channel->fan;
        }
        publisher->next++;
        load->results.sent++;
        load->results.expected += channel->fan;
    }
    return to;
}

static void complete(struct connection *sender, uint64_t counter) {
    struct publisher *publisher = sender->work;
    uint32_t window = sender->load->options.window;
    if (counter < publisher->complete || counter >= publisher->next) {
        return;
    }
    if (publisher->missing == NULL) {
        publisher->complete = counter + 1;
        connection_touch(sender);
        return;
    }
    publisher->missing[counter % window]--;
    while (publisher->complete < publisher->next && publisher->missing[publisher->complete % window] == 0) {
        publisher->complete++;
        connection_touch(sender);
    }
}

static void on_payload(struct connection *connection, struct channel *channel, const uint8_t *payload, size_t size) {
    struct load *load = connection->load;
    struct results *results = &load->results;
    struct stamp stamp;
    if (!payload_read(payload, size, load->options.payload_bytes, &stamp) || stamp.generator != load->options.generator ||
        stamp.connection >= load->count || load->connections[stamp.connection].work == NULL ||
        load->connections[stamp.connection].plan->publish.at[0].id != channel->id) {
        results->corrupt++;
        return;
    }
    if (stamp.counter < channel->counter) {
        results->reordered++;
        return;
    }
    results->skipped += stamp.counter - channel->counter;
    channel->counter = stamp.counter + 1;
    results->delivered++;
    if (load->measuring) {
        results->operations++;
        histogram_add(&results->latency, load->now_ns - stamp.sent_ns);
    }
    complete(&load->connections[stamp.connection], stamp.counter);
}

static uint64_t unanswered(struct load *load) {
    return load->results.expected - load->results.delivered;
}

const struct work WORK_RELAY = {
    .name = "relay",
    .prepare = prepare,
    .start = start,
    .fill = fill,
    .on_payload = on_payload,
    .unanswered = unanswered,
};
