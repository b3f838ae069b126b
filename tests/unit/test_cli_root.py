"""The root of the command line: commands are found by their file and imported when they are called."""

import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

import chatd
from chatd import cli
from chatd.cli import COMMANDS, app, needs_extra
from chatd.errors import ConfigError


def test_version_names_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output == f"chatd {chatd.__version__}\n"


def test_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(app, ["frobnicate"]).exit_code == 2


def test_root_imports_no_command() -> None:
    script = "import sys, chatd.cli; print([name for name in sys.modules if name.startswith('chatd.cli.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_without_the_libraries_of_commands_the_extras_are_named() -> None:
    script = "import sys; sys.modules['typer'] = None; import chatd.__main__; chatd.__main__.main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "chatd: the commands need the module typer: install chatd with the extra tui or server\n"


def test_missing_library_is_said_by_name() -> None:
    command = needs_extra("chat", "textual")
    assert "textual" in command.help
    assert "chat" in COMMANDS


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ConfigError("no such key"), "chatd: no such key\n"),
        (PermissionError(13, "Permission denied", "/srv/admin.key"), "chatd: /srv/admin.key: Permission denied\n"),
        (UnicodeEncodeError("utf-8", "\udcff", 0, 1, "surrogates"), "chatd: texts and names must be UTF-8: "),
    ],
)
def test_what_goes_wrong_without_a_bug_is_one_line(
    error: Exception, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 1
    shown = capsys.readouterr().err
    assert shown.startswith(said)
    assert shown.count("\n") == 1


def test_terminal_without_utf8_shows_what_it_can() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "chatd", "decode", "000195002a"],
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
    )
    assert b"client \\u2192 server" in done.stdout
