"""A history: what every client of a run did and saw, in the order of one clock.

Clients append to it; tests/support/invariants.py judges it afterwards. Times are seconds of CLOCK_MONOTONIC of the one
machine the run is on. A payload is known by its hash, so a history is small and can be written as JSON lines.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from time import monotonic
from typing import NamedTuple


def digest(payload: bytes) -> str:
    return blake2b(payload, digest_size=8).hexdigest()


class Send(NamedTuple):
    """One attempt to store an event, retries included: they share (device, cseq)."""

    user: int
    device: int
    cseq: int
    cid: int
    hash: str
    invoked: float  # the first attempt of this device
    transmitted: float = 0.0  # this attempt
    answered: float = 0.0
    outcome: str = "unknown"  # ok, final (refused for good), retryable (refused for now), unknown
    seq: int = 0
    ts: int = 0
    connection: int = 0  # on which it was sent


class Seen(NamedTuple):
    """One DELIVER as it came over a connection."""

    connection: int
    user: int
    device: int
    cid: int
    seq: int
    sender: int
    ts: int
    hash: str
    at: float
    history: bool = False


class Lag(NamedTuple):
    connection: int
    cid: int  # 0: all conversations
    from_seq: int
    to_seq: int
    at: float


class Connected(NamedTuple):
    connection: int
    user: int
    device: int
    at: float  # WELCOME received
    closed: float = float("inf")


class Pulled(NamedTuple):
    """A complete read of cid up to its head, begun at `begun`: the seqs it returned."""

    user: int
    cid: int
    begun: float
    from_seq: int
    seqs: tuple[int, ...]


class Receipt(NamedTuple):
    connection: int
    cid: int
    user: int
    delivered_seq: int
    read_seq: int
    at: float


class Interval(NamedTuple):
    """Membership as acked: events join_seq..leave_seq are for this user; leave_seq 0 = still a member."""

    user: int
    cid: int
    join_seq: int
    leave_seq: int = 0
    removal_acked: float = float("inf")


class Stored(NamedTuple):
    """One event of the final read of a conversation."""

    cid: int
    seq: int
    sender: int
    device_cseq: tuple[int, int] | None  # as tagged in the payload; None for events of the server
    ts: int
    hash: str


class Applied(NamedTuple):
    """One event as the client library handed it to the application."""

    device: int
    cid: int
    seq: int
    hash: str
    at: float


Record = Send | Seen | Lag | Connected | Pulled | Receipt | Interval | Stored | Applied


@dataclass(slots=True)
class History:
    sends: list[Send] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lags: list[Lag] = field(default_factory=list)
    connections: list[Connected] = field(default_factory=list)
    pulls: list[Pulled] = field(default_factory=list)
    receipts: list[Receipt] = field(default_factory=list)
    intervals: list[Interval] = field(default_factory=list)
    stored: list[Stored] = field(default_factory=list)
    applied: list[Applied] = field(default_factory=list)
    expected_online: dict[int, frozenset[int]] = field(default_factory=dict)
    """cid → devices that must have every event of it by the end of the run."""

    def add(self, record: Record) -> None:
        getattr(self, PLACE[type(record)]).append(record)

    def records(self) -> Iterator[Record]:
        for name in PLACE.values():
            yield from getattr(self, name)

    def save(self, path: Path) -> None:
        with path.open("w") as out:
            for record in self.records():
                out.write(json.dumps({"type": type(record).__name__, **record._asdict()}) + "\n")


PLACE: dict[type, str] = {
    Send: "sends",
    Seen: "seen",
    Lag: "lags",
    Connected: "connections",
    Pulled: "pulls",
    Receipt: "receipts",
    Interval: "intervals",
    Stored: "stored",
    Applied: "applied",
}

now = monotonic
