# Loading: what the core or a method does not hold in memory comes from the main database.
# Requests of one moment are read together: one thread hop and one read transaction for up to 256 of them, so that a
# thousand devices coming back cost four hops, and on PostgreSQL a handful of round trips each (View.each). What a
# snapshot does not hold yet is merged in by whoever is asked:
# - rows: Rows refuses a snapshot older than its floor, and prefers its own unfolded rows.
# - conversations and devices: the core never evicts one that has a record beyond the folded position, so a snapshot
#   taken after it asked is complete; and after a restart it merges what replay brought (docs/internals/hub.md).
# - an old cseq that the database does not know may lie in a batch not folded yet. Memory of the newest 128 cseqs per
#   device does not reach it, so the answer "not found" waits until the fold has passed the position of the question.
# Price: such a retry of a very old cseq waits for the folder, normally well below a second.
"""Reads of the main database on behalf of the core and of methods, batched, in threads."""

import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import Any, NamedTuple, TypeVar

import trio

from chatd.errors import StorageError
from chatd.hub.core import Core
from chatd.hub.events import Events
from chatd.hub.frames import CallError
from chatd.hub.rights import denied_words, unpacked_denials
from chatd.hub.rows import Name, RequestKeyRow, Rows
from chatd.storage.interface import GROUPED_ROWS, ConversationRow, DeviceRow, EventRow, MemberRow, Reader, View
from chatd.wire.schema import ErrorCode

log = logging.getLogger(__name__)
Answer = TypeVar("Answer")
InThread = Callable[..., Awaitable[Any]]
"""trio.to_thread.run_sync, or what stands for it."""

JOBS_PER_READ_MAX = 256
JOBS_WAITING_MAX = 100_000
PAGE_READS_MAX = 2
"""Threads for pages, beside the one for jobs; the store's reader has at least three connections."""
READ_RETRY_S = 0.1
LOAD_TIMEOUT_S = 5.0
NOBODY_EPOCH = (1 << 63) - 1
"""Token epoch of a user that does not exist: every token is older."""


class Job(NamedTuple):
    """kind: a name of _READS."""

    kind: str
    key: Hashable


class Question(NamedTuple):
    """Was (device, cseq) ever stored? asked_pos: everything it can depend on is at or below this position."""

    device: int
    cseq: int
    asked_pos: int


