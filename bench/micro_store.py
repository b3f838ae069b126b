"""What the store costs by itself: appending, folding by stage, reading back.

    python bench/micro_store.py [--conversations 5000] [--devices 2000] [--records 1000000] [--batch 200] [--body 64]
                                [--directory DIR] [--reference] [--json FILE] [--rate 100000 --seconds 10]

Folding is CPU time per record on one thread (time.thread_time), which noise of other processes hardly touches. The
first portions fold into an empty database and are cheap; the figures are of the second half.
With --rate, records are then appended at that pace while another process folds, as in production: how long an append
takes beside it, how much of a core the folder needs, and how far it is behind at the end.
"""

import argparse
import json
import multiprocessing
import os
import platform
import random
import shutil
import struct
import tempfile
import time
from pathlib import Path
from typing import Any

import apsw

from chatd import _native
from chatd.storage import journal_codec, portion
from chatd.storage.fold_loop import fold_until
from chatd.storage.interface import row_record
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore

TS0 = 1_760_000_000_000


class Traffic:
    """Batches of a hot set: conversations drawn evenly, each of two devices, seqs and cseqs without gaps."""

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
        devices = len(self.cseqs) - 1
        for _ in range(count):
            cid = randrange(1, len(self.heads))
            # One of its two members; every device is in as many conversations as any other.
            device = (cid + randrange(2) * (1 + cid // devices)) % devices + 1
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
    half, end = snapshots[len(snapshots) // 2], snapshots[-1]
    records = end[0] - half[0]
    costs = {stage: (end[2][stage] - half[2][stage]) / records / 1000 for stage in end[2]}
    return {**costs, "total": sum(costs.values()), "wall": (end[1] - half[1]) / records * 1e6}


def fold_beside(directory: str, reference: bool, stop: Any, answer: Any) -> None:
    """In a process of its own."""
    folder = SqliteFolder.open(Path(directory), portion_type(reference=reference))
    read, write = os.pipe()
    begin_cpu, begin = time.process_time(), time.perf_counter()
    fold_until(stop, folder, write)
    answer.put((time.process_time() - begin_cpu) / (time.perf_counter() - begin))
    folder.close()
    os.close(read)


def measure_sustained(
    store: SqliteStore, traffic: Traffic, options: argparse.Namespace, base: Path
) -> dict[str, float]:
    blobs = [traffic.batch(options.batch) for _ in range(options.rate * options.seconds // options.batch)]
    context = multiprocessing.get_context("spawn")
    stop, answer = context.Event(), context.Queue()
    folder = context.Process(target=fold_beside, args=(str(base), options.reference, stop, answer))
    folder.start()
    spent, begin = [], time.perf_counter()
    for index, blob in enumerate(blobs):
        due = begin + index * options.batch / options.rate
        time.sleep(max(0.0, due - time.perf_counter()))
        start = time.perf_counter()
        store.append(store.next_pos, options.batch, blob)
        spent.append((time.perf_counter() - start) * 1000)
    elapsed, behind = time.perf_counter() - begin, store.next_pos - 1 - store.folded_pos()
    stop.set()
    core_share = answer.get()
    folder.join()
    spent.sort()
    return {
        "per_s": len(blobs) * options.batch / elapsed,
        "append_p50_ms": percentile(spent, 0.5),
        "append_p99_ms": percentile(spent, 0.99),
        "append_max_ms": spent[-1],
        "folder_core_share": core_share,
        "records_behind": behind,
    }


def portion_type(*, reference: bool) -> Any:
    return portion.Portion if reference else _native.Portion


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
    parser.add_argument("--reference", action="store_true", help="read and sort with the reference in Python")
    parser.add_argument("--rate", type=int, default=0, help="then append so many records a second beside a folder")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    base = Path(tempfile.mkdtemp(dir=options.directory))
    try:
        store = SqliteStore.open(base)
        traffic = Traffic(options.conversations, options.devices, options.body)
        store.append(1, *traffic.setup())
        append = measure_append(store, traffic, options.records, options.batch)
        folder = SqliteFolder.open(base, portion_type(reference=options.reference), FoldSettings(segment_age_s=0))
        fold = measure_fold(folder)
        folder.close()
        sustained = measure_sustained(store, traffic, options, base) if options.rate else {}
        store.close()
    finally:
        shutil.rmtree(base)
    settings = {name: value for name, value in vars(options).items() if isinstance(value, int)}
    machine = {"kernel": platform.release(), "python": platform.python_version(), "sqlite": apsw.sqlite_lib_version()}
    print(f"append, batches of {options.batch}: " + "  ".join(f"{name} {value:.3f}" for name, value in append.items()))
    print("fold, us per record:      " + "  ".join(f"{name} {value:.2f}" for name, value in fold.items()))
    if sustained:
        print("together:                 " + "  ".join(f"{name} {value:.3f}" for name, value in sustained.items()))
    if options.json:
        result = {"machine": machine, "settings": settings, "append": append, "fold": fold, "sustained": sustained}
        options.json.write_text(json.dumps(result))


if __name__ == "__main__":
    main()
