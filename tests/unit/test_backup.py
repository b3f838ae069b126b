"""Backups of a store in files: every point of a line is restored as it was, and what is not whole is refused."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.worlds import FOLD, World, state_of

from chatd.errors import BackupError, BackupGapError
from chatd.storage import journal_codec as codec
from chatd.storage.backup import journal_part, make, schedule
from chatd.storage.backup.catalogue import Backup, Line, read_catalogue
from chatd.storage.backup.journal_part import Heads
from chatd.storage.backup.make import Job, back_up
from chatd.storage.backup.manifest import Head
from chatd.storage.backup.progress import BackupStoppedError, silent
from chatd.storage.backup.restore import Point, Restored, restore
from chatd.storage.backup.retention import DAY_MS, Keep, prune, superseded
from chatd.storage.backup.schedule import Schedule, due
from chatd.storage.backup.verify import verify
from chatd.storage.interface import Batch, row_record
from chatd.storage.portion import Portion
from chatd.storage.sqlite.check import check_store
from chatd.storage.sqlite.kept import kept_bytes, kept_numbers
from chatd.storage.sqlite.store import SqliteStore


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory where that is possible: there are thousands of syncs, and nothing here is about them."""
    memory = Path("/dev/shm")
    with TemporaryDirectory(prefix="chatd-backup-", dir=memory if memory.is_dir() else None) as directory:
        yield Path(directory)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path / "data", seed=1)
    yield world
    world.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "backups"


def backed_up(world: World, root: Path, *, incremental: bool = False) -> Backup:
    return back_up(Job(world.directory, root, Portion), incremental=incremental)


def restored(source: Path, target: Path, point: Point = Point()) -> Restored:  # noqa: B008 a NamedTuple
    return restore(source, target, point, Portion)


def line_of(root: Path) -> Line:
    (line,) = read_catalogue(root).lines
    return line


