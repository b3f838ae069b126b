/* What adapters share: a head that stays the same, the end of a line, and counting the answers to a greeting. */
#include "load.h"

uint8_t *adapter_begin(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal) {
    (void)channel;
    (void)ordinal;
    memcpy(to, connection->head, connection->head_size);
    return to + connection->head_size;
}

uint8_t *adapter_finish_line(uint8_t *to) {
    memcpy(to, "\r\n", 2);
    return to + 2;
}

void adapter_answered(struct connection *connection) {
    if (connection->phase == GREETING && --connection->awaiting == 0) {
        connection_ready(connection);
    }
}
