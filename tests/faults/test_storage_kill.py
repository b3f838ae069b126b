"""kill -9 of the appender and of the folder, at random moments, with real processes and files."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.journal_batches import Traffic

from chatd.storage import journal_codec as codec
from chatd.storage.interface import row_record
from chatd.storage.message_rows import RetentionRow
from chatd.storage.portion import Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

RESERVE = {"reserve_bytes": 4096, "slack_bytes": 4096}
ROOT = Path(__file__).resolve().parents[2]

FOLDER = """
import sys
from pathlib import Path
from chatd.storage.portion import Portion
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
settings = FoldSettings(portion_records=150, segment_age_s=0, checkpoint_interval_s=0, reserve_bytes=0)
folder = SqliteFolder.open(Path(sys.argv[1]), Portion, settings)
print("ready", flush=True)
while True:
    folder.fold_once()
"""

APPENDER = """
import os, sys
from pathlib import Path
from support.journal_batches import event_batch
from chatd.storage.sqlite.store import SqliteStore, StoreSettings
settings = StoreSettings(segment_bytes=64 * 1024, reserve_bytes=0, slack_bytes=0)
store = SqliteStore.open(Path(sys.argv[1]), settings)
while True:
    store.append(store.next_pos, 7, event_batch(store.next_pos, 7))
    os.write(1, b"%d\\n" % (store.next_pos - 1))
"""


def start(program: str, directory: Path) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    process = subprocess.Popen([sys.executable, "-c", program, directory], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline(), "the process ended before it began"
    return process


def kill_after(process: "subprocess.Popen[bytes]", seconds: float) -> bytes:
    """What it had written to its standard output."""
    try:
        process.wait(seconds)
        pytest.fail(f"the process ended by itself with {process.returncode}")
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    return process.communicate()[0]


def test_killing_the_folder_loses_and_doubles_nothing(tmp_path: Path) -> None:
    rng = random.Random(5)
    store = SqliteStore.open(tmp_path, StoreSettings(segment_bytes=96 * 1024, **RESERVE))
    rows = [row_record("conversation", {"id": cid}) for cid in range(1, 21)]
    rows += [row_record("device", {"id": device}) for device in range(1, 11)]
    store.append(1, len(rows), b"".join(codec.encode_row(row) for row in rows))
    traffic = Traffic(seed=6, pos=len(rows) + 1)
    for _ in range(6):
        for _ in range(25):
            store.append(*traffic.batch(rng.randint(20, 60)))
        kill_after(start(FOLDER, tmp_path), rng.uniform(0, 0.06))
    folder = SqliteFolder.open(tmp_path, Portion, FoldSettings(**RESERVE))
    while folder.fold_once().records:
        pass
    folder.close()
    assert store.folded_pos() == store.next_pos - 1
    reader = store.reader()
    with reader.view() as view:
        found = {(e.cid, e.seq): e.body for cid in traffic.heads for e in view.events(cid, 1, 10**9, 10**9, 10**9)}
    reader.close()
    store.close()
    assert found == {key: event[9] for key, event in traffic.events.items()}
    assert check_store(tmp_path, codec.decode_batch).findings == []


TRIMMER = FOLDER.replace("folder.fold_once()", "folder.fold_once(), folder.trim()").replace(
    "import sys\n", "import sys\nfrom chatd.storage import trim\ntrim.EVENTS_PER_STEP = 3\n"
)


def test_killing_a_folder_that_deletes_brings_nothing_back_and_takes_nothing_else(tmp_path: Path) -> None:
    """Floors rise between the kills; what is below one is empty or gone, what is not is as it was."""
    rng = random.Random(8)
    store = SqliteStore.open(tmp_path, StoreSettings(segment_bytes=96 * 1024, **RESERVE))
    rows = [row_record("conversation", {"id": cid}) for cid in range(1, 6)]
    rows += [row_record("device", {"id": device}) for device in range(1, 11)]
    store.append(1, len(rows), b"".join(codec.encode_row(row) for row in rows))
    traffic = Traffic(seed=9, conversations=5, pos=len(rows) + 1)
    floors: dict[int, int] = {}
    for _ in range(8):
        for _ in range(6):
            store.append(*traffic.batch(rng.randint(20, 60)))
        for cid in rng.sample(sorted(traffic.heads), 2):
            floors[cid] = rng.randint(floors.get(cid, 1), traffic.heads[cid] + 1)
            row = RetentionRow(cid, 0, 1, floors[cid], floors[cid] - 1, 0)
            store.append(traffic.pos, 1, codec.encode_row(row_record("retention", row._asdict())))
            traffic.pos += 1
        kill_after(start(TRIMMER, tmp_path), rng.uniform(0, 0.1))
    folder = SqliteFolder.open(tmp_path, Portion, FoldSettings(**RESERVE))
    while folder.fold_once().records or folder.trim():
        pass
    folder.close()
    reader = store.reader()
    with reader.view() as view:
        for cid, head in traffic.heads.items():
            found = {event.seq: event.body for event in view.events(cid, 1, 10**9, 10**9, 10**9)}
            assert max(found) == head
            for seq, body in found.items():
                assert body == (traffic.events[cid, seq][9] if seq >= floors.get(cid, 1) else b"")
            assert found.keys() >= set(range(floors.get(cid, 1), head + 1))
            assert [row.floor_seq for row in view.rows_of("retention", cid)] == [floors[cid]] * (cid in floors)
    reader.close()
    store.close()
    assert check_store(tmp_path, codec.decode_batch).findings == []


def test_killing_the_appender_keeps_every_acknowledged_batch(tmp_path: Path) -> None:
    rng = random.Random(7)
    acked = 0
    for _ in range(5):
        output = kill_after(start(APPENDER, tmp_path), rng.uniform(0.02, 0.1))
        acked = max(acked, int((b"0\n" + output).rpartition(b"\n")[0].split(b"\n")[-1]))
        store = SqliteStore.open(tmp_path, StoreSettings(**RESERVE))
        assert store.next_pos > acked
        assert sum(batch.record_count for batch in store.replay(0)) == store.next_pos - 1
        store.close()
    assert acked > 0
