"""Everything a shard knows: one State, its connections, and what both are made of."""

import os
import time
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, Final

from chatd.engine.reference.records import Ring
from chatd.engine.settings import EngineSettings
from chatd.wire.schema import TIME_EPOCH_MS

if TYPE_CHECKING:
    from chatd.engine.interface import LedgerEntry, Upcall

QUEUE_REFERENCE_BYTES: Final = 8
"""What a queue is charged for a frame beside its bytes."""

COUNTER_NAMES: Final = [
    "accepted",
    "accept_failed",
    "accept_shed",
    "descriptors_exhausted",
    "frames_in",
    "bytes_in",
    "frames_out",
    "bytes_out",
    "writes",
    "short_writes",
    "logins",
    "login_failures",
    "sends",
    "sends_refused",
    "sends_replayed",
    "answers",
    "answers_late",
    "committed",
    "committed_old",
    "delivers",
    "delivers_lagged",
    "lags",
    "ephemeral_in",
    "ephemeral_out",
    "ephemeral_dropped",
    "ephemeral_replaced",
    "peer_full",
    "calls",
    "calls_refused",
    "throttled",
    "positions",
    "positions_dropped",
    "probes",
    "handles_stale",
    "events_stale",
    "memory_refused",
    "links",
    "links_corrupt",
    "polls",
    "ticks",
]
"""The native engine's names; those of sockets and memory stay 0 here."""


class Stage(IntEnum):
    """Where a connection stands. Everything below LIVE is before login."""

    HELLO = 1  # HELLO must come
    GREETED = 2  # AUTH or RESUME must come
    AUTHENTICATING = 3  # Python looks at the credential
    REGISTERING = 4  # the hub looks at the device
    REGISTERED = 5  # Python writes WELCOME
    LIVE = 6
    CLOSING = 7  # BYE is on its way
    GONE = 8


class Sort(Enum):
    """What a queued frame is to the ladder of a slow reader."""

    CONTROL = "control"  # must arrive
    PUSH = "push"  # may be replaced by LAG
    HISTORY = "history"  # answer to PULL; in the window like a push
    EPHEMERAL = "ephemeral"  # may be dropped


@dataclass(slots=True, eq=False)
class Frame:
    """Encoded bytes that several queues share. For EPHEMERAL, seq holds the sender."""

    data: bytes
    sort: Sort = Sort.CONTROL
    cid: int = 0
    seq: int = 0
    traced: bool = False
    ephemeral_kind: int = 0
    newest_wins: bool = False
    queues: int = 0

    @property
    def is_deliver(self) -> bool:
        return self.sort in {Sort.PUSH, Sort.HISTORY}

    @property
    def held_bytes(self) -> int:
        """What it counts against queues_bytes_max: blocks are powers of two, a header of 32 bytes included."""
        return 1 << (31 + len(self.data)).bit_length()


@dataclass(slots=True)
class Unacked:
    cid: int
    seq: int
    size: int
    traced: bool


@dataclass(slots=True)
class Call:
    op: int
    ref: int
    is_pull: bool


@dataclass(slots=True)
class Bucket:
    """Token bucket as one number, the theoretical arrival time of the generic cell rate algorithm (ITU-T I.371)."""

    arrival_ns: int = 0

    def charge(self, now_ns: int, units: int, per_s: int, burst: int) -> int:
        """0: granted. Otherwise nothing is charged, and the nanoseconds to wait."""
        if per_s == 0:
            return 0
        interval_ns = 1_000_000_000 // per_s
        arrival_ns = max(self.arrival_ns, now_ns) + units * interval_ns
        if arrival_ns > now_ns + burst * interval_ns:
            return arrival_ns - (now_ns + burst * interval_ns)
        self.arrival_ns = arrival_ns
        return 0


@dataclass(slots=True)
class Refused:
    """A SEND with a retryable NAK. ours: later ones to cid wait here; otherwise at the hub."""

    cseq: int
    cid: int
    ours: bool


@dataclass(slots=True, eq=False)
class Connection:
    handle: int
    address: str
    opened_ms: int
    stage: Stage = Stage.HELLO
    # Who, and on which terms.
    user: int = 0
    device: int = 0
    session_epoch: int = 0
    token_epoch: int = 0
    ticket_epoch: int = 0
    expires_s: int = 0
    expiry_told: bool = False
    reauthenticating: bool = False
    nonce: bytes = b""
    failures: int = 0
    features: int = 0
    frame_bytes_max: int = 0
    window_frames: int = 0
    window_bytes: int = 0
    heartbeat_ms: int = 0
    # Input. partial: bytes that wait for the rest of their frame, or for the end of a throttle.
    partial: bytes = b""
    partial_since_ms: int = 0
    received_ms: int = 0
    preauth_bytes: int = 0
    throttled: bool = False
    resume_ms: int = 0  # 0: until an answer frees a place
    fed_short: bool = False
    flood_since_ms: int = 0
    bytes_rate: Bucket = field(default_factory=Bucket)
    frames_rate: Bucket = field(default_factory=Bucket)
    sends_rate: Bucket = field(default_factory=Bucket)
    acked_ms: int = 0
    typing_due_ms: dict[int, int] = field(default_factory=dict)
    """cid -> when the next typing frame may come; only of what is followed."""
    refused: list[Refused] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    sends_in_flight: int = 0
    topics: dict[int, int] = field(default_factory=dict)  # cid -> granted topics
    # Output.
    queue: list[Frame] = field(default_factory=list)
    queue_bytes: int = 0
    taken_bytes: int = 0  # of the first frame
    unacked: list[Unacked] = field(default_factory=list)
    unacked_bytes: int = 0
    deliver_count: int = 0
    lagging: bool = False
    lag: dict[int, tuple[int, int]] = field(default_factory=dict)  # cid -> first and last seq not pushed
    lag_overflow: bool = False
    readable_told: bool = False  # since then nobody has emptied the queue
    progress_ms: int = 0
    # The end.
    doomed: bool = False
    close_reason: int = 0
    close_retry_ms: int = 0
    bye_queued: bool = False
    goaway_told: bool = False
    # What the hub is owed, and whether it knows this session.
    login_due: bool = False
    closed_due: bool = False
    attached: bool = False

    @property
    def is_open(self) -> bool:
        return self.stage <= Stage.LIVE and not self.doomed

    @property
    def is_live(self) -> bool:
        return self.stage == Stage.LIVE and not self.doomed

    @property
    def is_registered(self) -> bool:
        """The hub pushes to it, but nothing may be sent before WELCOME."""
        return self.stage == Stage.REGISTERED and not self.doomed

    @property
    def queued_delivers(self) -> int:
        return sum(frame.is_deliver for frame in self.queue)


