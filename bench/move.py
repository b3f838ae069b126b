"""python -m bench move: how long it takes to copy a store to the other kind and back, and how long nobody is answered.

A server with a store of many events, its limits lifted, moves from files to PostgreSQL and back with `chatd store copy
--switch`, under sends at a fixed rate. Every send has to be acknowledged once over the connection that it was sent on;
the longest time between two acknowledgements is what the move cost its clients.
"""

import itertools
import json
import os
import shutil
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import trio
import typer
from rich.console import Console
from rich.table import Table

from bench import machine
from bench.prefill import ColdSet, fill
from bench.result import write
from bench.servers.postgres import Postgres
from chatd.storage.copy.places import status
from chatd.testing import ChatdServer
from chatd.wire.frame import Frame, encode, make
from chatd.wire.framer import Framer
from chatd.wire.schema import Credential, Kind, Op

DEVICES, CONVERSATIONS = 2000, 5000
SENDERS, TICK_S, IN_FLIGHT_MAX = 20, 0.02, 60
BODY = bytes(64)
WARM_UP_S = 3.0
PATIENCE_S = 230.0

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    events: Annotated[int, typer.Option(min=1, help="Stored before.")] = 1_000_000,
    rate: Annotated[int, typer.Option(min=0, help="Sends per second meanwhile.")] = 2000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there.")] = None,
) -> None:
    """Move there and back. Exit status 1: a send was lost, came twice, or a connection broke."""
    described = machine.describe()
    directory = machine.DIRECTORIES / "move"
    shutil.rmtree(directory, ignore_errors=True)
    data = directory / "data"
    data.mkdir(parents=True)
    fill(data, ColdSet(DEVICES, CONVERSATIONS, events))
    with Postgres(os.sched_getaffinity(0)).running() as database, ChatdServer.start(directory, inline=False) as server:
        rows = [
            trio.run(moved, server, str(data), database.dsn, rate),
            trio.run(moved, server, database.dsn, str(data), rate),
        ]
    shutil.rmtree(directory)
    document: dict[str, Any] = {
        "machine": described,
        "settings": {"events": events, "rate": rate, "devices": DEVICES, "conversations": CONVERSATIONS},
        "rows": rows,
    }
    show(document)
    if json_file is not None:
        write(document, json_file)
    if any(row["faults"] for row in rows):
        sys.exit(1)


class Load:
    """SENDERS devices, each with a conversation of its own."""

    def __init__(self, server: ChatdServer, rate: int) -> None:
        self.server, self.rate = server, rate
        self.sent = self.acked = self.refused = 0
        self.answered_at: list[float] = []
        self.faults: list[str] = []
        self.ends = False
        self._writing: defaultdict[int, trio.Lock] = defaultdict(trio.Lock)

    async def run(self, number: int) -> None:
        stream = await trio.open_tcp_stream("127.0.0.1", self.server.port)
        framer = Framer()
        proof = self.server.token(f"bench-{number}").encode()
        await stream.send_all(
            encode(make(Op.HELLO, major=1, features=0, frame_bytes_max=65_535, window_frames=0, window_bytes=0,
                        agent="bench"))
            + encode(make(Op.AUTH, credential=int(Credential.JWT), device=0, identity="", proof=proof, label="move"))
        )  # fmt: skip
        pending: dict[int, bytes] = {}
        async with trio.open_nursery() as nursery:
            while True:
                data = await stream.receive_some(65_536)
                if not data:
                    self.faults.append(f"connection {number} was closed")
                    nursery.cancel_scope.cancel()
                    return
                while frames := framer.feed(data):
                    data = b""
                    for frame in frames:
                        await self._on(stream, frame, 1 + number, pending, nursery)

    async def _send(
        self, stream: trio.SocketStream, cid: int, pending: dict[int, bytes], nursery: trio.Nursery
    ) -> None:
        begin, cseq = trio.current_time(), 0
        while pending or not self.ends:
            due = int((trio.current_time() - begin) * self.rate / SENDERS)
            frames = []
            while not self.ends and cseq < due and len(pending) < IN_FLIGHT_MAX:
                cseq += 1
                send = make(Op.SEND, cseq=cseq, cid=cid, kind=int(Kind.TEXT), payload=BODY, extensions=())
                pending[cseq] = encode(send)
                frames.append(pending[cseq])
            self.sent += len(frames)
            async with self._writing[cid]:
                await stream.send_all(b"".join(frames))
            await trio.sleep(TICK_S)
        nursery.cancel_scope.cancel()

    async def _on(
        self, stream: trio.SocketStream, frame: Frame, cid: int, pending: dict[int, bytes], nursery: trio.Nursery
    ) -> None:
        if frame.op == Op.WELCOME:
            nursery.start_soon(self._send, stream, cid, pending, nursery)
        elif frame.op == Op.SEND_ACK:
            if pending.pop(frame["cseq"], None) is None:
                self.faults.append(f"cseq {frame['cseq']} was acknowledged twice")
            self.acked += 1
            self.answered_at.append(trio.current_time())
        elif frame.op == Op.SEND_NAK:
            self.refused += 1
            await trio.sleep(frame["retry_after_ms"] / 1000)
            async with self._writing[cid]:
                await stream.send_all(pending[frame["cseq"]])
        elif frame.op in {Op.ERROR, Op.BYE}:
            self.faults.append(str(frame))


async def moved(server: ChatdServer, origin: str, to: str, rate: int) -> dict[str, Any]:
    before = status(origin)["events"]
    load = Load(server, rate)
    command = [sys.executable, "-m", "chatd", "store", "copy", origin, to, "--switch", "--within", "60", "--json"]
    with trio.fail_after(PATIENCE_S):
        async with trio.open_nursery() as nursery:
            for number in range(SENDERS if rate else 0):
                nursery.start_soon(load.run, number)
            await trio.sleep(WARM_UP_S)
            began, begin = time.monotonic(), trio.current_time()
            done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
            took_s = time.monotonic() - began
            if done.returncode:
                raise typer.BadParameter(done.stderr.decode())
            await trio.sleep(WARM_UP_S)
            load.ends = True
    said = json.loads(done.stdout)
    await trio.sleep(WARM_UP_S)  # until the last of it is folded
    after = status(to)["events"]
    # Logins make no events; every acknowledged send makes one.
    if after - before != load.acked:
        load.faults.append(f"{load.acked} sends were acknowledged, {after - before} events are new")
    times = [begin, *(at for at in load.answered_at if at >= begin)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    return {
        "server": "chatd",
        "work": f"move to {'files' if to.startswith('/') else 'PostgreSQL'}, {rate} sends/s",
        "took_s": took_s,
        **{f"{stage}_s": seconds for stage, seconds in said["seconds"].items()},
        "fenced_s": said["fenced_s"],
        "longest_gap_s": max(gaps, default=0.0),
        "events": said["verified"]["rows"]["event"],
        "records_meanwhile": said["records"],
        "sends": load.acked,
        "refused": load.refused,
        "faults": load.faults[:10],
    }


def show(document: dict[str, Any]) -> None:
    names = ("took_s", "rows_s", "journal_s", "verified_s", "fenced_s", "longest_gap_s", "sends", "refused")
    table = Table("", *names)
    for row in document["rows"]:
        cells = (f"{row[name]:.2f}" if isinstance(row[name], float) else f"{row[name]:,}" for name in names)
        table.add_row(row["work"], *cells)
    console = Console(width=140)
    console.print(table)
    for row in document["rows"]:
        console.print(*row["faults"], style="red")
