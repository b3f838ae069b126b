"""The command line: one name, `chatd`, and a module of this package per command.

A command is imported when it is called: `chatd send` must not pay for the server's configuration (0.3 s), nor `chatd
serve` for the terminal client. Each module of COMMANDS holds `app`, a typer.Typer: with one command in it that is the
command itself, with several they are its subcommands. Nothing else registers anything.
"""

import io
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import typer
from typer.core import TyperGroup

from chatd import __version__
from chatd.errors import ChatdError

# In the order of `chatd --help`. The file of a command bears its name.
COMMANDS = (
    *("serve", "init", "config", "user", "device", "token"),
    *("send", "stream", "reply", "edit", "recall", "react", "pin", "forward", "schedule", "draft"),
    *("tail", "history", "versions", "search", "export", "receipts", "presence", "telemetry", "chat"),
    *("group", "invite", "join", "contact", "own", "report"),
    *("command", "desk", "kinds"),
    *("decode", "check", "migrate", "backup", "restore", "epoch", "store", "why"),
)


class LazyCommands(TyperGroup):
    """A group that imports chatd.cli.NAME when NAME is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        del ctx
        return [name for name in COMMANDS if find_spec(f"chatd.cli.{name}")]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in self.list_commands(ctx):
            return None
        try:
            module = import_module(f"chatd.cli.{cmd_name}")
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.startswith("chatd.cli"):
                raise
            return needs_extra(cmd_name, missing.name)
        command = typer.main.get_command(module.app)
        command.name = cmd_name
        return command


def needs_extra(command: str, module: str) -> Any:
    """A command that only says what must be installed for it."""
    app = typer.Typer(add_completion=False)

    @app.command(command, help=f"(needs {module}, which is not installed)")
    def explain() -> None:
        why = "it is compiled on Linux only" if module == "chatd._native" else "see the extras client, tui and server"
        raise ChatdError(f"`chatd {command}` needs the module {module}, which is not installed: {why}")

    return typer.main.get_command(app)


app = typer.Typer(cls=LazyCommands, no_args_is_help=True, add_completion=False, rich_markup_mode=None)


def show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"chatd {__version__}")
        raise typer.Exit


@app.callback(help="chatd: a messaging server, its tools and its terminal client.")
def root(
    version: bool = typer.Option(False, "--version", callback=show_version, is_eager=True, help="Show the version."),
) -> None:
    del version


def main() -> None:
    """Entry point of the `chatd` script. What can go wrong without a bug is one line on standard error, exit code 1."""
    # What people write each other is nobody else's, also in a directory that others may enter. Workers inherit it.
    os.umask(0o077)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal that is not UTF-8 shows what it can of a text.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        app()
        return
    except ChatdError as error:
        said = str(error)
    except UnicodeError as error:
        said = f"texts and names must be UTF-8: {error}"
    except OSError as error:
        if error.filename is None:
            raise
        said = f"{error.filename}: {error.strerror}"
    sys.stderr.write(f"chatd: {said}\n")
    sys.exit(1)
