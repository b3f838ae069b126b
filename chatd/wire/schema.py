"""Generated from protocol/schema.toml by `make wire`; edit that file instead."""

from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field. type: as in schema.toml; record: of a list; limit: bytes or items at most, 0 = what the body holds."""

    name: str
    type: str
    record: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Fields in wire order. ext: how many of them stand before the extension block; None: the op takes none."""

    name: str
    fields: tuple[Field, ...]
    ext: int | None = None


@dataclass(frozen=True, slots=True)
class OpRule:
    """An op. sides: CLIENT | SERVER may send it; states: BEFORE | LIVE; flags: by name without EXT, mask with it."""

    layout: Layout
    sides: int
    states: int
    lite: bool
    empty: bool
    feature: int  # must have been agreed; 0: none needed
    flags: dict[str, int]
    flags_mask: int


@dataclass(frozen=True, slots=True)
class KindRule:
    """An event kind. message: counts for unread; client: may be sent; judged: the hub's Python side looks at it first;
    layout: of the payload, None = free bytes.
    """

    message: bool
    client: bool
    judged: bool
    payload_bytes_max: int
    layout: Layout | None


CLIENT: Final = 1
SERVER: Final = 2
BEFORE: Final = 1
LIVE: Final = 2

MAJOR: Final = 1
SUBPROTOCOL: Final = "chatd.v1"
ALPN: Final = "chatd/1"
TIME_EPOCH_MS: Final = 1735689600000
HEADER_BYTES: Final = 4
BODY_BYTES_MAX: Final = 65535
OP_MUST_UNDERSTAND: Final = 0x80
FLAG_EXT: Final = 0x01


class Op(IntEnum):
    """The ops."""

    PING = 0x01
    PONG = 0x02
    GOAWAY = 0x03
    EPHEMERAL = 0x10
    RECEIPT = 0x11
    STREAM_DELTA = 0x12
    STREAM_SNAPSHOT = 0x13
    NOTICE = 0x14
    HELLO = 0x81
    CHALLENGE = 0x82
    AUTH = 0x83
    WELCOME = 0x84
    RESUME = 0x85
    RESUMED = 0x86
    REAUTH = 0x87
    REDIRECT = 0x88
    BYE = 0x89
    ERROR = 0x8A
    SEND = 0x90
    SEND_ACK = 0x91
    SEND_NAK = 0x92
    SKIP = 0x93
    DELIVER = 0x94
    ACK = 0x95
    READ = 0x96
    LAG = 0x97
    CHUNK = 0x98
    STREAM_START = 0x99
    STREAM_END = 0x9A
    SYNC = 0xA0
    SYNC_PAGE = 0xA1
    PULL = 0xA2
    PULL_END = 0xA3
    SUBSCRIBE = 0xA4
    UNSUBSCRIBE = 0xA5
    REQUEST = 0xB0
    REPLY = 0xB1


class Feature(IntFlag):
    """Bits of HELLO.features and WELCOME.features."""

    LITE = 1
    CHALLENGE = 2
    RECEIPTS = 4
    COMPRESSION = 8
    STREAMS = 16


class Topic(IntFlag):
    """Bits of SUBSCRIBE.topics."""

    EPHEMERAL = 1
    RECEIPTS = 2
    STREAMS = 4


class NoticeTopic(IntEnum):
    """NOTICE.topic."""

    SERVER = 1
    PRESENCE = 2
    DRAFT = 3
    SCHEDULE_FAILED = 4
    OWN_SETTING = 10
    RELATION = 11
    REPORT = 12
    JOIN_REQUEST = 13


class PresenceState(IntEnum):
    """What is seen of a user."""

    OFFLINE = 0
    ONLINE = 1
    AWAY = 2
    INVISIBLE = 3


class Audience(IntEnum):
    """Who may see a user's presence."""

    EVERYONE = 1
    NOBODY = 2
    CONTACTS = 3


class CommandState(IntEnum):
    """COMMAND_RESULT.state."""

    ACCEPTED = 1
    DONE = 2
    FAILED = 3
    EXPIRED = 4


class CaseState(IntEnum):
    """State of a case of a service desk."""

    OPEN = 1
    ASSIGNED = 2
    CLOSED = 3


class Credential(IntEnum):
    """AUTH.credential."""

    JWT = 1
    API_KEY = 2
    PASSWORD = 3
    GUEST = 4
    DEVICE_KEY = 5


class ConversationKind(IntEnum):
    """Kind of a conversation."""

    DIRECT = 1
    GROUP = 2
    CHANNEL = 3
    WORLD = 4
    DEVICE = 5
    SERVICE = 6


class MemberState(IntEnum):
    """State in a SYNC entry."""

    MEMBER = 1
    LEFT = 2


class Role(IntEnum):
    """Role of a member."""

    MEMBER = 1
    ADMIN = 2
    OWNER = 3
    MODERATOR = 4
    GUEST = 5
    BOT = 6


class Right(IntFlag):
    """What a member may do."""

    WRITE = 1
    NO_SLOW_MODE = 2
    MENTION_ALL = 4
    PIN = 8
    MODERATE = 16
    REMOVE = 32
    INVITE = 64
    EDIT_INFO = 128
    MANAGE = 256
    ROLES = 512
    DELETE = 1024
    SEE_MEMBERS = 2048
    COMMAND = 4096


