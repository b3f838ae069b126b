"""`chatd backup`: make, list, verify and delete backups of a store in files."""

import json
import os
import time
from pathlib import Path
from typing import Annotated, Any

import typer

from chatd.cli.login import DEFAULT_DATA, Data, Json
from chatd.cli.progress import bars
from chatd.cli.show import local_time
from chatd.errors import BackupError
from chatd.storage.backup.catalogue import Backup, read_catalogue

HELP = """Back the store up, beside a running server or without: into a new directory below --to, verified.

A full backup is the default; --incremental has only what is new since the last one. docs/backup.md has the rest."""

app = typer.Typer(add_completion=False, invoke_without_command=True, help=HELP)

To = Annotated[
    Path | None,
    typer.Option("--to", metavar="DIR", help="Directory of the backups; default: setting backup.directory."),
]


@app.callback()
def make(
    context: typer.Context,
    to: To = None,
    incremental: Annotated[bool, typer.Option("--incremental", help="Only what is new since the last one.")] = False,
    bytes_per_s: Annotated[int, typer.Option(min=0, help="Copy no quicker; 0: as quickly as it goes.")] = 0,
    data: Data = DEFAULT_DATA,
    as_json: Json = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from chatd.engine.native import Portion
    from chatd.server.scheduling import schedule
    from chatd.storage.backup.make import Job, back_up
    from chatd.storage.backup.schedule import POLITE_NICE

    root = directory_of(to)
    # Beside a server that somebody waits for.
    schedule("backup")
    os.nice(POLITE_NICE)
    with bars() as report:
        made = back_up(Job(data, root, Portion, bytes_per_s, report), incremental=incremental)
    show(made, as_json)


@app.command("list", help="What there is, oldest first, and what is wrong with it.")
def list_(to: To = None, as_json: Json = False) -> None:
    catalogue = read_catalogue(directory_of(to))
    for backup in sorted((one for line in catalogue.lines for one in line.backups), key=lambda one: one.name):
        show(backup, as_json)
    for problem in catalogue.problems():
        typer.echo(json.dumps({"problem": problem}) if as_json else f"! {problem}")


@app.command(help="Read every file of every backup, or of one, and compare. Exits with 1 when something is wrong.")
def verify(
    name: Annotated[str, typer.Argument(help="As `chatd backup list` prints it; default: all.")] = "",
    to: To = None,
    as_json: Json = False,
) -> None:
    from chatd.engine.native import Portion
    from chatd.storage.backup.verify import verify as verify_one

    catalogue = read_catalogue(directory_of(to))
    everything = [one for line in catalogue.lines for one in line.backups] + catalogue.orphans
    chosen = sorted((one for one in everything if name in ("", one.name)), key=lambda one: one.name)
    problems = [text for path, text in catalogue.damaged.items() if name in ("", path.name)]
    if not name:
        problems = catalogue.problems()
    if not chosen and not problems:
        raise BackupError(f"there is no backup {name} in {directory_of(to)}" if name else "there is nothing to verify")
    for backup in chosen:
        try:
            with bars() as report:
                verify_one(backup, Portion, report)
        except BackupError as error:
            problems.append(str(error))
        else:
            typer.echo(json.dumps({"backup": backup.name, "sound": True}) if as_json else f"{backup.name}: sound")
    for problem in problems:
        typer.echo(json.dumps({"problem": problem}) if as_json else f"! {problem}")
    if problems:
        raise typer.Exit(1)


@app.command(help="Delete what newer full backups supersede; never the last good one, never half a set.")
def prune(
    to: To = None,
    keep_days: Annotated[int, typer.Option(min=0, help="Keep what is younger.")] = 14,
    keep_full: Annotated[int, typer.Option(min=1, help="Keep so many full ones with their incremental ones.")] = 3,
    data: Data = DEFAULT_DATA,
) -> None:
    from chatd.storage.backup.make import store_epoch
    from chatd.storage.backup.retention import Keep
    from chatd.storage.backup.retention import prune as delete

    gone = delete(directory_of(to), store_epoch(data), Keep(keep_days, keep_full), time.time_ns() // 1_000_000)
    for backup in gone:
        typer.echo(f"{backup.name}: deleted")
    if not gone:
        typer.echo("nothing to do")


@app.command(help="How the backups go that the server makes by itself. Exits with 1 when the last try failed.")
def status(data: Data = DEFAULT_DATA, as_json: Json = False) -> None:
    from chatd.storage.backup.schedule import status as read_status
    from chatd.storage.sqlite.kept import kept_bytes

    found = read_status(data) | {"kept_bytes": kept_bytes(data)}
    last, failure = found["last"], found["failure"]
    if as_json:
        typer.echo(json.dumps(found))
    else:
        made = f"{last['name']} in {last['directory']}, {local_time(last['ended_ms'])}" if last else "none yet"
        typer.echo(f"last backup: {made}")
        typer.echo(f"journal kept for the next incremental one: {found['kept_bytes']} bytes")
        if failure:
            typer.echo(f"! {local_time(failure['at_ms'])}: {failure['text']}")
    if failure:
        raise typer.Exit(1)


def directory_of(to: Path | None) -> Path:
    if to is not None:
        return to
    from chatd.config import load

    configured = load().backup.directory
    if configured is None:
        raise BackupError("where do the backups lie? Say --to DIR, or set backup.directory in the configuration")
    return configured


def show(backup: Backup, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(described(backup)))
        return
    manifest = backup.manifest
    newest = local_time(manifest.newest_ms) if manifest.newest_ms else "no events"
    typer.echo(f"{backup.name}: records up to {manifest.last_pos}, {newest}, {manifest.size_bytes} bytes")


def described(backup: Backup) -> dict[str, Any]:
    manifest = backup.manifest
    return {
        "backup": backup.name,
        "kind": manifest.kind,
        "directory": str(backup.path),
        "log_epoch": manifest.log_epoch,
        "from_position": manifest.journal.first_pos,
        "to_position": manifest.last_pos,
        "newest_event_ms": manifest.newest_ms,
        "begun_ms": manifest.begun_ms,
        "ended_ms": manifest.ended_ms,
        "bytes": manifest.size_bytes,
    }
