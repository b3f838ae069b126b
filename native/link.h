/* Records of the shared-memory links: hub <-> shard and shard <-> shard.
 *
 * Both ends run on one machine from one build (the ring's layout_version says so), so records are packed little-endian
 * structs, each followed by the bytes it announces. Nothing here is a pointer. A reader copies the record, checks the
 * ring's checksum, then checks every length in it against the record's own length before using it.
 * docs/internals/link.md tells the story of each record; this file is the only place that knows offsets.
 */
#ifndef CHATD_LINK_H
#define CHATD_LINK_H
#include <stdint.h>

#define CHATD_LINK_LAYOUT 1

#pragma pack(push, 1)

/* handle: slot | generation << 32. token: id of a pending SEND or SKIP in the shard's in-flight table. */

/* ---- shard -> hub ---- */
enum {
    LINK_S_SEND = 1,      /* link_send + body of the SEND frame */
    LINK_S_SKIP = 2,      /* link_send + body of the SKIP frame */
    LINK_S_CALL = 3,      /* link_call + body of a SYNC, PULL, SUBSCRIBE, UNSUBSCRIBE, REQUEST or STREAM_START frame;
                             without an answer also of a STREAM_DELTA, or of an EPHEMERAL whose value is to be kept */
    LINK_S_POSITION = 4,  /* link_position */
    LINK_S_LOGIN = 5,     /* link_login */
    LINK_S_CLOSED = 6,    /* link_closed */
    LINK_S_RPC = 7,       /* link_rpc + MessagePack, between the Python sides */
    LINK_S_RECEIVED = 8,  /* link_received: first record of a shard on a fresh link */
    LINK_S_READY = 9,     /* link_received: all live sessions have been re-attached by LOGIN records before it */
    LINK_S_MARK = 10,     /* link_mark, between a LOGIN with REATTACH and READY */
};

struct link_send {
    uint8_t type;
    uint8_t flags;           /* flags byte of the frame */
    uint16_t zero;
    uint32_t body_bytes;
    uint64_t handle;
    uint64_t token;
    uint64_t user;
    uint64_t device;
    uint64_t session_epoch;
};

struct link_call {
    uint8_t type;
    uint8_t flags;           /* flags byte of the frame */
    uint8_t op;
    uint8_t reattach;        /* 1: SUBSCRIBE that stands already, on a fresh link: answered only when it has ended */
    uint32_t body_bytes;
    uint64_t handle;
    uint64_t user;
    uint64_t device;
    uint32_t window_frames;  /* room left in the connection's window: an answer may use no more */
    uint32_t window_bytes;
    uint32_t frame_bytes_max;/* largest body this client can receive: larger events become stubs */
    uint32_t features;
};

struct link_position {
    uint8_t type;
    uint8_t zero[7];
    uint64_t user;
    uint64_t cid;
    uint64_t delivered_seq;  /* 0: unchanged */
    uint64_t read_seq;       /* 0: unchanged */
};

enum { LINK_LOGIN_REATTACH = 1 };  /* a live session on a fresh link (the hub restarted): no takeover, no REGISTERED */

struct link_login {
    uint8_t type;
    uint8_t flags;
    uint16_t zero;
    uint32_t frame_bytes_max;
    uint64_t handle;
    uint64_t user;
    uint64_t device;
    uint64_t token_epoch;    /* of the credential, with REATTACH too: older than the user's means revoked */
    uint64_t session_epoch;  /* of the ticket, of the live session with REATTACH, or 0 */
    uint32_t features;
    uint32_t zero2;
};

struct link_closed {
    uint8_t type;
    uint8_t zero;
    uint16_t reason;         /* close reason of schema.toml */
    uint32_t zero2;
    uint64_t handle;
    uint64_t user;
    uint64_t device;
    uint64_t session_epoch;
};

struct link_rpc {
    uint8_t type;
    uint8_t zero[3];
    uint32_t body_bytes;
    uint64_t call;           /* shard's call id, comes back in the answer; 0: one way */
};

struct link_received {
    uint8_t type;
    uint8_t zero[7];
    uint64_t pos;            /* journal position of the last COMMITTED record this shard has routed; 0 = none yet */
};

struct link_mark {
    uint8_t type;
    uint8_t zero[7];
    uint64_t handle;
    uint64_t device;
    uint64_t cid;
    uint64_t cseq;           /* was refused for now: later ones of this session to cid wait for it */
};

