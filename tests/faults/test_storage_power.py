"""Nothing acknowledged is lost by a power cut; and the oracle that says so can say otherwise."""

from pathlib import Path
from unittest.mock import patch

import apsw
import pytest
from support.powercut import violations

from chatd.storage.sqlite import segment


@pytest.mark.parametrize("seed", [11, 12])
def test_acknowledged_batches_survive_a_power_cut_anywhere(tmp_path: Path, seed: int) -> None:
    assert violations(seed, cuts=110, batches=40, directory=tmp_path) == []


@pytest.mark.parametrize("synchronous", [0, 1])
def test_the_oracle_catches_a_journal_that_does_not_sync(tmp_path: Path, synchronous: int) -> None:
    class Unsynced(apsw.Connection):
        def pragma(self, name: str, value: object = None, **more: object) -> object:
            return super().pragma(name, synchronous if name == "synchronous" else value, **more)  # type: ignore[arg-type]

    def connect(path: Path, *, vfs: str | None = None, create: bool = False, write: bool = True) -> apsw.Connection:
        flags = apsw.SQLITE_OPEN_READWRITE | (apsw.SQLITE_OPEN_CREATE if create else 0)
        connection = Unsynced(str(path), flags=flags, vfs=vfs)
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        apsw.Connection.pragma(connection, "wal_autocheckpoint", 0)
        return connection

    with patch.object(segment, "connect", connect):
        assert violations(13, cuts=40, batches=30, directory=tmp_path)