class Kind(IntEnum):
    """Kind of an event."""

    TEXT = 1
    MARKDOWN = 2
    STICKER = 3
    IMAGE = 4
    VOICE = 5
    VIDEO = 6
    FILE = 7
    LOCATION = 8
    CONTACT = 9
    TYPED = 10
    CUSTOM = 16
    EDIT = 17
    RECALL = 18
    REACTION = 19
    PIN = 20
    COMMAND = 26
    COMMAND_RESULT = 27
    CASE_CHANGED = 28
    CASE_RATED = 29
    CONVERSATION_CREATED = 32
    MEMBERS_ADDED = 33
    MEMBERS_REMOVED = 34
    MEMBER_LEFT = 35
    ROLE_CHANGED = 36
    TITLE_CHANGED = 37
    INFO_CHANGED = 38
    RULES_CHANGED = 39
    MEMBER_MUTED = 40
    MEMBER_BANNED = 41
    BAN_LIFTED = 42
    MEMBER_JOINED = 43
    ARCHIVED = 44
    DELETED = 45
    PUBLIC_NAME_CHANGED = 46
    RETENTION_CHANGED = 50


class EphemeralKind(IntEnum):
    """Kind of an EPHEMERAL."""

    TYPING = 1
    PRESENCE = 2
    SIGNAL = 3
    TELEMETRY = 4
    CUSTOM = 16


class Method(IntEnum):
    """REQUEST.method."""

    USER_RESOLVE = 1
    USER_GET = 2
    DIRECT_OPEN = 10
    CONVERSATION_CREATE = 11
    CONVERSATION_GET = 12
    CONVERSATION_LIST = 13
    CONVERSATION_SET_TITLE = 14
    MEMBER_LIST = 20
    MEMBER_ADD = 21
    MEMBER_REMOVE = 22
    MEMBER_LEAVE = 23
    MEMBER_SET_ROLE = 24
    DEVICE_LIST = 30
    DEVICE_REVOKE = 31
    DEVICE_KEY_CREATE = 32
    PASSWORD_SET = 33
    DEVICE_KICK = 34
    PROFILE_GET = 40
    PROFILE_SET = 41
    ACCOUNT_UPGRADE = 42
    CONTACT_REQUEST = 43
    CONTACT_ANSWER = 44
    CONTACT_REMOVE = 45
    BLOCK = 46
    RELATION_LIST = 47
    CONVERSATION_SET_INFO = 50
    CONVERSATION_SET_RULES = 51
    CONVERSATION_RULES = 52
    CONVERSATION_ARCHIVE = 53
    CONVERSATION_DELETE = 54
    PUBLIC_NAME_SET = 55
    PUBLIC_FIND = 56
    PUBLIC_JOIN = 57
    ROLE_LIST = 60
    MEMBER_MUTE = 61
    MEMBER_BAN = 62
    BAN_LIFT = 63
    RESTRICTION_LIST = 64
    INVITE_CREATE = 66
    INVITE_LIST = 67
    INVITE_REVOKE = 68
    INVITE_LOOK = 69
    INVITE_JOIN = 70
    JOIN_REQUEST_LIST = 71
    JOIN_REQUEST_ANSWER = 72
    OWN_SET = 75
    OWN_HIDE = 76
    OWN_LIST = 77
    REPORT = 80
    REPORT_LIST = 81
    REPORT_RESOLVE = 82
    DESK_SET = 83
    DESK_LIST = 84
    CASE_OPEN = 85
    CASE_LIST = 86
    CASE_ASSIGN = 87
    CASE_CLOSE = 88
    CASE_RATE = 89
    ADMIN_USER_CREATE = 100
    ADMIN_USER_LIST = 101
    ADMIN_USER_REVOKE = 102
    ADMIN_API_KEY_CREATE = 103
    ADMIN_API_KEY_REVOKE = 104
    ADMIN_WHY = 105
    ADMIN_STATS = 106
    MESSAGE_SCHEDULE = 200
    SCHEDULED_LIST = 201
    SCHEDULED_CANCEL = 202
    DRAFT_SET = 203
    DRAFT_LIST = 204
    MENTIONS_UNREAD = 205
    MESSAGE_STATES = 206
    PIN_LIST = 207
    DEVICE_OPEN = 208
    COMMAND_LIST = 209
    KIND_LIST = 210
    SEARCH = 220
    RETENTION_SET = 221
    RETENTION_GET = 222
    EVENT_VERSIONS = 223
    SEARCH_REBUILD = 224
    RECEIPT_GET = 240
    PRESENCE_SET = 241
    PRESENCE_AUDIENCE = 242
    PRESENCE_FOLLOW = 243
    PRESENCE_UNFOLLOW = 244
    TELEMETRY_LAST = 245


class ErrorCode(IntEnum):
    """Codes of ERROR, SEND_NAK and REPLY."""

    BAD_FRAME = 100
    UNSUPPORTED = 101
    TOO_LARGE = 102
    BAD_REQUEST = 103
    CSEQ_REUSE = 104
    NOT_ALLOWED_NOW = 105
    AUTH_FAILED = 200
    TOKEN_EXPIRED = 201
    REVOKED = 202
    AUTH_BUSY = 203
    FORBIDDEN = 300
    NOT_FOUND = 301
    EXPIRED = 302
    LIMIT_REACHED = 303
    MUTED = 304
    BANNED = 305
    CONTACTS_ONLY = 306
    RATE_LIMITED = 400
    BUSY = 401
    UNAVAILABLE = 500
    STORE_FULL = 501
    OUT_OF_ORDER = 502
    INTERNAL = 503
    MOVED = 600