class Loader:
    """Jobs wait in order of arrival; two workers take them in batches. One-off reads have a limiter of their own."""

    def __init__(
        self,
        core: Core,
        reader: Reader,
        rows: Rows,
        events: Events,
        in_thread: InThread = trio.to_thread.run_sync,
    ) -> None:
        self._core = core
        self._reader = reader
        self._rows = rows
        self._events = events
        self._in_thread = in_thread
        self._waiting: dict[Job, trio.Event] = {}
        self._reading: dict[Job, trio.Event] = {}
        self._until_folded: dict[Job, trio.Event] = {}
        self._answered: list[tuple[int, list[tuple[Job, Any]]]] = []
        self._arrival = trio.Event()
        self._job_limiter = trio.CapacityLimiter(1)
        self._page_limiter = trio.CapacityLimiter(PAGE_READS_MAX)
        self.folded_pos = 0
        self.wake: Callable[[], None] = lambda: None
        """Called when apply has something to do."""
        self.settled: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint
        """Committer.settled: whoever has read goes on with the core."""

    # ------------------------------------------------------------ what others call

    def want(self, kind: str, key: Hashable) -> trio.Event:
        """Ask without waiting; the event is set when the answer has been given to the core or to Rows."""
        job = Job(kind, key)
        for asked in (self._waiting, self._reading, self._until_folded):
            if job in asked:
                return asked[job]
        if len(self._waiting) + len(self._until_folded) >= JOBS_WAITING_MAX:
            raise CallError(ErrorCode.BUSY, "too many reads of the database wait; try again later", 1000)
        event = self._waiting[job] = trio.Event()
        self._arrival.set()
        return event

    async def load(self, kind: str, keys: Iterable[Hashable]) -> None:
        """Wait until all keys have been looked up. CallError UNAVAILABLE after 5 s."""
        with trio.move_on_after(LOAD_TIMEOUT_S) as scope:
            for event in [self.want(kind, key) for key in keys]:
                await event.wait()
        if scope.cancelled_caught:
            raise CallError(ErrorCode.UNAVAILABLE, "the database did not answer in time; try again later", 1000)
        await self.settled()

    async def read(self, function: Callable[[View], Answer], *, page: bool = True) -> Answer:
        """Run one read in a thread, in one transaction. CallError UNAVAILABLE when the store fails.

        page: it may be long, and waits behind other pages; without it, among the jobs."""

        def view_once() -> Answer:
            with self._reader.view() as view:
                return function(view)

        limiter = self._page_limiter if page else self._job_limiter
        try:
            answer: Answer = await self._in_thread(view_once, limiter=limiter)
        except StorageError as error:
            log.exception("a read of the main database failed")
            raise CallError(ErrorCode.UNAVAILABLE, "the database could not be read; try again later", 1000) from error
        await self.settled()
        return answer

    def folded(self, folded_pos: int) -> None:
        """The folder has committed: questions that waited for it may be answered now."""
        self.folded_pos = folded_pos
        ready = [job for job in self._until_folded if _asked_pos(job) <= folded_pos]
        for job in ready:
            self._waiting[job] = self._until_folded.pop(job)
        if ready:
            self._arrival.set()

    def close(self) -> None:
        """Close the reader's connections. After run() has ended."""
        self._reader.close()

    # ------------------------------------------------------------ the worker

    async def run(self) -> None:
        while True:
            if not self._waiting:
                self._arrival = trio.Event()
                await self._arrival.wait()
            jobs = list(self._waiting)[:JOBS_PER_READ_MAX]
            for job in jobs:
                self._reading[job] = self._waiting.pop(job)
            try:
                answers = await self._in_thread(self._read_all, jobs, limiter=self._job_limiter)
            except StorageError:
                log.exception("reading for %d jobs failed; trying again in %d ms", len(jobs), READ_RETRY_S * 1000)
                self._waiting = {job: self._reading.pop(job) for job in jobs} | self._waiting
                await trio.sleep(READ_RETRY_S)
                continue
            self._answered.append(answers)
            self.wake()

    def _read_all(self, jobs: list[Job]) -> tuple[int, list[tuple[Job, Any]]]:
        """In a thread."""
        with self._reader.view() as view:
            answers = view.each(lambda view, job: _READS[job.kind](view, job.key), jobs)
            return view.folded_pos, list(zip(jobs, answers, strict=True))

    def apply(self) -> bool:
        """Give what was read to the core and to Rows; True: there was something. Called by the loop, between poll and
        commit: what is parked for it is staged at once, and nobody else may run while something is staged.
        """
        answered, self._answered = self._answered, []
        for folded_pos, answers in answered:
            self._apply_all(folded_pos, answers)
        if self._waiting:
            self._arrival.set()
        return bool(answered)

    def _apply_all(self, folded_pos: int, answers: list[tuple[Job, Any]]) -> None:
        for job, answer in answers:
            event = self._reading.pop(job)
            if getattr(self, f"_apply_{job.kind}")(folded_pos, job.key, answer):
                event.set()
            elif job.kind == "idempotency" and folded_pos < _asked_pos(job) and self.folded_pos < _asked_pos(job):
                self._until_folded[job] = event
            else:
                self._waiting[job] = event

    # Each returns False when the snapshot was too old to answer.

    def _apply_row(self, folded_pos: int, name: Name, row: Any) -> bool:
        return self._rows.loaded(folded_pos, name, row)

    def _apply_event(self, folded_pos: int, place: tuple[int, int], row: EventRow | None) -> bool:
        if not self._rows.is_current(folded_pos):
            return False
        self._events.loaded(place, row)
        return True

    def _apply_user(self, folded_pos: int, user: int, row: Any) -> bool:
        if not self._rows.is_current(folded_pos):
            return False
        newest = self._rows.unfolded_row("user", user) or row
        if newest is None:
            self._core.put_user(user, NOBODY_EPOCH, 0)
        else:
            self._core.put_user(user, newest.token_epoch, newest.flags)
        return True

    def _apply_device(self, folded_pos: int, device: int, row: DeviceRow | None) -> bool:
        if not self._rows.is_current(folded_pos):
            return False
        newest = self._rows.unfolded_row("device", device) or row
        if newest is None:
            self._core.no_device(device)
        else:
            cseq_max = 0 if row is None else row.cseq_max
            self._core.put_device(device, newest.uid, cseq_max, newest.flags)
        return True

    def _apply_conversation(self, folded_pos: int, cid: int, found: "Stored") -> bool:
        row = found.row
        if not self._rows.is_current(folded_pos):
            return False
        newest = self._rows.unfolded_row("conversation", cid) or row
        if newest is None:
            # Whoever asked for it has to learn that from somewhere (Rows.is_absent).
            self._rows.loaded(folded_pos, Name("conversation", cid), None)
            self._core.no_conversation(cid)
            return True
        heads = (0, 0, 0, 0) if row is None else (row.head_seq, row.message_count, row.last_ts, row.changed_pos)
        muted = dict(found.muted)
        muted |= {one.uid: one.muted_until_s for one in self._rows.unfolded_of("restriction", cid)}
        denied = denied_words(newest.kind, unpacked_denials(newest.denied))
        rules = (newest.slow_mode_s, denied, muted.items(), found.spoke)
        self._core.put_conversation(cid, newest.kind, newest.flags, *heads, list(found.members), *rules)
        return True

    def _apply_idempotency(self, folded_pos: int, question: Question, stored: Any) -> bool:
        if stored is None and folded_pos < question.asked_pos:
            return False
        answer = (False, 0, 0, 0, 0) if stored is None else (True, *stored)
        self._core.answer_idempotency(question.device, question.cseq, *answer)
        return True

    def _apply_read_count(self, folded_pos: int, question: tuple[int, int, int], read_count: int) -> bool:
        cid, user, read_seq = question
        self._core.put_read_count(cid, user, read_seq, read_count)
        return True


