"""From pushes that may repeat, overtake and be lost to each event once, in order, for the application.

Facts: pushes of a conversation rise without holes, but for our own events (SEND_ACK fills them), after LAG, and over
reconnects, where pushes repeat and are missed. Consequence: the client keeps one number per conversation, the last seq
given to the application; what is at or below it is a duplicate, what follows it is given, what lies beyond a hole is
held until the hole is filled. Decision: one way to fill holes, whatever made them (LAG, SYNC, a lost push): PULL from
the number onward; at most two at a time, one per conversation. Price: after a long absence a conversation comes by
pages of 200 before its newest event is seen.

Bounds: `ready` holds what the application has not taken (at most settings.ready_max; beyond it events are dropped
here, and pulled when there is room), `held` a few hundred per conversation and ready_max in all.
"""

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

from chatd.client.errors import ClientError
from chatd.client.model import Event, Gap, Overview, Promise, Reset, Settings, Update
from chatd.client.state import State
from chatd.wire import Frame, make, schema, varint
from chatd.wire.frame import Extensions
from chatd.wire.schema import Op

# A pull that brings nothing new this often in a row, although the server says the range is complete, is a gap.
FRUITLESS_PULLS_MAX = 3
HISTORY_QUEUE_MAX = 64
# How many needy conversations one plan looks at: those that wait go to the end of the queue.
NEEDY_SCAN_MAX = 256
# From so many conversations with holes on, they are asked for in one PULL.
PARTS_MIN, PARTS_MAX = 3, 200
RANGES_BYTES_MAX = schema.EXTENSION_BYTES_MAX - 8


@dataclass(frozen=True, slots=True)
class Page:
    """Events of one PULL, ascending. next_seq: go on from there, 0 when the range is complete. floor_seq: nothing below
    it can be read (any more). omitted: of a folded page the (first, last) seqs that only change other events.
    """

    events: list[Event]
    next_seq: int
    head_seq: int
    floor_seq: int
    omitted: tuple[tuple[int, int], ...] = ()


@dataclass(slots=True)
class Pull:
    """One PULL of ours. promise: of Client.history; None when it repairs a hole. parts: of many conversations in one
    frame; its cid is 0 then.
    """

    cid: int
    from_seq: int
    to_seq: int
    limit: int
    promise: Promise[Page] | None = None
    extensions: Extensions = ()
    parts: tuple["Pull", ...] = ()
    events: list[Event] = field(default_factory=list)

    def frame(self) -> Frame:
        return make(
            Op.PULL,
            extensions=self.extensions,
            cid=self.cid,
            from_seq=self.from_seq,
            to_seq=self.to_seq,
            limit=self.limit,
        )


@dataclass(slots=True)
class Conversation:
    """given: last seq handed on. known: given is settled. fresh: nothing below the floor was ever promised."""

    overview: Overview
    given: int = 0
    head: int = 0
    known: bool = True
    fresh: bool = True
    counted_to: int = 0
    held: dict[int, Event] = field(default_factory=dict)
    hole_since: float | None = None
    fruitless: int = 0
    retry_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Ready:
    """What waits for the application. size_bytes and generation: of the DELIVER to release; generation 0: none."""

    update: Update
    size_bytes: int = 0
    generation: int = 0


