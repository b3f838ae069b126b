"""Copies between the two kinds of store: the same content after any way and any death of the copier; nothing mixed."""

import os
from pathlib import Path

import apsw
import pytest
from support.copies import KILLED, Writer, content, copy, copy_killed
from support.postgres import Postgres

from chatd._native import Portion, decode_batch
from chatd.errors import ChatdError, ConfigError, StoreCorruptError, StoreLockedError
from chatd.storage.copy.copier import POINTS
from chatd.storage.copy.places import opened_copier, status, unfence
from chatd.storage.moved import refuse_moved
from chatd.storage.stores import check_store, open_store

EXPLORES = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
"""All points and more seeds: two minutes."""
SOME_POINTS = ("page copied", "following", "folded", "source taken", "rest folded", *POINTS[POINTS.index("fenced") :])
LETS_GO = "asked"
"""The point at which a server is asked to."""
HARMS = (
    "UPDATE event SET body = '\\x21' WHERE id = (SELECT max(id) FROM event)",
    "UPDATE send_run SET sends = replace(sends, '[[', '[[9')",
    "UPDATE conversation SET head_seq = head_seq + 1 WHERE id = 4",
    "DELETE FROM event_run WHERE cid = 3",
    'DELETE FROM "user"',
    "UPDATE meta SET value = '7' WHERE key = 'highest_device'",
)


class Ways:
    """Where a store lies, and where a copy of it goes: from files to a database, or the other way."""

    def __init__(self, origin: str, directory: Path, server: Postgres) -> None:
        self.server = server
        self.home = directory / "data"
        self.home.mkdir()
        self.dsn = server.database()
        self.from_files = origin == "sqlite"
        self.origin, self.to = (str(self.home), self.dsn) if self.from_files else (self.dsn, str(self.home))
        self.where, self.other = ("sqlite", self.dsn) if self.from_files else (self.dsn, "sqlite")

    def writer(self, seed: int = 1) -> Writer:
        """Of the origin, with some of it folded."""
        writer = Writer(self.where, self.home, seed)
        writer.write()
        writer.fold()
        writer.write()
        return writer

    def execute(self, place: str, sql: str) -> None:
        """Behind the back of a store."""
        if place == self.dsn:
            self.server.sql(sql, self.dsn)
        else:
            connection = apsw.Connection(str(self.home / "incoming" / "chatd.db"))
            connection.execute(sql)
            connection.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def ways(request: pytest.FixtureRequest, tmp_path: Path, postgres: Postgres) -> Ways:
    return Ways(request.param, tmp_path, postgres)


def findings(where: str, directory: Path) -> list[str]:
    return sorted(finding.text for finding in check_store(where, directory, decode_batch).findings)


@pytest.mark.parametrize("seed", [1, 2] if not EXPLORES else range(1, 20))
def test_there_and_back_is_the_original(ways: Ways, seed: int) -> None:
    writer = ways.writer(seed)
    writer.fold()
    writer.close()
    original, sound = content(ways.where, ways.home), findings(ways.where, ways.home)
    there = copy(ways.origin, ways.to)
    assert there.records == 0
    floors = {cid: floor_seq for cid, _, _, floor_seq, *_ in original["retention"]}
    assert there.verified.rows["event"] == sum(seq >= floors.get(cid, 0) for cid, seq, *_ in original["event"])
    assert content(ways.other, ways.home) == original
    assert findings(ways.other, ways.home) == sound
    copy(ways.to, ways.origin)
    assert content(ways.where, ways.home) == original
    assert findings(ways.where, ways.home) == sound
    writer.open()
    assert writer.store is not None
    assert writer.store.next_pos == original["meta"]["folded_pos"] + 1
    assert writer.store.log_epoch == original["meta"]["log_epoch"]
    writer.write()
    writer.fold()
    writer.close()


@pytest.mark.parametrize("seed", [4] if not EXPLORES else range(4, 20))
def test_what_is_written_meanwhile_is_in_the_copy(ways: Ways, seed: int) -> None:
    """At every point until it has to let go a server writes, and folds now and then."""
    writer = ways.writer(seed)
    told: list[str] = []

    def serve(point: str) -> None:
        told.append(point)
        if point == LETS_GO:
            writer.close()
        elif writer.store is not None and len(told) < 60:
            writer.write(1)
            if writer.random.random() < 0.5:
                writer.fold()

    result = copy(ways.origin, ways.to, serve)
    assert result.records > 0
    assert set(told) == set(POINTS)
    moved = content(ways.other, ways.home)
    assert moved["meta"]["folded_pos"] == result.position
    assert sorted(event[:2] for event in moved["event"]) == sorted(writer.traffic.events)
    assert {key: place[::-1] for key, place in moved["send"].items()} == writer.traffic.idempotency
    assert content(ways.where, ways.home) == moved


@pytest.mark.parametrize("point", POINTS if EXPLORES else SOME_POINTS)
def test_a_copier_killed_at_any_point_is_begun_anew(ways: Ways, point: str) -> None:
    writer = ways.writer()
    writer.fold()
    writer.write()
    writer.close()
    assert copy_killed(ways.origin, ways.to, point) == KILLED
    if POINTS.index(point) < POINTS.index("fenced"):
        writer.open()
        writer.write(1)
        writer.fold()
        writer.close()
    if point not in {"finished", "done"}:
        with pytest.raises(ChatdError):
            open_store(ways.other, ways.home)
    if point != "done":
        copy(ways.origin, ways.to)
    expected = content(ways.where, ways.home)
    assert content(ways.other, ways.home) == expected
    assert sorted(event[:2] for event in expected["event"]) == sorted(writer.traffic.events)
    with pytest.raises(ConfigError, match="has moved"):
        open_store(ways.where, ways.home)
    store = open_store(ways.other, ways.home)
    assert store.next_pos == expected["meta"]["folded_pos"] + 1
    store.close()


