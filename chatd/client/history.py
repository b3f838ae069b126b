"""Reading what was written earlier: around an event, from a time on, all of it, by words. No position moves."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

from chatd.client.inbox import Page
from chatd.client.methods import Methods
from chatd.client.model import Event
from chatd.wire import schema, time40, varint
from chatd.wire.frame import Extensions
from chatd.wire.schema import Method

HITS_PER_PAGE_MAX = 50


@dataclass(frozen=True, slots=True)
class Hit:
    """A message that search has found. excerpt: a piece of its text. marks: (start, length) of the matches in it, in
    bytes of its UTF-8.
    """

    cid: int
    seq: int
    sender: int
    time_ms: int
    kind: int
    excerpt: str
    marks: tuple[tuple[int, int], ...]

    def pieces(self) -> list[tuple[str, bool]]:
        """The excerpt cut at its marks: (text, is a match)."""
        data, at, found = self.excerpt.encode(), 0, list[tuple[str, bool]]()
        for start, length in self.marks:
            found += [(data[at:start].decode(), False), (data[start : start + length].decode(), True)]
            at = start + length
        return [piece for piece in (*found, (data[at:].decode(), False)) if piece[0]]


@dataclass(frozen=True, slots=True)
class Version:
    """What a message said from that event on: its own, then those of its edits."""

    seq: int
    time_ms: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Retention:
    """What a conversation keeps, 0: everything; server_…: what any conversation of the server keeps. The less decides.
    floor_seq: the first event that is still there.
    """

    days: int
    events: int
    server_days: int
    server_events: int
    floor_seq: int


@dataclass(frozen=True, slots=True)
class Hits:
    """One page, newest first. cursor: of the next one, empty at the end. complete: False while the server's index is
    being made and older messages may be missing. floor_seq: of the conversation asked for, nothing is below it; 0: of
    all.
    """

    hits: list[Hit]
    cursor: bytes
    complete: bool
    floor_seq: int = 0


def asked_by(before: int, from_ms: int | None, folded: bool) -> Extensions:
    """Of a PULL that begins elsewhere than at from_seq, or wants messages as they are now."""
    around = ((schema.EXTENSION_PULL_AROUND, varint.encode(before)),) if before else ()
    at = ((schema.EXTENSION_PULL_FROM_TIME, time40.encode(from_ms)),) if from_ms is not None else ()
    return around + at + (((schema.EXTENSION_PULL_FOLDED, varint.encode(0)),) if folded else ())


class HistoryMethods(Methods):
    """Part of Client."""

    async def history(
        self,
        cid: int,
        from_seq: int = 1,
        to_seq: int = 0,
        limit: int = 100,
        *,
        before: int = 0,
        from_ms: int | None = None,
        folded: bool = False,
        timeout_s: float = 30.0,
    ) -> Page:
        raise NotImplementedError

    async def around(self, cid: int, seq: int, before: int = 20, after: int = 20) -> list[Event]:
        """The event, `before` ones in front of it and `after` behind it, as far as there are some (199 in all)."""
        return (await self.history(cid, seq, 0, before + 1 + after, before=before)).events

    async def at(self, cid: int, time_ms: int, before: int = 0, after: int = 50) -> list[Event]:
        """The first `after` events of that time (Unix milliseconds) or later, and `before` earlier ones."""
        return (await self.history(cid, 0, 0, before + after, before=before, from_ms=time_ms)).events

    async def log(self, cid: int, from_seq: int = 1, to_seq: int = 0, *, folded: bool = False) -> AsyncIterator[Event]:
        """All events from_seq..to_seq (0: to the newest), oldest first, a page in memory at a time.

        folded: messages as they are now, see Event.now; what only changes other events is left out.
        """
        while from_seq:
            page = await self.history(cid, from_seq, to_seq, schema.PULL_EVENTS_MAX, folded=folded)
            for event in page.events:
                yield event
            from_seq = page.next_seq

    async def versions(self, cid: int, seq: int) -> list[Version]:
        """What a message has said, the oldest first. For its author and for moderators: ForbiddenError for others, and
        NotFoundError when it was recalled or has expired.
        """
        found: list[Version] = []
        more = True
        while more:
            after = found[-1].seq if found else 0
            result = await self.request(Method.EVENT_VERSIONS, {1: cid, 2: seq, 3: after})
            found += [Version(*row) for row in result[1]]
            more = bool(result[2])
        return found

    async def retention(self, cid: int) -> Retention:
        """How long the conversation keeps its events, and the first one that it still has."""
        result = await self.request(Method.RETENTION_GET, {1: cid})
        return Retention(*(result[key] for key in range(1, 6)))

    async def set_retention(self, cid: int, days: int | None = None, events: int | None = None) -> int:
        """Keep events so long, and so many of the newest; 0: all, None: as it is. What is gone does not come back."""
        return int((await self.request(Method.RETENTION_SET, {1: cid, 2: days, 3: events}))[1])

    async def rebuild_search(self) -> None:
        """For administrators: have the server make its index of search anew."""
        await self.request(Method.SEARCH_REBUILD)

    async def search_page(
        self,
        words: str,
        *,
        cid: int = 0,
        sender: int = 0,
        kinds: Sequence[int] = (),
        since_ms: int = 0,
        until_ms: int = 0,
        limit: int = HITS_PER_PAGE_MAX,
        cursor: bytes = b"",
    ) -> Hits:
        """Messages with all the words, newest first; 0 and () ask for any. A short page may still have a cursor."""
        params: dict[int, Any] = {1: words, 2: cid, 3: sender, 4: list(kinds), 5: since_ms, 6: until_ms, 7: limit}
        result = await self.request(Method.SEARCH, {**params, 8: cursor})
        return Hits([_hit(*row) for row in result[1]], bytes(result[2]), bool(result[3]), int(result.get(4, 0)))

    async def search(self, words: str, **filters: Any) -> AsyncIterator[Hit]:
        """All of search_page's pages, asked for as they are needed."""
        cursor = b""
        while True:
            page = await self.search_page(words, **filters, cursor=cursor)
            for hit in page.hits:
                yield hit
            if not page.cursor:
                return
            cursor = page.cursor


def _hit(cid: int, seq: int, sender: int, time_ms: int, kind: int, excerpt: str, marks: list[list[int]]) -> Hit:
    return Hit(cid, seq, sender, time_ms, kind, excerpt, tuple((start, length) for start, length in marks))
