# Generated from protocol/schema.toml by `make wire`; edit that file instead.

# frame
cdef enum:
    PROTOCOL_MAJOR = 1
    FRAME_HEADER_BYTES = 4
    FRAME_BODY_BYTES_MAX = 65535
    OP_MUST_UNDERSTAND = 0x80
    FLAG_EXT = 0x01

# ops
cdef enum:
    OP_PING = 0x01
    OP_PONG = 0x02
    OP_GOAWAY = 0x03
    OP_EPHEMERAL = 0x10
    OP_RECEIPT = 0x11
    OP_STREAM_DELTA = 0x12
    OP_STREAM_SNAPSHOT = 0x13
    OP_NOTICE = 0x14
    OP_HELLO = 0x81
    OP_CHALLENGE = 0x82
    OP_AUTH = 0x83
    OP_WELCOME = 0x84
    OP_RESUME = 0x85
    OP_RESUMED = 0x86
    OP_REAUTH = 0x87
    OP_REDIRECT = 0x88
    OP_BYE = 0x89
    OP_ERROR = 0x8A
    OP_SEND = 0x90
    OP_SEND_ACK = 0x91
    OP_SEND_NAK = 0x92
    OP_SKIP = 0x93
    OP_DELIVER = 0x94
    OP_ACK = 0x95
    OP_READ = 0x96
    OP_LAG = 0x97
    OP_CHUNK = 0x98
    OP_STREAM_START = 0x99
    OP_STREAM_END = 0x9A
    OP_SYNC = 0xA0
    OP_SYNC_PAGE = 0xA1
    OP_PULL = 0xA2
    OP_PULL_END = 0xA3
    OP_SUBSCRIBE = 0xA4
    OP_UNSUBSCRIBE = 0xA5
    OP_REQUEST = 0xB0
    OP_REPLY = 0xB1

# flags by op
cdef enum:
    FLAG_PING_REPLY_WANTED = 0x02
    FLAG_ERROR_RETRYABLE = 0x02
    FLAG_SEND_ACK_DUP = 0x02
    FLAG_SEND_ACK_SKIPPED = 0x04
    FLAG_SEND_NAK_RETRYABLE = 0x02
    FLAG_DELIVER_HISTORY = 0x02
    FLAG_DELIVER_STUB = 0x04
    FLAG_DELIVER_COMPRESSED = 0x08
    FLAG_DELIVER_TOMBSTONE = 0x10
    FLAG_SYNC_PAGE_MORE = 0x02
    FLAG_REPLY_RETRYABLE = 0x02

# extensions by op
cdef enum:
    EXTENSION_PULL_BYTE_RANGE = 1
    EXTENSION_SEND_REPLY_TO = 2
    EXTENSION_DELIVER_REPLY_TO = 2
    EXTENSION_SEND_FORWARDED = 4
    EXTENSION_DELIVER_FORWARDED = 4
    EXTENSION_SEND_MENTIONS = 6
    EXTENSION_DELIVER_MENTIONS = 6
    EXTENSION_SEND_EXPIRES = 8
    EXTENSION_DELIVER_EXPIRES = 8
    EXTENSION_SEND_STREAM = 10
    EXTENSION_DELIVER_STREAM = 10
    EXTENSION_EPHEMERAL_TELEMETRY = 4
    EXTENSION_PULL_AROUND = 3
    EXTENSION_PULL_FROM_TIME = 5
    EXTENSION_PULL_RANGES = 7
    EXTENSION_PULL_FOLDED = 9
    EXTENSION_DELIVER_NOW = 20
    EXTENSION_PULL_END_OMITTED = 2

# features
cdef enum:
    FEATURE_LITE = 1
    FEATURE_CHALLENGE = 2
    FEATURE_RECEIPTS = 4
    FEATURE_COMPRESSION = 8
    FEATURE_STREAMS = 16

# topic
cdef enum:
    TOPIC_EPHEMERAL = 1
    TOPIC_RECEIPTS = 2
    TOPIC_STREAMS = 4