class Close(IntEnum):
    """Why a connection ended: wire code; the name is also metric label and log field."""

    NORMAL = 1
    PEER_CLOSED = 2
    PEER_RESET = 3
    GOING_AWAY = 4
    TAKEN_OVER = 5
    SLOW = 6
    SLOW_FRAME = 7
    HEARTBEAT_TIMEOUT = 8
    BAD_FRAME = 9
    UNSUPPORTED = 10
    FLOOD = 11
    AUTH_FAILED = 12
    AUTH_TIMEOUT = 13
    FIRST_BYTE_TIMEOUT = 14
    PREAUTH_EVICTED = 15
    TOKEN_EXPIRED = 16
    REVOKED = 17
    KICKED = 18
    SHED = 19
    INTERNAL = 20
    TLS_FAILED = 21
    PROXY_FAILED = 22
    REPLACED = 23


# flags by op
FLAG_PING_REPLY_WANTED: Final = 0x02
FLAG_ERROR_RETRYABLE: Final = 0x02
FLAG_SEND_ACK_DUP: Final = 0x02
FLAG_SEND_ACK_SKIPPED: Final = 0x04
FLAG_SEND_NAK_RETRYABLE: Final = 0x02
FLAG_DELIVER_HISTORY: Final = 0x02
FLAG_DELIVER_STUB: Final = 0x04
FLAG_DELIVER_COMPRESSED: Final = 0x08
FLAG_DELIVER_TOMBSTONE: Final = 0x10
FLAG_SYNC_PAGE_MORE: Final = 0x02
FLAG_REPLY_RETRYABLE: Final = 0x02

# extensions by op
EXTENSION_PULL_BYTE_RANGE: Final = 1
EXTENSION_SEND_REPLY_TO: Final = 2
EXTENSION_DELIVER_REPLY_TO: Final = 2
EXTENSION_SEND_FORWARDED: Final = 4
EXTENSION_DELIVER_FORWARDED: Final = 4
EXTENSION_SEND_MENTIONS: Final = 6
EXTENSION_DELIVER_MENTIONS: Final = 6
EXTENSION_SEND_EXPIRES: Final = 8
EXTENSION_DELIVER_EXPIRES: Final = 8
EXTENSION_SEND_STREAM: Final = 10
EXTENSION_DELIVER_STREAM: Final = 10
EXTENSION_EPHEMERAL_TELEMETRY: Final = 4
EXTENSION_PULL_AROUND: Final = 3
EXTENSION_PULL_FROM_TIME: Final = 5
EXTENSION_PULL_RANGES: Final = 7
EXTENSION_PULL_FOLDED: Final = 9
EXTENSION_DELIVER_NOW: Final = 20
EXTENSION_PULL_END_OMITTED: Final = 2

# limits
SEND_BODY_BYTES_MAX: Final = 32768
TEXT_BYTES_MAX: Final = 8192
PREAUTH_FRAME_BYTES_MAX: Final = 4096
PREAUTH_TOTAL_BYTES_MAX: Final = 8192
LITE_FRAME_BYTES_MIN: Final = 128
LITE_FRAME_BYTES_DEFAULT: Final = 512
SENDS_IN_FLIGHT_MAX: Final = 64
LAG_CONVERSATIONS_MAX: Final = 16
PULL_EVENTS_MAX: Final = 200
PULL_BYTES_MAX: Final = 262144
PULLS_OUTSTANDING_MAX: Final = 2
SYNC_ENTRIES_MAX: Final = 200
ACK_EVERY_FRAMES: Final = 32
ACK_EVERY_MS: Final = 200
ACK_INTERVAL_MIN_MS: Final = 20
WINDOW_FRAMES_MAX: Final = 4096
WINDOW_FRAMES_DEFAULT: Final = 1024
WINDOW_BYTES_MAX: Final = 4194304
WINDOW_BYTES_DEFAULT: Final = 1048576
TICKET_BYTES_MAX: Final = 64
CURSOR_BYTES_MAX: Final = 24
LITE_CURSOR_BYTES_MAX: Final = 16
EPHEMERAL_PAYLOAD_BYTES_MAX: Final = 16384
TELEMETRY_KEY_MAX: Final = 32767
TELEMETRY_KEPT_BYTES_MAX: Final = 1024
STREAM_BYTES_MAX: Final = 60000
TITLE_BYTES_MAX: Final = 128
EXTENSION_BYTES_MAX: Final = 1024

