"""Every setting of the operator, with unit, range and reason. security.md's numbers are the defaults.

A name ends with its unit (_ms, _s, _bytes, _per_s) or with _max when it counts. Ranges are part of the type: a value
outside is refused with the name of the key. 0 lifts a rate (…_per_s), for benchmarks that say so. The example file and
the help are made from these fields, so a setting cannot exist without its explanation.
"""

import re
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer

from chatd.config.address import Address

Network = IPv4Network | IPv6Network
KIB, MIB = 1 << 10, 1 << 20


def _checked_store(value: str) -> str:
    if value != "sqlite" and not value.startswith(("postgresql://", "postgres://")):
        raise ValueError('must be "sqlite" or begin with "postgresql://"')
    if "password=" in value:
        raise ValueError("has its password as user:password@, not behind the question mark")
    return value


def _without_password(value: str) -> str:
    return re.sub("//.*@", "//***@", value)


StoreSetting = Annotated[str, AfterValidator(_checked_store), PlainSerializer(_without_password)]


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class Listen(Section):
    """Where to listen. Port 0 takes any free port (tests)."""

    tcp: list[Address] = [Address("127.0.0.1", 7350)]
    """Plain TCP, "host:port". For loopback, or behind a balancer that ends TLS."""
    tls: list[Address] = []
    """TLS, "host:port". Needs [tls] certificate and key."""
    backlog: Annotated[int, Field(ge=16, le=65_535)] = 4096
    """Connections waiting to be accepted, per shard and address. The kernel caps it at net.core.somaxconn."""
    proxy_networks: Annotated[list[Network], Field(max_length=64)] = []
    """Balancers trusted to send a PROXY protocol v2 header first. From these networks it is required, from others it
    is not read."""


class Tls(Section):
    """Certificates are read again on SIGHUP, without a restart."""

    certificate: Path | None = None
    """PEM file: the server's certificate and its chain."""
    key: Path | None = None
    """PEM file: its private key. Readable by the server's user only."""
    handshakes_max: Annotated[int, Field(ge=1, le=1024)] = 2
    """Handshakes at a time in one shard: about 1.4 ms of processor time each."""
    handshake_queue_max: Annotated[int, Field(ge=0, le=65_536)] = 512
    """Accepted connections that wait for a handshake; more are refused (SHED)."""
    handshake_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 5000
    """From accept to the end of the handshake."""


class Process(Section):
    """Worker processes and their supervision."""

    shards: Annotated[int, Field(ge=0, le=64)] = 0
    """Shard processes. 0: one per processor core."""
    inline: bool = False
    """All roles in one process: small boards, tests, debugging."""
    restart_delay_max_ms: Annotated[int, Field(ge=100, le=60_000)] = 1000
    """A worker that dies again and again is restarted after at most this long. The first restart is immediate."""
    silence_timeout_ms: Annotated[int, Field(ge=1000, le=60_000)] = 5000
    """A worker that says nothing for so long is taken for hung: stack dump, SIGKILL, restart."""
    memory_bytes_max: Annotated[int, Field(ge=0, le=1 << 44)] = 0
    """Memory of all processes together. At 85 % logins are refused (SHED), at 95 % nobody is accepted. 0: the limit of
    the cgroup (MemoryMax of systemd), without its page cache; none where there is no such limit."""
    drain_window_ms: Annotated[int, Field(ge=0, le=600_000)] = 2000
    """At SIGTERM clients are told to reconnect at a random moment within this window."""
    drain_timeout_ms: Annotated[int, Field(ge=500, le=900_000)] = 10_000
    """What has not ended after this is killed. More than twice drain_window_ms: the last client told has a window."""