# notice
cdef enum:
    NOTICE_SERVER = 1
    NOTICE_PRESENCE = 2
    NOTICE_DRAFT = 3
    NOTICE_SCHEDULE_FAILED = 4
    NOTICE_OWN_SETTING = 10
    NOTICE_RELATION = 11
    NOTICE_REPORT = 12
    NOTICE_JOIN_REQUEST = 13

# presence
cdef enum:
    PRESENCE_OFFLINE = 0
    PRESENCE_ONLINE = 1
    PRESENCE_AWAY = 2
    PRESENCE_INVISIBLE = 3

# audience
cdef enum:
    AUDIENCE_EVERYONE = 1
    AUDIENCE_NOBODY = 2
    AUDIENCE_CONTACTS = 3

# command_state
cdef enum:
    COMMAND_ACCEPTED = 1
    COMMAND_DONE = 2
    COMMAND_FAILED = 3
    COMMAND_EXPIRED = 4

# case_state
cdef enum:
    CASE_OPEN = 1
    CASE_ASSIGNED = 2
    CASE_CLOSED = 3

# credential
cdef enum:
    CREDENTIAL_JWT = 1
    CREDENTIAL_API_KEY = 2
    CREDENTIAL_PASSWORD = 3
    CREDENTIAL_GUEST = 4
    CREDENTIAL_DEVICE_KEY = 5

# conversation_kind
cdef enum:
    CONVERSATION_DIRECT = 1
    CONVERSATION_GROUP = 2
    CONVERSATION_CHANNEL = 3
    CONVERSATION_WORLD = 4
    CONVERSATION_DEVICE = 5
    CONVERSATION_SERVICE = 6

# member_state
cdef enum:
    MEMBER_STATE_MEMBER = 1
    MEMBER_STATE_LEFT = 2

# role
cdef enum:
    ROLE_MEMBER = 1
    ROLE_ADMIN = 2
    ROLE_OWNER = 3
    ROLE_MODERATOR = 4
    ROLE_GUEST = 5
    ROLE_BOT = 6

# right
cdef enum:
    RIGHT_WRITE = 1
    RIGHT_NO_SLOW_MODE = 2
    RIGHT_MENTION_ALL = 4
    RIGHT_PIN = 8
    RIGHT_MODERATE = 16
    RIGHT_REMOVE = 32
    RIGHT_INVITE = 64
    RIGHT_EDIT_INFO = 128
    RIGHT_MANAGE = 256
    RIGHT_ROLES = 512
    RIGHT_DELETE = 1024
    RIGHT_SEE_MEMBERS = 2048
    RIGHT_COMMAND = 4096

# kind
cdef enum:
    KIND_TEXT = 1
    KIND_MARKDOWN = 2
    KIND_STICKER = 3
    KIND_IMAGE = 4
    KIND_VOICE = 5
    KIND_VIDEO = 6
    KIND_FILE = 7
    KIND_LOCATION = 8
    KIND_CONTACT = 9
    KIND_TYPED = 10
    KIND_CUSTOM = 16
    KIND_EDIT = 17
    KIND_RECALL = 18
    KIND_REACTION = 19
    KIND_PIN = 20
    KIND_COMMAND = 26
    KIND_COMMAND_RESULT = 27
    KIND_CASE_CHANGED = 28
    KIND_CASE_RATED = 29
    KIND_CONVERSATION_CREATED = 32
    KIND_MEMBERS_ADDED = 33
    KIND_MEMBERS_REMOVED = 34
    KIND_MEMBER_LEFT = 35
    KIND_ROLE_CHANGED = 36
    KIND_TITLE_CHANGED = 37
    KIND_INFO_CHANGED = 38
    KIND_RULES_CHANGED = 39
    KIND_MEMBER_MUTED = 40
    KIND_MEMBER_BANNED = 41
    KIND_BAN_LIFTED = 42
    KIND_MEMBER_JOINED = 43
    KIND_ARCHIVED = 44
    KIND_DELETED = 45
    KIND_PUBLIC_NAME_CHANGED = 46
    KIND_RETENTION_CHANGED = 50