RECORDS: Final[dict[str, Layout]] = {
    "receipt": Layout(
        "receipt",
        (
            Field("user", "varint"),
            Field("delivered_seq", "varint"),
            Field("read_seq", "varint"),
        ),
    ),
    "pull_range": Layout(
        "pull_range",
        (
            Field("cid", "varint"),
            Field("from_seq", "varint"),
            Field("to_seq", "varint"),
        ),
    ),
    "omitted": Layout(
        "omitted",
        (
            Field("from_seq", "varint"),
            Field("count", "varint"),
        ),
    ),
    "reaction_count": Layout(
        "reaction_count",
        (
            Field("emoji", "str", limit=32),
            Field("count", "varint"),
            Field("mine", "u8"),
        ),
    ),
    "sync_entry": Layout(
        "sync_entry",
        (
            Field("cid", "varint"),
            Field("kind", "u8"),
            Field("state", "u8"),
            Field("head_seq", "varint"),
            Field("floor_seq", "varint"),
            Field("message_count", "varint"),
            Field("read_seq", "varint"),
            Field("read_count", "varint"),
            Field("last_sender", "varint"),
            Field("last_time", "time40"),
            Field("last_kind", "varint"),
            Field("last_preview", "bytes", limit=96),
        ),
    ),
    "denial": Layout(
        "denial",
        (
            Field("role", "u8"),
            Field("rights", "varint"),
        ),
    ),
    "user": Layout(
        "user",
        (Field("user", "varint"),),
    ),
}