class Accept(Section):
    """New connections, before login, per shard."""

    connections_max: Annotated[int, Field(ge=16, le=1_000_000)] = 200_000
    """Connections of one shard; lowered to the limit of open files."""
    accepts_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 10_000
    """New connections per second of one shard."""
    address_connects_per_s: Annotated[int, Field(ge=0, le=100_000)] = 50
    """New connections per second from one IPv4 address or IPv6 /64."""
    address_connects_burst: Annotated[int, Field(ge=1, le=100_000)] = 200
    """How many of them may come at once."""
    address_connections_max: Annotated[int, Field(ge=1, le=1_000_000)] = 1000
    """Connections of one address at a time."""
    address_exempt: Annotated[list[Network], Field(max_length=64)] = [
        IPv4Network("127.0.0.0/8"),
        IPv6Network("::1/128"),
    ]
    """Networks without the three limits above and without the login rate per address: NAT gateways, load generators."""
    preauth_connections_max: Annotated[int, Field(ge=16, le=1_000_000)] = 2000
    """Connections that have not logged in; the oldest is evicted (PREAUTH_EVICTED)."""
    preauth_share_percent: Annotated[int, Field(ge=1, le=100)] = 10
    """Or this share of connections_max, when it is more."""
    first_byte_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 3000
    """From accept to the first byte."""
    auth_timeout_ms: Annotated[int, Field(ge=100, le=60_000)] = 5000
    """From accept to a complete AUTH or RESUME."""
    auth_failures_max: Annotated[int, Field(ge=1, le=100)] = 3
    """Failed logins on one connection, the last of which closes it."""
    flap_connects_per_min: Annotated[int, Field(ge=1, le=10_000)] = 15
    """Logins per minute of one device; more are refused for flap_ban_s without looking at the credential."""
    flap_ban_s: Annotated[int, Field(ge=1, le=86_400)] = 300
    """How long a flapping or flooding device is refused."""


class Session(Section):
    """Rates and sizes of a connection that has logged in."""

    frames_per_s: Annotated[int, Field(ge=0, le=10_000_000)] = 20
    """Frames a client may send per second. Above it, its socket is read more slowly (THROTTLE)."""
    frames_burst: Annotated[int, Field(ge=1, le=10_000_000)] = 200
    """How many frames at once."""
    bytes_per_s: Annotated[int, Field(ge=0, le=10_000_000_000)] = 64 * KIB
    """Bytes a client may send per second."""
    bytes_burst: Annotated[int, Field(ge=65_539, le=10_000_000_000)] = 512 * KIB
    """How many bytes at once: at least one largest frame."""
    flood_factor: Annotated[int, Field(ge=2, le=1_000_000)] = 10
    """More than so many times the rate for flood_s: closed with FLOOD."""
    flood_s: Annotated[int, Field(ge=1, le=600)] = 10
    """See flood_factor."""
    sends_per_s: Annotated[int, Field(ge=0, le=10_000_000)] = 10
    """SENDs per second of one user, all devices together. Above it: NAK RATE_LIMITED. Where hundreds of members are
    online a SEND counts for more: 1, and 1 for every hundred of them."""
    sends_burst: Annotated[int, Field(ge=1, le=10_000_000)] = 50
    """How many SENDs at once."""
    amplification_max: Annotated[int, Field(ge=0, le=1_000_000_000)] = 50_000
    """Bytes to devices for each byte that a user sends, over amplification_s. Above it the user is in slow mode: SENDs
    that amplify get through once in that time, others as ever. 0: no limit."""
    amplification_s: Annotated[int, Field(ge=1, le=600)] = 10
    """See amplification_max."""
    sends_in_flight_max: Annotated[int, Field(ge=1, le=4096)] = 64
    """Unanswered SENDs of one connection; then its socket is not read."""
    ephemeral_interval_ms: Annotated[int, Field(ge=0, le=60_000)] = 3000
    """Shortest time between two typing or presence frames to one conversation; others are dropped."""
    heartbeat_ms: Annotated[int, Field(ge=25_000, le=300_000)] = 60_000
    """A client is told to send something at least this often (± 20 %); closed after 1.5 times of silence."""
    window_frames: Annotated[int, Field(ge=1, le=4096)] = 1024
    """Largest window of unacknowledged DELIVERs in frames."""
    window_bytes: Annotated[int, Field(ge=4096, le=4 * MIB)] = MIB
    """Largest window in bytes."""
    frame_timeout_ms: Annotated[int, Field(ge=100, le=600_000)] = 10_000
    """A started frame must be complete in this time plus its length / frame_bytes_per_s (SLOW_FRAME)."""
    frame_bytes_per_s: Annotated[int, Field(ge=64, le=1_000_000)] = 4096
    """See frame_timeout_ms."""
    read_budget_bytes: Annotated[int, Field(ge=4096, le=4 * MIB)] = 64 * KIB
    """Read from one socket before the next one has its turn."""