# ephemeral_kind
cdef enum:
    EPHEMERAL_TYPING = 1
    EPHEMERAL_PRESENCE = 2
    EPHEMERAL_SIGNAL = 3
    EPHEMERAL_TELEMETRY = 4
    EPHEMERAL_CUSTOM = 16

# method
cdef enum:
    METHOD_USER_RESOLVE = 1
    METHOD_USER_GET = 2
    METHOD_DIRECT_OPEN = 10
    METHOD_CONVERSATION_CREATE = 11
    METHOD_CONVERSATION_GET = 12
    METHOD_CONVERSATION_LIST = 13
    METHOD_CONVERSATION_SET_TITLE = 14
    METHOD_MEMBER_LIST = 20
    METHOD_MEMBER_ADD = 21
    METHOD_MEMBER_REMOVE = 22
    METHOD_MEMBER_LEAVE = 23
    METHOD_MEMBER_SET_ROLE = 24
    METHOD_DEVICE_LIST = 30
    METHOD_DEVICE_REVOKE = 31
    METHOD_DEVICE_KEY_CREATE = 32
    METHOD_PASSWORD_SET = 33
    METHOD_DEVICE_KICK = 34
    METHOD_PROFILE_GET = 40
    METHOD_PROFILE_SET = 41
    METHOD_ACCOUNT_UPGRADE = 42
    METHOD_CONTACT_REQUEST = 43
    METHOD_CONTACT_ANSWER = 44
    METHOD_CONTACT_REMOVE = 45
    METHOD_BLOCK = 46
    METHOD_RELATION_LIST = 47
    METHOD_CONVERSATION_SET_INFO = 50
    METHOD_CONVERSATION_SET_RULES = 51
    METHOD_CONVERSATION_RULES = 52
    METHOD_CONVERSATION_ARCHIVE = 53
    METHOD_CONVERSATION_DELETE = 54
    METHOD_PUBLIC_NAME_SET = 55
    METHOD_PUBLIC_FIND = 56
    METHOD_PUBLIC_JOIN = 57
    METHOD_ROLE_LIST = 60
    METHOD_MEMBER_MUTE = 61
    METHOD_MEMBER_BAN = 62
    METHOD_BAN_LIFT = 63
    METHOD_RESTRICTION_LIST = 64
    METHOD_INVITE_CREATE = 66
    METHOD_INVITE_LIST = 67
    METHOD_INVITE_REVOKE = 68
    METHOD_INVITE_LOOK = 69
    METHOD_INVITE_JOIN = 70
    METHOD_JOIN_REQUEST_LIST = 71
    METHOD_JOIN_REQUEST_ANSWER = 72
    METHOD_OWN_SET = 75
    METHOD_OWN_HIDE = 76
    METHOD_OWN_LIST = 77
    METHOD_REPORT = 80
    METHOD_REPORT_LIST = 81
    METHOD_REPORT_RESOLVE = 82
    METHOD_DESK_SET = 83
    METHOD_DESK_LIST = 84
    METHOD_CASE_OPEN = 85
    METHOD_CASE_LIST = 86
    METHOD_CASE_ASSIGN = 87
    METHOD_CASE_CLOSE = 88
    METHOD_CASE_RATE = 89
    METHOD_ADMIN_USER_CREATE = 100
    METHOD_ADMIN_USER_LIST = 101
    METHOD_ADMIN_USER_REVOKE = 102
    METHOD_ADMIN_API_KEY_CREATE = 103
    METHOD_ADMIN_API_KEY_REVOKE = 104
    METHOD_ADMIN_WHY = 105
    METHOD_ADMIN_STATS = 106
    METHOD_MESSAGE_SCHEDULE = 200
    METHOD_SCHEDULED_LIST = 201
    METHOD_SCHEDULED_CANCEL = 202
    METHOD_DRAFT_SET = 203
    METHOD_DRAFT_LIST = 204
    METHOD_MENTIONS_UNREAD = 205
    METHOD_MESSAGE_STATES = 206
    METHOD_PIN_LIST = 207
    METHOD_DEVICE_OPEN = 208
    METHOD_COMMAND_LIST = 209
    METHOD_KIND_LIST = 210
    METHOD_SEARCH = 220
    METHOD_RETENTION_SET = 221
    METHOD_RETENTION_GET = 222
    METHOD_EVENT_VERSIONS = 223
    METHOD_SEARCH_REBUILD = 224
    METHOD_RECEIPT_GET = 240
    METHOD_PRESENCE_SET = 241
    METHOD_PRESENCE_AUDIENCE = 242
    METHOD_PRESENCE_FOLLOW = 243
    METHOD_PRESENCE_UNFOLLOW = 244
    METHOD_TELEMETRY_LAST = 245

