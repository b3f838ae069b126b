/* PULL: what was kept, fetched range by range. One range of a connection is on its way at a time; the others wait. */
#include "chatd.h"

#define AGAIN_NS (50 * NS_PER_MS) /* an answer without events: the window was full, and ACK has to free it first */

static void ask(struct connection *connection) {
    uint8_t frame[48];
    const struct range *range = &connection->pulls[0];
    uint8_t *to = open_frame(frame, CHATD_OP_PULL, 0);
    to = write_varint(to, range->cid);
    to = write_varint(to, range->from_seq);
    to = write_varint(to, range->to_seq);
    to = write_varint(to, 0);        /* limit: the maximum */
    queue_frame(connection, frame, to);
    connection->pull_again_ns = 0;
}

void connection_pull(struct connection *connection, struct range range) {
    uint32_t count = connection->pull_count++;
    connection->load->pulls_open++;
    /* Rarely more than a few: the memory follows the count. */
    connection->pulls = enlarge(connection->pulls, connection->pull_count * sizeof *connection->pulls);
    connection->pulls[count] = range;
    if (count == 0) {
        ask(connection);
    }
}

void chatd_on_pull_end(struct reader *reader) {
    struct connection *connection = reader->connection;
    uint64_t cid = take_varint(reader);
    uint64_t next_seq = take_varint(reader);
    if (connection->pull_count == 0 || connection->pulls[0].cid != cid) {
        die("connection %u: PULL_END of conversation %llu, which nobody pulls", connection->index, (unsigned long long)cid);
    }
    struct range *range = &connection->pulls[0];
    if (next_seq == 0) {
        connection->pull_count--;
        connection->load->pulls_open--;
        memmove(range, range + 1, connection->pull_count * sizeof *range);
        if (connection->pull_count > 0) {
            ask(connection);
        }
        return;
    }
    if (connection->delivered != connection->delivered_acked) {
        chatd_ack(connection);
    }
    if (next_seq == range->from_seq) {
        connection->pull_again_ns = connection->load->now_ns + AGAIN_NS;
        return;
    }
    range->from_seq = next_seq;
    ask(connection);
}

/* False: the error is not about a PULL that may be asked for again. */
bool chatd_on_pull_error(struct connection *connection, uint64_t retry_after_ms) {
    if (connection->pull_count == 0) {
        return false;
    }
    connection->pull_again_ns = connection->load->now_ns + retry_after_ms * NS_PER_MS;
    return true;
}

void chatd_pull_tick(struct connection *connection) {
    if (connection->pull_again_ns != 0 && connection->load->now_ns >= connection->pull_again_ns) {
        ask(connection);
    }
}