OPS: Final[dict[int, OpRule]] = {
    Op.PING: OpRule(
        layout=Layout(
            "PING",
            (Field("echo", "rest", limit=32),),
        ),
        sides=3,
        states=3,
        lite=True,
        empty=True,
        feature=0,
        flags={"REPLY_WANTED": 0x02},
        flags_mask=0x02,
    ),
    Op.PONG: OpRule(
        layout=Layout(
            "PONG",
            (Field("echo", "rest", limit=32),),
        ),
        sides=3,
        states=3,
        lite=True,
        empty=True,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.GOAWAY: OpRule(
        layout=Layout(
            "GOAWAY",
            (
                Field("reason", "u16"),
                Field("window_ms", "varint"),
                Field("ticket", "bytes", limit=64),
            ),
        ),
        sides=2,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.EPHEMERAL: OpRule(
        layout=Layout(
            "EPHEMERAL",
            (
                Field("cid", "varint"),
                Field("sender", "varint"),
                Field("kind", "varint"),
                Field("payload", "rest"),
            ),
            ext=3,
        ),
        sides=3,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.RECEIPT: OpRule(
        layout=Layout(
            "RECEIPT",
            (
                Field("cid", "varint"),
                Field("entries", "list", record="receipt", limit=500),
            ),
        ),
        sides=2,
        states=2,
        lite=False,
        empty=False,
        feature=Feature.RECEIPTS,
        flags={},
        flags_mask=0x00,
    ),
    Op.STREAM_DELTA: OpRule(
        layout=Layout(
            "STREAM_DELTA",
            (
                Field("cid", "varint"),
                Field("stream", "varint"),
                Field("offset", "varint"),
                Field("payload", "rest"),
            ),
        ),
        sides=3,
        states=2,
        lite=False,
        empty=False,
        feature=Feature.STREAMS,
        flags={},
        flags_mask=0x00,
    ),
    Op.STREAM_SNAPSHOT: OpRule(
        layout=Layout(
            "STREAM_SNAPSHOT",
            (
                Field("cid", "varint"),
                Field("stream", "varint"),
                Field("sender", "varint"),
                Field("kind", "varint"),
                Field("payload", "rest"),
            ),
        ),
        sides=2,
        states=2,
        lite=False,
        empty=False,
        feature=Feature.STREAMS,
        flags={},
        flags_mask=0x00,
    ),
    Op.NOTICE: OpRule(
        layout=Layout(
            "NOTICE",
            (
                Field("topic", "varint"),
                Field("content", "msgpack"),
            ),
        ),
        sides=2,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.HELLO: OpRule(
        layout=Layout(
            "HELLO",
            (
                Field("major", "u8"),
                Field("features", "varint"),
                Field("frame_bytes_max", "u16"),
                Field("window_frames", "varint"),
                Field("window_bytes", "varint"),
                Field("agent", "str", limit=64),
            ),
            ext=6,
        ),
        sides=1,
        states=1,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.CHALLENGE: OpRule(
        layout=Layout(
            "CHALLENGE",
            (Field("nonce", "bytes16"),),
        ),
        sides=2,
        states=1,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.AUTH: OpRule(
        layout=Layout(
            "AUTH",
            (
                Field("credential", "u8"),
                Field("device", "varint"),
                Field("identity", "str", limit=64),
                Field("proof", "bytes", limit=2048),
                Field("label", "str", limit=64),
            ),
            ext=5,
        ),
        sides=1,
        states=1,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.WELCOME: OpRule(
        layout=Layout(
            "WELCOME",
            (
                Field("user", "varint"),
                Field("device", "varint"),
                Field("session_epoch", "varint"),
                Field("cseq_stored", "varint"),
                Field("features", "varint"),
                Field("frame_bytes_max", "u16"),
                Field("window_frames", "varint"),
                Field("window_bytes", "varint"),
                Field("frames_per_s", "varint"),
                Field("sends_per_s", "varint"),
                Field("heartbeat_ms", "varint"),
                Field("time", "time40"),
                Field("log_epoch", "varint"),
                Field("cursor", "bytes", limit=24),
                Field("ticket", "bytes", limit=64),
            ),
            ext=15,
        ),
        sides=2,
        states=3,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.RESUME: OpRule(
        layout=Layout(
            "RESUME",
            (
                Field("ticket", "bytes", limit=64),
                Field("log_epoch", "varint"),
                Field("cursor", "bytes", limit=24),
            ),
            ext=3,
        ),
        sides=1,
        states=1,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.RESUMED: OpRule(
        layout=Layout(
            "RESUMED",
            (
                Field("continuity", "u8"),
                Field("user", "varint"),
                Field("device", "varint"),
                Field("session_epoch", "varint"),
                Field("cseq_stored", "varint"),
                Field("features", "varint"),
                Field("frame_bytes_max", "u16"),
                Field("window_frames", "varint"),
                Field("window_bytes", "varint"),
                Field("frames_per_s", "varint"),
                Field("sends_per_s", "varint"),
                Field("heartbeat_ms", "varint"),
                Field("time", "time40"),
                Field("log_epoch", "varint"),
                Field("cursor", "bytes", limit=24),
                Field("ticket", "bytes", limit=64),
            ),
            ext=16,
        ),
        sides=2,
        states=1,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.REAUTH: OpRule(
        layout=Layout(
            "REAUTH",
            (
                Field("credential", "u8"),
                Field("identity", "str", limit=64),
                Field("proof", "bytes", limit=2048),
            ),
        ),
        sides=1,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.REDIRECT: OpRule(
        layout=Layout(
            "REDIRECT",
            (
                Field("host", "str", limit=255),
                Field("port", "u16"),
                Field("retry_after_ms", "varint"),
            ),
        ),
        sides=2,
        states=3,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.BYE: OpRule(
        layout=Layout(
            "BYE",
            (
                Field("reason", "u16"),
                Field("retry_after_ms", "varint"),
                Field("text", "str", limit=64),
            ),
        ),
        sides=3,
        states=3,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.ERROR: OpRule(
        layout=Layout(
            "ERROR",
            (
                Field("code", "u16"),
                Field("op", "u8"),
                Field("ref", "varint"),
                Field("retry_after_ms", "varint"),
                Field("text", "str", limit=96),
            ),
        ),
        sides=2,
        states=3,
        lite=True,
        empty=False,
        feature=0,
        flags={"RETRYABLE": 0x02},
        flags_mask=0x02,
    ),
    Op.SEND: OpRule(
        layout=Layout(
            "SEND",
            (
                Field("cseq", "varint"),
                Field("cid", "varint"),
                Field("kind", "varint"),
                Field("payload", "rest"),
            ),
            ext=3,
        ),
        sides=1,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.SEND_ACK: OpRule(
        layout=Layout(
            "SEND_ACK",
            (
                Field("cseq", "varint"),
                Field("cid", "varint"),
                Field("seq", "varint"),
                Field("time", "time40"),
            ),
        ),
        sides=2,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={"DUP": 0x02, "SKIPPED": 0x04},
        flags_mask=0x06,
    ),
    Op.SEND_NAK: OpRule(
        layout=Layout(
            "SEND_NAK",
            (
                Field("cseq", "varint"),
                Field("cid", "varint"),
                Field("code", "u16"),
                Field("retry_after_ms", "varint"),
                Field("text", "str", limit=96),
            ),
        ),
        sides=2,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={"RETRYABLE": 0x02},
        flags_mask=0x02,
    ),
    Op.SKIP: OpRule(
        layout=Layout(
            "SKIP",
            (Field("cseq", "varint"),),
        ),
        sides=1,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.DELIVER: OpRule(
        layout=Layout(
            "DELIVER",
            (
                Field("cid", "varint"),
                Field("seq", "varint"),
                Field("sender", "varint"),
                Field("time", "time40"),
                Field("kind", "varint"),
                Field("payload", "rest"),
            ),
            ext=5,
        ),
        sides=2,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={"HISTORY": 0x02, "STUB": 0x04, "COMPRESSED": 0x08, "TOMBSTONE": 0x10},
        flags_mask=0x1F,
    ),
    Op.ACK: OpRule(
        layout=Layout(
            "ACK",
            (Field("count", "varint"),),
        ),
        sides=1,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.READ: OpRule(
        layout=Layout(
            "READ",
            (
                Field("cid", "varint"),
                Field("seq", "varint"),
            ),
        ),
        sides=1,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.LAG: OpRule(
        layout=Layout(
            "LAG",
            (
                Field("cid", "varint"),
                Field("from_seq", "varint"),
                Field("to_seq", "varint"),
            ),
        ),
        sides=2,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.CHUNK: OpRule(
        layout=Layout(
            "CHUNK",
            (
                Field("cid", "varint"),
                Field("seq", "varint"),
                Field("offset", "varint"),
                Field("total", "varint"),
                Field("data", "rest"),
            ),
        ),
        sides=2,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.STREAM_START: OpRule(
        layout=Layout(
            "STREAM_START",
            (
                Field("cid", "varint"),
                Field("stream", "varint"),
                Field("kind", "varint"),
            ),
        ),
        sides=3,
        states=2,
        lite=False,
        empty=False,
        feature=Feature.STREAMS,
        flags={},
        flags_mask=0x00,
    ),
    Op.STREAM_END: OpRule(
        layout=Layout(
            "STREAM_END",
            (
                Field("cid", "varint"),
                Field("stream", "varint"),
                Field("cseq", "varint"),
            ),
        ),
        sides=3,
        states=2,
        lite=False,
        empty=False,
        feature=Feature.STREAMS,
        flags={},
        flags_mask=0x00,
    ),
    Op.SYNC: OpRule(
        layout=Layout(
            "SYNC",
            (
                Field("cursor", "bytes", limit=24),
                Field("limit", "varint"),
            ),
        ),
        sides=1,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.SYNC_PAGE: OpRule(
        layout=Layout(
            "SYNC_PAGE",
            (
                Field("cursor", "bytes", limit=24),
                Field("entries", "list", record="sync_entry", limit=200),
            ),
        ),
        sides=2,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={"MORE": 0x02},
        flags_mask=0x02,
    ),
    Op.PULL: OpRule(
        layout=Layout(
            "PULL",
            (
                Field("cid", "varint"),
                Field("from_seq", "varint"),
                Field("to_seq", "varint"),
                Field("limit", "varint"),
            ),
            ext=4,
        ),
        sides=1,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.PULL_END: OpRule(
        layout=Layout(
            "PULL_END",
            (
                Field("cid", "varint"),
                Field("next_seq", "varint"),
                Field("head_seq", "varint"),
                Field("floor_seq", "varint"),
            ),
            ext=4,
        ),
        sides=2,
        states=2,
        lite=True,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x01,
    ),
    Op.SUBSCRIBE: OpRule(
        layout=Layout(
            "SUBSCRIBE",
            (
                Field("cid", "varint"),
                Field("topics", "varint"),
            ),
        ),
        sides=3,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.UNSUBSCRIBE: OpRule(
        layout=Layout(
            "UNSUBSCRIBE",
            (Field("cid", "varint"),),
        ),
        sides=3,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.REQUEST: OpRule(
        layout=Layout(
            "REQUEST",
            (
                Field("id", "varint"),
                Field("method", "varint"),
                Field("params", "msgpack"),
            ),
        ),
        sides=1,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={},
        flags_mask=0x00,
    ),
    Op.REPLY: OpRule(
        layout=Layout(
            "REPLY",
            (
                Field("id", "varint"),
                Field("code", "u16"),
                Field("retry_after_ms", "varint"),
                Field("result", "msgpack"),
            ),
        ),
        sides=2,
        states=2,
        lite=False,
        empty=False,
        feature=0,
        flags={"RETRYABLE": 0x02},
        flags_mask=0x02,
    ),
}

KINDS: Final[dict[int, KindRule]] = {
    Kind.TEXT: KindRule(
        message=True,
        client=True,
        judged=False,
        payload_bytes_max=8192,
        layout=None,
    ),
    Kind.MARKDOWN: KindRule(
        message=True,
        client=True,
        judged=False,
        payload_bytes_max=8192,
        layout=None,
    ),
    Kind.STICKER: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=256,
        layout=Layout(
            "STICKER",
            (
                Field("pack", "str", limit=64),
                Field("name", "str", limit=64),
                Field("emoji", "str", limit=32),
            ),
        ),
    ),
    Kind.IMAGE: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=8192,
        layout=Layout(
            "IMAGE",
            (
                Field("media", "str", limit=128),
                Field("mime", "str", limit=64),
                Field("size_bytes", "varint"),
                Field("width", "varint"),
                Field("height", "varint"),
                Field("preview", "bytes", limit=4096),
                Field("caption", "str", limit=2048),
            ),
        ),
    ),
    Kind.VOICE: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=1024,
        layout=Layout(
            "VOICE",
            (
                Field("media", "str", limit=128),
                Field("mime", "str", limit=64),
                Field("size_bytes", "varint"),
                Field("duration_ms", "varint"),
                Field("waveform", "bytes", limit=256),
            ),
        ),
    ),
    Kind.VIDEO: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=8192,
        layout=Layout(
            "VIDEO",
            (
                Field("media", "str", limit=128),
                Field("mime", "str", limit=64),
                Field("size_bytes", "varint"),
                Field("width", "varint"),
                Field("height", "varint"),
                Field("duration_ms", "varint"),
                Field("preview", "bytes", limit=4096),
                Field("caption", "str", limit=2048),
            ),
        ),
    ),
    Kind.FILE: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=4096,
        layout=Layout(
            "FILE",
            (
                Field("media", "str", limit=128),
                Field("mime", "str", limit=64),
                Field("size_bytes", "varint"),
                Field("name", "str", limit=255),
                Field("caption", "str", limit=2048),
            ),
        ),
    ),
    Kind.LOCATION: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=1024,
        layout=Layout(
            "LOCATION",
            (
                Field("latitude", "u32"),
                Field("longitude", "u32"),
                Field("accuracy_m", "varint"),
                Field("name", "str", limit=128),
                Field("address", "str", limit=512),
            ),
        ),
    ),
    Kind.CONTACT: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=1024,
        layout=Layout(
            "CONTACT",
            (
                Field("user", "varint"),
                Field("name", "str", limit=128),
                Field("phone", "str", limit=32),
                Field("email", "str", limit=254),
            ),
        ),
    ),
    Kind.TYPED: KindRule(
        message=True,
        client=True,
        judged=True,
        payload_bytes_max=32768,
        layout=Layout(
            "TYPED",
            (
                Field("name", "str", limit=64),
                Field("content", "rest"),
            ),
        ),
    ),
    Kind.CUSTOM: KindRule(
        message=True,
        client=True,
        judged=False,
        payload_bytes_max=32768,
        layout=None,
    ),
    Kind.EDIT: KindRule(
        message=False,
        client=True,
        judged=True,
        payload_bytes_max=16384,
        layout=Layout(
            "EDIT",
            (
                Field("target", "varint"),
                Field("content", "rest"),
            ),
        ),
    ),
    Kind.RECALL: KindRule(
        message=False,
        client=True,
        judged=True,
        payload_bytes_max=9,
        layout=Layout(
            "RECALL",
            (Field("target", "varint"),),
        ),
    ),
    Kind.REACTION: KindRule(
        message=False,
        client=True,
        judged=True,
        payload_bytes_max=64,
        layout=Layout(
            "REACTION",
            (
                Field("target", "varint"),
                Field("added", "u8"),
                Field("emoji", "str", limit=32),
            ),
        ),
    ),
    Kind.PIN: KindRule(
        message=False,
        client=True,
        judged=True,
        payload_bytes_max=16,
        layout=Layout(
            "PIN",
            (
                Field("target", "varint"),
                Field("pinned", "u8"),
            ),
        ),
    ),
    Kind.COMMAND: KindRule(
        message=False,
        client=True,
        judged=True,
        payload_bytes_max=8192,
        layout=Layout(
            "COMMAND",
            (
                Field("name", "str", limit=64),
                Field("device", "varint"),
                Field("expires_s", "varint"),
                Field("arguments", "rest"),
            ),
        ),
    ),
    Kind.COMMAND_RESULT: KindRule(
        message=False,
        client=True,
        judged=True,
        payload_bytes_max=8192,
        layout=Layout(
            "COMMAND_RESULT",
            (
                Field("command", "varint"),
                Field("state", "u8"),
                Field("content", "rest"),
            ),
        ),
    ),
    Kind.CASE_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "CASE_CHANGED",
            (
                Field("case", "varint"),
                Field("state", "u8"),
                Field("agent", "varint"),
                Field("customer", "varint"),
            ),
        ),
    ),
    Kind.CASE_RATED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "CASE_RATED",
            (
                Field("case", "varint"),
                Field("stars", "u8"),
            ),
        ),
    ),
    Kind.CONVERSATION_CREATED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "CONVERSATION_CREATED",
            (
                Field("kind", "u8"),
                Field("title", "str", limit=128),
            ),
        ),
    ),
    Kind.MEMBERS_ADDED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "MEMBERS_ADDED",
            (
                Field("role", "u8"),
                Field("users", "list", record="user", limit=500),
            ),
        ),
    ),
    Kind.MEMBERS_REMOVED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "MEMBERS_REMOVED",
            (Field("users", "list", record="user", limit=500),),
        ),
    ),
    Kind.MEMBER_LEFT: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "MEMBER_LEFT",
            (Field("user", "varint"),),
        ),
    ),
    Kind.ROLE_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "ROLE_CHANGED",
            (
                Field("user", "varint"),
                Field("role", "u8"),
            ),
        ),
    ),
    Kind.TITLE_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "TITLE_CHANGED",
            (Field("title", "str", limit=128),),
        ),
    ),
    Kind.INFO_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "INFO_CHANGED",
            (
                Field("topic", "str", limit=512),
                Field("avatar", "str", limit=256),
            ),
        ),
    ),
    Kind.RULES_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "RULES_CHANGED",
            (
                Field("slow_mode_s", "varint"),
                Field("history", "varint"),
                Field("denials", "list", record="denial", limit=16),
            ),
        ),
    ),
    Kind.MEMBER_MUTED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "MEMBER_MUTED",
            (
                Field("user", "varint"),
                Field("until_s", "varint"),
            ),
        ),
    ),
    Kind.MEMBER_BANNED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "MEMBER_BANNED",
            (
                Field("user", "varint"),
                Field("until_s", "varint"),
            ),
        ),
    ),
    Kind.BAN_LIFTED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "BAN_LIFTED",
            (Field("user", "varint"),),
        ),
    ),
    Kind.MEMBER_JOINED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "MEMBER_JOINED",
            (
                Field("user", "varint"),
                Field("by", "varint"),
            ),
        ),
    ),
    Kind.ARCHIVED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "ARCHIVED",
            (Field("archived", "u8"),),
        ),
    ),
    Kind.DELETED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "DELETED",
            (Field("title", "str", limit=128),),
        ),
    ),
    Kind.PUBLIC_NAME_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "PUBLIC_NAME_CHANGED",
            (Field("name", "str", limit=64),),
        ),
    ),
    Kind.RETENTION_CHANGED: KindRule(
        message=False,
        client=False,
        judged=False,
        payload_bytes_max=0,
        layout=Layout(
            "RETENTION_CHANGED",
            (
                Field("days", "varint"),
                Field("events", "varint"),
            ),
        ),
    ),
}

