"""python -m bench search: SEARCH over loopback at a million messages of mixed text, compared with brute force.

A data directory is written through the store's own interface and folded; the server that starts on it makes the index
by itself. Readers differ in what they may read, because that is what makes a frequent term dear: one is in every
conversation, one in a quarter that has no Chinese, one in a hundred, one in five.
"""

import random
import shutil
import statistics
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.corpus import Corpus, Message
from bench.result import write, write_plot
from chatd import _native
from chatd.client import Client
from chatd.init import initialise
from chatd.storage import journal_codec
from chatd.storage.interface import row_record
from chatd.storage.search.text import Query, normalised, parse_query, tokens
from chatd.storage.sqlite.folder import SqliteFolder
from chatd.storage.sqlite.search_store import SEARCH_NAME, SqliteSearchReader
from chatd.storage.sqlite.store import SqliteStore
from chatd.testing import ChatdServer
from chatd.wire.schema import ConversationKind, Kind, Role

BATCH_RECORDS = 10_000
FIRST_READER = 10_001
HITS = 20
INDEX_TIMEOUT_S = 1800
LAG_MESSAGES = 30
LAG_US_MAX, LAG_S_MAX = 2_000_000, 10.0
LIFTED = ("hub.searches_per_s=0", "hub.requests_per_s=0")

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


def readers(corpus: Corpus) -> dict[str, list[int]]:
    """name → cids."""
    rng, cids = random.Random(4), range(1, corpus.conversations + 1)
    return {
        "all conversations": list(cids),
        "a quarter, no Chinese": [cid for cid in cids if corpus.language(cid) == 1],
        "100 conversations": rng.sample(cids, min(100, corpus.conversations)),
        "5 conversations": rng.sample(cids, 5),
    }


@app.command()
def main(
    messages: Annotated[int, typer.Option(min=1000)] = 1_000_000,
    queries: Annotated[int, typer.Option(min=1, help="Of every reader.")] = 1000,
    conversations: Annotated[int, typer.Option(min=10)] = 5000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Latency, as SVG.")] = None,
    equality: Annotated[bool, typer.Option(help="Compare with brute force: minutes, also beside other work.")] = True,
    keep: Annotated[Path | None, typer.Option(help="Data directory to fill, or to use again.")] = None,
) -> None:
    """Latency of the first page of SEARCH. Exit status 1: a page differs from brute force."""
    described = machine.describe()
    directory = keep or machine.DIRECTORIES / "search"
    corpus = Corpus(conversations)
    data = directory / "data"  # where ChatdServer looks for it
    fresh = not (data / "chatd.db").exists()
    if fresh:
        fill(data, corpus, messages)
    texts = sent(Corpus(conversations), messages)
    index_s = wait_for_index(directory, messages) if fresh else 0.0
    rows = anyio.run(measure, directory, corpus, Plain(texts) if equality else None, queries)
    document: dict[str, Any] = {
        "machine": described,
        "settings": {
            "messages": messages,
            "conversations": conversations,
            "queries": queries,
            "equality": equality,
            "index_s": index_s,
            "index_bytes": (data / SEARCH_NAME).stat().st_size,
            "text_bytes": sum(len(message.text.encode()) for _, message in texts),
            "limits_lifted": LIFTED,
        },
        "rows": rows,
    }
    show(document)
    if json_file is not None:
        write(document, json_file)
    if plot_file is not None:
        write_plot(document, plot_file)
    if keep is None:
        shutil.rmtree(directory)
    if any(row["faults"] for row in rows):
        sys.exit(1)


# ---------------------------------------------------------------- the store


def fill(directory: Path, corpus: Corpus, messages: int) -> None:
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    initialise(directory)
    store = SqliteStore.open(directory)
    records = _records(corpus, messages)
    while batch := list(islice(records, BATCH_RECORDS)):
        store.append(store.next_pos, len(batch), b"".join(batch))
    store.close()
    folder = SqliteFolder.open(directory, _native.Portion)
    while folder.fold_once().records:
        pass
    folder.settle()
    folder.close()