class Queue(Section):
    """Output queues: the ladder for slow readers."""

    soft_bytes: Annotated[int, Field(ge=4096, le=64 * MIB)] = 64 * KIB
    """Above it DELIVERs are no longer queued for this connection; LAG follows when it has drained."""
    low_bytes: Annotated[int, Field(ge=1024, le=64 * MIB)] = 16 * KIB
    """Drained to this: LAG is sent and deliveries go on."""
    hard_bytes: Annotated[int, Field(ge=8192, le=256 * MIB)] = 256 * KIB
    """Above it the connection is closed (SLOW)."""
    stall_timeout_ms: Annotated[int, Field(ge=1000, le=600_000)] = 30_000
    """No byte could be written for so long: closed (SLOW). Also TCP_USER_TIMEOUT."""
    shard_bytes_max: Annotated[int, Field(ge=MIB, le=1 << 36)] = 256 * MIB
    """All output queues of a shard. 80 %: ephemeral frames are dropped, 90 %: the largest lag, 100 %: they close."""
    socket_send_bytes: Annotated[int, Field(ge=4096, le=16 * MIB)] = 32 * KIB
    """SO_SNDBUF of a connection: kernel memory that a stuck reader can hold."""
    socket_unsent_bytes: Annotated[int, Field(ge=1024, le=16 * MIB)] = 16 * KIB
    """TCP_NOTSENT_LOWAT: what waits in the kernel unsent cannot be dropped or conflated any more."""


class OwnRole(Section):
    """A role for members of conversations, beside those that every server has."""

    code: Annotated[int, Field(ge=8, le=15)]
    """Its number on the wire and on the disk; it never changes."""
    name: Annotated[str, Field(pattern="^[a-z][a-z0-9_-]{0,31}$")]
    """What people call it."""
    inherits: str = "member"
    """The role it begins with: its rights, and its rank over other members."""
    grants: list[str] = []
    """Rights it has beyond that."""
    denies: list[str] = []
    """Rights it does not have after all."""


class OwnKind(Section):
    """A kind of TYPED messages."""

    name: Annotated[str, Field(pattern="^[A-Za-z0-9_.:/-]{1,64}$")]
    """As messages of this kind bear it."""
    content: dict[str, Any]
    """What their content looks like: a part of JSON Schema, see docs/internals/conversations.md."""


