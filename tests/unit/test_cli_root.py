"""The root of the command line: commands are found by their file and imported when they are called."""

import subprocess
import sys

from typer.testing import CliRunner

import chatd
from chatd.cli import COMMANDS, app, needs_extra


def test_version_names_the_package() -> None:
    result = CliRunner().invoke(app, ["--version"])
    assert result.output == f"chatd {chatd.__version__}\n"


def test_unknown_command_is_an_error() -> None:
    assert CliRunner().invoke(app, ["frobnicate"]).exit_code == 2


def test_root_imports_no_command() -> None:
    script = "import sys, chatd.cli; print([name for name in sys.modules if name.startswith('chatd.cli.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_missing_library_is_said_by_name() -> None:
    command = needs_extra("chat", "textual")
    assert "textual" in command.help
    assert "chat" in COMMANDS