def flip(path: Path) -> None:
    """One bit in the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("seed", range(1, 5))
def test_every_point_of_a_line_is_restored_as_it_was(seed: int, tmp_path: Path, root: Path) -> None:
    world = World(tmp_path / "data", seed)
    world.live(world.random.randint(0, 15))
    made = [backed_up(world, root)]
    for _ in range(5):
        world.live(world.random.randint(0, 20))
        if world.random.random() < 0.5:
            world.fold()
        made.append(backed_up(world, root, incremental=world.random.random() < 0.7))
    log_epoch = world.store.log_epoch
    world.close()

    assert line_of(root).backups == tuple(made)
    first, last = made[0].manifest.main, made[-1].manifest
    assert first is not None
    points = {Point(): world.at(last.last_pos)}
    for _ in range(4):
        position = world.random.randint(first.folded_pos, last.last_pos)
        points[Point(position=position)] = world.at(position)
        time_ms = world.random.randint(first.newest_ms, last.newest_ms + 1)
        points[Point(until_ms=time_ms)] = world.until(time_ms)
    for number, (point, expected) in enumerate(points.items()):
        target = tmp_path / f"restored{number}"
        done = restored(root, target, point)
        found = state_of(target)
        assert found[2:] == expected[2:], point
        assert (done.position, found.position) == (expected.position, expected.position)
        assert check_store(target, codec.decode_batch).findings == []
        store = SqliteStore.open(target)
        assert store.log_epoch not in {log_epoch, 0}
        assert store.next_pos == expected.position + 1
        store.close()
        shutil.rmtree(target)


def test_one_backup_is_restored_when_it_is_named(world: World, root: Path, tmp_path: Path) -> None:
    backed_up(world, root)
    world.live(10)
    named = backed_up(world, root, incremental=True)
    world.live(10)
    backed_up(world, root, incremental=True)
    restored(named.path, tmp_path / "restored")
    assert state_of(tmp_path / "restored")[2:] == world.at(named.manifest.last_pos)[2:]
    with pytest.raises(BackupError, match="does not reach that point"):
        restored(named.path, tmp_path / "other", Point(position=named.manifest.last_pos + 1))


def test_a_stopped_store_is_backed_up_with_what_is_not_folded(world: World, root: Path, tmp_path: Path) -> None:
    world.live(30)
    world.close()
    backed_up(world, root)
    restored(root, tmp_path / "restored")
    assert state_of(tmp_path / "restored")[2:] == world.history[-1][2:]


def test_a_store_that_was_restored_goes_on_and_is_backed_up_again(world: World, root: Path, tmp_path: Path) -> None:
    world.live(20)
    backed_up(world, root)
    first = restored(root, tmp_path / "restored")
    store = SqliteStore.open(tmp_path / "restored")
    row = codec.encode_row(row_record("user", {"id": store.highest_ids().user + 1, "name": "new"}))
    store.append(store.next_pos, 1, row)
    store.close()
    with pytest.raises(BackupGapError, match="no full backup of this store"):
        back_up(Job(tmp_path / "restored", root, Portion), incremental=True)
    again = back_up(Job(tmp_path / "restored", root, Portion), incremental=False)
    assert again.manifest.log_epoch == first.log_epoch
    second = restored(root, tmp_path / "twice")
    assert second.position == first.position + 1, "the newest log is taken"


# ------------------------------------------------------------ what is refused


def test_nothing_is_overwritten(world: World, root: Path, tmp_path: Path) -> None:
    backed_up(world, root)
    target = tmp_path / "restored"
    target.mkdir()
    restored(root, target)
    before = state_of(target)
    with pytest.raises(BackupError, match="is not empty; a restore overwrites nothing"):
        restored(root, target)
    (tmp_path / "file").touch()
    with pytest.raises(BackupError, match="overwrites nothing"):
        restored(root, tmp_path / "file")
    assert state_of(target) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backups", "data", "file", "restored"]


@pytest.mark.parametrize("name", ["chatd.db", "journal.db", "manifest.json"])
def test_a_damaged_file_is_named_and_nothing_is_restored(world: World, root: Path, tmp_path: Path, name: str) -> None:
    world.live(30)
    world.fold()
    world.live(30)
    made = backed_up(world, root)
    flip(made.path / name)
    with pytest.raises(BackupError) as caught:
        restored(root, tmp_path / "restored")
    assert str(made.path / name) in str(caught.value)
    assert "Put" in str(caught.value), "what to do"
    assert not (tmp_path / "restored").exists()
    if name == "manifest.json":
        assert name in read_catalogue(root).problems()[0]
        return
    with pytest.raises(BackupError, match=name):
        verify(made, Portion, silent)


def test_a_missing_link_is_named_and_what_is_before_it_can_be_restored(
    world: World, root: Path, tmp_path: Path
) -> None:
    made = [backed_up(world, root)]
    for _ in range(3):
        world.live(10)
        made.append(backed_up(world, root, incremental=True))
    shutil.rmtree(made[2].path)
    with pytest.raises(BackupError, match=f"{made[3].path} continues a backup that is not whole or not there"):
        restored(root, tmp_path / "restored")
    with pytest.raises(BackupError, match="continues a backup"):
        restored(made[3].path, tmp_path / "restored")
    with pytest.raises(BackupError, match="reach that point"):
        restored(root, tmp_path / "restored", Point(position=made[3].manifest.last_pos))
    restored(made[1].path, tmp_path / "restored")
    assert state_of(tmp_path / "restored")[2:] == world.at(made[1].manifest.last_pos)[2:]


def test_a_damaged_copy_of_the_main_database_costs_nothing_but_time(world: World, root: Path, tmp_path: Path) -> None:
    backed_up(world, root)
    world.live(30)
    second = backed_up(world, root)
    world.live(10)
    backed_up(world, root, incremental=True)
    flip(second.path / "chatd.db")
    with pytest.raises(BackupError, match=r"chatd\.db is damaged.* move it away and an earlier full backup is used"):
        restored(root, tmp_path / "restored")
    (second.path / "chatd.db").unlink()
    assert "chatd.db is missing" in read_catalogue(root).problems()[0]
    restored(root, tmp_path / "restored")
    assert state_of(tmp_path / "restored")[2:] == world.history[-1][2:]
    assert prune(root, world.store.log_epoch, Keep(days=0, fulls=1), 2**62) == [], "the older one is needed"


def test_a_backup_that_differs_from_its_source_is_none(
    world: World, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folded part of what an incremental backup says is compared with the heads in the main database."""
    backed_up(world, root)
    world.live(20)
    world.fold()

    class Mistaken(Heads):
        def add(self, batch: Batch) -> int:
            newest_ms = super().add(batch)
            self.of[1] = Head(1, 10**6, 1, 1)
            return newest_ms

    monkeypatch.setattr(journal_part, "Heads", Mistaken)
    with pytest.raises(BackupError, match=r"ends with Head\(cid=1"):
        backed_up(world, root, incremental=True)
    assert len(line_of(root).backups) == 1


