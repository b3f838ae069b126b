"""Indexer and index against brute force: order, filters, paging, steps, rebuilding. Three blocks and more."""

import random
import threading
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from support.search_model import MainModel, brute_force

from bench.corpus import Corpus
from chatd.hub.searchable import searchable
from chatd.storage.search import index, indexer
from chatd.storage.search.blocks import BITMAP_BYTES, extend_posting, places, posting_set
from chatd.storage.search.index import Spans, Wanted, newest, sender_term
from chatd.storage.search.index_loop import index_until
from chatd.storage.search.indexer import Indexer
from chatd.storage.search.interface import BLOCK_DOCS, SearchView
from chatd.storage.search.text import Query, parse_query
from chatd.storage.sqlite.search_store import SEARCH_NAME, SqliteSearchReader, SqliteSearchWriter
from chatd.wire.schema import Kind

MESSAGES = 18_000
EVERYTHING = (1, 1 << 62)


def filled() -> MainModel:
    """Times are not quite those of the order: clocks are set, and a conversation's never falls."""
    corpus, main = Corpus(conversations=200, seed=5), MainModel()
    rng = random.Random(3)
    for number, message in enumerate(corpus.messages(MESSAGES)):
        skew_ms = rng.choice((0, 0, 0, -3_600_000)) if 9000 < number < 9500 else 0
        kind = rng.choice((Kind.TEXT, Kind.TEXT, Kind.MARKDOWN, Kind.CUSTOM))
        main.add(message.cid, message.ts_ms + skew_ms, message.sender, int(kind), message.text)
    return main


@pytest.fixture(scope="module")
def main() -> MainModel:
    return filled()


