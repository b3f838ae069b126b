/* Generated from protocol/schema.toml by `make wire`; edit that file instead. */
#ifndef CHATD_SCHEMA_H
#define CHATD_SCHEMA_H
#include <stdint.h>

/* frame */
#define CHATD_PROTOCOL_MAJOR 1
#define CHATD_FRAME_HEADER_BYTES 4
#define CHATD_FRAME_BODY_BYTES_MAX 65535
#define CHATD_OP_MUST_UNDERSTAND 0x80
#define CHATD_FLAG_EXT 0x01

/* ops */
#define CHATD_OP_PING 0x01
#define CHATD_OP_PONG 0x02
#define CHATD_OP_GOAWAY 0x03
#define CHATD_OP_EPHEMERAL 0x10
#define CHATD_OP_RECEIPT 0x11
#define CHATD_OP_STREAM_DELTA 0x12
#define CHATD_OP_STREAM_SNAPSHOT 0x13
#define CHATD_OP_NOTICE 0x14
#define CHATD_OP_HELLO 0x81
#define CHATD_OP_CHALLENGE 0x82
#define CHATD_OP_AUTH 0x83
#define CHATD_OP_WELCOME 0x84
#define CHATD_OP_RESUME 0x85
#define CHATD_OP_RESUMED 0x86
#define CHATD_OP_REAUTH 0x87
#define CHATD_OP_REDIRECT 0x88
#define CHATD_OP_BYE 0x89
#define CHATD_OP_ERROR 0x8A
#define CHATD_OP_SEND 0x90
#define CHATD_OP_SEND_ACK 0x91
#define CHATD_OP_SEND_NAK 0x92
#define CHATD_OP_SKIP 0x93
#define CHATD_OP_DELIVER 0x94
#define CHATD_OP_ACK 0x95
#define CHATD_OP_READ 0x96
#define CHATD_OP_LAG 0x97
#define CHATD_OP_CHUNK 0x98
#define CHATD_OP_STREAM_START 0x99
#define CHATD_OP_STREAM_END 0x9A
#define CHATD_OP_SYNC 0xA0
#define CHATD_OP_SYNC_PAGE 0xA1
#define CHATD_OP_PULL 0xA2
#define CHATD_OP_PULL_END 0xA3
#define CHATD_OP_SUBSCRIBE 0xA4
#define CHATD_OP_UNSUBSCRIBE 0xA5
#define CHATD_OP_REQUEST 0xB0
#define CHATD_OP_REPLY 0xB1

/* flags by op */
#define CHATD_FLAG_PING_REPLY_WANTED 0x02
#define CHATD_FLAG_ERROR_RETRYABLE 0x02
#define CHATD_FLAG_SEND_ACK_DUP 0x02
#define CHATD_FLAG_SEND_ACK_SKIPPED 0x04
#define CHATD_FLAG_SEND_NAK_RETRYABLE 0x02
#define CHATD_FLAG_DELIVER_HISTORY 0x02
#define CHATD_FLAG_DELIVER_STUB 0x04
#define CHATD_FLAG_DELIVER_COMPRESSED 0x08
#define CHATD_FLAG_SYNC_PAGE_MORE 0x02
#define CHATD_FLAG_REPLY_RETRYABLE 0x02

/* extensions by op */
#define CHATD_EXTENSION_PULL_BYTE_RANGE 1

/* features */
#define CHATD_FEATURE_LITE 1
#define CHATD_FEATURE_CHALLENGE 2
#define CHATD_FEATURE_RECEIPTS 4
#define CHATD_FEATURE_COMPRESSION 8
#define CHATD_FEATURE_STREAMS 16

/* topic */
#define CHATD_TOPIC_EPHEMERAL 1
#define CHATD_TOPIC_RECEIPTS 2

/* notice */
#define CHATD_NOTICE_SERVER 1
#define CHATD_NOTICE_PRESENCE 2

