/* Idle: connections that are logged in and subscribed, and do nothing but prove that they live.
 *
 * Memory and CPU come from the marks around the hold; an operation is a heartbeat. */
#include "load.h"

static void prepare(struct load *load) {
    (void)load;
}

static void start(struct load *load) {
    (void)load;
}

static uint8_t *fill(struct connection *connection, uint8_t *to, uint8_t *end) {
    (void)connection;
    (void)end;
    return to;
}

static void on_payload(struct connection *connection, struct channel *channel, const uint8_t *payload, size_t size) {
    (void)channel;
    (void)payload;
    (void)size;
    die("connection %u got a message, and nobody sends any", connection->index);
}

static uint64_t unanswered(struct load *load) {
    (void)load;
    return 0;
}

const struct work WORK_IDLE = {
    .name = "idle",
    .prepare = prepare,
    .start = start,
    .fill = fill,
    .on_payload = on_payload,
    .unanswered = unanswered,
};