/* ---- hub -> shard ---- */
enum {
    LINK_H_COMMITTED = 1,    /* link_committed + DELIVER frame + recipient handles */
    LINK_H_ANSWER = 2,       /* link_answer + one SEND_ACK or SEND_NAK frame */
    LINK_H_FRAMES = 3,       /* link_frames + complete frames for one connection */
    LINK_H_REGISTERED = 4,   /* link_registered: outcome of LOGIN */
    LINK_H_KICK = 5,         /* link_kick */
    LINK_H_INTEREST = 6,     /* link_interest: which shards have subscribers of cid */
    LINK_H_GRANT = 7,        /* link_grant: subscription granted (topics > 0) or ended (topics 0) */
    LINK_H_RPC = 8,          /* link_rpc + MessagePack */
    LINK_H_TOPIC = 9,        /* link_topic + one frame for the local followers of a topic of cid */
    LINK_H_LOST = 10,        /* link_received: events up to pos cannot be replayed for this shard: LAG(0) to every session */
};

struct link_committed {
    uint8_t type;
    uint8_t zero[3];
    uint32_t frame_bytes;    /* whole DELIVER frame, header included */
    uint64_t pos;
    uint64_t cid;
    uint64_t seq;
    uint32_t recipient_count;/* uint64_t handles follow the frame (unaligned) */
    uint32_t zero2;
};

struct link_answer {
    uint8_t type;
    uint8_t zero[3];
    uint32_t frame_bytes;
    uint64_t handle;
    uint64_t token;
};

enum { LINK_FRAMES_DONE = 1 };     /* the call they answer is finished: its outstanding slot is free again */

struct link_frames {
    uint8_t type;
    uint8_t flags;
    uint16_t zero;
    uint32_t frames_bytes;
    uint64_t handle;
};

struct link_registered {
    uint8_t type;
    uint8_t zero;
    uint16_t error;          /* 0, or an error code of schema.toml: login refused */
    uint32_t retry_after_ms;
    uint64_t handle;
    uint64_t user;
    uint64_t device;
    uint64_t session_epoch;
    uint64_t previous_epoch; /* session epoch of this device's session before this one, 0 = none known */
    uint64_t cseq_stored;
    uint64_t pos;            /* sync position: everything up to it is visible to SYNC, everything after it is pushed */
    uint64_t log_epoch;
};

struct link_kick {
    uint8_t type;
    uint8_t zero;
    uint16_t reason;
    uint32_t retry_after_ms;
    uint64_t handle;
};

struct link_interest {
    uint8_t type;
    uint8_t zero[7];
    uint64_t cid;
    uint64_t shards;         /* bit i: shard i has subscribers */
};

struct link_grant {
    uint8_t type;
    uint8_t zero[3];
    uint32_t topics;
    uint64_t handle;
    uint64_t cid;
};

struct link_topic {
    uint8_t type;
    uint8_t topics;          /* who follows any of them gets it */
    uint16_t zero;
    uint32_t frame_bytes;
    uint64_t cid;
    uint64_t but_handle;     /* of a connection that does not get it; 0: none */
};

/* ---- shard -> shard ---- */
enum { LINK_P_EPHEMERAL = 1 };     /* link_ephemeral + one EPHEMERAL frame with its sender filled in */

struct link_ephemeral {
    uint8_t type;
    uint8_t zero[3];
    uint32_t frame_bytes;
    uint64_t cid;
    uint64_t sender;         /* user */
};

#pragma pack(pop)

_Static_assert(sizeof(struct link_send) == 48, "link_send");
_Static_assert(sizeof(struct link_call) == 48, "link_call");
_Static_assert(sizeof(struct link_position) == 40, "link_position");
_Static_assert(sizeof(struct link_login) == 56, "link_login");
_Static_assert(sizeof(struct link_closed) == 40, "link_closed");
_Static_assert(sizeof(struct link_rpc) == 16, "link_rpc");
_Static_assert(sizeof(struct link_received) == 16, "link_received");
_Static_assert(sizeof(struct link_mark) == 40, "link_mark");
_Static_assert(sizeof(struct link_committed) == 40, "link_committed");
_Static_assert(sizeof(struct link_answer) == 24, "link_answer");
_Static_assert(sizeof(struct link_frames) == 16, "link_frames");
_Static_assert(sizeof(struct link_registered) == 72, "link_registered");
_Static_assert(sizeof(struct link_kick) == 16, "link_kick");
_Static_assert(sizeof(struct link_interest) == 24, "link_interest");
_Static_assert(sizeof(struct link_grant) == 24, "link_grant");
_Static_assert(sizeof(struct link_topic) == 24, "link_topic");
_Static_assert(sizeof(struct link_ephemeral) == 24, "link_ephemeral");
#endif
