"""Backups while everything goes wrong: kill -9 at random moments under load, a full disk at the target."""

import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.journal_batches import Traffic

from chatd.storage import journal_codec as codec
from chatd.storage.backup.catalogue import read_catalogue
from chatd.storage.backup.make import Job, back_up
from chatd.storage.backup.progress import silent
from chatd.storage.backup.restore import Point, restore
from chatd.storage.backup.verify import verify
from chatd.storage.interface import row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.store import SqliteStore, StoreSettings

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = StoreSettings(segment_bytes=64 * 1024, reserve_bytes=4096, slack_bytes=4096)

FOLDER = """
import sys, time
from pathlib import Path
from chatd.storage.portion import Portion
from chatd.storage.sqlite.folder import FoldSettings, SqliteFolder
settings = FoldSettings(
    portion_records=300, segment_age_s=0, checkpoint_interval_s=0, reserve_bytes=0, kept_bytes_max=1 << 30
)
folder = SqliteFolder.open(Path(sys.argv[1]), Portion, settings)
print("ready", flush=True)
while True:
    folder.fold_once()
    time.sleep(0.01)
"""

BACKUPS = """
import sys
from pathlib import Path
from chatd.storage.backup.make import Job, back_up
from chatd.storage.portion import Portion
job = Job(Path(sys.argv[1]), Path(sys.argv[2]), Portion)
print("ready", flush=True)
back_up(job, incremental=False)
while True:
    back_up(job, incremental=True)
    back_up(job, incremental=False)
"""


@contextlib.contextmanager
def running(program: str, *arguments: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Killed at the end."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "tests")))}
    process = subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", "the process ended before it began"
        yield process
        assert process.poll() is None, "it ended by itself"
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()


def test_killing_backups_leaves_nothing_that_a_restore_takes_wrongly(tmp_path: Path) -> None:
    data, root = tmp_path / "data", tmp_path / "backups"
    rng, traffic = random.Random(3), Traffic(seed=4, pos=31)
    store = SqliteStore.open(data, SETTINGS)
    rows = [row_record("conversation", {"id": cid}) for cid in range(1, 21)]
    rows += [row_record("device", {"id": device}) for device in range(1, 11)]
    store.append(1, len(rows), b"".join(codec.encode_row(row) for row in rows))
    events = []
    with running(FOLDER, data):
        for _ in range(5):
            with running(BACKUPS, data, root):
                # By work done, not by time: so many commits, each with its sync, go on beside it.
                for _ in range(rng.randint(5, 100)):
                    store.append(*traffic.batch(rng.randint(1, 40)))
                    events.append((store.next_pos - 1, len(traffic.events)))
        last = back_up(Job(data, root, Portion), incremental=False)
    store.close()
    catalogue = read_catalogue(root)
    assert (catalogue.damaged, catalogue.orphans) == ({}, [])
    assert [path.name for path in root.iterdir() if path.name.startswith(".")] == [".lock"]
    for line in catalogue.lines:
        for backup in line.backups:
            verify(backup, Portion, silent)
    restored = restore(root, tmp_path / "restored", Point(), Portion)
    assert restored.position == last.manifest.last_pos == events[-1][0]
    report = check_store(tmp_path / "restored", codec.decode_batch)
    assert (report.findings, report.checked["event"]) == ([], events[-1][1])
    assert check_store(data, codec.decode_batch).findings == []


def test_killing_a_restore_leaves_nothing_under_the_name_that_was_asked_for(tmp_path: Path) -> None:
    data, root, target = tmp_path / "data", tmp_path / "backups", tmp_path / "restored"
    store = SqliteStore.open(data, SETTINGS)
    store.append(1, 1, codec.encode_row(row_record("user", {"id": 7, "name": "ann"})))
    store.close()
    back_up(Job(data, root, Portion), incremental=False)
    program = "\n".join(
        (
            "import os, signal, sys",
            "from pathlib import Path",
            "from chatd.storage.backup.restore import Point, restore",
            "from chatd.storage.portion import Portion",
            "def die(stage, done, of):",
            "    if stage == sys.argv[3]: os.kill(os.getpid(), signal.SIGKILL)",
            "restore(Path(sys.argv[1]), Path(sys.argv[2]), Point(), Portion, die)",
        )
    )
    for stage in ("hash", "copy", "replay", "check"):
        killed = subprocess.run([sys.executable, "-c", program, root, target, stage], cwd=ROOT)
        assert killed.returncode == -signal.SIGKILL, stage
        assert not target.exists(), stage
    restore(root, target, Point(), Portion)
    assert check_store(target, codec.decode_batch).findings == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "data", "restored"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "disk"
    path.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", path], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount a tmpfs (root)")
    yield path
    subprocess.run(["umount", path], check=True)


def test_a_full_disk_at_the_target_is_said_and_nothing_is_left_there(tmp_path: Path, small_disk: Path) -> None:
    data = tmp_path / "data"
    store = SqliteStore.open(data, SETTINGS)
    made = back_up(Job(data, small_disk / "backups", Portion), incremental=False)
    bodies = [(1, seq, 1, 1, 1, seq, 1, seq, 0, bytes(30_000), 1) for seq in range(1, 61)]
    rows = [row_record("conversation", {"id": 1}), row_record("device", {"id": 1, "uid": 1})]
    store.append(1, 62, b"".join([*map(codec.encode_row, rows), *map(codec.encode_event, bodies)]))
    for incremental in (True, False):
        done = subprocess.run(
            [sys.executable, "-m", "chatd", "backup", "--data", data, "--to", small_disk / "backups"]
            + ["--incremental"] * incremental,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 1
        assert "the disk is full" in done.stderr
        assert "Free space, or keep fewer" in done.stderr
        (line,) = read_catalogue(small_disk / "backups").lines
        assert line.backups == (made,)
    store.append(63, 1, codec.encode_skip(1, 61))
    store.close()
    assert check_store(data, codec.decode_batch).findings == []
