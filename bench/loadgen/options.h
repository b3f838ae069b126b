/* What the driver asks for. `loadgen --help` prints the list. */
#ifndef LOADGEN_OPTIONS_H
#define LOADGEN_OPTIONS_H

#include "base.h"

#define WATCHED_MAX 64

struct options {
    const char *host;
    uint16_t port;
    const char *protocol;
    const char *work;
    const char *plan;
    uint32_t generator;       /* goes into every payload: frames of another generator do not verify */
    uint32_t window;          /* unanswered messages per connection */
    uint32_t payload_bytes;
    double warm_up_s;
    double seconds;
    double rate_per_s;        /* durable: open loop at this rate for all connections together; 0: closed loop */
    uint32_t heartbeat_ms;    /* 0: what the server asks for; peers that ask for nothing get none */
    uint32_t connecting_max;  /* connections between connect() and ready at one time */
    uint32_t ports_per_address;
    bool progress;
    int watched[WATCHED_MAX]; /* processes of the server, for their CPU time and memory */
    uint32_t watched_count;
};

struct options options_parse(int count, char **arguments);

#endif