class Hub(Section):
    """What all users share: order, store, directory."""

    shard_sends_max: Annotated[int, Field(ge=64, le=1_000_000)] = 10_000
    """Uncommitted SENDs of one shard; more get NAK BUSY."""
    shard_sends_bytes_max: Annotated[int, Field(ge=MIB, le=1 << 32)] = 32 * MIB
    """The same in bytes."""
    send_wait_max_ms: Annotated[int, Field(ge=10, le=60_000)] = 500
    """A SEND that waited longer for its turn gets NAK BUSY."""
    hub_wait_max_ms: Annotated[int, Field(ge=100, le=60_000)] = 2000
    """Without a hub for so long: NAK UNAVAILABLE."""
    takeover_wait_ms: Annotated[int, Field(ge=10, le=10_000)] = 1000
    """How long a login waits for the device's older connection to confirm its end."""
    tail_events_max: Annotated[int, Field(ge=1000, le=100_000_000)] = 2_000_000
    """Events in memory that are not folded yet; at the bound: NAK BUSY."""
    tail_bytes_max: Annotated[int, Field(ge=MIB, le=1 << 36)] = 256 * MIB
    """The same in bytes."""
    hub_ring_bytes: Annotated[int, Field(ge=64 * KIB, le=1 << 30)] = 4 * MIB
    """Each direction of a link between hub and shard; a power of two."""
    peer_ring_bytes: Annotated[int, Field(ge=4 * KIB, le=1 << 30)] = 64 * KIB
    """Each direction of a link between two shards; a power of two."""
    group_members_max: Annotated[int, Field(ge=2, le=100_000)] = 500
    """Members of a group. With more than 500 a conversation has no receipts of single members."""
    channel_members_max: Annotated[int, Field(ge=2, le=1_000_000)] = 100_000
    """Members of a channel, and of the world room."""
    roles: Annotated[list[OwnRole], Field(max_length=8)] = []
    """Roles beside guest, bot, member, moderator, admin and owner. SIGHUP reads them anew."""
    searches_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    """SEARCH of one user. Above it: BUSY. 0: no limit."""
    searches_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """How many of them at once."""
    resolves_per_min: Annotated[int, Field(ge=0, le=1_000_000)] = 5
    """USER_RESOLVE of one user: names cannot be tried out in bulk. Above it: BUSY. 0: no limit."""
    resolves_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """How many of them at once."""
    user_devices_max: Annotated[int, Field(ge=1, le=100_000)] = 100
    """Devices that one user may have registered."""
    user_devices_online_max: Annotated[int, Field(ge=1, le=1000)] = 10
    """Devices of one user online at a time."""
    user_devices_online_policy: Literal["refuse", "replace"] = "refuse"
    """When one more comes: it is refused with LIMIT_REACHED, or the one that came first is closed with REPLACED."""
    user_conversations_max: Annotated[int, Field(ge=1, le=1_000_000)] = 5000
    """Conversations of one user."""
    user_groups_owned_max: Annotated[int, Field(ge=1, le=1_000_000)] = 100
    """Groups that one user owns."""
    edit_window_s: Annotated[int, Field(ge=0, le=10**9)] = 86_400
    """How long an author may edit a message."""
    recall_window_s: Annotated[int, Field(ge=0, le=10**9)] = 120
    """How long an author may recall a message; moderators always may."""
    expiry_max_s: Annotated[int, Field(ge=1, le=10**9)] = 366 * 86_400
    """The longest time after which a message may expire by itself."""
    pins_max: Annotated[int, Field(ge=0, le=1000)] = 50
    """Pinned messages of one conversation."""
    scheduled_max: Annotated[int, Field(ge=0, le=100)] = 100
    """Scheduled messages of one user."""
    drafts_max: Annotated[int, Field(ge=0, le=10_000)] = 1000
    """Conversations in which one user has a draft."""
    commands_max: Annotated[int, Field(ge=1, le=1000)] = 100
    """Commands of one device that wait for their final result; more get LIMIT_REACHED."""
    kinds: Annotated[list[OwnKind], Field(max_length=64)] = []
    """Kinds of messages beside those of plugins. Read at start only."""
    stream_idle_s: Annotated[int, Field(ge=1, le=600)] = 30
    """A live stream of which nothing comes for so long ends as truncated."""
    retention_days: Annotated[int, Field(ge=0, le=36_500)] = 0
    """How long conversations keep events; older ones are deleted, by the wall clock. A conversation may keep less.
    0: for ever."""
    retention_events: Annotated[int, Field(ge=0, le=10**9)] = 0
    """How many of its newest events a conversation keeps, and up to an eighth more. It may keep less. 0: all."""
    calls_in_progress_max: Annotated[int, Field(ge=1, le=100_000)] = 1024
    """SYNC, PULL and REQUEST being worked on; more get BUSY."""
    pulls_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 10
    """SYNC and PULL of one device."""
    pulls_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """How many of them at once."""
    requests_per_s: Annotated[int, Field(ge=0, le=1_000_000)] = 20
    """SUBSCRIBE and REQUEST of one device."""
    requests_burst: Annotated[int, Field(ge=1, le=1_000_000)] = 40
    """How many of them at once."""
    ledger_entries_max: Annotated[int, Field(ge=0, le=100_000_000)] = 65_536
    """Hops that `chatd why` can still tell about, per process."""


