"""python -m bench sync: what it costs a device to catch up, against conversations and missed events.

A user is in all conversations. His device was there when everything was quiet; then others wrote, spread over the
conversations or in a few of them; then it comes back. Measured from the first byte to the last event, with our client
library, and beside it SYNC alone, frame by frame: pages, bytes and time.
"""

import shutil
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
from bench.result import write
from chatd import _native
from chatd.client import Client, Event
from chatd.init import initialise
from chatd.storage import journal_codec
from chatd.storage.interface import row_record
from chatd.storage.sqlite.folder import SqliteFolder
from chatd.storage.sqlite.store import SqliteStore
from chatd.testing import ChatdServer
from chatd.wire.schema import ConversationKind, Kind, Role

READER, WRITER = 10_001, 10_002
BATCH_RECORDS = 10_000
PATIENCE_S = 120
FIRST_MS = 1_750_000_000_000
POINTS = ((100, 0, 0), (1000, 0, 0), (5000, 0, 0), (5000, 50, 10_000), (5000, 500, 10_000), (5000, 5000, 10_000))
"""conversations, of them changed, missed events"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    repeats: Annotated[int, typer.Option(min=1)] = 3,
    conversations: Annotated[int, typer.Option(min=0, help="Instead of the points: so many,")] = 0,
    changed: Annotated[int, typer.Option(min=0, help="of them with news,")] = 0,
    missed: Annotated[int, typer.Option(min=0, help="and so many events in all.")] = 0,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there.")] = None,
) -> None:
    """Time to catch up. Exit status 1: events were missing."""
    points = ((conversations, changed, missed),) if conversations else POINTS
    described = machine.describe()
    rows = [measure(*point, repeats) for point in points]
    document: dict[str, Any] = {"machine": described, "settings": {"repeats": repeats}, "rows": rows}
    show(document)
    if json_file is not None:
        write(document, json_file)
    if any(row["faults"] for row in rows):
        sys.exit(1)


def measure(conversations: int, changed: int, missed: int, repeats: int) -> dict[str, Any]:
    directory = machine.DIRECTORIES / "sync"
    runs = []
    for _ in range(repeats):
        shutil.rmtree(directory, ignore_errors=True)
        data = directory / "data"
        data.mkdir(parents=True)
        initialise(data)
        store = SqliteStore.open(data)
        append(store, _rows(conversations))
        store.close()
        fold(data)
        runs.append(anyio.run(one_run, directory, conversations, changed, missed))
        shutil.rmtree(directory)
    times = sorted(run["catch_up_s"] for run in runs)
    middle = runs[[run["catch_up_s"] for run in runs].index(times[len(times) // 2])]
    return {
        "server": "chatd",
        "work": f"sync, {conversations} conversations, {changed} changed, {missed} events missed",
        **middle,
        "catch_up_s_all": times,
    }


async def one_run(directory: Path, conversations: int, changed: int, missed: int) -> dict[str, Any]:
    state = directory / "reader.db"
    with ChatdServer.start(directory, "--shards", "1", inline=False) as server:
        async with server.client("reader", state=state) as client:
            await client.synced(PATIENCE_S)
        server.stop()
        store = SqliteStore.open(directory / "data")
        append(store, _news(changed, missed))
        store.close()
        fold(directory / "data")
        server.launch()
        async with server.client("reader-2"):
            pass  # the first login of a process loads what every later one needs
        before = cpu_s(server.pid)
        began = time.perf_counter()
        async with server.client("reader", state=state) as client:
            live_s = time.perf_counter() - began
            await client.synced(PATIENCE_S)
            synced_s = time.perf_counter() - began
            got = await receive(client, missed)
            caught_up_s = time.perf_counter() - began
        used = cpu_s(server.pid) - before
    return {
        "live_s": live_s,
        "synced_s": synced_s,
        "catch_up_s": caught_up_s,
        "server_cpu_s": used,
        "faults": [] if got == missed else [f"{missed - got} of {missed} events did not come"],
    }


async def receive(client: Client, missed: int) -> int:
    seen: set[tuple[int, int]] = set()
    with anyio.move_on_after(PATIENCE_S):
        events = client.events()
        while len(seen) < missed:
            update = await anext(events)
            if isinstance(update, Event):
                seen.add((update.cid, update.seq))
    return len(seen)


def cpu_s(pid: int) -> float:
    """Of a process and its children, so far."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split())]
    return sum(time.clock_gettime(~each << 3 | 2) for each in pids)


# ---------------------------------------------------------------- the store


def append(store: SqliteStore, records: Iterator[bytes]) -> None:
    while batch := list(islice(records, BATCH_RECORDS)):
        store.append(store.next_pos, len(batch), b"".join(batch))


def fold(data: Path) -> None:
    folder = SqliteFolder.open(data, _native.Portion)
    while folder.fold_once().records:
        pass
    folder.settle()
    folder.close()


def _rows(conversations: int) -> Iterator[bytes]:
    for user, name in ((READER, "reader"), (WRITER, "writer")):
        row = {"id": user, "name": name, "display_name": name, "created_ms": FIRST_MS}
        yield journal_codec.encode_row(row_record("user", row))
    for cid in range(1, conversations + 1):
        row = {"id": cid, "kind": int(ConversationKind.GROUP), "title": f"group {cid}", "created_ms": FIRST_MS}
        yield journal_codec.encode_row(row_record("conversation", row))
        for user in (READER, WRITER):
            yield journal_codec.encode_member(cid, user, 1, 0, int(Role.MEMBER))
        yield _event(cid, 1, cid)


def _news(changed: int, missed: int) -> Iterator[bytes]:
    for number in range(missed):
        yield _event(1 + number % changed, 2 + number // changed, 1_000_000 + number)


def _event(cid: int, seq: int, cseq: int) -> bytes:
    body = b"one of many messages that came while nobody looked"
    return journal_codec.encode_event(
        (cid, seq, FIRST_MS + cseq, WRITER, 1, cseq, int(Kind.TEXT), seq, 0, body, journal_codec.EVENT_MESSAGE)
    )


def show(document: dict[str, Any]) -> None:
    table = Table(title="catching up")
    for heading in ("work", "live s", "synced s", "caught up s", "best to worst", "server CPU s", "faults"):
        table.add_column(heading, justify="left" if heading == "work" else "right")
    for row in document["rows"]:
        times = [f"{row[name]:.2f}" for name in ("live_s", "synced_s", "catch_up_s")]
        spread = f"{row['catch_up_s_all'][0]:.2f} to {row['catch_up_s_all'][-1]:.2f}"
        table.add_row(row["work"], *times, spread, f"{row['server_cpu_s']:.2f}", str(len(row["faults"])))
    Console(width=140).print(table)
