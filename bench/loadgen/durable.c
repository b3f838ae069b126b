/* Durable: messages that the server answers when they are stored. Group: the same, counted where they are delivered.
 *
 * Closed loop: every publisher keeps `window` messages unanswered. Open loop (--rate): message k is due at start + k / rate
 * whatever the server does, on publisher k modulo their number; its latency counts from when it was due, so a server that
 * stalls is charged with everybody who would have waited (coordinated omission, Gil Tene). The window still bounds what is
 * unanswered; what waits for it stands in the schedule, bounded by SCHEDULE_MAX.
 *
 * A message that is refused for now is sent again with the same bytes and, at chatd, the same cseq; new ones wait meanwhile,
 * because the server would refuse them as out of order. A server that does not answer (group, at peers) gets each message
 * once, on schedule. */
#include "load.h"

#include <stdlib.h>

#define SCHEDULE_MAX 256u
#define SCHEDULE_GRAIN_NS (100 * NS_PER_US) /* so often are due messages collected: a wake-up per message would cost more than it */
#define ANSWER_WINDOW_MAX SCHEDULE_MAX

enum slot_state { DUE, SENT, REFUSED, ANSWERED };

struct slot {
    uint64_t due_ns;
    uint64_t counter;
    uint32_t channel;
    uint8_t state;
};

struct publisher {
    struct slot slots[SCHEDULE_MAX]; /* by ordinal modulo SCHEDULE_MAX */
    uint64_t scheduled;              /* ordinals below were due, sent, answered without a gap */
    uint64_t sent;
    uint64_t answered;
    uint32_t outstanding;
    uint32_t refused;
    uint64_t retry_ns;
};

/* The publishers, and the open loop's schedule over all of them. */
static struct {
    struct connection **publishers;
    uint32_t count;
    uint64_t started_ns;
    uint64_t due;
    uint64_t waiting;     /* scheduled, not sent yet; sent and unanswered; refused and not sent again yet */
    uint64_t outstanding;
    uint64_t refused;
} durable;

static struct slot *slot_of(struct publisher *publisher, uint64_t ordinal) {
    return &publisher->slots[ordinal % SCHEDULE_MAX];
}

static void prepare(struct load *load) {
    if (load->options.window > ANSWER_WINDOW_MAX) {
        die("durable: a window of at most %u", ANSWER_WINDOW_MAX);
    }
    durable.publishers = allocate(load->count, sizeof(struct connection *));
    for (uint32_t index = 0; index < load->count; index++) {
        struct connection *connection = &load->connections[index];
        if (connection->plan->publish.count > 0) {
            connection->work = allocate(1, sizeof(struct publisher));
            durable.publishers[durable.count++] = connection;
        }
    }
    if (durable.count == 0) {
        die("durable: nobody publishes");
    }
    stuck_prepare(load);
}

static void start(struct load *load) {
    durable.started_ns = load->now_ns;
    for (uint32_t place = 0; place < durable.count; place++) {
        connection_touch(durable.publishers[place]);
    }
}

static void schedule(struct connection *connection, uint64_t due_ns) {
    struct publisher *publisher = connection->work;
    if (publisher->scheduled - publisher->answered == SCHEDULE_MAX) {
        connection->load->results.overrun++;
        return;
    }
    durable.waiting++;
    uint32_t place = (uint32_t)(publisher->scheduled % connection->plan->publish.count);
    struct channel *channel = &connection->plan->publish.at[place];
    *slot_of(publisher, publisher->scheduled++) =
        (struct slot){.due_ns = due_ns, .counter = channel->counter++, .channel = place, .state = DUE};
}

static uint8_t *write_slot(struct connection *connection, uint8_t *to, uint64_t ordinal) {
    struct load *load = connection->load;
    struct publisher *publisher = connection->work;
    struct slot *slot = slot_of(publisher, ordinal);
    struct stamp stamp = {
        .generator = load->options.generator,
        .connection = connection->index,
        .counter = slot->counter,
        .sent_ns = slot->due_ns,
    };
    size_t size = load->options.payload_bytes;
    to = load->adapter->begin(connection, to, &connection->plan->publish.at[slot->channel], ordinal);
    payload_write(to, size, &stamp);
    if (load->stores) {
        slot->state = SENT;
        publisher->outstanding++;
        durable.outstanding++;
    } else {
        publisher->answered++;
    }
    return load->adapter->finish(to + size);
}

static uint8_t *fill_again(struct connection *connection, uint8_t *to, const uint8_t *end) {
    struct publisher *publisher = connection->work;
    size_t size = HEAD_BYTES_MAX + connection->load->options.payload_bytes;
    if (connection->load->now_ns < publisher->retry_ns || publisher->outstanding > 0) {
        return to;
    }
    for (uint64_t ordinal = publisher->answered; ordinal < publisher->sent && to + size <= end; ordinal++) {
        if (slot_of(publisher, ordinal)->state == REFUSED) {
            publisher->refused--;
            durable.refused--;
            to = write_slot(connection, to, ordinal);
        }
    }
    return to;
}

static uint8_t *fill(struct connection *connection, uint8_t *to, uint8_t *end) {
    struct load *load = connection->load;
    struct publisher *publisher = connection->work;
    size_t size = HEAD_BYTES_MAX + load->options.payload_bytes;
    if (publisher == NULL) {
        return to;
    }
    if (publisher->refused > 0) {
        return fill_again(connection, to, end);
    }
    bool open_loop = load->options.rate_per_s > 0;
    uint64_t now = open_loop ? 0 : now_ns();
    while (publisher->sent - publisher->answered < load->options.window && to + size <= end) {
        if (!open_loop && load->sending) {
            schedule(connection, now);
        }
        if (publisher->sent == publisher->scheduled) {
            break;
        }
        struct channel *channel = &connection->plan->publish.at[slot_of(publisher, publisher->sent)->channel];
        durable.waiting--;
        load->results.sent++;
        load->results.expected += channel->fan;
        to = write_slot(connection, to, publisher->sent++);
    }
    return to;
}