# Extensions of SEND that the hub's Python side looks at before the event is stored.
SEND_JUDGED_TAGS: Final[frozenset[int]] = frozenset({4, 6, 8, 10})

# (op, tag): layout of the bytes
EXTENSIONS: Final[dict[tuple[int, int], Layout]] = {
    (Op.PULL, 1): Layout(
        "BYTE_RANGE",
        (
            Field("offset", "varint"),
            Field("length", "varint"),
        ),
    ),
    (Op.SEND, 2): Layout(
        "REPLY_TO",
        (Field("seq", "varint"),),
    ),
    (Op.DELIVER, 2): Layout(
        "REPLY_TO",
        (Field("seq", "varint"),),
    ),
    (Op.SEND, 4): Layout(
        "FORWARDED",
        (
            Field("cid", "varint"),
            Field("seq", "varint"),
            Field("sender", "varint"),
            Field("time", "time40"),
        ),
    ),
    (Op.DELIVER, 4): Layout(
        "FORWARDED",
        (
            Field("cid", "varint"),
            Field("seq", "varint"),
            Field("sender", "varint"),
            Field("time", "time40"),
        ),
    ),
    (Op.SEND, 6): Layout(
        "MENTIONS",
        (
            Field("flags", "varint"),
            Field("users", "list", record="user", limit=50),
        ),
    ),
    (Op.DELIVER, 6): Layout(
        "MENTIONS",
        (
            Field("flags", "varint"),
            Field("users", "list", record="user", limit=50),
        ),
    ),
    (Op.SEND, 8): Layout(
        "EXPIRES",
        (Field("seconds", "varint"),),
    ),
    (Op.DELIVER, 8): Layout(
        "EXPIRES",
        (Field("seconds", "varint"),),
    ),
    (Op.SEND, 10): Layout(
        "STREAM",
        (
            Field("stream", "varint"),
            Field("flags", "varint"),
            Field("bytes", "varint"),
        ),
    ),
    (Op.DELIVER, 10): Layout(
        "STREAM",
        (
            Field("stream", "varint"),
            Field("flags", "varint"),
            Field("bytes", "varint"),
        ),
    ),
    (Op.EPHEMERAL, 4): Layout(
        "TELEMETRY",
        (
            Field("key", "varint"),
            Field("flags", "varint"),
        ),
    ),
    (Op.PULL, 3): Layout(
        "AROUND",
        (Field("before", "varint"),),
    ),
    (Op.PULL, 5): Layout(
        "FROM_TIME",
        (Field("time", "time40"),),
    ),
    (Op.PULL, 7): Layout(
        "RANGES",
        (Field("ranges", "list", record="pull_range", limit=200),),
    ),
    (Op.PULL, 9): Layout(
        "FOLDED",
        (Field("flags", "varint"),),
    ),
    (Op.DELIVER, 20): Layout(
        "NOW",
        (
            Field("flags", "varint"),
            Field("edit_seq", "varint"),
            Field("edited", "time40"),
            Field("others", "varint"),
            Field("reactions", "list", record="reaction_count", limit=16),
        ),
    ),
    (Op.PULL_END, 2): Layout(
        "OMITTED",
        (Field("ranges", "list", record="omitted", limit=64),),
    ),
}