@dataclass(slots=True)
class Send:
    """A SEND or SKIP without an answer."""

    token: int
    conn: Connection
    op: int
    flags: int
    body: bytes
    cseq: int
    cid: int  # 0 for SKIP
    arrived_ms: int
    on_link: bool = False  # the current link has it
    handed: bool = False  # some hub has had it
    told: bool = False  # its client knows that there was no hub to answer it


class LinkStage(IntEnum):
    NONE = 0
    RECEIVED = 1  # RECEIVED must be written
    ATTACHING = 2  # REATTACH for the sessions in `attach`
    READY_DUE = 3
    READY = 4


@dataclass(slots=True)
class HubLink:
    ring_in: Ring | None = None
    ring_out: Ring | None = None
    stage: LinkStage = LinkStage.NONE
    attach: list[Connection] = field(default_factory=list)
    following: list[int] | None = None  # cids the first of them still has to name; None: its LOGIN is due
    marks: int = 0  # how many of its refused SENDs it still has to tell


class State:
    """One shard. now_ns and wall_ms are what every decision of a tick sees."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.now_ns = self.now_ms = 0
        self.wall_ms = TIME_EPOCH_MS
        self.looked_at = 0, 0  # the moment at which deadlines were last looked at
        self.random = (settings.random_seed or int.from_bytes(os.urandom(8), "little")) | 1
        self.connections: dict[int, Connection] = {}
        self.generations: list[int] = []  # by slot
        self.free_slots: list[int] = []
        self.doomed: list[Connection] = []
        self.dirty: dict[int, Connection] = {}
        self.owing: dict[int, Connection] = {}  # LOGIN or CLOSED records wait for the hub
        self.upcalls: list[Upcall] = []
        self.hub = HubLink()
        self.peers: dict[int, tuple[Ring, Ring]] = {}
        self.sends: dict[int, Send] = {}  # by token, in order of arrival
        self.next_token = 1
        self.sends_bytes = 0
        self.followers: dict[int, list[Connection]] = {}  # cid -> who subscribed here
        self.shards: dict[int, int] = {}  # cid -> bit i: shard i has followers
        self.positions: dict[tuple[int, int], tuple[int, int]] = {}  # (user, cid) -> delivered, read
        self.positions_due_ms = 0
        self.pushed: OrderedDict[int, int] = OrderedDict()  # cid -> highest seq routed
        self.routed_pos = 0
        self.queued_bytes = 0
        self.drain_start_ms = 0
        self.drain_window_ms = 0
        self.drain_list: list[Connection] = []
        self.drain_told = 0
        self.found_work = False
        self.count: Counter[str] = Counter(dict.fromkeys(COUNTER_NAMES, 0))
        self.closes: Counter[int] = Counter()
        room = max(64, 1 << (settings.ledger_entries - 1).bit_length())
        self.ledger: deque[tuple[int, int, LedgerEntry]] = deque(maxlen=room)
        self.ledger_written = 0

    @property
    def preauth(self) -> list[Connection]:
        """Connections without login, oldest first."""
        return [conn for conn in self.connections.values() if conn.stage < Stage.LIVE]

    def look_at_clock(self) -> None:
        if not self.settings.manual_clock:
            self.set_time(time.monotonic_ns(), time.time_ns() // 1_000_000)

    def set_time(self, now_ns: int, wall_ms: int) -> None:
        self.now_ns, self.now_ms, self.wall_ms = now_ns, now_ns // 1_000_000, wall_ms

    def random_next(self) -> int:
        """xorshift64*: good enough for jitter, and for nonces when a seed makes a run repeatable."""
        mask = (1 << 64) - 1
        self.random ^= self.random >> 12
        self.random ^= self.random << 25 & mask
        self.random ^= self.random >> 27
        return self.random * 0x2545F4914F6CDD1D & mask

    def random_below(self, bound: int) -> int:
        return (self.random_next() >> 11) % bound

    def nonce(self) -> bytes:
        if self.settings.random_seed == 0:
            return os.urandom(16)
        return b"".join(self.random_next().to_bytes(8, "little") for _ in range(2))

    def note(self, hop: str, cid: int, seq: int, user: int = 0, count: int = 1) -> None:
        """A line for the ledger: what happened to an event here."""
        self.ledger.append((cid, seq, (self.wall_ms, self.now_ns // 1000, hop, user, count)))
        self.ledger_written += 1