# error
cdef enum:
    ERR_BAD_FRAME = 100
    ERR_UNSUPPORTED = 101
    ERR_TOO_LARGE = 102
    ERR_BAD_REQUEST = 103
    ERR_CSEQ_REUSE = 104
    ERR_NOT_ALLOWED_NOW = 105
    ERR_AUTH_FAILED = 200
    ERR_TOKEN_EXPIRED = 201
    ERR_REVOKED = 202
    ERR_AUTH_BUSY = 203
    ERR_FORBIDDEN = 300
    ERR_NOT_FOUND = 301
    ERR_EXPIRED = 302
    ERR_LIMIT_REACHED = 303
    ERR_MUTED = 304
    ERR_BANNED = 305
    ERR_CONTACTS_ONLY = 306
    ERR_RATE_LIMITED = 400
    ERR_BUSY = 401
    ERR_UNAVAILABLE = 500
    ERR_STORE_FULL = 501
    ERR_OUT_OF_ORDER = 502
    ERR_INTERNAL = 503
    ERR_MOVED = 600

# close
cdef enum:
    CLOSE_NORMAL = 1
    CLOSE_PEER_CLOSED = 2
    CLOSE_PEER_RESET = 3
    CLOSE_GOING_AWAY = 4
    CLOSE_TAKEN_OVER = 5
    CLOSE_SLOW = 6
    CLOSE_SLOW_FRAME = 7
    CLOSE_HEARTBEAT_TIMEOUT = 8
    CLOSE_BAD_FRAME = 9
    CLOSE_UNSUPPORTED = 10
    CLOSE_FLOOD = 11
    CLOSE_AUTH_FAILED = 12
    CLOSE_AUTH_TIMEOUT = 13
    CLOSE_FIRST_BYTE_TIMEOUT = 14
    CLOSE_PREAUTH_EVICTED = 15
    CLOSE_TOKEN_EXPIRED = 16
    CLOSE_REVOKED = 17
    CLOSE_KICKED = 18
    CLOSE_SHED = 19
    CLOSE_INTERNAL = 20
    CLOSE_TLS_FAILED = 21
    CLOSE_PROXY_FAILED = 22
    CLOSE_REPLACED = 23

# limits
cdef enum:
    LIMIT_SEND_BODY_BYTES_MAX = 32768
    LIMIT_TEXT_BYTES_MAX = 8192
    LIMIT_PREAUTH_FRAME_BYTES_MAX = 4096
    LIMIT_PREAUTH_TOTAL_BYTES_MAX = 8192
    LIMIT_LITE_FRAME_BYTES_MIN = 128
    LIMIT_LITE_FRAME_BYTES_DEFAULT = 512
    LIMIT_SENDS_IN_FLIGHT_MAX = 64
    LIMIT_LAG_CONVERSATIONS_MAX = 16
    LIMIT_PULL_EVENTS_MAX = 200
    LIMIT_PULL_BYTES_MAX = 262144
    LIMIT_PULLS_OUTSTANDING_MAX = 2
    LIMIT_SYNC_ENTRIES_MAX = 200
    LIMIT_ACK_EVERY_FRAMES = 32
    LIMIT_ACK_EVERY_MS = 200
    LIMIT_ACK_INTERVAL_MIN_MS = 20
    LIMIT_WINDOW_FRAMES_MAX = 4096
    LIMIT_WINDOW_FRAMES_DEFAULT = 1024
    LIMIT_WINDOW_BYTES_MAX = 4194304
    LIMIT_WINDOW_BYTES_DEFAULT = 1048576
    LIMIT_TICKET_BYTES_MAX = 64
    LIMIT_CURSOR_BYTES_MAX = 24
    LIMIT_LITE_CURSOR_BYTES_MAX = 16
    LIMIT_EPHEMERAL_PAYLOAD_BYTES_MAX = 16384
    LIMIT_TELEMETRY_KEY_MAX = 32767
    LIMIT_TELEMETRY_KEPT_BYTES_MAX = 1024
    LIMIT_STREAM_BYTES_MAX = 60000
    LIMIT_TITLE_BYTES_MAX = 128
    LIMIT_EXTENSION_BYTES_MAX = 1024