# What a client does after a close: ticket (resume), fresh (log in with a credential) or stop.
CLOSE_THEN: Final[dict[int, str]] = {
    Close.NORMAL: "stop",
    Close.PEER_CLOSED: "ticket",
    Close.PEER_RESET: "ticket",
    Close.GOING_AWAY: "ticket",
    Close.TAKEN_OVER: "stop",
    Close.SLOW: "ticket",
    Close.SLOW_FRAME: "ticket",
    Close.HEARTBEAT_TIMEOUT: "ticket",
    Close.BAD_FRAME: "fresh",
    Close.UNSUPPORTED: "stop",
    Close.FLOOD: "fresh",
    Close.AUTH_FAILED: "stop",
    Close.AUTH_TIMEOUT: "fresh",
    Close.FIRST_BYTE_TIMEOUT: "fresh",
    Close.PREAUTH_EVICTED: "fresh",
    Close.TOKEN_EXPIRED: "fresh",
    Close.REVOKED: "stop",
    Close.KICKED: "fresh",
    Close.SHED: "fresh",
    Close.INTERNAL: "ticket",
    Close.TLS_FAILED: "fresh",
    Close.PROXY_FAILED: "stop",
    Close.REPLACED: "stop",
}

ERROR_CLASS: Final[dict[int, str]] = {
    ErrorCode.BAD_FRAME: "protocol",
    ErrorCode.UNSUPPORTED: "protocol",
    ErrorCode.TOO_LARGE: "protocol",
    ErrorCode.BAD_REQUEST: "protocol",
    ErrorCode.CSEQ_REUSE: "protocol",
    ErrorCode.NOT_ALLOWED_NOW: "protocol",
    ErrorCode.AUTH_FAILED: "auth",
    ErrorCode.TOKEN_EXPIRED: "auth",
    ErrorCode.REVOKED: "auth",
    ErrorCode.AUTH_BUSY: "throttled",
    ErrorCode.FORBIDDEN: "permission",
    ErrorCode.NOT_FOUND: "permission",
    ErrorCode.EXPIRED: "permission",
    ErrorCode.LIMIT_REACHED: "permission",
    ErrorCode.MUTED: "permission",
    ErrorCode.BANNED: "permission",
    ErrorCode.CONTACTS_ONLY: "permission",
    ErrorCode.RATE_LIMITED: "throttled",
    ErrorCode.BUSY: "throttled",
    ErrorCode.UNAVAILABLE: "temporary",
    ErrorCode.STORE_FULL: "temporary",
    ErrorCode.OUT_OF_ORDER: "temporary",
    ErrorCode.INTERNAL: "temporary",
    ErrorCode.MOVED: "moved",
}

RETRYABLE: Final[frozenset[int]] = frozenset(
    {
        ErrorCode.AUTH_BUSY,
        ErrorCode.RATE_LIMITED,
        ErrorCode.BUSY,
        ErrorCode.UNAVAILABLE,
        ErrorCode.STORE_FULL,
        ErrorCode.OUT_OF_ORDER,
        ErrorCode.INTERNAL,
    }
)
