/* The run: one epoll loop, its connections, and the two interfaces that vary: protocol (adapter) and traffic (work).
 *
 * Facts: the generator shares a small machine with the server it measures, so whatever it wastes the server lacks; a server
 * that batches is only seen at its best when the generator batches too.
 * Decision: one process, one thread, no allocation per message. A connection is read once per wake-up into one scratch window;
 * what that makes sendable is written with one send() per connection at the end of the turn. Every server meets the same code.
 * Price: a generator that is busier than the server adds its own queueing to the latencies; generator_cpu_share says so. */
#ifndef LOADGEN_LOAD_H
#define LOADGEN_LOAD_H

#include "histogram.h"
#include "observe.h"
#include "options.h"
#include "plan.h"

struct load;

enum phase { UNBORN, CONNECTING, GREETING, READY };

/* Bytes that have to wait: the start of a frame, or what the socket did not take. */
struct kept {
    uint8_t *bytes;
    uint32_t size;
    uint32_t capacity;
};

struct connection {
    struct load *load;
    int fd;
    uint32_t index;
    uint8_t phase;
    bool dirty;     /* stands in load->dirty */
    bool blocked;   /* the socket is full: EPOLLOUT is armed */
    struct kept partial;
    struct kept backlog;
    struct plan_line *plan;
    uint64_t connect_ns;
    uint64_t ready_ns;
    uint32_t awaiting;          /* answers that are missing until READY */
    uint64_t cseq_stored;       /* chatd: as WELCOME said */
    uint64_t answered;          /* Redis: replies to XADD so far */
    uint64_t delivered;         /* chatd: DELIVERs received, and how many of them are acknowledged */
    uint64_t delivered_acked;
    uint64_t delivered_acked_ns;
    uint8_t head[96];           /* constant bytes before every payload, where the protocol has such */
    uint32_t head_size;
    void *work;                 /* what the work keeps per connection */
};

struct adapter {
    const char *name;
    /* The TCP connection stands: queue the first bytes; `awaiting` answers later the connection is ready. */
    void (*greet)(struct connection *connection);
    /* Handle every complete unit of [from, end); return where the first incomplete one starts. */
    const uint8_t *(*consume)(struct connection *connection, const uint8_t *from, const uint8_t *end);
    /* Write what stands before and after a payload; return where to go on. At most HEAD_BYTES_MAX in all. */
    uint8_t *(*begin)(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal);
    uint8_t *(*finish)(uint8_t *to);
    void (*heartbeat)(struct connection *connection);
    /* Every 50 ms; NULL when the protocol has nothing to do by itself. */
    void (*tick)(struct connection *connection);
};

#define HEAD_BYTES_MAX 128

struct work {
    const char *name;
    bool subscribes; /* follow the channels of the plan: SUBSCRIBE */
    bool stores;     /* durable messages that the server answers one by one */
    void (*prepare)(struct load *load);
    void (*start)(struct load *load);
    /* Write what this connection may send now into [to, end); return where it stopped. */
    uint8_t *(*fill)(struct connection *connection, uint8_t *to, uint8_t *end);
    void (*on_payload)(struct connection *connection, struct channel *channel, const uint8_t *payload, size_t size);
    void (*on_answer)(struct connection *connection, uint64_t ordinal);
    void (*on_refusal)(struct connection *connection, uint64_t ordinal, uint64_t retry_after_ms);
    /* Every turn while load runs; returns when it wants to be called again at the latest (UINT64_MAX: never). */
    uint64_t (*tick)(struct load *load);
    uint64_t (*unanswered)(struct load *load);
};

struct results {
    uint64_t operations;   /* in the measured interval: deliveries (relay), answers (durable), heartbeats (idle) */
    uint64_t sent;         /* these and below: in the whole run, warm-up included */
    uint64_t expected;     /* deliveries that the plan makes of them */
    uint64_t delivered;
    uint64_t answered;
    uint64_t refused;      /* retryable refusals; every one of them was sent again */
    uint64_t corrupt;
    uint64_t reordered;    /* a counter below the expected one: late or twice */
    uint64_t skipped;      /* counters that were jumped over */
    uint64_t lagged;       /* events that the server announced as not pushed */
    uint64_t overrun;      /* open loop: messages that were due but found their connection's schedule full */
    uint64_t heartbeats;
    struct histogram connect;   /* connect() to ready */
    struct histogram latency;   /* relay: delivery; durable: answer */
    struct histogram delivery;  /* durable: delivery to recipients that are online */
};

struct load {
    struct options options;
    struct plan plan;
    const struct adapter *adapter;
    const struct work *work;
    struct connection *connections;
    uint32_t count;
    uint32_t born;         /* connections that were started, and those that are ready */
    uint32_t ready;
    int epoll_fd;
    struct connection **dirty;
    uint32_t dirty_count;
    uint8_t *scratch_in;
    uint8_t *scratch_out;
    uint64_t now_ns;       /* of this read or this turn: one clock reading serves a batch */
    uint32_t heartbeat_ms;
    bool started;          /* the work may write: from warm-up to the end of the run */
    bool sending;          /* the work may begin new messages: warm-up and measured interval */
    bool measuring;
    struct marks marks;
    struct results results;
};

#define SCRATCH_BYTES (256u << 10)

/* network.c */
void network_open(struct load *load);
void network_connect_more(struct load *load);
void network_turn(struct load *load, uint64_t wait_until_ns);
void connection_touch(struct connection *connection);
void connection_queue(struct connection *connection, const void *bytes, size_t size);
void connection_ready(struct connection *connection);

/* stages.c: connect, settle, warm up, measure, drain */
void load_run(struct load *load);

/* report.c */
void report_print(const struct load *load);

extern const struct adapter ADAPTER_CHATD, ADAPTER_NATS, ADAPTER_REDIS;
extern const struct work WORK_RELAY, WORK_DURABLE, WORK_IDLE;

#endif