@pytest.fixture(scope="module")
def directory(main: MainModel, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("search")
    fill(made, main)
    return made


def fill(directory: Path, main: MainModel) -> None:
    writer = SqliteSearchWriter.open(directory)
    steps = Indexer(main, writer, searchable)
    while steps.step():
        pass
    assert writer.state == (main.log_epoch, main.folded_pos, main.folded_pos)
    writer.close()


@pytest.fixture
def view(directory: Path) -> Iterator[SearchView]:
    reader = SqliteSearchReader(directory)
    with reader.view() as opened:
        yield opened
    reader.close()


def results(view: SearchView, main: MainModel, query: Query, wanted: Wanted, limit: int) -> list[tuple[int, int, int]]:
    """Every result, in pages, compared with the texts as the hub does."""
    found: list[tuple[int, int, int]] = []
    while True:
        page: list[tuple[int, int, int]] = []
        for doc in newest(view, wanted):
            if isinstance(doc, int):
                wanted = wanted._replace(before=(doc + 1, 0, 0))
                break
            (row,) = main.events(doc.cid, doc.seq, doc.seq, 1, 1)
            if query.matches(row.body.decode()):
                page.append(doc[:3])
            if len(page) == limit:
                wanted = wanted._replace(before=page[-1])
                break
        else:
            return [*found, *page]
        found += page


def readers(main: MainModel) -> list[Spans]:
    rng = random.Random(9)
    cids = sorted(main.log)
    some = {cid: [(5, 40), (60, 1 << 62)] for cid in rng.sample(cids, 60)}
    return [{cid: [EVERYTHING] for cid in cids}, some, {cid: [EVERYTHING] for cid in rng.sample(cids, 3)}, {}]


def test_results_are_those_of_brute_force(view: SearchView, main: MainModel) -> None:
    rng = random.Random(1)
    nonempty = 0
    for text in Corpus(conversations=200, seed=6).queries(25):
        query = parse_query(text)
        for spans in readers(main):
            times = sorted(rng.sample(range(MESSAGES), 2))
            lowest = 1_750_000_000_000
            sender = rng.choice((0, 0, 0, 7))
            wanted = Wanted(
                [*query.terms, *([sender_term(sender)] if sender else [])],
                spans,
                rng.choice((frozenset(), frozenset({int(Kind.TEXT)}))),
                rng.choice((0, lowest + times[0] * 39)),
                rng.choice(((1 << 47) - 1, lowest + times[1] * 39)),
            )
            expected = brute_force(main.rows(), query, wanted, sender)
            assert (
                results(view, main, query, wanted, rng.choice((1, 7, 50, 10_000)) if len(expected) < 300 else 1000)
                == expected
            )
            nonempty += bool(expected)
    assert nonempty > 15


def test_a_frequent_term_opens_the_newest_blocks_only(
    view: SearchView, main: MainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    postings = type(view).postings
    monkeypatch.setattr(
        type(view), "postings", lambda self, block, terms: opened.append(block) or postings(self, block, terms)
    )
    wanted = Wanted(parse_query("的").terms, readers(main)[0])
    assert len(list(islice(newest(view, wanted), 20))) == 20
    assert set(opened) == {view.blocks()[-1].number}


def test_a_page_that_looks_at_too_much_ends_and_goes_on(
    view: SearchView, main: MainModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "BLOCKS_PER_PAGE_MAX", 1)
    query = parse_query("今天")
    wanted = Wanted(query.terms, readers(main)[0])
    assert results(view, main, query, wanted, 10_000) == brute_force(main.rows(), query, wanted)


def test_small_steps_make_the_same_index(
    main: MainModel, directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Live: a few events at a time; then the same query finds the same."""
    monkeypatch.setattr(indexer, "DOCS_PER_STEP", 700)
    monkeypatch.setattr(indexer, "KEYS_PER_STEP", 900)
    monkeypatch.setattr(indexer, "CONVERSATIONS_PER_STEP", 30)
    monkeypatch.setattr(indexer, "BYTES_PER_STEP", 20_000)
    fill(tmp_path, main)
    reader = SqliteSearchReader(tmp_path)
    with reader.view() as small:
        assert sum(block.doc_count for block in small.blocks()) == sum(row.kind in (1, 2) for row in main.rows())
        for text in ("的", "今天", "the", "you 的"):
            query = parse_query(text)
            wanted = Wanted(query.terms, readers(main)[1])
            assert results(small, main, query, wanted, 9) == brute_force(main.rows(), query, wanted)
    reader.close()


def test_another_log_a_removed_file_and_rubbish_are_indexed_anew(tmp_path: Path) -> None:
    main = MainModel()
    main.add(1, 1000, 5, int(Kind.TEXT), "hello")
    reader = SqliteSearchReader(tmp_path)

    def found(word: str) -> list[int]:
        with reader.view() as view:
            return [doc.seq for doc in newest(view, Wanted([word], {1: [EVERYTHING]})) if not isinstance(doc, int)]

    assert found("hello") == []
    (tmp_path / SEARCH_NAME).touch()
    assert found("hello") == [], "the indexer has just begun to make the file"
    fill(tmp_path, main)
    assert found("hello") == [1]
    main.log_epoch, main.log, main.changed = 8, {}, {}
    main.add(1, 1000, 5, int(Kind.TEXT), "other")
    fill(tmp_path, main)
    assert (found("hello"), found("other")) == ([], [1])

    stop = threading.Event()
    thread = threading.Thread(
        target=index_until,
        args=(stop, lambda: SqliteSearchWriter.open(tmp_path), lambda writer: Indexer(main, writer, searchable)),
        kwargs={"interval_s": 0.01, "retry_s": 0.01},
    )
    thread.start()
    try:
        for suffix in ("", "-wal", "-shm"):
            (tmp_path / (SEARCH_NAME + suffix)).unlink(missing_ok=True)
        until_found(lambda: found("other") == [1])
    finally:
        stop.set()
        thread.join()
    for suffix in ("-wal", "-shm"):
        (tmp_path / (SEARCH_NAME + suffix)).unlink(missing_ok=True)
    (tmp_path / SEARCH_NAME).write_bytes(b"rubbish" * 1000)
    fill(tmp_path, main)
    assert found("other") == [1]
    reader.close()


def until_found(reached: object) -> None:
    deadline = threading.Event()
    for _ in range(1000):
        if reached():  # type: ignore[operator]
            return
        deadline.wait(0.01)
    raise AssertionError("not found in 10 s")


def test_postings_are_sets_in_either_form() -> None:
    rng = random.Random(2)
    for count in (0, 1, BITMAP_BYTES // 2 - 1, BITMAP_BYTES // 2, BLOCK_DOCS):
        chosen = sorted(rng.sample(range(BLOCK_DOCS), count))
        cut = rng.randint(0, count)
        posting = extend_posting(extend_posting(b"", chosen[:cut]), chosen[cut:])
        assert len(posting) <= BITMAP_BYTES
        assert places(posting_set(posting)) == chosen