def _records(corpus: Corpus, messages: int) -> Iterator[bytes]:
    groups = readers(corpus)
    for number, _ in enumerate(groups):
        user = {"id": FIRST_READER + number, "name": f"reader-{number}", "display_name": "reader", "created_ms": 1}
        yield journal_codec.encode_row(row_record("user", user))
    for cid in range(1, corpus.conversations + 1):
        row = {"id": cid, "kind": int(ConversationKind.GROUP), "title": f"group {cid}", "created_ms": 1}
        yield journal_codec.encode_row(row_record("conversation", row))
    for number, cids in enumerate(groups.values()):
        for cid in cids:
            yield journal_codec.encode_member(cid, FIRST_READER + number, 1, 0, int(Role.MEMBER))
    for index, (seq, message) in enumerate(sent(corpus, messages), 1):
        event = (message.cid, seq, message.ts_ms, message.sender, 1, index, int(Kind.TEXT), seq, 0)
        yield journal_codec.encode_event((*event, message.text.encode(), journal_codec.EVENT_MESSAGE))


def sent(corpus: Corpus, messages: int) -> list[tuple[int, Message]]:
    """(seq, message) in the order of time."""
    heads: dict[int, int] = {}
    out = []
    for message in corpus.messages(messages):
        heads[message.cid] = heads.get(message.cid, 0) + 1
        out.append((heads[message.cid], message))
    return out


def wait_for_index(directory: Path, messages: int) -> float:
    """Seconds that the server needs to make the index of this store. Returns when nothing is left to do."""
    with ChatdServer.start(directory, "--shards", "1", inline=False):
        began = time.monotonic()
        reader = SqliteSearchReader(directory / "data")
        while time.monotonic() < began + INDEX_TIMEOUT_S:
            with reader.view() as view:
                count = sum(block.doc_count for block in view.blocks())
            if count == messages:
                reader.close()
                return time.monotonic() - began
            time.sleep(0.2)
    raise SystemExit("bench: the index was not made in time")


# ---------------------------------------------------------------- queries


class Plain:
    """Brute force: every message in one form in which a word or a part of a run is a substring."""

    def __init__(self, texts: list[tuple[int, Message]]) -> None:
        self._held = sorted(
            ((message.ts_ms, message.cid, seq, _plain(message.text)) for seq, message in texts), reverse=True
        )

    def readable(self, cids: set[int]) -> list[tuple[int, int, str]]:
        """(cid, seq, form) of a reader's messages, newest first."""
        return [(cid, seq, plain) for _, cid, seq, plain in self._held if cid in cids]


def newest(held: list[tuple[int, int, str]], query: Query) -> list[tuple[int, int]]:
    wanted = [f" {word} " for word in query.words] + list(query.runs)
    found = ((cid, seq) for cid, seq, plain in held if all(part in plain for part in wanted))
    return list(islice(found, HITS))


def _plain(text: str) -> str:
    return " " + "  ".join(token.text for token in tokens(normalised(text))) + " "