/* presence */
#define CHATD_PRESENCE_OFFLINE 0
#define CHATD_PRESENCE_ONLINE 1
#define CHATD_PRESENCE_AWAY 2
#define CHATD_PRESENCE_INVISIBLE 3

/* audience */
#define CHATD_AUDIENCE_EVERYONE 1
#define CHATD_AUDIENCE_NOBODY 2

/* credential */
#define CHATD_CREDENTIAL_JWT 1
#define CHATD_CREDENTIAL_API_KEY 2
#define CHATD_CREDENTIAL_PASSWORD 3
#define CHATD_CREDENTIAL_GUEST 4
#define CHATD_CREDENTIAL_DEVICE_KEY 5

/* conversation_kind */
#define CHATD_CONVERSATION_DIRECT 1
#define CHATD_CONVERSATION_GROUP 2
#define CHATD_CONVERSATION_CHANNEL 3
#define CHATD_CONVERSATION_WORLD 4
#define CHATD_CONVERSATION_DEVICE 5

/* member_state */
#define CHATD_MEMBER_STATE_MEMBER 1
#define CHATD_MEMBER_STATE_LEFT 2

/* role */
#define CHATD_ROLE_MEMBER 1
#define CHATD_ROLE_ADMIN 2
#define CHATD_ROLE_OWNER 3

/* kind */
#define CHATD_KIND_TEXT 1
#define CHATD_KIND_MARKDOWN 2
#define CHATD_KIND_CUSTOM 16
#define CHATD_KIND_CONVERSATION_CREATED 32
#define CHATD_KIND_MEMBERS_ADDED 33
#define CHATD_KIND_MEMBERS_REMOVED 34
#define CHATD_KIND_MEMBER_LEFT 35
#define CHATD_KIND_ROLE_CHANGED 36
#define CHATD_KIND_TITLE_CHANGED 37

/* ephemeral_kind */
#define CHATD_EPHEMERAL_TYPING 1
#define CHATD_EPHEMERAL_PRESENCE 2
#define CHATD_EPHEMERAL_SIGNAL 3
#define CHATD_EPHEMERAL_TELEMETRY 4
#define CHATD_EPHEMERAL_CUSTOM 16

/* method */
#define CHATD_METHOD_USER_RESOLVE 1
#define CHATD_METHOD_USER_GET 2
#define CHATD_METHOD_DIRECT_OPEN 10
#define CHATD_METHOD_CONVERSATION_CREATE 11
#define CHATD_METHOD_CONVERSATION_GET 12
#define CHATD_METHOD_CONVERSATION_LIST 13
#define CHATD_METHOD_CONVERSATION_SET_TITLE 14
#define CHATD_METHOD_MEMBER_LIST 20
#define CHATD_METHOD_MEMBER_ADD 21
#define CHATD_METHOD_MEMBER_REMOVE 22
#define CHATD_METHOD_MEMBER_LEAVE 23
#define CHATD_METHOD_MEMBER_SET_ROLE 24
#define CHATD_METHOD_DEVICE_LIST 30
#define CHATD_METHOD_DEVICE_REVOKE 31
#define CHATD_METHOD_DEVICE_KEY_CREATE 32
#define CHATD_METHOD_PASSWORD_SET 33
#define CHATD_METHOD_DEVICE_KICK 34
#define CHATD_METHOD_ADMIN_USER_CREATE 100
#define CHATD_METHOD_ADMIN_USER_LIST 101
#define CHATD_METHOD_ADMIN_USER_REVOKE 102
#define CHATD_METHOD_ADMIN_API_KEY_CREATE 103
#define CHATD_METHOD_ADMIN_API_KEY_REVOKE 104
#define CHATD_METHOD_ADMIN_WHY 105
#define CHATD_METHOD_ADMIN_STATS 106
#define CHATD_METHOD_RECEIPT_GET 240
#define CHATD_METHOD_PRESENCE_SET 241
#define CHATD_METHOD_PRESENCE_AUDIENCE 242
#define CHATD_METHOD_PRESENCE_FOLLOW 243
#define CHATD_METHOD_PRESENCE_UNFOLLOW 244