class Inbox:
    """The receiving half of a session; it outlives connections. `me` is the user, once known."""

    def __init__(self, state: State, settings: Settings) -> None:
        self.me = state.user
        self.active = False  # nobody reads events() yet: only heads are noted
        self.ready: deque[Ready] = deque(maxlen=settings.ready_max)
        self.pulls: dict[int, Pull] = {}
        self._one_by_one = False
        self.conversations: dict[int, Conversation] = {}
        self._state = state
        self._settings = settings
        self._needy: dict[int, None] = {}
        self._asked: deque[Pull] = deque(maxlen=HISTORY_QUEUE_MAX)
        self._held_count = 0
        for cid, place in state.places().items():
            overview = Overview(cid, head_seq=place.head)
            self.conversations[cid] = Conversation(overview, place.position, place.head, fresh=False)

    # ------------------------------------------------------------ the application's side

    def start(self) -> None:
        """Somebody reads events now: whatever was noted meanwhile is wanted."""
        self.active = True
        for cid, conversation in self.conversations.items():
            if conversation.head > conversation.given:
                self._needy[cid] = None

    def take(self) -> Ready | None:
        return self.ready.popleft() if self.ready else None

    def confirm(self, update: Update) -> None:
        """The application is done with it: the position is stored."""
        if isinstance(update, Event):
            self._state.set_positions({update.cid: update.seq})
        elif isinstance(update, Gap):
            self._state.set_positions({update.cid: update.to_seq})

    def ask(
        self, cid: int, from_seq: int, to_seq: int, limit: int, extensions: Extensions = ()
    ) -> Promise[Page] | None:
        """Queue a PULL of the application; None when too many wait."""
        if len(self._asked) >= HISTORY_QUEUE_MAX:
            return None
        promise: Promise[Page] = Promise()
        self._asked.append(Pull(cid, from_seq, to_seq, limit, promise, extensions))
        return promise

    def marked_read(self, cid: int, seq: int) -> None:
        """The user has read up to seq, here or on another device."""
        conversation = self.conversations.get(cid)
        if conversation is None:
            return
        overview = conversation.overview
        overview.read_seq = max(overview.read_seq, seq)
        if overview.read_seq >= conversation.counted_to:
            overview.read_count = overview.message_count

    # ------------------------------------------------------------ what the server says

    def on_event(self, event: Event, history: bool, size_bytes: int, generation: int, now: float) -> bool:
        """A DELIVER, or our own event by its SEND_ACK (generation 0).

        Returns True when the frame is out of the way at once; False when it waits in `ready` and is released by take.
        """
        pull = self.pulls.get(event.cid)
        if history and pull is not None and pull.promise is not None:
            if len(pull.events) < pull.limit:
                pull.events.append(event)
            return True
        conversation = self._conversation(event.cid)
        if not conversation.known:
            conversation.known, conversation.given = True, event.seq - 1
        conversation.head = max(conversation.head, event.seq)
        if not self.active:
            self._count(conversation, event)
            return True
        if event.seq <= conversation.given:
            return True
        if len(self.ready) >= self._settings.ready_max:
            self._needy[event.cid] = None
            return True
        if event.seq > conversation.given + 1:
            self._hold(conversation, event, now)
            return True
        self._give(conversation, event, Ready(event, size_bytes, generation))
        self._drain(conversation)
        return generation == 0

    def on_lag(self, cid: int, from_seq: int, to_seq: int) -> None:
        conversation = self._conversation(cid)
        if not conversation.known:
            conversation.known, conversation.given = True, from_seq - 1
        conversation.head = max(conversation.head, to_seq)
        self._want(conversation)

    def on_sync_page(self, entries: list[Overview], floors: dict[int, int], cursor: bytes | None) -> None:
        """Entries of SYNC_PAGE; cursor only with the last page of a SYNC: all of it is stored in one transaction."""
        heads: dict[int, tuple[int, int]] = {}
        for entry in entries:
            conversation = self._conversation(entry.cid)
            conversation.head = max(conversation.head, entry.head_seq)
            if not conversation.known:
                conversation.known, conversation.given = True, entry.head_seq
            self._raise_floor(conversation, floors.get(entry.cid, 0))
            if entry.head_seq >= conversation.counted_to:
                conversation.counted_to = entry.head_seq
                conversation.overview = entry
            self._want(conversation)
            # Nothing was given yet that is not confirmed: only then is `given` the position to store.
            position = conversation.given if conversation.fresh else 0
            heads[entry.cid] = (position, conversation.head)
            conversation.fresh = False
        self._state.set_heads(heads, cursor)

    def on_pull_end(
        self,
        cid: int,
        next_seq: int,
        head_seq: int,
        floor_seq: int,
        now: float,
        omitted: tuple[tuple[int, int], ...] = (),
    ) -> None:
        pull = self.pulls.pop(cid, None)
        if pull is None:
            return
        if not cid:
            self._left_over(pull, now)
            return
        if pull.promise is not None:
            pull.promise.resolve(Page(pull.events, next_seq, head_seq, floor_seq, omitted))
            return
        conversation = self.conversations[cid]
        self._raise_floor(conversation, min(floor_seq, conversation.head + 1))
        if conversation.given >= pull.from_seq:
            conversation.fruitless = 0
        elif len(self.ready) < self._settings.ready_max:
            conversation.fruitless += 1
        if conversation.fruitless >= FRUITLESS_PULLS_MAX:
            self._skip_to(conversation, next_seq - 1 if next_seq else pull.to_seq)
        if conversation.given < conversation.head:
            conversation.hole_since = now if conversation.held else None
            self._needy[cid] = None

    def on_pull_refused(self, cid: int, error: Exception, retry_at: float | None) -> None:
        """ERROR instead of PULL_END. retry_at: None when the conversation is not readable at all."""
        pull = self.pulls.pop(cid, None)
        if pull is None:
            return
        if not cid:
            # An older server, or one that has no time for so much: each alone.
            self._one_by_one = retry_at is None
            self._left_over(pull, retry_at or 0.0)
        elif pull.promise is not None:
            pull.promise.fail(error)
        elif retry_at is not None:
            self.conversations[cid].retry_at = retry_at
            self._needy[cid] = None
        else:
            self._skip_to(self.conversations[cid], self.conversations[cid].head)

    def _left_over(self, many: Pull, retry_at: float) -> None:
        """The parts that were not answered are needed still."""
        for part in many.parts:
            if self.pulls.get(part.cid) is part:
                del self.pulls[part.cid]
                self.conversations[part.cid].retry_at = max(self.conversations[part.cid].retry_at, retry_at)
                self._needy[part.cid] = None

    def on_lost(self) -> None:
        """The connection is gone: what was asked is asked again."""
        self.pulls.pop(0, None)
        for pull in self.pulls.values():
            if pull.promise is not None:
                pull.events.clear()
                self._asked.appendleft(pull)
            else:
                self._needy[pull.cid] = None
        self.pulls.clear()

    def discard(self, log_epoch: int) -> None:
        """Positions mean nothing any more (log_epoch): forget them and say so to the application."""
        self._state.discard_positions(log_epoch)
        self.conversations.clear()
        self._needy.clear()
        self._held_count = 0
        self.ready.clear()
        self.ready.append(Ready(Reset(log_epoch)))

    def fail(self, error: Exception) -> None:
        """No answers will come any more."""
        for pull in [*self.pulls.values(), *self._asked]:
            if pull.promise is not None:
                pull.promise.fail(error)

    # ------------------------------------------------------------ pulling

    def plan(self, now: float, own_in_flight: set[int]) -> list[Pull]:
        """The PULLs to send now. own_in_flight: conversations whose hole a SEND_ACK may be about to fill."""
        started: list[Pull] = []
        while self._asked and self._outstanding < schema.PULLS_OUTSTANDING_MAX and self._asked[0].cid not in self.pulls:
            started.append(self._begin(self._asked.popleft()))
        due = self._due(now, own_in_flight) if self._may_repair else []
        if len(due) >= PARTS_MIN and not self._one_by_one:
            started.append(self._begin_many(due))
            due = []
        for pull in due:
            if not self._may_repair:
                break
            del self._needy[pull.cid]
            started.append(self._begin(pull))
        return started

    @property
    def _outstanding(self) -> int:
        """Frames on their way: the parts of one count with it."""
        many = self.pulls.get(0)
        return len(self.pulls) - (sum(self.pulls.get(part.cid) is part for part in many.parts) if many else 0)

    @property
    def _may_repair(self) -> bool:
        room = self._settings.ready_max - len(self.ready) - schema.PULL_EVENTS_MAX * self._outstanding
        # One for many at a time: the next one has more to ask for then.
        free = 0 not in self.pulls and self._outstanding < schema.PULLS_OUTSTANDING_MAX
        return self.active and free and room >= schema.PULL_EVENTS_MAX

    def _due(self, now: float, own_in_flight: set[int]) -> list[Pull]:
        """Of the conversations that need one; those that have to wait go to the end of the queue."""
        found: list[Pull] = []
        for cid in list(islice(self._needy, NEEDY_SCAN_MAX)):
            conversation = self.conversations.get(cid)
            if conversation is None or conversation.head <= conversation.given:
                del self._needy[cid]
            elif cid in self.pulls or now < self._due_at(cid, conversation, own_in_flight):
                del self._needy[cid]
                self._needy[cid] = None
            else:
                to_seq = min(conversation.held) - 1 if conversation.held else conversation.head
                found.append(Pull(cid, conversation.given + 1, to_seq, schema.PULL_EVENTS_MAX))
        return found

    def _begin_many(self, due: list[Pull]) -> Pull:
        parts: list[Pull] = []
        block = b""
        for pull in due[:PARTS_MAX]:
            encoded = b"".join(map(varint.encode, (pull.cid, pull.from_seq, pull.to_seq)))
            if len(block) + len(encoded) > RANGES_BYTES_MAX:
                break
            block += encoded
            del self._needy[pull.cid]
            parts.append(self._begin(pull))
        extension = (schema.EXTENSION_PULL_RANGES, varint.encode(len(parts)) + block)
        return self._begin(Pull(0, 0, 0, schema.PULL_EVENTS_MAX, None, (extension,), tuple(parts)))

    def deadline(self, own_in_flight: set[int]) -> float | None:
        """When `plan` may have more without anything else happening."""
        if not self._may_repair:
            return None
        due = [
            self._due_at(cid, self.conversations[cid], own_in_flight)
            for cid in self._needy
            if cid in self.conversations and cid not in self.pulls
        ]
        return min(due) if due else None

    def _due_at(self, cid: int, conversation: Conversation, own_in_flight: set[int]) -> float:
        if conversation.hole_since is not None and cid in own_in_flight:
            return max(conversation.retry_at, conversation.hole_since + self._settings.own_gap_s)
        return conversation.retry_at

    def _begin(self, pull: Pull) -> Pull:
        self.pulls[pull.cid] = pull
        return pull

    # ------------------------------------------------------------ one conversation

    def _conversation(self, cid: int) -> Conversation:
        conversation = self.conversations.get(cid)
        if conversation is None:
            if len(self.conversations) >= self._settings.conversations_max:
                raise ClientError(
                    f"more than {self._settings.conversations_max} conversations: raise conversations_max"
                )
            # Before the first whole SYNC, "now" means: from what this connection pushes first, or from the head.
            known = self._state.synced or self._settings.start == "beginning"
            conversation = self.conversations[cid] = Conversation(Overview(cid), known=known)
        return conversation

    def _want(self, conversation: Conversation) -> None:
        if conversation.head > conversation.given:
            self._needy[conversation.overview.cid] = None

    def _hold(self, conversation: Conversation, event: Event, now: float) -> None:
        held = conversation.held
        self._needy[event.cid] = None
        if conversation.hole_since is None:
            conversation.hole_since = now
        if event.seq in held or self._held_count >= self._settings.ready_max:
            return
        if len(held) < self._settings.held_per_conversation_max:
            held[event.seq] = event
            self._held_count += 1

    def _give(self, conversation: Conversation, event: Event, ready: Ready) -> None:
        conversation.given = event.seq
        conversation.fresh = False
        self._count(conversation, event)
        self.ready.append(ready)

    def _drain(self, conversation: Conversation) -> None:
        """Hand on what was held and now follows."""
        held = conversation.held
        while held and len(self.ready) < self._settings.ready_max:
            event = held.pop(conversation.given + 1, None)
            if event is None:
                break
            self._held_count -= 1
            self._give(conversation, event, Ready(event))
        for seq in [seq for seq in held if seq <= conversation.given]:
            del held[seq]
            self._held_count -= 1
        if not held:
            conversation.hole_since = None

    def _raise_floor(self, conversation: Conversation, floor_seq: int) -> None:
        if conversation.given < floor_seq - 1:
            self._skip_to(conversation, floor_seq - 1)

    def _skip_to(self, conversation: Conversation, seq: int) -> None:
        """Nothing up to seq will come, except what is held. Said as Gap where something had been promised."""
        stops = [held for held in sorted(conversation.held) if held <= seq]
        for stop in [*stops, seq + 1]:
            if len(self.ready) >= self._settings.ready_max:
                self._needy[conversation.overview.cid] = None
                return
            if stop > conversation.given + 1:
                if not conversation.fresh and self.active:
                    self.ready.append(Ready(Gap(conversation.overview.cid, conversation.given + 1, stop - 1)))
                conversation.given = stop - 1
            self._drain(conversation)
        conversation.fruitless = 0

    def _count(self, conversation: Conversation, event: Event) -> None:
        """Keep the overview in step with events that came after the last SYNC."""
        if event.seq <= conversation.counted_to:
            return
        conversation.counted_to = event.seq
        overview = conversation.overview
        overview.head_seq = max(overview.head_seq, event.seq)
        rule = schema.KINDS.get(event.kind)
        if rule is not None and rule.message:
            overview.message_count += 1
            overview.last_sender, overview.last_time_ms = event.sender, event.time_ms
            overview.last_kind, overview.last_preview = event.kind, event.payload[:96]
            if event.sender == self.me:
                overview.read_seq, overview.read_count = event.seq, overview.message_count
