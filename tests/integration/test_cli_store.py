"""`chatd store`: copies, says how a store stands, takes a move back; errors are one line."""

import subprocess
import sys
from pathlib import Path

from support.postgres import Postgres

from chatd.init import initialise


def store(*words: str, status: int = 0) -> str:
    done = subprocess.run([sys.executable, "-m", "chatd", "store", *words], capture_output=True, text=True, check=False)
    assert done.returncode == status, done
    return done.stderr if status else done.stdout


def test_an_operator_moves_a_store_and_takes_it_back(tmp_path: Path, postgres: Postgres) -> None:
    data, dsn = tmp_path / "data", postgres.database()
    initialise(data)
    said = store("copy", str(data), dsn)
    assert said.startswith("copied and verified up to record ")
    assert "nothing has changed for the server; --switch moves it over" in said
    assert "moved: " in store("copy", str(data), dsn, "--switch")
    assert store("copy", str(data), dsn, "--switch", status=1).startswith("chatd: the store of ")
    assert "users: 1" in store("status", dsn)
    assert "'state': 'done'" in store("status", str(data))
    assert store("unfence", "--data", str(data)) == "the store is sqlite again\n"
    assert store("unfence", "--data", str(data), status=1).count("\n") == 1
    assert store("copy", str(data), str(tmp_path / "other"), status=1).count("\n") == 1
