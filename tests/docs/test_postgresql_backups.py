"""docs/postgresql.md, "Backups": its commands, as they stand there, on servers of this test's own."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import mkdtemp

import pytest
from support.journal_batches import TS0
from support.postgres import USER, Postgres, as_user, program

from chatd.storage import journal_codec as codec
from chatd.storage.interface import HighestIds, row_record
from chatd.storage.portion import Portion
from chatd.storage.postgresql.folder import PostgresFolder
from chatd.storage.postgresql.store import PostgresStore

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 60.0
pytestmark = pytest.mark.services


def recipe(name: str) -> str:
    text = (ROOT / "docs" / "postgresql.md").read_text(encoding="utf-8")
    (block,) = re.findall(rf"^```sh {name}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return str(block)


def follow(name: str, server: Postgres, directory: Path, **variables: str) -> str:
    """Run a block of the page: chatd as the user of the tests, everything else as PostgreSQL's."""
    ours = Path(sys.executable).parent
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith(("CHATD_", "PG"))},
        "PGHOST": "127.0.0.1",
        "PGPORT": str(server.port),
        "PGUSER": "chatd",
        "PYTHONPATH": str(ROOT),
        "PATH": f"{Path(program('pg_dump')).parent}:{ours}:{os.environ['PATH']}",
        **variables,
    }
    who = {} if name.startswith("epoch") else as_user()
    command = ["bash", "-euo", "pipefail", "-c", recipe(name)]
    done = subprocess.run(command, cwd=directory, env=environment, capture_output=True, text=True, timeout=100, **who)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dsn(server: Postgres, database: str) -> str:
    """As the administrator, who follows the recipes: a base backup takes more than an owner's rights."""
    return f"postgresql://chatd@127.0.0.1:{server.port}/{database}"


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of PostgreSQL's user."""
    directory = Path(mkdtemp(prefix="chatd-recipes-"))
    if USER:
        shutil.chown(directory, USER, USER)
    yield directory
    shutil.rmtree(directory)


def say(where: str, first: int, last: int) -> int:
    """Events first..last of conversation 1, each its own commit, those so far folded. The log epoch."""
    with closing(PostgresStore.open(where)) as store:
        if first == 1:
            rows = [row_record("conversation", {"id": 1}), row_record("device", {"id": 1, "uid": 1})]
            store.append(1, 2, b"".join(map(codec.encode_row, rows)))
        for seq in range(first, last + 1):
            event = (1, seq, TS0 + seq, 1, 1, seq, 1, seq, 0, b"event %d" % seq, 1)
            store.append(store.next_pos, 1, codec.encode_event(event))
            if seq == (first + last) // 2:
                with closing(PostgresFolder.open(where, Portion)) as folder:
                    while folder.fold_once().more:
                        pass
        return store.log_epoch


def heard(where: str) -> tuple[int, int, HighestIds]:
    """Log epoch, seq of the last event, highest ids."""
    with closing(PostgresStore.open(where)) as store:
        unfolded = sum(batch.record_count for batch in store.replay(store.folded_pos()))
        with closing(store.reader()) as reader, reader.view() as view:
            folded = view.conversation(1)
            assert folded is not None
            return store.log_epoch, folded.head_seq + unfolded, store.highest_ids()


def test_a_dump_is_loaded_and_clients_are_told(place: Path) -> None:
    with Postgres.running("fsync=off") as server:
        server.sql("CREATE DATABASE chatd")
        epoch = say(dsn(server, "chatd"), 1, 20)
        follow("dump", server, place)
        say(dsn(server, "chatd"), 21, 30)
        follow("load", server, place)
        assert "the store is sound" in follow("epoch-dump", server, place)
        new, last, highest = heard(dsn(server, "chatd_restored"))
        assert (last, new != epoch) == (20, True)
        assert highest.conversation > 1_000_000, "no id is given out a second time"
        assert heard(dsn(server, "chatd"))[:2] == (epoch, 30)


def test_recovery_to_a_moment(place: Path) -> None:
    archive = place / "archive"
    archive.mkdir()
    if USER:
        shutil.chown(archive, USER, USER)
    (command,) = re.findall(r"^archive_command = '(.*)'$", (ROOT / "docs" / "postgresql.md").read_text(), re.MULTILINE)
    archiving = ("archive_mode=on", f"archive_command={command.replace('/archive', str(archive))}")
    with Postgres.running("fsync=off", *archiving) as server:
        server.sql("CREATE DATABASE chatd")
        epoch = say(dsn(server, "chatd"), 1, 10)
        follow("base", server, place)
        say(dsn(server, "chatd"), 11, 20)
        # The recovery ends before the first commit of a later time.
        moment = server.sql("SELECT now()").strip()
        say(dsn(server, "chatd"), 21, 30)
        wanted = server.sql("SELECT pg_walfile_name(pg_switch_wal())").strip()
        deadline = time.monotonic() + PATIENCE_S
        while not (archive / wanted).exists():
            assert time.monotonic() < deadline, "the archive does not come"
            time.sleep(0.05)
        recovered = Postgres(Path(mkdtemp(prefix="chatd-postgres-")))
        try:
            recovered.directory.chmod(0o755)
            if USER:
                shutil.chown(recovered.directory, USER, USER)
            variables = {"RECOVERED": str(recovered.directory / "data"), "ARCHIVE": str(archive), "MOMENT": moment}
            follow("recover", server, place, **variables)
            recovered.start("fsync=off")
            while recovered.sql("SELECT pg_is_in_recovery()").strip() != "f":
                assert time.monotonic() < deadline, "the recovery does not end"
                time.sleep(0.05)
            assert "the store is sound" in follow("epoch-recovered", recovered, place)
            new, last, _ = heard(dsn(recovered, "chatd"))
            assert (last, new != epoch) == (20, True)
        finally:
            recovered.remove()
