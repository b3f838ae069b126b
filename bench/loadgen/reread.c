/* Reading again: every message that was acknowledged in this run must come back from the store, once, whole and in its
 * sender's order. Each channel is pulled by the one of its senders whose messages begin first. */
#include "load.h"

#include <stdlib.h>

struct source {
    uint64_t cid;
    uint64_t seq;
    struct connection *reader;
};

static int compare_sources(const void *left, const void *right) {
    const struct source *a = left;
    const struct source *b = right;
    if (a->cid != b->cid) {
        return a->cid > b->cid ? 1 : -1;
    }
    return (a->seq > b->seq) - (a->seq < b->seq);
}

void reread_start(struct load *load) {
    uint32_t count = 0, filled = 0;
    for (uint32_t index = 0; index < load->count; index++) {
        count += load->plan.lines[index].publish.count;
    }
    struct source *sources = allocate(count, sizeof *sources);
    for (uint32_t index = 0; index < load->count; index++) {
        const struct channels *publish = &load->plan.lines[index].publish;
        for (uint32_t place = 0; place < publish->count; place++) {
            if (publish->at[place].counter > 0) {
                sources[filled++] = (struct source){publish->at[place].id, publish->at[place].seq, &load->connections[index]};
            }
        }
    }
    qsort(sources, filled, sizeof *sources, compare_sources);
    for (uint32_t place = 0; place < filled; place++) {
        if (place == 0 || sources[place].cid != sources[place - 1].cid) {
            connection_pull(sources[place].reader, (struct range){sources[place].cid, sources[place].seq, 0});
        }
    }
    free(sources);
}

void reread_on_history(struct load *load, uint64_t cid, const uint8_t *payload, size_t size) {
    struct results *results = &load->results;
    struct stamp stamp;
    if (!payload_read(payload, size, load->options.payload_bytes, &stamp) || stamp.generator != load->options.generator ||
        stamp.connection >= load->count) {
        results->corrupt++;
        return;
    }
    struct channel *sent = channel_find(&load->connections[stamp.connection].plan->publish, cid);
    if (sent == NULL || stamp.counter < sent->reread) {
        results->corrupt += sent == NULL;
        results->reordered += sent != NULL;
        return;
    }
    results->missing += stamp.counter - sent->reread;
    sent->reread = stamp.counter + 1;
    results->reread++;
}

/* Gaps that were met, and what did not come at the end of each channel. */
uint64_t reread_missing(struct load *load) {
    uint64_t missing = load->results.missing;
    for (uint32_t index = 0; index < load->count; index++) {
        const struct channels *publish = &load->plan.lines[index].publish;
        for (uint32_t place = 0; place < publish->count; place++) {
            missing += publish->at[place].counter - publish->at[place].reread;
        }
    }
    return missing;
}