/* error */
#define CHATD_ERR_BAD_FRAME 100
#define CHATD_ERR_UNSUPPORTED 101
#define CHATD_ERR_TOO_LARGE 102
#define CHATD_ERR_BAD_REQUEST 103
#define CHATD_ERR_CSEQ_REUSE 104
#define CHATD_ERR_NOT_ALLOWED_NOW 105
#define CHATD_ERR_AUTH_FAILED 200
#define CHATD_ERR_TOKEN_EXPIRED 201
#define CHATD_ERR_REVOKED 202
#define CHATD_ERR_AUTH_BUSY 203
#define CHATD_ERR_FORBIDDEN 300
#define CHATD_ERR_NOT_FOUND 301
#define CHATD_ERR_EXPIRED 302
#define CHATD_ERR_LIMIT_REACHED 303
#define CHATD_ERR_RATE_LIMITED 400
#define CHATD_ERR_BUSY 401
#define CHATD_ERR_UNAVAILABLE 500
#define CHATD_ERR_STORE_FULL 501
#define CHATD_ERR_OUT_OF_ORDER 502
#define CHATD_ERR_INTERNAL 503
#define CHATD_ERR_MOVED 600

/* close */
#define CHATD_CLOSE_NORMAL 1
#define CHATD_CLOSE_PEER_CLOSED 2
#define CHATD_CLOSE_PEER_RESET 3
#define CHATD_CLOSE_GOING_AWAY 4
#define CHATD_CLOSE_TAKEN_OVER 5
#define CHATD_CLOSE_SLOW 6
#define CHATD_CLOSE_SLOW_FRAME 7
#define CHATD_CLOSE_HEARTBEAT_TIMEOUT 8
#define CHATD_CLOSE_BAD_FRAME 9
#define CHATD_CLOSE_UNSUPPORTED 10
#define CHATD_CLOSE_FLOOD 11
#define CHATD_CLOSE_AUTH_FAILED 12
#define CHATD_CLOSE_AUTH_TIMEOUT 13
#define CHATD_CLOSE_FIRST_BYTE_TIMEOUT 14
#define CHATD_CLOSE_PREAUTH_EVICTED 15
#define CHATD_CLOSE_TOKEN_EXPIRED 16
#define CHATD_CLOSE_REVOKED 17
#define CHATD_CLOSE_KICKED 18
#define CHATD_CLOSE_SHED 19
#define CHATD_CLOSE_INTERNAL 20
#define CHATD_CLOSE_TLS_FAILED 21
#define CHATD_CLOSE_PROXY_FAILED 22

/* limits */
#define CHATD_LIMIT_SEND_BODY_BYTES_MAX 32768
#define CHATD_LIMIT_TEXT_BYTES_MAX 8192
#define CHATD_LIMIT_PREAUTH_FRAME_BYTES_MAX 4096
#define CHATD_LIMIT_PREAUTH_TOTAL_BYTES_MAX 8192
#define CHATD_LIMIT_LITE_FRAME_BYTES_MIN 128
#define CHATD_LIMIT_LITE_FRAME_BYTES_DEFAULT 512
#define CHATD_LIMIT_SENDS_IN_FLIGHT_MAX 64
#define CHATD_LIMIT_LAG_CONVERSATIONS_MAX 16
#define CHATD_LIMIT_PULL_EVENTS_MAX 200
#define CHATD_LIMIT_PULL_BYTES_MAX 262144
#define CHATD_LIMIT_PULLS_OUTSTANDING_MAX 2
#define CHATD_LIMIT_SYNC_ENTRIES_MAX 200
#define CHATD_LIMIT_ACK_EVERY_FRAMES 32
#define CHATD_LIMIT_ACK_EVERY_MS 200
#define CHATD_LIMIT_ACK_INTERVAL_MIN_MS 20
#define CHATD_LIMIT_WINDOW_FRAMES_MAX 4096
#define CHATD_LIMIT_WINDOW_FRAMES_DEFAULT 1024
#define CHATD_LIMIT_WINDOW_BYTES_MAX 4194304
#define CHATD_LIMIT_WINDOW_BYTES_DEFAULT 1048576
#define CHATD_LIMIT_TICKET_BYTES_MAX 64
#define CHATD_LIMIT_CURSOR_BYTES_MAX 24
#define CHATD_LIMIT_LITE_CURSOR_BYTES_MAX 16
#define CHATD_LIMIT_EPHEMERAL_PAYLOAD_BYTES_MAX 16384
#define CHATD_LIMIT_TITLE_BYTES_MAX 128
#define CHATD_LIMIT_EXTENSION_BYTES_MAX 1024

