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
#include "payload.h"
#include "plan.h"

struct load;

enum phase { UNBORN, CONNECTING, GREETING, READY };

/* Bytes that have to wait: the start of a frame, or what the socket did not take. */
struct kept {
    uint8_t *bytes;
    uint32_t size;
    uint32_t capacity;
};

/* Events of a conversation that have to be fetched: from_seq..to_seq, 0 being the head. */
struct range {
    uint64_t cid;
    uint64_t from_seq;
    uint64_t to_seq;
};

struct connection {
    struct load *load;
    int fd;
    uint32_t index;
    uint8_t phase;
    bool dirty;     /* stands in load->dirty */
    bool blocked;   /* the socket is full: EPOLLOUT is armed */
    bool gone;      /* a stuck reader that the server has closed */
    struct kept partial;
    struct kept backlog;
    struct plan_line *plan;
    uint64_t connect_ns;
    uint64_t ready_ns;
    uint32_t awaiting;          /* answers that are missing until READY */
    uint64_t cseq_stored;       /* chatd: as WELCOME said */
    uint64_t answered;          /* Redis, PostgreSQL: answers so far */
    uint64_t uncommitted;       /* PostgreSQL: statements done in the transaction that runs */
    uint64_t delivered;         /* chatd: DELIVERs received, and how many of them are acknowledged */
    uint64_t delivered_acked;
    uint64_t delivered_acked_ns;
    struct range *pulls;        /* chatd: what has to be fetched; the first one is on its way */
    uint32_t pull_count;
    uint64_t pull_again_ns;     /* when the first one has to be asked for again; 0: it waits for its answer */
    uint8_t head[96];           /* constant bytes before every payload, where the protocol has such */
    uint32_t head_size;
    void *work;                 /* what the work keeps per connection */
    uint8_t *seen;              /* stuck readers: one bit per counter, because pushed and pulled ones come in any order */
};

struct adapter {
    const char *name;
    bool stores;           /* it can keep messages and answer when they are kept */
    bool delivers_stored;  /* and bring what it keeps to recipients by itself */
    /* The TCP connection stands: queue the first bytes; `awaiting` answers later the connection is ready. */
    void (*greet)(struct connection *connection);
    /* Handle every complete unit of [from, end); return where the first incomplete one starts. */
    const uint8_t *(*consume)(struct connection *connection, const uint8_t *from, const uint8_t *end);
    /* Write what stands before and after a payload; return where to go on. At most HEAD_BYTES_MAX in all. */
    uint8_t *(*begin)(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal);
    uint8_t *(*finish)(uint8_t *to);
    void (*heartbeat)(struct connection *connection);
    /* After the last message of a write; NULL when nothing has to stand there. At most HEAD_BYTES_MAX. */
    uint8_t *(*seal)(uint8_t *to);
    /* Every 50 ms; NULL when the protocol has nothing to do by itself. */
    void (*tick)(struct connection *connection);
};

#define HEAD_BYTES_MAX 128

struct work {
    const char *name;
    bool stores;        /* durable messages that the server answers one by one; otherwise ephemeral ones are subscribed to */
    bool must_deliver;  /* recipients must get them: servers that only keep them send ephemeral ones instead */
    void (*prepare)(struct load *load);
    void (*start)(struct load *load);
    /* Write what this connection may send now into [to, end); return where it stopped. */
    uint8_t *(*fill)(struct connection *connection, uint8_t *to, uint8_t *end);
    void (*on_payload)(struct connection *connection, struct channel *channel, const uint8_t *payload, size_t size);
    /* Kept at `seq` of its channel, where the server says so. */
    void (*on_answer)(struct connection *connection, uint64_t ordinal, uint64_t seq);
    void (*on_refusal)(struct connection *connection, uint64_t ordinal, uint64_t retry_after_ms);
    /* Every turn while load runs; returns when it wants to be called again at the latest (UINT64_MAX: never). */
    uint64_t (*tick)(struct load *load);
    uint64_t (*unanswered)(struct load *load);
    /* The answer to connection_pull: a payload, and the end of everything that this connection asked for. */
    void (*on_history)(struct connection *connection, uint64_t cid, const uint8_t *payload, size_t size);
    /* When measuring begins and ends; NULL when nothing happens then. */
    void (*measure_begins)(struct load *load);
    void (*measure_ends)(struct load *load);
    /* After the drain: ask for everything that was kept. NULL when it cannot. */
    void (*reread)(struct load *load);
    uint64_t (*missing)(struct load *load);
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
    uint64_t skipped;      /* counters that were jumped over, and not pulled either */
    uint64_t lagged;       /* events that the server announced as not pushed, and that were pulled then */
    uint64_t overrun;      /* open loop: messages that were due but found their connection's schedule full */
    uint64_t heartbeats;
    uint64_t reread;       /* events that were kept, read again from the store and verified */
    uint64_t missing;      /* acknowledged and not found there */
    uint64_t closed;       /* stuck readers that the server gave up */
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
    bool stores;           /* what the work does at this server: struct work */
    bool rereading;        /* the stage after the drain: what is pulled now is the store's */
    uint32_t pulls_open;   /* ranges that are not complete yet, of all connections */
    uint8_t *scratch_in;
    uint8_t *scratch_out;
    uint64_t now_ns;       /* of this read or this turn: one clock reading serves a batch */
    uint32_t heartbeat_ms;
    bool started;          /* the work may write: from warm-up to the end of the run */
    bool sending;          /* the work may begin new messages: warm-up and measured interval */
    bool measuring;
    struct marks marks;
    struct series series;
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
void connection_stick(struct connection *connection);
void connection_unstick(struct connection *connection);

/* adapter.c: what adapters share */
uint8_t *adapter_begin(struct connection *connection, uint8_t *to, const struct channel *channel, uint64_t ordinal);
uint8_t *adapter_finish_line(uint8_t *to);
void adapter_answered(struct connection *connection); /* one of the `awaiting` */

/* chatd_pull.c: fetch a range; the payloads come to on_history */
void connection_pull(struct connection *connection, struct range range);

/* stuck.c: readers that stop reading, and what they get when they read again */
void stuck_prepare(struct load *load);
void stuck_begin(struct load *load);
void stuck_end(struct load *load);
void stuck_on_payload(struct connection *connection, const struct stamp *stamp);
uint32_t stuck_first(const struct load *load);

/* reread.c: every acknowledged message, read again from the store */
void reread_start(struct load *load);
void reread_on_history(struct load *load, uint64_t cid, const uint8_t *payload, size_t size);
uint64_t reread_missing(struct load *load);

/* stages.c: connect, settle, warm up, measure, drain */
void load_run(struct load *load);

/* report.c */
void report_print(const struct load *load);

extern const struct adapter ADAPTER_CHATD, ADAPTER_NATS, ADAPTER_REDIS, ADAPTER_MQTT, ADAPTER_POSTGRES;
extern const struct work WORK_RELAY, WORK_DURABLE, WORK_GROUP, WORK_IDLE;

#endif
