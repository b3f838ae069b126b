"""Both stores give the same results, with edits and recalls among the messages: either index has the same in it."""

import random
from pathlib import Path

from support.postgres import Postgres
from support.stores import PostgresPlace, SqlitePlace, StorePlace

from bench.corpus import Corpus
from chatd.hub.searchable import searchable
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.search.index import Wanted, newest
from chatd.storage.search.indexer import Indexer
from chatd.storage.search.text import parse_query
from chatd.storage.sqlite.search_store import SqliteSearchReader, SqliteSearchWriter
from chatd.wire import varint
from chatd.wire.schema import Kind

MESSAGES, CONVERSATIONS = 1500, 12
Results = dict[str, list[tuple[int, int, int]]]


def records() -> list[bytes]:
    rng, corpus = random.Random(7), Corpus(conversations=CONVERSATIONS, seed=7)
    found = [codec.encode_row(row_record("conversation", {"id": cid})) for cid in range(1, CONVERSATIONS + 1)]
    heads: dict[int, int] = {}
    for number, message in enumerate(corpus.messages(MESSAGES), 1):
        seq = heads[message.cid] = heads.get(message.cid, 0) + 1
        kind, body = Kind.TEXT, message.text.encode()
        if seq > 3 and rng.random() < 0.2:
            kind, body = Kind.EDIT, varint.encode(rng.randrange(1, seq)) + body
        event = (message.cid, seq, message.ts_ms, message.sender, 0, 0, int(kind), seq, number)
        found.append(codec.encode_event((*event, body, codec.EVENT_MESSAGE)))
        if rng.random() < 0.05:
            found.append(codec.encode_redact(message.cid, rng.randrange(1, seq + 1), 1))
    return found


def results(place: StorePlace, directory: Path) -> Results:
    store, batch = place.open(), records()
    for first in range(0, len(batch), 400):
        store.append(store.next_pos, len(batch[first : first + 400]), b"".join(batch[first : first + 400]))
        folder = place.folder()
        while folder.fold_once().records:
            pass
        folder.close()
        reader, writer = store.reader(), SqliteSearchWriter.open(directory)
        while Indexer(reader, writer, searchable).step():
            pass
        writer.close()
        reader.close()
    store.close()
    index = SqliteSearchReader(directory)
    with index.view() as view:
        found = {}
        for words in Corpus(conversations=CONVERSATIONS, seed=8).queries(60):
            wanted = Wanted(parse_query(words).terms, {cid: [(1, 1 << 62)] for cid in range(1, CONVERSATIONS + 1)})
            found[words] = [doc[:3] for doc in newest(view, wanted) if not isinstance(doc, int)]
    index.close()
    return found


def test_both_stores_propose_the_same(tmp_path: Path, postgres: Postgres) -> None:
    for name in ("one", "other", "index-one", "index-other"):
        (tmp_path / name).mkdir()
    sqlite = results(SqlitePlace(tmp_path / "one"), tmp_path / "index-one")
    assert sqlite == results(PostgresPlace(tmp_path / "other", postgres), tmp_path / "index-other")
    assert sum(map(len, sqlite.values())) > MESSAGES / 5
