"""What the hub remembers. Mirrors native/hub/state.pxi, hub/conversation.pxi and hub/device.pxi."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chatd.hub.core_settings import HubCoreSettings
from chatd.hub.reference.links import Link
from chatd.hub.rights import NOTHING_DENIED

WINDOW_MIN = 8
WINDOW_MAX = 128
MARKS_MAX = 256
EARLY_SEQ = 1 << 62
"""join_seq of a stand-in that only keeps positions until the intervals have been loaded."""

Need = tuple[str, int]
"""What a record waits for: ("conversation", cid), ("user", id), ("device", id), ("idempotency", device) or
("judgement", device)."""


POSITION_FIELDS = (
    *("delivered_seq", "read_seq", "read_count", "cooling", "dirty", "changed", "read_moved"),
    *("muted_until_s", "spoke_s"),
)
"""What a user has once in a conversation, on the newest interval."""


@dataclass(slots=True, eq=False)
class Member:
    """One interval: seqs join_seq .. leave_seq (0: open). Positions count on the newest interval of a user."""

    user: int
    join_seq: int
    leave_seq: int
    role: int
    delivered_seq: int = 0
    read_seq: int = 0
    read_count: int = 0
    cooling: bool = False
    dirty: bool = False
    changed: bool = False
    read_moved: bool = False
    muted_until_s: int = 0
    spoke_s: int = 0

    def has(self, seq: int) -> bool:
        return self.join_seq <= seq and (self.leave_seq == 0 or seq <= self.leave_seq)

    def raise_to(self, delivered_seq: int, read_seq: int, read_count: int) -> None:
        """Positions never go back; read <= delivered."""
        if read_seq > self.read_seq:
            self.read_seq, self.read_count = read_seq, read_count
        self.delivered_seq = max(self.delivered_seq, delivered_seq, self.read_seq)

    def take_positions(self, older: "Member") -> None:
        for name in POSITION_FIELDS:
            setattr(self, name, getattr(older, name))
        older.cooling = older.dirty = older.changed = older.read_moved = False


@dataclass(slots=True)
class Moved:
    """A POSITION record of this batch, and what it says."""

    pos: int
    delivered_seq: int = 0
    read_seq: int = 0
    read_moved: bool = False


@dataclass(slots=True, eq=False)
class Conversation:
    cid: int
    loaded: bool = False
    kind: int = 0
    flags: int = 0
    slow_mode_s: int = 0
    denied: tuple[int, ...] = NOTHING_DENIED
    head_seq: int = 0
    message_count: int = 0
    last_ts: int = 0
    touched_pos: int = 0
    members: list[Member] = field(default_factory=list)
    events: dict[int, int] = field(default_factory=dict)
    """seq -> position of its events in the tail: contiguous, the last one is head_seq."""
    followers: list["Subscription"] = field(default_factory=list)
    shards: int = 0
    streaming: bool = False
    """Python has live streams of it and is told of new followers."""
    recount_ms: int = 0
    online_members: int = 0
    online_devices: int = 0

    @property
    def member_count(self) -> int:
        return sum(1 for member in self.members if member.leave_seq == 0)

    def at(self, user: int, join_seq: int) -> int:
        return bisect_left(self.members, (user, join_seq), key=lambda member: (member.user, member.join_seq))

    def interval(self, user: int, join_seq: int) -> Member | None:
        at = self.at(user, join_seq)
        if at < len(self.members) and (self.members[at].user, self.members[at].join_seq) == (user, join_seq):
            return self.members[at]
        return None

    def member(self, user: int) -> Member | None:
        """The newest interval of a user."""
        at = self.at(user, 1 << 64)
        return self.members[at - 1] if at and self.members[at - 1].user == user else None

    def set_interval(self, user: int, join_seq: int, leave_seq: int, role: int) -> Member:
        found = self.interval(user, join_seq)
        if found is None:
            at = self.at(user, join_seq)
            found = Member(user, join_seq, leave_seq, role)
            self.members.insert(at, found)
            if at and self.members[at - 1].user == user:
                found.take_positions(self.members[at - 1])
        found.leave_seq, found.role = leave_seq, role
        return found

    def remove_interval(self, user: int, join_seq: int) -> None:
        at = self.at(user, join_seq)
        gone = self.members.pop(at)
        if at and self.members[at - 1].user == user:
            self.members[at - 1].take_positions(gone)

    def early(self, user: int) -> Member:
        """The newest interval, or a stand-in for it while intervals are still in the main database."""
        return self.member(user) or self.set_interval(user, EARLY_SEQ, 1, 0)

    def settle_early(self) -> None:
        """All intervals are loaded: positions of stand-ins go to them."""
        for stand_in in [member for member in self.members if member.join_seq == EARLY_SEQ]:
            self.members.remove(stand_in)
            real = self.member(stand_in.user)
            if real is not None:
                real.raise_to(stand_in.delivered_seq, stand_in.read_seq, stand_in.read_count)
                real.spoke_s = stand_in.spoke_s

    def may_see(self, user: int, seq: int) -> bool:
        return any(member.user == user and member.has(seq) for member in self.members)

    @property
    def tail_floor(self) -> int:
        return self.head_seq + 1 - len(self.events)


@dataclass(slots=True)
class Sent:
    """What became of a cseq; seq 0: skipped."""

    cseq: int
    cid: int
    seq: int
    ts_ms: int
    digest: int


@dataclass(slots=True)
class Login:
    """A login that waits for the close of an older connection, or for the commit of what that one sent."""

    shard: int
    handle: int
    token_epoch: int
    frame_bytes_max: int
    features: int
    old: tuple[int, int] | None = None
    deadline_ms: int = 0


@dataclass(slots=True, eq=False)
class Device:
    device: int
    user: int = 0
    loaded: bool = False
    flags: int = 0
    cseq_max: int = 0
    window_floor: int = 1
    """Every stored cseq at or above it is in the window."""
    window_room: int = 0
    window: dict[int, Sent] = field(default_factory=dict)
    """By place, cseq modulo room."""
    touched_pos: int = 0
    shard: int = 0
    handle: int = 0
    session_epoch: int = 0
    previous_epoch: int = 0
    token_epoch: int = 0
    registered_pos: int = 0
    frame_bytes_max: int = 0
    features: int = 0
    marks: dict[int, int] = field(default_factory=dict)
    """cseq -> cid of retryable NAKs in this session."""
    login: Login | None = None
    waits: Need | None = None
    subscriptions: list["Subscription"] = field(default_factory=list)

    def is_session(self, shard: int, handle: int) -> bool:
        return handle != 0 and (self.shard, self.handle) == (shard, handle)

    def find(self, cseq: int) -> Sent | None:
        sent = self.window.get(cseq % self.window_room) if self.window_room and cseq <= self.cseq_max else None
        return sent if sent is not None and sent.cseq == cseq else None

    def put(self, sent: Sent) -> Callable[[], None]:
        """Remember a cseq; returns the way back."""
        floor, cseq_max = self.window_floor, self.cseq_max
        while self.window_room == 0 or (sent.cseq % self.window_room in self.window and self.window_room < WINDOW_MAX):
            self.window_room = max(WINDOW_MIN, self.window_room * 2)
            self.window = {old.cseq % self.window_room: old for old in self.window.values()}
        place = sent.cseq % self.window_room
        before = self.window.get(place)
        if before is not None and before.cseq > sent.cseq:
            self.window_floor = max(self.window_floor, sent.cseq + 1)
        else:
            if before is not None:
                self.window_floor = max(self.window_floor, before.cseq + 1)
            self.window[place] = sent
        self.cseq_max = max(self.cseq_max, sent.cseq)

        def undo() -> None:
            self.window_floor, self.cseq_max = floor, cseq_max
            place = sent.cseq % self.window_room
            if place in self.window and self.window[place].cseq == sent.cseq:
                del self.window[place]
                if before is not None:
                    self.window[place] = before

        return undo

    def mark(self, cid: int, cseq: int) -> bool:
        """Hold back later cseqs to cid. False: too many."""
        if cseq not in self.marks and len(self.marks) >= MARKS_MAX:
            return False
        self.marks.setdefault(cseq, cid)
        return True


@dataclass(slots=True)
class User:
    user: int
    loaded: bool = False
    token_epoch: int = 0
    online: list[Device] = field(default_factory=list)
    watched: bool = False
    arrival_ns: int = 0
    """Of the bucket of its SENDs."""
    spread_until_ms: int = 0
    spread_in: int = 0
    spread_out: int = 0


@dataclass(slots=True, eq=False)
class Subscription:
    conversation: Conversation
    device: Device


@dataclass(slots=True)
class Parked:
    link: Link
    record: bytes
    cancelled: bool = False


@dataclass(slots=True)
class Answer:
    """What a staged SEND or SKIP is told when its batch is durable."""

    link: Link
    handle: int
    token: int
    device: int
    cseq: int
    cid: int
    seq: int
    ts_ms: int
    flags: int


@dataclass(slots=True)
class Verdict:
    """What Python says of a judged send. seq: where it was staged, 0: it was not."""

    device: int
    cseq: int
    code: int
    text: str
    content: bytes | None
    has_ext: bool
    kind: int = 0
    """To be stored instead of the one that came; 0: as it came."""
    seq: int = 0


class State:
    """All tables, and what is staged."""

    def __init__(self, settings: HubCoreSettings) -> None:
        self.settings = settings
        self.role_rights = settings.role_rights
        self.now_ms = 0
        self.tick_ms = 0
        self.session_epoch_last = settings.session_epoch_base
        self.folded_pos = 0
        self.conversations: dict[int, Conversation] = {}
        self.devices: dict[int, Device] = {}
        self.users: dict[int, User] = {}
        self.links: dict[int, Link] = {}
        self.needs: dict[Need, list[Parked]] = {}
        self.asked_cseq: dict[int, int] = {}
        self.logins: list[Device] = []
        self.upcalls: list[tuple[Any, ...]] = []
        self.tail: dict[int, bytes] = {}
        self.first_pos = 1
        self.next_pos = 1
        self.committed_pos = 0
        self.undo: list[Callable[[], None]] = []
        self.answers: list[Answer] = []
        self.moved: dict[int, dict[int, Moved]] = {}
        """cid -> user -> read_seq before, of this poll."""
        self.verdict: Verdict | None = None
        """Only while judge() runs."""
        self.redacted: set[tuple[int, int]] = set()
        """(cid, seq) of events whose content is gone."""
        self.cooling: deque[tuple[int, int, int]] = deque(maxlen=65_536)
        """(cid, user, due_ms)"""

    def conversation(self, cid: int) -> Conversation:
        return self.conversations.setdefault(cid, Conversation(cid))

    def device(self, device: int) -> Device:
        return self.devices.setdefault(device, Device(device))

    def user(self, user: int) -> User:
        return self.users.setdefault(user, User(user))

    def ask(self, need: Need) -> None:
        """Ask Python once per need."""
        if need in self.needs:
            return
        self.needs[need] = []
        kind, key = need
        if kind in {"idempotency", "judgement"}:
            self.upcalls.append((f"need_{kind}", key, self.asked_cseq[key]))
        else:
            self.upcalls.append((f"need_{kind}", key))

    @property
    def staged_count(self) -> int:
        return self.next_pos - 1 - self.committed_pos

    @property
    def tail_bytes(self) -> int:
        return sum(map(len, self.tail.values()))

    @property
    def parked_count(self) -> int:
        return sum(map(len, self.needs.values()))

    def append(self, record: bytes) -> int:
        """Stage a journal record."""
        self.tail[self.next_pos] = record
        self.next_pos += 1
        return self.next_pos - 1
