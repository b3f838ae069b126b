/* chatd for small devices: the lite profile of protocol/README.md, without malloc, threads, sockets or a clock of its own.
 *
 * One struct holds everything (about 2.5 KiB with 512-byte frames). The caller moves bytes and time:
 *
 *     chatd_lite_init(&c, &config);
 *     on connect:      chatd_lite_connected(&c, now_ms);
 *     received bytes:  if (!chatd_lite_input(&c, data, n)) close the socket and reconnect later;
 *     every ~20 ms:    chatd_lite_tick(&c, now_ms);
 *     to send:         n = chatd_lite_output(&c, &bytes); ... chatd_lite_sent(&c, bytes written);
 *
 * What happened comes back through config.handle, synchronously; pointers in an event are valid only during that call.
 * Nothing is lost and nothing is handed over twice: one SEND waits for its answer at a time and is repeated with the same
 * cseq after a reconnect; events of the followed conversations come in order, gaps are pulled.
 */
#ifndef CHATD_LITE_H
#define CHATD_LITE_H
#include <stddef.h>
#include <stdint.h>

#ifndef CHATD_LITE_FRAME_BYTES
#define CHATD_LITE_FRAME_BYTES 512 /* largest body, both ways; at least 128 */
#endif
#ifndef CHATD_LITE_CONVERSATIONS
#define CHATD_LITE_CONVERSATIONS 4 /* followed at once: 24 bytes each */
#endif
#define CHATD_LITE_WINDOW_FRAMES 4

enum chatd_lite_event_type {
    CHATD_LITE_ONLINE = 1,  /* session is live; user, device, seq = highest stored cseq */
    CHATD_LITE_EVENT,       /* an event of a followed conversation, in order; payload whole */
    CHATD_LITE_STUB,        /* the same, but too large: length is its real size; fetch it with chatd_lite_fetch */
    CHATD_LITE_CHUNK,       /* bytes of a fetched event at offset; length is the total */
    CHATD_LITE_FETCH_END,   /* the fetch is complete */
    CHATD_LITE_ACKED,       /* the SEND is stored at (cid, seq) */
    CHATD_LITE_REFUSED,     /* the SEND was refused for good; code */
    CHATD_LITE_EPHEMERAL,   /* typing and the like */
    CHATD_LITE_ERROR,       /* ERROR frame; code */
    CHATD_LITE_CLOSED,      /* BYE or a protocol violation; code is a close reason */
    CHATD_LITE_RESERVE_CSEQ /* persist seq: after a restart begin with cseq = seq. Once per CHATD_LITE_CSEQ_BLOCK sends */
};
#define CHATD_LITE_CSEQ_BLOCK 64

struct chatd_lite_event {
    enum chatd_lite_event_type type;
    uint64_t cid, seq, sender, time_ms, kind, offset, length, user, device;
    uint32_t code;
    const uint8_t *payload;
    size_t payload_bytes;
};

struct chatd_lite_config {
    uint64_t device;         /* issued with the key by REQUEST DEVICE_KEY_CREATE */
    uint8_t key[32];
    uint64_t cseq_first;     /* the value of the last RESERVE_CSEQ event, 1 on the very first start */
    const char *agent;       /* at most 64 bytes */
    void (*handle)(void *context, const struct chatd_lite_event *event);
    void *context;
};

struct chatd_lite_position {
    uint64_t cid, seq;       /* contiguous up to seq */
    uint8_t behind;          /* a gap is known: pull before anything later is handed over */
};

struct chatd_lite {
    struct chatd_lite_config config;
    uint8_t state;
    uint8_t resuming, nonce_known, window_ack_due, failed;
    uint8_t nonce[16];
    uint8_t ticket[64];
    size_t ticket_bytes;
    uint64_t log_epoch;
    uint64_t cseq_next, cseq_reserved;
    uint64_t received, acked;             /* DELIVERs of this connection */
    uint64_t now_ms, heartbeat_ms, last_output_ms, last_ack_ms, retry_at_ms;
    struct chatd_lite_position positions[CHATD_LITE_CONVERSATIONS];
    uint64_t pull_cid;                    /* a PULL is under way, 0 = none */
    uint64_t fetch_cid, fetch_seq, fetch_offset, fetch_length;
    uint8_t fetch_wanted, fetching;
    uint64_t pending_cseq;                /* 0: no SEND waits */
    size_t pending_bytes;
    uint8_t pending_due;
    uint8_t pending[4 + CHATD_LITE_FRAME_BYTES];
    size_t in_bytes;
    uint8_t in[4 + CHATD_LITE_FRAME_BYTES];
    size_t out_bytes;
    uint8_t out[2 * (4 + CHATD_LITE_FRAME_BYTES)];
};

void chatd_lite_init(struct chatd_lite *c, const struct chatd_lite_config *config);
/* Follow a conversation from the event after seq. Returns 0 when the table is full. */
int chatd_lite_follow(struct chatd_lite *c, uint64_t cid, uint64_t seq);
void chatd_lite_connected(struct chatd_lite *c, uint64_t now_ms);
/* Returns 0 when the connection must be closed (a CLOSED event was raised). */
int chatd_lite_input(struct chatd_lite *c, const uint8_t *data, size_t n);
void chatd_lite_tick(struct chatd_lite *c, uint64_t now_ms);
size_t chatd_lite_output(struct chatd_lite *c, const uint8_t **bytes);
void chatd_lite_sent(struct chatd_lite *c, size_t n);
/* Store one event. Returns its cseq, 0 while an earlier SEND waits or when it does not fit a frame. Works offline too. */
uint64_t chatd_lite_send(struct chatd_lite *c, uint64_t cid, uint32_t kind, const uint8_t *payload, size_t n);
/* Fetch bytes of one event's payload. Returns 0 while another fetch is under way. */
int chatd_lite_fetch(struct chatd_lite *c, uint64_t cid, uint64_t seq, uint64_t offset, uint64_t length);
#endif