def test_a_backup_that_is_stopped_leaves_nothing(world: World, root: Path) -> None:
    world.live(50)

    def stop(stage: str, done: int, of: int) -> None:
        if stage == "hash":
            raise BackupStoppedError("now")

    with pytest.raises(BackupStoppedError):
        back_up(Job(world.directory, root, Portion, report=stop), incremental=False)
    assert [path.name for path in root.iterdir()] == [make.ROOT_LOCK]
    assert not (world.directory / "backup.links").exists()


def test_one_backup_at_a_time(world: World, root: Path) -> None:
    busy = make.locked(world.directory, make.BACKUP_LOCK, "being backed up")
    with busy, pytest.raises(BackupError, match="is being backed up by another process; wait"):
        backed_up(world, root)
    with pytest.raises(BackupError, match="Is the disk for the backups mounted"):
        backed_up(world, root / "not" / "there")


# ------------------------------------------------------------ the journal that waits


def test_folded_segments_wait_for_an_incremental_backup_and_no_longer(world: World, root: Path) -> None:
    backed_up(world, root)
    world.live(30)
    world.fold()
    assert kept_numbers(world.directory)
    backed_up(world, root, incremental=True)
    assert kept_numbers(world.directory) == []


def test_what_waits_is_bounded_and_a_gap_needs_a_full_backup(tmp_path: Path, root: Path) -> None:
    bound = 40 * 1024
    world = World(tmp_path / "data", 2, fold_settings=FOLD._replace(kept_bytes_max=bound))
    backed_up(world, root)
    for _ in range(4):
        world.live(25)
        world.fold()
        assert kept_bytes(world.directory) <= bound
    with pytest.raises(BackupGapError, match="make a full one"):
        backed_up(world, root, incremental=True)
    full = backed_up(world, root)
    assert full.manifest.parent == ""
    world.live(5)
    backed_up(world, root, incremental=True)
    restored(root, tmp_path / "restored")
    assert state_of(tmp_path / "restored")[2:] == world.history[-1][2:]
    world.close()


def test_what_waits_gives_way_to_a_full_disk(world: World, root: Path) -> None:
    backed_up(world, root)
    world.live(30)
    world.fold()
    world.folder._chain.make_room(full=True)
    assert kept_numbers(world.directory) == []
    assert check_store(world.directory, codec.decode_batch).findings == []


# ------------------------------------------------------------ when, and for how long


def test_backups_are_due_by_their_age_and_when_there_is_something_new(world: World, root: Path) -> None:
    hourly = Schedule(full_every_s=3600, incremental_every_s=60)
    epoch = world.store.log_epoch
    assert due(hourly, root, epoch, 1, 0) == "full", "there is none"
    made = backed_up(world, root).manifest
    at, here = made.begun_ms, made.last_pos
    assert due(hourly, root, epoch, here, at + 61_000) == "", "nothing is new"
    assert due(hourly, root, epoch, here + 1, at + 59_000) == ""
    assert due(hourly, root, epoch, here + 1, at + 60_000) == "incremental"
    assert due(hourly, root, epoch, here, at + 3_600_000) == "full"
    assert due(Schedule(0, 0), root, epoch, here + 1, at + 10**9) == ""
    assert due(hourly, root, epoch + 1, here, at) == "full", "a store that was restored"


def test_a_turn_makes_what_is_due_and_notes_how_it_went(world: World, root: Path) -> None:
    job, eager = Job(world.directory, root, Portion), Schedule(3600, 0)
    made = schedule.turn(job, eager, Keep(1, 1))
    assert made is not None
    assert schedule.turn(job, eager, Keep(1, 1)) is None
    noted = schedule.status(world.directory)
    assert (noted["last"]["name"], noted["failure"]) == (made.name, None)


def test_whole_sets_are_deleted_when_newer_ones_supersede_them(world: World, root: Path) -> None:
    made = []
    for _ in range(3):
        made += [backed_up(world, root), backed_up(world, root, incremental=True)]
        world.live(5)
    epoch, lines = world.store.log_epoch, read_catalogue(root).lines
    later = made[-1].manifest.ended_ms + 10 * DAY_MS
    assert superseded(lines, epoch, Keep(days=11, fulls=1), later) == []
    assert superseded(lines, epoch, Keep(days=1, fulls=3), later) == []
    assert superseded(lines, epoch + 1, Keep(days=1, fulls=1), later) == [], "of another log"
    assert prune(root, epoch, Keep(days=1, fulls=2), later) == [made[1], made[0]]
    assert line_of(root).backups == tuple(made[2:])
    (made[4].path / "manifest.json").write_text(json.dumps({}))
    assert prune(root, epoch, Keep(days=1, fulls=1), later) == [], "the last good one stays"