# limits of fields: bytes, or items of a list
cdef enum:
    LIMIT_PING_ECHO_BYTES_MAX = 32
    LIMIT_PONG_ECHO_BYTES_MAX = 32
    LIMIT_GOAWAY_TICKET_BYTES_MAX = 64
    LIMIT_RECEIPT_ENTRIES_COUNT_MAX = 500
    LIMIT_HELLO_AGENT_BYTES_MAX = 64
    LIMIT_AUTH_IDENTITY_BYTES_MAX = 64
    LIMIT_AUTH_PROOF_BYTES_MAX = 2048
    LIMIT_AUTH_LABEL_BYTES_MAX = 64
    LIMIT_WELCOME_CURSOR_BYTES_MAX = 24
    LIMIT_WELCOME_TICKET_BYTES_MAX = 64
    LIMIT_RESUME_TICKET_BYTES_MAX = 64
    LIMIT_RESUME_CURSOR_BYTES_MAX = 24
    LIMIT_RESUMED_CURSOR_BYTES_MAX = 24
    LIMIT_RESUMED_TICKET_BYTES_MAX = 64
    LIMIT_REAUTH_IDENTITY_BYTES_MAX = 64
    LIMIT_REAUTH_PROOF_BYTES_MAX = 2048
    LIMIT_REDIRECT_HOST_BYTES_MAX = 255
    LIMIT_BYE_TEXT_BYTES_MAX = 64
    LIMIT_ERROR_TEXT_BYTES_MAX = 96
    LIMIT_SEND_NAK_TEXT_BYTES_MAX = 96
    LIMIT_SYNC_CURSOR_BYTES_MAX = 24
    LIMIT_SYNC_PAGE_CURSOR_BYTES_MAX = 24
    LIMIT_SYNC_PAGE_ENTRIES_COUNT_MAX = 200
    LIMIT_REACTION_COUNT_EMOJI_BYTES_MAX = 32
    LIMIT_SYNC_ENTRY_LAST_PREVIEW_BYTES_MAX = 96
    LIMIT_STICKER_PACK_BYTES_MAX = 64
    LIMIT_STICKER_NAME_BYTES_MAX = 64
    LIMIT_STICKER_EMOJI_BYTES_MAX = 32
    LIMIT_IMAGE_MEDIA_BYTES_MAX = 128
    LIMIT_IMAGE_MIME_BYTES_MAX = 64
    LIMIT_IMAGE_PREVIEW_BYTES_MAX = 4096
    LIMIT_IMAGE_CAPTION_BYTES_MAX = 2048
    LIMIT_VOICE_MEDIA_BYTES_MAX = 128
    LIMIT_VOICE_MIME_BYTES_MAX = 64
    LIMIT_VOICE_WAVEFORM_BYTES_MAX = 256
    LIMIT_VIDEO_MEDIA_BYTES_MAX = 128
    LIMIT_VIDEO_MIME_BYTES_MAX = 64
    LIMIT_VIDEO_PREVIEW_BYTES_MAX = 4096
    LIMIT_VIDEO_CAPTION_BYTES_MAX = 2048
    LIMIT_FILE_MEDIA_BYTES_MAX = 128
    LIMIT_FILE_MIME_BYTES_MAX = 64
    LIMIT_FILE_NAME_BYTES_MAX = 255
    LIMIT_FILE_CAPTION_BYTES_MAX = 2048
    LIMIT_LOCATION_NAME_BYTES_MAX = 128
    LIMIT_LOCATION_ADDRESS_BYTES_MAX = 512
    LIMIT_CONTACT_NAME_BYTES_MAX = 128
    LIMIT_CONTACT_PHONE_BYTES_MAX = 32
    LIMIT_CONTACT_EMAIL_BYTES_MAX = 254
    LIMIT_TYPED_NAME_BYTES_MAX = 64
    LIMIT_REACTION_EMOJI_BYTES_MAX = 32
    LIMIT_COMMAND_NAME_BYTES_MAX = 64
    LIMIT_CONVERSATION_CREATED_TITLE_BYTES_MAX = 128
    LIMIT_MEMBERS_ADDED_USERS_COUNT_MAX = 500
    LIMIT_MEMBERS_REMOVED_USERS_COUNT_MAX = 500
    LIMIT_TITLE_CHANGED_TITLE_BYTES_MAX = 128
    LIMIT_INFO_CHANGED_TOPIC_BYTES_MAX = 512
    LIMIT_INFO_CHANGED_AVATAR_BYTES_MAX = 256
    LIMIT_RULES_CHANGED_DENIALS_COUNT_MAX = 16
    LIMIT_DELETED_TITLE_BYTES_MAX = 128
    LIMIT_PUBLIC_NAME_CHANGED_NAME_BYTES_MAX = 64

