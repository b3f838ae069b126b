"""`chatd restore`: a data directory from backups, as of their end or as of an earlier moment."""

import json
from pathlib import Path
from typing import Annotated

import typer

from chatd.cli.login import Json
from chatd.cli.progress import bars
from chatd.cli.show import local_time, moment

app = typer.Typer(add_completion=False)


@app.command(
    help="Make a data directory from backups: as of their end, or of an earlier moment. Everything is checked on the "
    "way, and nothing is overwritten. Clients that had seen more discard their positions and read anew."
)
def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUPS", help="Directory of backups, or one of them.")],
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The new data directory: empty, or not there.")],
    until: Annotated[
        str, typer.Option("--until", metavar="TIME", help="Leave out what was sent later: 2026-11-21T09:30.")
    ] = "",
    position: Annotated[int, typer.Option("--position", min=0, help="Or what lies behind this journal record.")] = 0,
    as_json: Json = False,
) -> None:
    from chatd.engine.native import Portion
    from chatd.storage.backup.restore import Point
    from chatd.storage.backup.restore import restore as run

    if until and position:
        raise typer.BadParameter("--until and --position say the same in two ways; give one")
    with bars() as report:
        done = run(source, to, Point(moment(until) if until else 0, position), Portion, report)
    used = [backup.name for backup in done.chain.backups]
    if as_json:
        typer.echo(json.dumps(done._asdict() | {"chain": used}))
        return
    newest = f", the newest event of {local_time(done.newest_ms)}" if done.newest_ms else ""
    typer.echo(f"{to}: records up to {done.position}{newest}, {done.conversations} conversations, from {used[0]} on")
    typer.echo(
        f"Secrets are not in a backup: put those of the old server into {to / 'secrets'} (mode 0600), or the start "
        "makes new ones and everybody logs in again. What was revoked after that moment holds again. Then: "
        f"chatd serve --data {to}"
    )
