"""What an operator types: init, config, serve --check, mistakes; and systemd's side of the daemon."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chatd.client.blocking import BlockingClient
from chatd.client.login import Credential
from chatd.config import example_toml, load
from chatd.server.check import findings
from chatd.testing import ChatdServer, free_port

ROOT = Path(__file__).resolve().parents[2]


def chatd(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "chatd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=cwd)


def test_example_is_printed_and_passes_the_check(tmp_path: Path) -> None:
    example = chatd("config", "example", cwd=tmp_path)
    assert example.stdout == example_toml()
    (tmp_path / "chatd.toml").write_text(example.stdout)
    port = free_port()
    done = chatd("serve", "--check", "--listen", f"127.0.0.1:{port}", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "chatd: the configuration is fine\n")
    assert list(tmp_path.iterdir()) == [tmp_path / "chatd.toml"]


def test_check_says_everything_that_is_wrong(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert chatd("init", "--data", str(data)).returncode == 0
    (data / "secrets" / "jwt.key").write_text("change-me-change-me-change-me-change-me")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = chatd(
            "serve", "--check", "--data", str(data), "--listen", f"127.0.0.1:{taken.getsockname()[1]}",
            "--tls", "127.0.0.1:0", "--set", "queue.soft_bytes=8192", "--set", "process.drain_window_ms=60000",
            "--set", "hub.peer_ring_bytes=65537",
        )  # fmt: skip
    assert done.returncode == 1
    for finding in ("published example", "uses this port", "tls.certificate and tls.key", "queue.low_bytes",
                    "process.drain_timeout_ms", "131072"):  # fmt: skip
        assert finding in done.stderr


def test_check_of_a_directory_that_this_user_may_not_look_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the kernel answers an ordinary user; tests may run as root, whom it never refuses."""
    locked, exists, access = tmp_path / "locked", Path.exists, os.access

    def exists_unless_locked(path: Path) -> bool:
        if locked in path.parents:
            raise PermissionError(13, "Permission denied", str(path))
        return exists(path)

    locked.mkdir()
    monkeypatch.setattr(Path, "exists", exists_unless_locked)
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and access(path, mode))
    settings = load(None, {"data": str(locked / "data"), "listen.tcp": ["127.0.0.1:0"]})
    assert [f"cannot be made in {locked}" in finding for finding in findings(settings)] == [True]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--set", "session.sends=1"], "session.sends: there is no such setting"),
        (["--listen", "here"], "must be host:port"),
        (["--shards", "65"], "less than or equal to 64"),
        (["--config", "absent.toml"], "absent.toml: No such file"),
        (["--data", "/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_nothing_is_started(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = chatd("serve", *arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_init_makes_the_administrator_once(tmp_path: Path) -> None:
    data = tmp_path / "data"
    first, second = chatd("init", "--data", str(data)), chatd("init", "--data", str(data))
    key = (data / "secrets" / "admin.key").read_text().strip()
    assert "admin.key" in first.stdout
    assert key not in first.stdout
    assert "nothing to do" in second.stdout
    with ChatdServer.start(tmp_path) as server:
        assert (data / "secrets" / "admin.key").read_text().strip() == key
        with BlockingClient(server.address, Credential.api_key(key)) as admin:
            assert admin.user_named("admin").id == 1
        assert chatd("init", "--data", str(data)).returncode == 1


def test_only_its_owner_reads_what_a_command_writes(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    data.chmod(0o755)
    assert chatd("init", "--data", str(data)).returncode == 0
    modes = {path.name: path.stat().st_mode & 0o077 for path in data.iterdir()}
    assert {"chatd.db", "secrets"} < modes.keys()
    assert not any(modes.values()), modes


def test_corrupt_database_is_refused_with_what_is_wrong(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert chatd("init", "--data", str(data)).returncode == 0
    for path in data.glob("chatd.db*"):
        path.write_bytes(b"not a database" * 1000)
    started = time.monotonic()
    done = chatd("serve", "--data", str(data), "--listen", "127.0.0.1:0", "--log", "json")
    assert done.returncode == 78
    assert "chatd.db" in done.stderr
    assert time.monotonic() - started < 30
    assert (data / "chatd.db").read_bytes().startswith(b"not a database")


@pytest.mark.skipif(not shutil.which("systemd-socket-activate"), reason="needs systemd-socket-activate")
@pytest.mark.parametrize("inline", [False, True])
def test_sockets_of_systemd_are_used(tmp_path: Path, inline: bool) -> None:
    port = free_port()
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}", "--fdname=tcp", sys.executable, "-m", "chatd"]
    options = ["--inline"] if inline else ["--shards", "2"]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([*command, "serve", "--data", str(tmp_path / "data"), *options], stderr=log)
    try:
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.05)
        while not (tmp_path / "data" / "run.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        key = (tmp_path / "data" / "secrets" / "admin.key").read_text().strip()
        with BlockingClient(f"127.0.0.1:{port}", Credential.api_key(key)) as admin:
            assert admin.user_named("admin").id == 1
    finally:
        process.terminate()
        process.wait(20)
    assert process.returncode == 0


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze")
def test_units_are_valid_and_confined(tmp_path: Path) -> None:
    for name in ("chatd.service", "chatd.socket"):
        text = (ROOT / "systemd" / name).read_text().replace("/opt/chatd/.venv/bin/chatd", sys.executable)
        (tmp_path / name).write_text(text)
    units = [str(tmp_path / "chatd.service"), str(tmp_path / "chatd.socket")]
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True)
    ours = [line for line in done.stderr.splitlines() if "chatd" in line and "Documentation" not in line]
    assert not ours
    security = ["systemd-analyze", "security", "--offline=true", "--threshold=20", units[0]]
    assert subprocess.run(security, capture_output=True).returncode == 0