def test_a_copy_without_the_switch_changes_nothing_for_the_server(ways: Ways) -> None:
    writer = ways.writer()
    result = copy(ways.origin, ways.to, switch=False)
    assert result.fenced_s == 0
    writer.write()
    writer.fold()
    with pytest.raises(ChatdError, match=r"not finished|keeps its store in|holds a store in files"):
        open_store(ways.other, ways.home)
    again = copy(ways.origin, ways.to, switch=False)
    assert again.position > result.position
    writer.close()


@pytest.mark.parametrize(
    ("when", "harm"),
    [
        *(("folded", harm) for harm in HARMS),
        *(("rest folded", harm) for harm in HARMS[:3]),
    ],
)
def test_a_difference_is_found_and_the_server_goes_on(ways: Ways, when: str, harm: str) -> None:
    writer = ways.writer()
    if not ways.from_files:
        harm = harm.replace("'\\x21'", "x'21'")

    def at(point: str) -> None:
        if point == "caught up":
            # What only the last round compares has to be touched.
            writer.write(20)
        if point == LETS_GO:
            writer.close()
        if point == when:
            ways.execute(ways.to, harm)

    with pytest.raises(StoreCorruptError, match="not the same"):
        copy(ways.origin, ways.to, at)
    assert not (ways.home / "moved").exists()
    if writer.store is None:
        writer.open()
    writer.write()
    writer.close()


def test_who_does_not_let_go_in_time_goes_on(ways: Ways) -> None:
    """Files: the writer keeps its lock. PostgreSQL: its session is ended, but not even that is in time."""
    writer = ways.writer()
    within_s = 0.2 if ways.from_files else 0.0
    with opened_copier(ways.origin, ways.to, Portion, decode_batch) as copier, pytest.raises(StoreLockedError):
        copier.run(switch=True, within_s=within_s)
    assert not (ways.home / "moved").exists()
    if not ways.from_files:
        writer.close()
        writer.open()
    writer.write()
    writer.close()


def test_nothing_is_mixed(ways: Ways, tmp_path: Path, postgres: Postgres) -> None:
    ways.writer().close()
    other = tmp_path / "other"
    foreign = Writer("sqlite", other, 9)
    foreign.close()
    occupied = postgres.database()
    foreign = Writer(occupied, tmp_path / "third", 9)
    foreign.close()
    held = occupied if ways.from_files else str(other)
    with pytest.raises(ConfigError, match="holds another store"):
        copy(ways.origin, held)
    same_kind = str(other) if ways.from_files else occupied
    with pytest.raises(ConfigError, match="from a data directory to a PostgreSQL database or back"):
        copy(ways.origin, same_kind)
    copy(ways.origin, ways.to, switch=False)
    unfinished = (str(other), ways.to) if ways.from_files else (occupied, ways.to)
    with pytest.raises(ConfigError, match="unfinished copy of another store"):
        copy(*unfinished)
    copy(ways.origin, ways.to)
    with pytest.raises(ConfigError, match="has moved already"):
        copy(ways.origin, ways.to)
    with pytest.raises(ConfigError, match="has moved: start with"):
        refuse_moved(ways.where, ways.home)
    nowhere = str(tmp_path / "nothing") if ways.from_files else postgres.database()
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ConfigError, match=r"has no (chatd\.db|store of chatd)"):
        copy(nowhere, ways.to)


def test_another_schema_is_refused(ways: Ways) -> None:
    ways.writer().close()
    remove = "DELETE FROM migration WHERE number = (SELECT max(number) FROM migration)"
    if ways.from_files:
        connection = apsw.Connection(str(ways.home / "chatd.db"))
        connection.execute(remove)
        connection.close()
    else:
        ways.server.sql(remove, ways.dsn)
    with pytest.raises(ConfigError, match="older version"):
        copy(ways.origin, ways.to)


def test_a_move_is_taken_back_while_nothing_was_written(ways: Ways) -> None:
    writer = ways.writer()
    writer.close()
    copy(ways.origin, ways.to)
    moved = content(ways.other, ways.home)
    unfence(ways.home, discard=False)
    with pytest.raises(ChatdError):
        open_store(ways.other, ways.home)
    writer.open()
    writer.write()
    writer.fold()
    writer.close()
    assert content(ways.where, ways.home) != moved
    copy(ways.origin, ways.to)
    assert content(ways.other, ways.home) == content(ways.where, ways.home)
    writer.moved(ways.other, ways.home)
    writer.write(1)
    writer.close()
    with pytest.raises(ConfigError, match="were written"):
        unfence(ways.home, discard=False)
    unfence(ways.home, discard=True)
    writer.moved(ways.where, ways.home)
    writer.close()
    with pytest.raises(ConfigError, match="nothing to take back"):
        unfence(ways.home, discard=False)


def test_the_status_says_how_a_store_stands(ways: Ways) -> None:
    writer = ways.writer()
    writer.fold()
    writer.close()
    before = status(ways.origin)
    assert before["events"] > 0
    copy(ways.origin, ways.to)
    after = status(ways.to)
    assert (after["log_epoch"], after["events"]) == (before["log_epoch"], before["events"])
    assert status(str(ways.home))["move"]["state"] == "done"