async def measure(directory: Path, corpus: Corpus, plain: Plain | None, queries: int) -> list[dict[str, Any]]:
    asked, strangers = corpus.queries(queries), corpus.strangers(max(1, queries // 10))
    rows = []
    flags = [word for setting in LIFTED for word in ("--set", setting)]
    with ChatdServer.start(directory, "--shards", "1", *flags, inline=False) as server:
        for number, (name, cids) in enumerate(readers(corpus).items()):
            async with server.client(f"reader-{number}") as client:
                held = plain.readable(set(cids)) if plain else None
                for kind, words in (("", asked), (", words that hardly meet", strangers)):
                    rows.append(await of_reader(client, name + kind, len(cids), words, held))
        async with server.client("reader-0") as client:
            rows.append(await lag(client, directory / "data"))
    return rows


async def lag(client: Client, data: Path) -> dict[str, Any]:
    """From the ack of a message until SEARCH finds it, and until the index has it."""
    found_us, indexed_us, faults = list[float](), list[float](), list[str]()
    reader = SqliteSearchReader(data)
    for _ in range(LAG_MESSAGES):
        word = f"messreihe{time.time_ns()}"
        sent = await client.send(1, word)
        began = time.perf_counter()
        page = await client.search_page(word, limit=HITS)
        found_us.append((time.perf_counter() - began) * 1e6)
        if [(hit.cid, hit.seq) for hit in page.hits] != [(1, sent.seq)]:
            faults.append(f"{word} is not found after its ack")
        while not has(reader, word) and time.perf_counter() < began + LAG_S_MAX:  # noqa: ASYNC110 a file has no event
            await anyio.sleep(0.01)
        indexed_us.append((time.perf_counter() - began) * 1e6)
    reader.close()
    late = sum(taken > LAG_US_MAX for taken in indexed_us)
    return {
        "server": "chatd",
        "work": "from the ack into the index",
        "operations": LAG_MESSAGES,
        "hits": LAG_MESSAGES - len(faults),
        "latency_us": latency(indexed_us),
        "found_us": latency(found_us),
        "faults": faults + [f"{late} messages were not indexed within 2 s"] * bool(late),
    }


def has(reader: SqliteSearchReader, word: str) -> bool:
    with reader.view() as view:
        last = view.blocks()[-1].number
        return bool(view.postings(last, [word]))


def latency(taken_us: list[float]) -> dict[str, float]:
    quantiles = statistics.quantiles(taken_us, n=1000, method="inclusive")
    return {"p50": quantiles[499], "p90": quantiles[899], "p99": quantiles[989], "max": max(taken_us)}


async def of_reader(
    client: Client, name: str, conversations: int, asked: list[str], held: list[tuple[int, int, str]] | None
) -> dict[str, Any]:
    await client.search_page("warm up", limit=HITS)
    taken_us, found, faults = list[float](), list[list[tuple[int, int]]](), list[str]()
    for words in asked:
        began = time.perf_counter()
        page = await client.search_page(words, limit=HITS)
        taken_us.append((time.perf_counter() - began) * 1e6)
        found.append([(hit.cid, hit.seq) for hit in page.hits])
    for words, hits in zip(asked, found, strict=True):
        if held is not None and hits != newest(held, parse_query(words)):
            faults.append(f"{words!r} is answered otherwise than by brute force")
    return {
        "server": "chatd",
        "work": f"search, {name}",
        "operations": len(asked),
        "conversations": conversations,
        "hits": sum(map(len, found)),
        "latency_us": latency(taken_us),
        "slowest": [words for _, words in sorted(zip(taken_us, asked, strict=True), reverse=True)[:5]],
        "histogram_us": [(taken, 1) for taken in sorted(taken_us)],
        "faults": faults,
    }


def show(document: dict[str, Any]) -> None:
    settings = document["settings"]
    table = Table(title=f"SEARCH, first page of {HITS}, {settings['messages']:,} messages")
    for heading in ("reader", "queries", "hits", "p50 ms", "p90 ms", "p99 ms", "max ms", "faults"):
        table.add_column(heading, justify="left" if heading == "reader" else "right")
    for row in document["rows"]:
        times = [f"{row['latency_us'][name] / 1000:.1f}" for name in ("p50", "p90", "p99", "max")]
        table.add_row(row["work"], f"{row['operations']:,}", f"{row['hits']:,}", *times, str(len(row["faults"])))
    console = Console(width=120)
    console.print(table)
    megabytes = settings["index_bytes"] / 1e6
    console.print(f"index: {megabytes:.0f} MB for {settings['text_bytes'] / 1e6:.0f} MB of text", highlight=False)
    if settings["index_s"]:
        console.print(f"made in {settings['index_s']:.0f} s beside an idle server", highlight=False)