# Sizes of the tables below: a code at or above them is unknown.
cdef enum:
    WIRE_KINDS_SIZE = 51
    WIRE_CLOSES_SIZE = 24
    WIRE_ERRORS_SIZE = 601

# Bit n: extension n of a SEND is judged by the hub's Python side.
cdef enum:
    WIRE_SEND_JUDGED_TAGS = 1360

cdef extern from *:
    """
    struct wire_op_rule {
        uint8_t known;    /* 0: no such op */
        uint8_t sides;    /* who may send it: 1 client, 2 server */
        uint8_t states;   /* when: 1 before login, 2 live */
        uint8_t flags;    /* bits that may be set, EXT included */
        uint8_t lite;     /* may be sent to a LITE client */
        uint8_t empty;    /* the body may be empty */
        uint8_t feature;  /* bit that must have been agreed, 0: none */
        const char *name;
    };
    static const __attribute__((unused)) struct wire_op_rule wire_ops[256] = {
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
        [0x94] = { 1, 2, 2, 0x1F, 1, 0, 0, "DELIVER" },
        [0x95] = { 1, 1, 2, 0x00, 1, 0, 0, "ACK" },
        [0x96] = { 1, 1, 2, 0x00, 0, 0, 0, "READ" },
        [0x97] = { 1, 2, 2, 0x00, 1, 0, 0, "LAG" },
        [0x98] = { 1, 2, 2, 0x00, 1, 0, 0, "CHUNK" },
        [0x99] = { 1, 3, 2, 0x00, 0, 0, 16, "STREAM_START" },
        [0x9A] = { 1, 3, 2, 0x00, 0, 0, 16, "STREAM_END" },
        [0xA0] = { 1, 1, 2, 0x00, 0, 0, 0, "SYNC" },
        [0xA1] = { 1, 2, 2, 0x02, 0, 0, 0, "SYNC_PAGE" },
        [0xA2] = { 1, 1, 2, 0x01, 1, 0, 0, "PULL" },
        [0xA3] = { 1, 2, 2, 0x01, 1, 0, 0, "PULL_END" },
        [0xA4] = { 1, 3, 2, 0x00, 0, 0, 0, "SUBSCRIBE" },
        [0xA5] = { 1, 3, 2, 0x00, 0, 0, 0, "UNSUBSCRIBE" },
        [0xB0] = { 1, 1, 2, 0x00, 0, 0, 0, "REQUEST" },
        [0xB1] = { 1, 2, 2, 0x02, 0, 0, 0, "REPLY" },
    };
    struct wire_kind_rule {
        uint8_t known;
        uint8_t message;  /* counts for unread */
        uint8_t client;   /* may be sent with SEND */
        uint8_t judged;   /* the hub looks into its payload before it is stored */
        uint32_t payload_bytes_max;  /* of a SEND; 0: kinds that only the server writes */
    };
    static const __attribute__((unused)) struct wire_kind_rule wire_kinds[51] = {
        [1] = { 1, 1, 1, 0, 8192 },
        [2] = { 1, 1, 1, 0, 8192 },
        [3] = { 1, 1, 1, 1, 256 },
        [4] = { 1, 1, 1, 1, 8192 },
        [5] = { 1, 1, 1, 1, 1024 },
        [6] = { 1, 1, 1, 1, 8192 },
        [7] = { 1, 1, 1, 1, 4096 },
        [8] = { 1, 1, 1, 1, 1024 },
        [9] = { 1, 1, 1, 1, 1024 },
        [10] = { 1, 1, 1, 1, 32768 },
        [16] = { 1, 1, 1, 0, 32768 },
        [17] = { 1, 0, 1, 1, 16384 },
        [18] = { 1, 0, 1, 1, 9 },
        [19] = { 1, 0, 1, 1, 64 },
        [20] = { 1, 0, 1, 1, 16 },
        [26] = { 1, 0, 1, 1, 8192 },
        [27] = { 1, 0, 1, 1, 8192 },
        [28] = { 1, 0, 0, 0, 0 },
        [29] = { 1, 0, 0, 0, 0 },
        [32] = { 1, 0, 0, 0, 0 },
        [33] = { 1, 0, 0, 0, 0 },
        [34] = { 1, 0, 0, 0, 0 },
        [35] = { 1, 0, 0, 0, 0 },
        [36] = { 1, 0, 0, 0, 0 },
        [37] = { 1, 0, 0, 0, 0 },
        [38] = { 1, 0, 0, 0, 0 },
        [39] = { 1, 0, 0, 0, 0 },
        [40] = { 1, 0, 0, 0, 0 },
        [41] = { 1, 0, 0, 0, 0 },
        [42] = { 1, 0, 0, 0, 0 },
        [43] = { 1, 0, 0, 0, 0 },
        [44] = { 1, 0, 0, 0, 0 },
        [45] = { 1, 0, 0, 0, 0 },
        [46] = { 1, 0, 0, 0, 0 },
        [50] = { 1, 0, 0, 0, 0 },
    };
    struct wire_close_rule {
        const char *name; /* wire, metric label and log field */
        uint8_t then;     /* 1 reconnect with the ticket, 2 reconnect with a credential, 3 stop */
    };
    static const __attribute__((unused)) struct wire_close_rule wire_closes[24] = {
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
        [23] = { "REPLACED", 3 },
    };
    struct wire_error_rule {
        const char *name;
        uint8_t retryable;
    };
    static const __attribute__((unused)) struct wire_error_rule wire_errors[601] = {
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
        [304] = { "MUTED", 0 },
        [305] = { "BANNED", 0 },
        [306] = { "CONTACTS_ONLY", 0 },
        [400] = { "RATE_LIMITED", 1 },
        [401] = { "BUSY", 1 },
        [500] = { "UNAVAILABLE", 1 },
        [501] = { "STORE_FULL", 1 },
        [502] = { "OUT_OF_ORDER", 1 },
        [503] = { "INTERNAL", 1 },
        [600] = { "MOVED", 0 },
    };
    #define WIRE_TIME_EPOCH_MS ((uint64_t)1735689600000)
    """
    struct wire_op_rule:
        uint8_t known
        uint8_t sides
        uint8_t states
        uint8_t flags
        uint8_t lite
        uint8_t empty
        uint8_t feature
        const char* name
    const wire_op_rule wire_ops[256]
    struct wire_kind_rule:
        uint8_t known
        uint8_t message
        uint8_t client
        uint8_t judged
        uint32_t payload_bytes_max
    const wire_kind_rule wire_kinds[WIRE_KINDS_SIZE]
    struct wire_close_rule:
        const char* name
        uint8_t then
    const wire_close_rule wire_closes[WIRE_CLOSES_SIZE]
    struct wire_error_rule:
        const char* name
        uint8_t retryable
    const wire_error_rule wire_errors[WIRE_ERRORS_SIZE]
    const uint64_t WIRE_TIME_EPOCH_MS
