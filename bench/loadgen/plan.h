/* The plan: who connects, as whom, and which channels each connection publishes to and subscribes to.
 *
 * A text file from the driver, one connection per line, fields separated by one space:
 *     CREDENTIAL DEVICE IDENTITY PROOF PUBLISH SUBSCRIBE
 * CREDENTIAL is a credential code of the protocol, or 0: PROOF is a resume ticket. PROOF is hexadecimal; PUBLISH and SUBSCRIBE
 * are comma-separated channel ids (conversation ids at chatd, subject and stream names at the peers); `-` stands for nothing.
 * The servers get the same plan but for the credentials, so they get the same connections and the same traffic. */
#ifndef LOADGEN_PLAN_H
#define LOADGEN_PLAN_H

#include "base.h"

/* One direction of one channel at one connection. */
struct channel {
    uint64_t id;
    uint64_t counter; /* of the next message: to send, or expected */
    uint32_t fan;     /* publish: how many other connections subscribe to it */
    uint64_t seq;     /* publish: where its first message of this run stands, 0 before it is known */
    uint64_t reread;  /* publish: counter of the next message that has to come from the store */
};

struct channels {
    struct channel *at;
    uint32_t count;
};

struct plan_line {
    uint8_t credential;
    uint64_t device;
    const char *identity;
    uint8_t *proof;
    uint32_t proof_size;
    struct channels publish;
    struct channels subscribe;
};

struct plan {
    struct plan_line *lines;
    uint32_t count;
};

/* Dies with the line number when the file is not as described. */
struct plan plan_load(const char *path);

/* The channel with this id, or NULL. Connections have few channels: a scan beats a table. */
static inline struct channel *channel_find(const struct channels *channels, uint64_t id) {
    for (uint32_t place = 0; place < channels->count; place++) {
        if (channels->at[place].id == id) {
            return &channels->at[place];
        }
    }
    return NULL;
}

#endif