/* limits of fields: bytes, or items of a list */
#define CHATD_LIMIT_PING_ECHO_BYTES_MAX 32
#define CHATD_LIMIT_PONG_ECHO_BYTES_MAX 32
#define CHATD_LIMIT_GOAWAY_TICKET_BYTES_MAX 64
#define CHATD_LIMIT_RECEIPT_ENTRIES_COUNT_MAX 500
#define CHATD_LIMIT_HELLO_AGENT_BYTES_MAX 64
#define CHATD_LIMIT_AUTH_IDENTITY_BYTES_MAX 64
#define CHATD_LIMIT_AUTH_PROOF_BYTES_MAX 2048
#define CHATD_LIMIT_AUTH_LABEL_BYTES_MAX 64
#define CHATD_LIMIT_WELCOME_CURSOR_BYTES_MAX 24
#define CHATD_LIMIT_WELCOME_TICKET_BYTES_MAX 64
#define CHATD_LIMIT_RESUME_TICKET_BYTES_MAX 64
#define CHATD_LIMIT_RESUME_CURSOR_BYTES_MAX 24
#define CHATD_LIMIT_RESUMED_CURSOR_BYTES_MAX 24
#define CHATD_LIMIT_RESUMED_TICKET_BYTES_MAX 64
#define CHATD_LIMIT_REAUTH_IDENTITY_BYTES_MAX 64
#define CHATD_LIMIT_REAUTH_PROOF_BYTES_MAX 2048
#define CHATD_LIMIT_REDIRECT_HOST_BYTES_MAX 255
#define CHATD_LIMIT_BYE_TEXT_BYTES_MAX 64
#define CHATD_LIMIT_ERROR_TEXT_BYTES_MAX 96
#define CHATD_LIMIT_SEND_NAK_TEXT_BYTES_MAX 96
#define CHATD_LIMIT_SYNC_CURSOR_BYTES_MAX 24
#define CHATD_LIMIT_SYNC_PAGE_CURSOR_BYTES_MAX 24
#define CHATD_LIMIT_SYNC_PAGE_ENTRIES_COUNT_MAX 200
#define CHATD_LIMIT_SYNC_ENTRY_LAST_PREVIEW_BYTES_MAX 96
#define CHATD_LIMIT_CONVERSATION_CREATED_TITLE_BYTES_MAX 128
#define CHATD_LIMIT_MEMBERS_ADDED_USERS_COUNT_MAX 500
#define CHATD_LIMIT_MEMBERS_REMOVED_USERS_COUNT_MAX 500
#define CHATD_LIMIT_TITLE_CHANGED_TITLE_BYTES_MAX 128

#define CHATD_TIME_EPOCH_MS UINT64_C(1735689600000)

