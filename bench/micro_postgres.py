"""python -m bench.micro_postgres: what a batch costs on PostgreSQL, appended as one row or written straight into place.

Both layouts get the same batches: 64-byte bodies of 5,000 conversations and 2,000 devices. `append` inserts the batch's
blob as one row, `fold` moves it later, 100,000 records at a time, as chatd does; `in place` inserts events and
idempotency keys and moves the heads in one transaction of three statements over arrays. One connection, one batch at a
time, synchronous_commit on. CPU is that of all processes of the server and of this one.
"""

import argparse
import asyncio
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import asyncpg
import uvloop

from bench.servers.postgres import Postgres
from chatd import _native
from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.postgresql.folder import PostgresFolder
from chatd.storage.postgresql.store import PostgresStore

CONVERSATIONS, DEVICES, BODY = 5000, 2000, bytes(64)
TS0 = 1_760_000_000_000
PLACES = """
CREATE TABLE in_place(cid BIGINT, seq BIGINT, ts BIGINT, sender BIGINT, device BIGINT, cseq BIGINT, kind BIGINT,
    message_count BIGINT, digest BIGINT, body BYTEA, PRIMARY KEY(cid, seq));
CREATE TABLE in_place_key(device BIGINT, cseq BIGINT, cid BIGINT, seq BIGINT, PRIMARY KEY(device, cseq));
CREATE TABLE in_place_head(id BIGINT PRIMARY KEY, head_seq BIGINT) WITH (fillfactor = 70);
"""
EVENTS = (
    "INSERT INTO in_place SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], "
    "$6::bigint[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])"
)
KEYS = "INSERT INTO in_place_key SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::bigint[])"
HEADS = (
    "UPDATE in_place_head SET head_seq = seq FROM unnest($1::bigint[], $2::bigint[]) AS new(cid, seq) WHERE id = cid"
)


def batches(records: int, size: int) -> list[list[codec.EventTuple]]:
    rng, heads, cseqs = random.Random(1), [0] * (CONVERSATIONS + 1), [0] * (DEVICES + 1)
    made = []
    for _ in range(records // size):
        batch = []
        for _ in range(size):
            cid, device = rng.randint(1, CONVERSATIONS), rng.randint(1, DEVICES)
            heads[cid] += 1
            cseqs[device] += 1
            seq = heads[cid]
            batch.append((cid, seq, TS0 + seq, device, device, cseqs[device], 1, seq, seq, BODY, codec.EVENT_MESSAGE))
        made.append(batch)
    return made


class Meter:
    """CPU seconds of the server's processes, those that have ended included, and of this one."""

    def __init__(self, server: Postgres) -> None:
        assert server.process is not None
        self._pid = server.process.pid
        self.wall_s: list[float] = []

    def cpu_s(self) -> float:
        pids = [self._pid, *map(int, Path(f"/proc/{self._pid}/task/{self._pid}/children").read_text().split())]
        ticks = 0
        for pid in pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += sum(int(field) for field in fields[11 : 15 if pid == self._pid else 13])
        times = os.times()
        return ticks / os.sysconf("SC_CLK_TCK") + times.user + times.system


def appended(store: PostgresStore, meter: Meter, made: list[list[codec.EventTuple]]) -> None:
    for batch in made:
        blob = b"".join(codec.encode_event(event) for event in batch)
        begin = time.perf_counter()
        store.append(store.next_pos, len(batch), blob)
        meter.wall_s.append(time.perf_counter() - begin)


async def put_in_place(dsn: str, meter: Meter, made: list[list[codec.EventTuple]]) -> None:
    connection: Any = await asyncpg.connect(dsn)
    await connection.execute(PLACES)
    await connection.execute(f"INSERT INTO in_place_head SELECT n, 0 FROM generate_series(1, {CONVERSATIONS}) n")
    for batch in made:
        columns = list(zip(*sorted(event[:10] for event in batch), strict=True))
        heads = sorted({event[0]: event[1] for event in batch}.items())
        begin = time.perf_counter()
        async with connection.transaction():
            await connection.execute(EVENTS, *columns)
            await connection.execute(KEYS, columns[4], columns[5], columns[0], columns[1])
            await connection.execute(HEADS, *zip(*heads, strict=True))
        meter.wall_s.append(time.perf_counter() - begin)
    await connection.close()


def measured(name: str, meter: Meter, records: int, run: Any) -> dict[str, Any]:
    meter.wall_s.clear()
    cpu, begin = meter.cpu_s(), time.perf_counter()
    run()
    cpu, wall = meter.cpu_s() - cpu, time.perf_counter() - begin
    row: dict[str, Any] = {"what": name, "us_cpu_per_record": round(cpu * 1e6 / records, 2)}
    if meter.wall_s:
        ordered = sorted(meter.wall_s)
        row |= {
            f"batch_{p}_ms": round(1e3 * ordered[int(len(ordered) * q)], 2) for p, q in (("p50", 0.5), ("p99", 0.99))
        }
    return row | {"records_per_s": round(records / wall)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=200_000)
    parser.add_argument("--batch", type=int, default=64)
    options = parser.parse_args()
    made = batches(options.records, options.batch)
    records = sum(len(batch) for batch in made)
    with Postgres(os.sched_getaffinity(0)).running() as server:
        dsn = server.dsn
        meter = Meter(server)
        store = PostgresStore.open(dsn)
        rows = [row_record("conversation", {"id": n}) for n in range(1, CONVERSATIONS + 1)]
        rows += [row_record("device", {"id": n, "uid": n}) for n in range(1, DEVICES + 1)]
        store.append(1, len(rows), b"".join(codec.encode_row(row) for row in rows))
        folder = PostgresFolder.open(dsn, _native.Portion)
        folder.fold_once()

        def fold() -> None:
            while folder.fold_once().more:
                pass

        def in_place() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(put_in_place(dsn, meter, made))

        for row in (
            measured("append", meter, records, lambda: appended(store, meter, made)),
            measured("fold", meter, records, fold),
            measured("in place", meter, records, in_place),
        ):
            print(json.dumps(row), flush=True)
        folder.close()
        store.close()


if __name__ == "__main__":
    main()
