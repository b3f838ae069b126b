"""SEARCH: parameters and result. The work is done in chatd.hub.search."""

from chatd.hub import reads
from chatd.hub.frames import CallError
from chatd.hub.search import Question
from chatd.services import params
from chatd.services.caller import Caller, Result
from chatd.storage.search.interface import Key
from chatd.storage.search.text import Query, excerpt, parse_query
from chatd.wire import varint
from chatd.wire.errors import WireError
from chatd.wire.schema import ErrorCode

QUERY_BYTES_MAX = 256
CURSOR_BYTES_MAX = 30
TIME_MS_END = 1 << 47
KEY_NUMBERS = 3


def words(value: object) -> Query:
    """The words to look for."""
    return parse_query(params.text(QUERY_BYTES_MAX, 1)(value))


def moment(value: object) -> int:
    if type(value) is not int or not 0 <= value < TIME_MS_END:
        raise ValueError("Unix milliseconds, or 0")
    return value


def cursor(value: object) -> Key | None:
    """Where the page before ended."""
    if value == b"":
        return None
    if not isinstance(value, bytes) or len(value) > CURSOR_BYTES_MAX:
        raise ValueError("the cursor of the page before, or empty")
    numbers, at = list[int](), 0
    try:
        while at < len(value):
            number, at = varint.decode(value, at)
            numbers.append(number)
    except WireError:
        numbers.clear()
    if len(numbers) != KEY_NUMBERS:
        raise ValueError("the cursor of the page before, or empty")
    ts_ms, cid, seq = numbers
    return ts_ms, cid, seq


async def search(
    caller: Caller,
    query: Query,
    cid: int,
    sender: int,
    kinds: list[int],
    since_ms: int,
    until_ms: int,
    limit: int,
    before: Key | None,
) -> Result:
    """SEARCH"""
    settings = caller.hub.settings
    caller.hub.calls.charge("search", caller.user, settings.searches_per_s, settings.searches_burst)
    if until_ms and until_ms < since_ms:
        raise CallError(ErrorCode.BAD_REQUEST, "the time range ends before it begins")
    now_ms, until_ms = caller.hub.clock.wall_ms(), until_ms or TIME_MS_END - 1
    asked = Question(query, cid, sender, frozenset(kinds), since_ms, until_ms, before, limit, now_ms)
    page = await caller.hub.search.find(caller.user, asked)
    floor_seq = 0
    if cid:
        may = await caller.hub.lookup(lambda: reads.readable(caller.core, caller.rows, cid, caller.user))
        floor_seq = may.floor_seq
    hits = []
    for hit in page.hits:
        shown = excerpt(hit.text, query)
        hits.append(
            [hit.cid, hit.seq, hit.sender, hit.ts_ms, hit.kind, shown.text, [list(mark) for mark in shown.marks]]
        )
    following = b"" if page.next is None else b"".join(map(varint.encode, page.next))
    return {1: hits, 2: following, 3: page.complete, 4: floor_seq}


async def rebuild(caller: Caller) -> Result:
    """SEARCH_REBUILD: the indexer makes the index anew from the main database; until then answers are not complete."""
    await caller.hub.search.rebuild()
    return {}