static struct slot *settle(struct connection *connection, uint64_t ordinal) {
    struct publisher *publisher = connection->work;
    if (publisher == NULL || ordinal < publisher->answered || ordinal >= publisher->sent ||
        slot_of(publisher, ordinal)->state != SENT) {
        die("connection %u: an answer to message %llu, which waits for none", connection->index,
            (unsigned long long)ordinal);
    }
    publisher->outstanding--;
    durable.outstanding--;
    connection_touch(connection);
    return slot_of(publisher, ordinal);
}

static void on_answer(struct connection *connection, uint64_t ordinal, uint64_t seq) {
    struct load *load = connection->load;
    struct publisher *publisher = connection->work;
    struct slot *slot = settle(connection, ordinal);
    struct channel *channel = &connection->plan->publish.at[slot->channel];
    slot->state = ANSWERED;
    if (channel->seq == 0 || seq < channel->seq) {
        channel->seq = seq;
    }
    load->results.answered++;
    if (load->measuring) {
        load->results.operations += load->work == &WORK_DURABLE;
        histogram_add(&load->results.latency, load->now_ns - slot->due_ns);
    }
    while (publisher->answered < publisher->sent && slot_of(publisher, publisher->answered)->state == ANSWERED) {
        publisher->answered++;
    }
}

static void on_refusal(struct connection *connection, uint64_t ordinal, uint64_t retry_after_ms) {
    struct publisher *publisher = connection->work;
    settle(connection, ordinal)->state = REFUSED;
    publisher->refused++;
    durable.refused++;
    connection->load->results.refused++;
    uint64_t retry_ns = connection->load->now_ns + retry_after_ms * NS_PER_MS;
    publisher->retry_ns = publisher->retry_ns > retry_ns ? publisher->retry_ns : retry_ns;
}

/* A channel of durable work has one other publisher at most (direct conversations), so its counters rise by one. */
static void on_payload(struct connection *connection, struct channel *channel, const uint8_t *payload, size_t size) {
    struct load *load = connection->load;
    struct results *results = &load->results;
    struct stamp stamp;
    if (!payload_read(payload, size, load->options.payload_bytes, &stamp) || stamp.generator != load->options.generator ||
        stamp.connection >= load->count || stamp.connection == connection->index ||
        channel_find(&load->connections[stamp.connection].plan->publish, channel->id) == NULL) {
        results->corrupt++;
        return;
    }
    if (connection->seen != NULL) {
        stuck_on_payload(connection, &stamp);
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
        results->operations += load->work == &WORK_GROUP;
        histogram_add(&results->delivery, load->now_ns - stamp.sent_ns);
    }
}

/* What LAG named. A push behind the gap may have come first and counted the gap as skipped. */
static void on_history(struct connection *connection, uint64_t cid, const uint8_t *payload, size_t size) {
    struct load *load = connection->load;
    if (load->rereading) {
        reread_on_history(load, cid, payload, size);
        return;
    }
    struct channel *channel = channel_find(&connection->plan->subscribe, cid);
    struct stamp stamp;
    if (channel == NULL || !payload_read(payload, size, load->options.payload_bytes, &stamp)) {
        load->results.corrupt++;
    } else if (stamp.connection != connection->index && stamp.counter < channel->counter && connection->seen == NULL) {
        load->results.skipped--;
        load->results.delivered++;
    } else if (stamp.connection != connection->index) {
        on_payload(connection, channel, payload, size);
    }
}

static void wake_refused(struct load *load) {
    for (uint32_t place = 0; place < durable.count; place++) {
        const struct publisher *publisher = durable.publishers[place]->work;
        if (publisher->refused > 0 && load->now_ns >= publisher->retry_ns) {
            connection_touch(durable.publishers[place]);
        }
    }
}

static uint64_t tick(struct load *load) {
    if (durable.refused > 0) {
        wake_refused(load);
    }
    double rate_per_s = load->options.rate_per_s;
    if (rate_per_s == 0 || !load->sending) {
        return durable.refused > 0 ? load->now_ns + NS_PER_MS : UINT64_MAX;
    }
    uint64_t now = now_ns();
    uint64_t due = (uint64_t)((double)(now - durable.started_ns) * rate_per_s / (double)NS_PER_S);
    for (; durable.due < due; durable.due++) {
        struct connection *connection = durable.publishers[durable.due % durable.count];
        schedule(connection, durable.started_ns + (uint64_t)((double)durable.due * (double)NS_PER_S / rate_per_s));
        connection_touch(connection);
    }
    return now + SCHEDULE_GRAIN_NS;
}

static uint64_t unanswered(struct load *load) {
    uint64_t undelivered = load->results.expected - load->results.delivered;
    return durable.waiting + durable.outstanding + durable.refused + undelivered;
}

#define FUNCTIONS                                                                                                      \
    .stores = true, .prepare = prepare, .start = start, .fill = fill, .on_payload = on_payload, .on_answer = on_answer, \
    .on_refusal = on_refusal, .tick = tick, .unanswered = unanswered, .on_history = on_history,                        \
    .measure_begins = stuck_begin, .measure_ends = stuck_end, .reread = reread_start, .missing = reread_missing

const struct work WORK_DURABLE = {.name = "durable", FUNCTIONS};
const struct work WORK_GROUP = {.name = "group", .must_deliver = true, FUNCTIONS};
