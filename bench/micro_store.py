"""What the store costs by itself: appending, folding by stage, reading back.

    python bench/micro_store.py [--conversations 5000] [--devices 2000] [--records 1000000] [--batch 200] [--body 64]
                                [--directory DIR] [--reference] [--json FILE]

Folding is CPU time per record on one thread (time.thread_time), which noise of other processes hardly touches. The
first portions fold into an empty database and are cheap; the figures are of the second half.
"""

import argparse
import json
import platform
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path

import apsw

from chatd.storage import journal_codec
from chatd.storage.interface import row_record
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore

TS0 = 1_760_000_000_000


class Traffic:
    """Batches of a hot set: conversations and devices drawn evenly, seqs and cseqs without gaps."""

    def __init__(self, conversations: int, devices: int, body: int) -> None:
        self.random = random.Random(7)
        self.heads = [0] * (conversations + 1)
        self.cseqs = [0] * (devices + 1)
        self.pad = -(80 + body) % 8
        self.head = struct.pack("<IBBH", 80 + body + self.pad, journal_codec.EVENT, 1, self.pad)
        self.body = bytes(range(256)) * (body // 256 + 1)
        self.body = self.body[:body] + bytes(self.pad)
        self.size = body
        self.count = 0

    def setup(self) -> tuple[int, bytes]:
        rows = [("conversation", cid, {"kind": 2}) for cid in range(1, len(self.heads))]
        rows += [("device", device, {"uid": device}) for device in range(1, len(self.cseqs))]
        records = [journal_codec.encode_row(row_record(table, {"id": at, **more})) for table, at, more in rows]
        return len(records), b"".join(records)

    def batch(self, count: int) -> bytes:
        parts, pack, randrange = [], struct.Struct("<QQQQQQQqII").pack, self.random.randrange
        for _ in range(count):
            cid, device = randrange(1, len(self.heads)), randrange(1, len(self.cseqs))
            seq = self.heads[cid] = self.heads[cid] + 1
            cseq = self.cseqs[device] = self.cseqs[device] + 1
            self.count += 1
            digest = self.random.getrandbits(64) - 2**63
            parts.append(self.head)
            parts.append(pack(cid, seq, device, device, cseq, TS0 + self.count // 100, seq, digest, 1, self.size))
            parts.append(self.body)
        return b"".join(parts)


def percentile(sorted_values: list[float], share: float) -> float:
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))]


def measure_append(store: SqliteStore, traffic: Traffic, records: int, batch: int) -> dict[str, float]:
    spent = []
    for _ in range(records // batch):
        blob = traffic.batch(batch)
        begin = time.perf_counter()
        store.append(store.next_pos, batch, blob)
        spent.append((time.perf_counter() - begin) * 1000)
    spent.sort()
    return {
        "p50_ms": percentile(spent, 0.5),
        "p99_ms": percentile(spent, 0.99),
        "max_ms": spent[-1],
        "us_per_record": sum(spent) / len(spent) / batch * 1000,
    }


def measure_fold(folder: SqliteFolder) -> dict[str, float]:
    """Microseconds of CPU per record by stage, over the second half of the portions; wall time beside it."""
    snapshots = [(0, 0.0, dict(folder.cost_ns))]
    begin = time.perf_counter()
    while (result := folder.fold_once()).records:
        snapshots.append((snapshots[-1][0] + result.records, time.perf_counter() - begin, dict(folder.cost_ns)))
    begin = time.thread_time_ns()
    half, end = snapshots[len(snapshots) // 2], snapshots[-1]
    records = end[0] - half[0]
    costs = {stage: (end[2][stage] - half[2][stage]) / records / 1000 for stage in end[2]}
    return {**costs, "total": sum(costs.values()), "wall": (end[1] - half[1]) / records * 1e6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (
        ("conversations", 5000),
        ("devices", 2000),
        ("records", 1_000_000),
        ("batch", 200),
        ("body", 64),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--directory", type=Path, help="where to measure; default a temporary one, removed afterwards")
    parser.add_argument("--reference", action="store_true", help="decode with the reference in Python")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    decode = journal_codec.decode_batch
    if not options.reference:
        from chatd._native import decode_batch as decode  # type: ignore[assignment]
    base = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        store = SqliteStore.open(base)
        traffic = Traffic(options.conversations, options.devices, options.body)
        store.append(1, *traffic.setup())
        append = measure_append(store, traffic, options.records, options.batch)
        folder = SqliteFolder.open(base, decode, FoldSettings(segment_age_s=0))
        fold = measure_fold(folder)
        folder.close()
        store.close()
    finally:
        shutil.rmtree(base)
    settings = {name: value for name, value in vars(options).items() if isinstance(value, int)}
    machine = {"kernel": platform.release(), "python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()}
    print(f"append, batches of {options.batch}: " + "  ".join(f"{name} {value:.3f}" for name, value in append.items()))
    print("fold, us per record:      " + "  ".join(f"{name} {value:.2f}" for name, value in fold.items()))
    if options.json:
        options.json.write_text(json.dumps({"machine": machine, "settings": settings, "append": append, "fold": fold}))


if __name__ == "__main__":
    main()
