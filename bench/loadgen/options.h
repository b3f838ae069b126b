/* What the driver asks for. `loadgen --help` prints the list. */
#ifndef LOADGEN_OPTIONS_H
#define LOADGEN_OPTIONS_H

#include "base.h"

#define WATCHED_MAX 64

/* A process of the server. */
struct watched {
    int pid;
    bool children; /* its children belong to it: they come and go with connections */
};

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
    uint32_t stuck;           /* group: so many readers, the last ones of the plan, do not read while it is measured */
    bool reread;              /* durable: read everything again from the store */
    bool progress;
    struct watched watched[WATCHED_MAX]; /* for their CPU time and memory */
    uint32_t watched_count;
};

struct options options_parse(int count, char **arguments);

#endif
