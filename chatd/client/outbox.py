"""Sends that wait for their answer, in the order in which they must reach the server.

Facts: no answer means unknown, so a send is repeated with its cseq until an ack or a final refusal; the server keeps
the cseq order of a device within a conversation and refuses what overtakes a refused one (OUT_OF_ORDER). Consequence:
after a retryable refusal nothing more of that conversation may leave until everything of it in flight is answered;
then it goes on from the lowest cseq. Decision: one lane per conversation, closed by a refusal, opened again when it
has drained and its delay is over; other conversations go on, but for refusals that speak of the whole user or server.
Price: one round trip per refusal in that conversation.
"""

import heapq
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from chatd.client.backoff import Backoff
from chatd.client.errors import OutboxFullError, WithdrawnError, refused
from chatd.client.model import Promise, Sent, Settings
from chatd.client.state import State, Waiting
from chatd.wire import schema
from chatd.wire.frame import Extensions, encode_extensions
from chatd.wire.schema import ErrorCode

RETRY_BASE_S = 0.05
RETRY_MAX_S = 5.0
# A live server answers every SEND within seconds; one that does not has lost our place: connect anew and repeat.
ANSWER_TIMEOUT_S = 20.0
FRAME_OVERHEAD_BYTES_MAX = 27  # three varints


@dataclass(slots=True)
class Entry:
    waiting: Waiting
    promise: Promise[Sent]
    in_flight: bool = False
    sent_at: float = 0.0


@dataclass(slots=True)
class Lane:
    """A conversation's sends. closed: a refusal came; parked: cseqs that wait until it opens."""

    backoff: Backoff
    closed: bool = False
    opens_at: float = 0.0
    in_flight: int = 0
    parked: list[int] = field(default_factory=list)