/* Rules by code, for clients that want them: define CHATD_SCHEMA_TABLES before including. */
#ifdef CHATD_SCHEMA_TABLES
struct chatd_op_rule {
    uint8_t known;    /* 0: no such op */
    uint8_t sides;    /* who may send it: 1 client, 2 server */
    uint8_t states;   /* when: 1 before login, 2 live */
    uint8_t flags;    /* bits that may be set, EXT included */
    uint8_t lite;     /* may be sent to a LITE client */
    uint8_t empty;    /* the body may be empty */
    uint8_t feature;  /* bit that must have been agreed, 0: none */
    const char *name;
};
static const struct chatd_op_rule chatd_ops[256] = {
    [0x01] = { 1, 3, 3, 0x02, 1, 1, 0, "PING" },
    [0x02] = { 1, 3, 3, 0x00, 1, 1, 0, "PONG" },
    [0x03] = { 1, 2, 2, 0x00, 0, 0, 0, "GOAWAY" },
    [0x10] = { 1, 3, 2, 0x01, 1, 0, 0, "EPHEMERAL" },
    [0x11] = { 1, 2, 2, 0x00, 0, 0, 4, "RECEIPT" },
    [0x12] = { 1, 3, 2, 0x00, 0, 0, 16, "STREAM_DELTA" },
    [0x13] = { 1, 2, 2, 0x00, 0, 0, 16, "STREAM_SNAPSHOT" },
    [0x14] = { 1, 2, 2, 0x00, 0, 0, 0, "NOTICE" },
    [0x81] = { 1, 1, 1, 0x01, 1, 0, 0, "HELLO" },
    [0x82] = { 1, 2, 1, 0x00, 1, 0, 0, "CHALLENGE" },
    [0x83] = { 1, 1, 1, 0x01, 1, 0, 0, "AUTH" },
    [0x84] = { 1, 2, 3, 0x01, 1, 0, 0, "WELCOME" },
    [0x85] = { 1, 1, 1, 0x01, 1, 0, 0, "RESUME" },
    [0x86] = { 1, 2, 1, 0x01, 1, 0, 0, "RESUMED" },
    [0x87] = { 1, 1, 2, 0x00, 0, 0, 0, "REAUTH" },
    [0x88] = { 1, 2, 3, 0x00, 0, 0, 0, "REDIRECT" },
    [0x89] = { 1, 3, 3, 0x00, 1, 0, 0, "BYE" },
    [0x8A] = { 1, 2, 3, 0x02, 1, 0, 0, "ERROR" },
    [0x90] = { 1, 1, 2, 0x01, 1, 0, 0, "SEND" },
    [0x91] = { 1, 2, 2, 0x06, 1, 0, 0, "SEND_ACK" },
    [0x92] = { 1, 2, 2, 0x02, 1, 0, 0, "SEND_NAK" },
    [0x93] = { 1, 1, 2, 0x00, 0, 0, 0, "SKIP" },
    [0x94] = { 1, 2, 2, 0x0F, 1, 0, 0, "DELIVER" },
    [0x95] = { 1, 1, 2, 0x00, 1, 0, 0, "ACK" },
    [0x96] = { 1, 1, 2, 0x00, 0, 0, 0, "READ" },
    [0x97] = { 1, 2, 2, 0x00, 1, 0, 0, "LAG" },
    [0x98] = { 1, 2, 2, 0x00, 1, 0, 0, "CHUNK" },
    [0x99] = { 1, 3, 2, 0x00, 0, 0, 16, "STREAM_START" },
    [0x9A] = { 1, 3, 2, 0x00, 0, 0, 16, "STREAM_END" },
    [0xA0] = { 1, 1, 2, 0x00, 0, 0, 0, "SYNC" },
    [0xA1] = { 1, 2, 2, 0x02, 0, 0, 0, "SYNC_PAGE" },
    [0xA2] = { 1, 1, 2, 0x01, 1, 0, 0, "PULL" },
    [0xA3] = { 1, 2, 2, 0x00, 1, 0, 0, "PULL_END" },
    [0xA4] = { 1, 3, 2, 0x00, 0, 0, 0, "SUBSCRIBE" },
    [0xA5] = { 1, 3, 2, 0x00, 0, 0, 0, "UNSUBSCRIBE" },
    [0xB0] = { 1, 1, 2, 0x00, 0, 0, 0, "REQUEST" },
    [0xB1] = { 1, 2, 2, 0x02, 0, 0, 0, "REPLY" },
};
struct chatd_kind_rule {
    uint8_t known;
    uint8_t message;  /* counts for unread */
    uint8_t client;   /* may be sent with SEND */
    uint32_t payload_bytes_max;  /* of a SEND; 0: kinds that only the server writes */
};
static const struct chatd_kind_rule chatd_kinds[38] = {
    [1] = { 1, 1, 1, 8192 },
    [2] = { 1, 1, 1, 8192 },
    [16] = { 1, 1, 1, 32768 },
    [32] = { 1, 0, 0, 0 },
    [33] = { 1, 0, 0, 0 },
    [34] = { 1, 0, 0, 0 },
    [35] = { 1, 0, 0, 0 },
    [36] = { 1, 0, 0, 0 },
    [37] = { 1, 0, 0, 0 },
};
struct chatd_close_rule {
    const char *name; /* wire, metric label and log field */
    uint8_t then;     /* 1 reconnect with the ticket, 2 reconnect with a credential, 3 stop */
};
static const struct chatd_close_rule chatd_closes[23] = {
    [1] = { "NORMAL", 3 },
    [2] = { "PEER_CLOSED", 1 },
    [3] = { "PEER_RESET", 1 },
    [4] = { "GOING_AWAY", 1 },
    [5] = { "TAKEN_OVER", 3 },
    [6] = { "SLOW", 1 },
    [7] = { "SLOW_FRAME", 1 },
    [8] = { "HEARTBEAT_TIMEOUT", 1 },
    [9] = { "BAD_FRAME", 2 },
    [10] = { "UNSUPPORTED", 3 },
    [11] = { "FLOOD", 2 },
    [12] = { "AUTH_FAILED", 3 },
    [13] = { "AUTH_TIMEOUT", 2 },
    [14] = { "FIRST_BYTE_TIMEOUT", 2 },
    [15] = { "PREAUTH_EVICTED", 2 },
    [16] = { "TOKEN_EXPIRED", 2 },
    [17] = { "REVOKED", 3 },
    [18] = { "KICKED", 2 },
    [19] = { "SHED", 2 },
    [20] = { "INTERNAL", 1 },
    [21] = { "TLS_FAILED", 2 },
    [22] = { "PROXY_FAILED", 3 },
};
struct chatd_error_rule {
    const char *name;
    uint8_t retryable;
};
static const struct chatd_error_rule chatd_errors[601] = {
    [100] = { "BAD_FRAME", 0 },
    [101] = { "UNSUPPORTED", 0 },
    [102] = { "TOO_LARGE", 0 },
    [103] = { "BAD_REQUEST", 0 },
    [104] = { "CSEQ_REUSE", 0 },
    [105] = { "NOT_ALLOWED_NOW", 0 },
    [200] = { "AUTH_FAILED", 0 },
    [201] = { "TOKEN_EXPIRED", 0 },
    [202] = { "REVOKED", 0 },
    [203] = { "AUTH_BUSY", 1 },
    [300] = { "FORBIDDEN", 0 },
    [301] = { "NOT_FOUND", 0 },
    [302] = { "EXPIRED", 0 },
    [303] = { "LIMIT_REACHED", 0 },
    [400] = { "RATE_LIMITED", 1 },
    [401] = { "BUSY", 1 },
    [500] = { "UNAVAILABLE", 1 },
    [501] = { "STORE_FULL", 1 },
    [502] = { "OUT_OF_ORDER", 1 },
    [503] = { "INTERNAL", 1 },
    [600] = { "MOVED", 0 },
};
#endif
#endif
