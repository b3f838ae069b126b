/* Stuck readers: connections that stop reading while the rest of their group goes on, and read again afterwards.
 *
 * While they are stuck they are not even watched, so their sockets fill up as those of a phone without network do. Then they
 * read what was pushed, and at chatd pull what LAG names: pushed and pulled events come in any order, so a bitmap says whether
 * each came once. A peer may close them; what they miss then is lost. */
#include "load.h"

#define COUNTERS_SPARE 4096u

uint32_t stuck_first(const struct load *load) {
    return load->count > load->options.stuck ? load->count - load->options.stuck : 0;
}

static uint64_t counters_max(const struct load *load) {
    const struct options *options = &load->options;
    return (uint64_t)(options->rate_per_s * (options->warm_up_s + options->seconds) * 1.5) + COUNTERS_SPARE;
}

void stuck_prepare(struct load *load) {
    if (load->options.stuck > 0 && load->options.rate_per_s == 0) {
        die("stuck readers want --rate: the others must not wait for them");
    }
    for (uint32_t index = stuck_first(load); index < load->count; index++) {
        struct connection *connection = &load->connections[index];
        if (connection->plan->subscribe.count != 1 || connection->plan->publish.count > 0) {
            die("connection %u: a stuck reader follows one channel and sends nothing", index);
        }
        connection->seen = allocate(counters_max(load) / 8 + 1, 1);
    }
}

void stuck_begin(struct load *load) {
    for (uint32_t index = stuck_first(load); index < load->count; index++) {
        connection_stick(&load->connections[index]);
    }
}

void stuck_end(struct load *load) {
    if (load->options.stuck > 0) {
        observe(&load->marks, "stuck", &load->options, true);
    }
    for (uint32_t index = stuck_first(load); index < load->count; index++) {
        connection_unstick(&load->connections[index]);
    }
}

void stuck_on_payload(struct connection *connection, const struct stamp *stamp) {
    struct results *results = &connection->load->results;
    if (stamp->counter >= counters_max(connection->load)) {
        results->corrupt++;
        return;
    }
    uint8_t *byte = &connection->seen[stamp->counter / 8];
    uint8_t bit = (uint8_t)(1u << stamp->counter % 8);
    if (*byte & bit) {
        results->reordered++;
        return;
    }
    *byte |= bit;
    results->delivered++;
}