class Outbox:
    """Every cseq handed out is in `_entries` until its answer; bounded by settings.outbox_max."""

    def __init__(self, state: State, settings: Settings, random: Callable[[], float]) -> None:
        self._state = state
        self._settings = settings
        self._random = random
        self._entries = {row.cseq: Entry(row, Promise()) for row in state.outbox()}
        self._unsent = sorted(self._entries)  # a heap: ascending cseq
        self._lanes: dict[int, Lane] = {}
        self._in_flight = 0
        self._opens_at = 0.0

    def __len__(self) -> int:
        return len(self._entries)

    def enqueue(self, cid: int, kind: int, payload: bytes, extensions: Extensions = ()) -> tuple[int, Promise[Sent]]:
        """Persist a send and queue it. Returns its cseq and the promise of its place in the log.

        Raises InvalidError when the schema forbids it, OutboxFullError when too many wait.
        """
        rule = schema.KINDS.get(kind)
        if rule is None or not rule.client:
            raise refused(ErrorCode.UNSUPPORTED, f"kind {kind} cannot be sent")
        if len(payload) > min(rule.payload_bytes_max, schema.SEND_BODY_BYTES_MAX - FRAME_OVERHEAD_BYTES_MAX):
            raise refused(
                ErrorCode.TOO_LARGE, f"{len(payload)} bytes; {schema.Kind(kind).name} takes {rule.payload_bytes_max}"
            )
        if len(self._entries) >= self._settings.outbox_max:
            raise OutboxFullError(f"{len(self._entries)} sends wait for an answer: wait for some of them")
        waiting = self._state.add_send(cid, kind, payload, encode_extensions(extensions))
        entry = self._entries[waiting.cseq] = Entry(waiting, Promise())
        heapq.heappush(self._unsent, waiting.cseq)
        return waiting.cseq, entry.promise

    def withdraw(self, cseq: int) -> None:
        """Give a send up: SKIP goes out in its place. When it had been stored, its promise still resolves."""
        entry = self._entries.get(cseq)
        if entry is None or entry.waiting.skip:
            return
        self._state.withdraw_send(cseq)
        row = entry.waiting
        entry.waiting = replace(row, skip=True)
        if entry.in_flight:
            self._landed(entry)
            heapq.heappush(self._unsent, cseq)

    def conversations_in_flight(self) -> set[int]:
        """Conversations with an unanswered send: its event may be the hole before a pushed one."""
        return {cid for cid, lane in self._lanes.items() if lane.in_flight}

    def on_live(self, cseq_stored: int) -> bool:
        """A session began. True when our cseq was behind the server's: state had been lost and was repaired."""
        self._opens_at = 0.0
        return self._state.raise_cseq(cseq_stored)

    def on_lost(self) -> None:
        """The connection is gone: whatever was in flight is unknown and leaves again, in order."""
        self._lanes.clear()
        self._in_flight = 0
        for entry in self._entries.values():
            entry.in_flight = False
        self._unsent = sorted(self._entries)

    def due(self, now: float) -> Iterator[Waiting]:
        """What may leave now, in order; each is in flight from here on."""
        if now < self._opens_at:
            return
        for lane in self._lanes.values():
            if lane.closed and not lane.in_flight and now >= lane.opens_at:
                lane.closed = False
                for cseq in lane.parked:
                    heapq.heappush(self._unsent, cseq)
                lane.parked.clear()
        while self._unsent and self._in_flight < schema.SENDS_IN_FLIGHT_MAX:
            cseq = heapq.heappop(self._unsent)
            entry = self._entries.get(cseq)
            if entry is None or entry.in_flight:
                continue
            lane = self._lane(entry.waiting.cid)
            if lane.closed:
                lane.parked.append(cseq)
                continue
            entry.in_flight, entry.sent_at = True, now
            lane.in_flight += 1
            self._in_flight += 1
            yield entry.waiting

    def deadline(self) -> float | None:
        """When `due` may have more without anything else happening."""
        times = [lane.opens_at for lane in self._lanes.values() if lane.closed and not lane.in_flight]
        if self._unsent and self._in_flight < schema.SENDS_IN_FLIGHT_MAX:
            times.append(self._opens_at)
        return max(min(times), self._opens_at) if times else None

    def answer_deadline(self) -> float | None:
        """When the oldest send in flight (the dictionary is in cseq order) has waited too long for a live server."""
        if not self._in_flight:
            return None
        return next(entry.sent_at for entry in self._entries.values() if entry.in_flight) + ANSWER_TIMEOUT_S

    def on_ack(self, cseq: int, sent: Sent | None) -> Waiting | None:
        """SEND_ACK; sent is None for SKIPPED. Returns what was sent, None when it is not ours (any more)."""
        entry = self._entries.pop(cseq, None)
        if entry is None:
            return None
        self._landed(entry)
        self._state.settle_send(cseq)
        if sent is None:
            entry.promise.fail(WithdrawnError(f"cseq {cseq} was withdrawn"))
            return None
        self._lane(entry.waiting.cid).backoff.succeeded()
        self._drop_idle_lane(entry.waiting.cid)
        entry.promise.resolve(sent)
        return entry.waiting

    def on_nak(
        self, cseq: int, code: int, text: str, retry_after_ms: int, retryable: bool, now: float
    ) -> Waiting | None:
        """SEND_NAK. Returns the send when it is refused for good, None when it will be tried again."""
        entry = self._entries.get(cseq)
        if entry is None:
            return None
        self._landed(entry)
        if not retryable:
            del self._entries[cseq]
            self._state.settle_send(cseq)
            entry.promise.fail(refused(code, text, what=f"send to conversation {entry.waiting.cid}"))
            return entry.waiting
        lane = self._lane(entry.waiting.cid)
        lane.closed = True
        lane.parked.append(cseq)
        if code == ErrorCode.OUT_OF_ORDER:
            lane.opens_at = max(lane.opens_at, now + retry_after_ms / 1000)
        else:
            # It speaks of the user's rate or of the server: what goes elsewhere would fare no better.
            lane.opens_at = max(lane.opens_at, now + lane.backoff.next_delay_s(retry_after_ms))
            self._opens_at = max(self._opens_at, now + retry_after_ms / 1000)
        return None

    def fail(self, error: Exception) -> None:
        """The answers will not come to this program any more; what is persisted stays for its next run."""
        for entry in self._entries.values():
            entry.promise.fail(error)

    def _lane(self, cid: int) -> Lane:
        lane = self._lanes.get(cid)
        if lane is None:
            lane = self._lanes[cid] = Lane(Backoff(RETRY_BASE_S, RETRY_MAX_S, self._random))
        return lane

    def _landed(self, entry: Entry) -> None:
        """An answer came, or is not waited for any more."""
        if entry.in_flight:
            entry.in_flight = False
            self._in_flight -= 1
            self._lane(entry.waiting.cid).in_flight -= 1

    def _drop_idle_lane(self, cid: int) -> None:
        lane = self._lanes.get(cid)
        if lane is not None and not lane.in_flight and not lane.closed:
            del self._lanes[cid]