def _asked_pos(job: Job) -> int:
    question = job.key
    return question.asked_pos if isinstance(question, Question) else 0


# ---------------------------------------------------------------- what each kind reads; all of these run in a thread


def _read_row(view: View, name: Name) -> Any:
    key: Any = name.value
    if name.group:
        return view.rows_of(name.table, *key)
    if name.table in GROUPED_ROWS:
        return next(iter(view.rows_of(name.table, *key)), None)
    return _ROW_READS[name.table, name.unique](view, name.value)


def _read_request_key(view: View, value: tuple[int, bytes]) -> RequestKeyRow | None:
    result = view.request_result(*value)
    return None if result is None else RequestKeyRow(*value, result, 0)


class Stored(NamedTuple):
    """A conversation as the main database has it. spoke: (user, ts_ms) of those whom slow mode may still hold."""

    row: ConversationRow | None
    members: list[MemberRow]
    muted: list[tuple[int, int]]
    spoke: list[tuple[int, int]]


def _read_conversation(view: View, cid: int) -> Stored:
    row = view.conversation(cid)
    spoke = []
    if row is not None and row.slow_mode_s:
        spoke = view.speakers(cid, row.head_seq, row.last_ts - 1000 * (row.slow_mode_s + 1))
    return Stored(row, view.members(cid), view.muted(cid), spoke)


def _read_event(view: View, place: tuple[int, int]) -> EventRow | None:
    rows = view.events(place[0], place[1], place[1], 1, 1)
    return rows[0] if rows else None


_ROW_READS: dict[tuple[str, bool], Callable[[View, Any], Any]] = {
    ("user", False): lambda view, value: view.user(value),
    ("user", True): lambda view, value: view.user_by_name(value),
    ("device", False): lambda view, value: view.device(value),
    ("api_key", False): lambda view, value: view.api_key(value),
    ("conversation", False): lambda view, value: view.conversation(value),
    ("conversation", True): lambda view, value: view.direct_conversation(value),
    ("public_name", False): lambda view, value: view.public_name(value),
    ("restriction", False): lambda view, value: view.restriction(*value),
    ("invitation", False): lambda view, value: view.invitation(value),
    ("invitation", True): lambda view, value: view.invitation_by_token(value),
    ("join_request", False): lambda view, value: view.join_request(*value),
    ("relation", False): lambda view, value: view.relation(*value),
    ("own_setting", False): lambda view, value: view.own_setting(*value),
    ("report", False): lambda view, value: view.report(value),
    ("desk", False): lambda view, value: view.desk(value),
    ("service_case", False): lambda view, value: view.service_case(value),
    ("request_key", False): _read_request_key,
    ("presence", False): lambda view, value: view.presence(value),
    ("last_seen", False): lambda view, value: view.last_seen(value),
}

_READS: dict[str, Callable[[View, Any], Any]] = {
    "row": _read_row,
    "event": _read_event,
    "user": lambda view, user: view.user(user),
    "device": lambda view, device: view.device(device),
    "conversation": _read_conversation,
    "read_count": lambda view, question: view.message_count_at(question[0], question[2]),
    "idempotency": lambda view, question: view.stored_send(question.device, question.cseq),
}