class Issuer(Section):
    """Who may issue JSON Web Tokens for this server."""

    issuer: Annotated[str, Field(min_length=1, max_length=200)]
    """The claim iss."""
    audience: Annotated[str, Field(min_length=1, max_length=200)] = "chatd"
    """The claim aud."""
    algorithm: Literal["EdDSA", "HS256"] = "EdDSA"
    """The one algorithm this issuer uses."""
    keys: dict[str, Path]
    """kid → file: PEM public key (EdDSA) or at least 32 random bytes (HS256)."""
    types: list[str] = ["JWT", "at+jwt"]
    """Accepted header typ."""
    create_users: bool = False
    """A valid token for an unknown user (claim sub) creates that user."""


class Auth(Section):
    """Logins."""

    issuers: Annotated[list[Issuer], Field(max_length=16)] = []
    """External issuers; this server's own tokens (`chatd token`) need no entry."""
    token_lifetime_max_s: Annotated[int, Field(ge=60, le=31_536_000)] = 900
    """A token with a longer life (exp - nbf) is refused."""
    clock_skew_s: Annotated[int, Field(ge=0, le=300)] = 60
    """Tolerance for exp and nbf."""
    reauth_grace_s: Annotated[int, Field(ge=1, le=3600)] = 60
    """After a token expired on a live connection: time for REAUTH."""
    ticket_lifetime_s: Annotated[int, Field(ge=10, le=86_400)] = 600
    """How long a resume ticket is good."""
    ticket_key_lifetime_s: Annotated[int, Field(ge=60, le=8_640_000)] = 43_200
    """Ticket keys are replaced this often; three are kept."""
    user_logins_per_min: Annotated[int, Field(ge=1, le=1_000_000)] = 5
    """AUTH per minute and user."""
    address_logins_per_min: Annotated[int, Field(ge=1, le=1_000_000)] = 20
    """AUTH per minute and address (IPv6: /64)."""
    password_queue_max: Annotated[int, Field(ge=1, le=10_000)] = 64
    """Password checks (19 ms each, one at a time in a shard) that may wait; more get AUTH_BUSY."""
    guests: bool = False
    """Login without registration."""


class Backup(Section):
    """Backups of a store in files, made by the server itself (docs/backup.md)."""

    directory: Path | None = None
    """Where they go: best another disk, and a directory for this server alone. Without one none are made by themselves,
    and folded journal segments are not kept for incremental ones."""
    full_every_s: Annotated[int, Field(ge=0, le=31_536_000)] = 86_400
    """A full backup this often. 0: never by itself."""
    incremental_every_s: Annotated[int, Field(ge=0, le=31_536_000)] = 900
    """An incremental one this often, when there is something new: what can be lost with the disk of the server.
    0: never."""
    keep_days: Annotated[int, Field(ge=0, le=36_500)] = 14
    """A full backup and its incremental ones are deleted together when the last of them is older, and ..."""
    keep_full: Annotated[int, Field(ge=1, le=10_000)] = 3
    """... when so many newer full ones are whole."""
    journal_bytes_max: Annotated[int, Field(ge=0, le=1 << 44)] = 4096 * MIB
    """Folded journal segments are kept in `data` until an incremental backup has them, up to so many bytes; beyond, the
    oldest goes and the next backup is a full one. They give way when the disk gets short. 0: none are kept."""
    copy_bytes_per_s: Annotated[int, Field(ge=0, le=1 << 40)] = 64 * MIB
    """How quickly the main database is copied. 0: as quickly as it goes. Meanwhile its write-ahead log grows by what is
    folded."""


class Log(Section):
    """Logs go to standard error."""

    format: Literal["auto", "human", "json"] = "auto"
    """auto: human on a terminal, JSON otherwise."""
    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severity that is written. SIGHUP reads it anew."""
