"""`chatd store`: copy a store to another kind of store, move a server over, say how a store stands."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from chatd.cli.login import DEFAULT_DATA, Data, Json

app = typer.Typer(add_completion=False, help="Copy a store to another kind of store, beside its server.")

SWITCH_S = 5.0
Place = typer.Argument(metavar="PLACE", help="A data directory, or postgresql://user@host/database.")


@app.command(
    help="Copy the store FROM to TO, one a data directory, the other a PostgreSQL database, and verify the copy. The "
    "server goes on meanwhile. Killed or run again, it goes on where it was."
)
def copy(
    origin: Annotated[
        str, typer.Argument(metavar="FROM", help="A data directory, or postgresql://user@host/database.")
    ],
    to: Annotated[str, typer.Argument(metavar="TO", help="The other kind; a directory, or an empty database.")],
    switch: Annotated[
        bool, typer.Option("--switch", help="At the end move over: FROM is fenced, a running server goes on with TO.")
    ] = False,
    within: Annotated[
        float, typer.Option(min=0.1, help="Give up a switch that takes longer; nothing is changed.")
    ] = SWITCH_S,
    as_json: Json = False,
) -> None:
    from chatd.engine.native import Portion, decode_batch
    from chatd.storage.copy.places import opened_copier

    with progress() as show, opened_copier(origin, to, Portion, decode_batch, show=show) as copier:
        result = copier.run(switch=switch, within_s=within)
    if as_json:
        typer.echo(json.dumps({**result._asdict(), "verified": result.verified._asdict()}))
        return
    rows = sum(result.verified.rows.values())
    typer.echo(f"copied and verified up to record {result.position}: {rows} rows, {result.verified.conversations} logs")
    if switch:
        typer.echo(
            f"moved: {result.fenced_s:.1f} s without acknowledgements. Before the server is started again, change"
        )
        typer.echo(
            "its setting `store` (or --store, CHATD_STORE); it refuses the old one. `chatd store unfence` undoes."
        )
    else:
        typer.echo("nothing has changed for the server; --switch moves it over")


@app.command(help="How the store in PLACE stands: where it is, what it holds, whether it is a copy or has moved.")
def status(place: Annotated[str, Place], as_json: Json = False) -> None:
    from chatd.storage.copy.places import status as status_of

    found = status_of(place)
    if as_json:
        typer.echo(json.dumps(found))
    else:
        for key, value in found.items():
            typer.echo(f"{key}: {value}")


@app.command(help="Take a move back: the old store is served again, the copy is none. Stop the server first.")
def unfence(
    data: Data = DEFAULT_DATA,
    discard: Annotated[bool, typer.Option("--discard", help="Lose what was written since.")] = False,
) -> None:
    from chatd.storage.copy.places import unfence as take_back
    from chatd.storage.moved import shown

    move = take_back(Path(data), discard=discard)
    typer.echo(f"the store is {shown(move.origin)} again")


@contextmanager
def progress() -> Iterator[Callable[[str, int, int], None]]:
    """Bars on a terminal, one for each thing that is done; elsewhere a line for each."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    tasks: dict[str, Any] = {}
    columns = (
        TextColumn("{task.description:12}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(
        *columns, TimeRemainingColumn(), console=Console(stderr=True), disable=not sys.stderr.isatty()
    ) as bars:

        def show(what: str, done: int, total: int) -> None:
            if what not in tasks:
                tasks[what] = bars.add_task(what, rate="")
                if bars.disable:
                    typer.echo(f"{what} …", err=True)
            speed = bars.tasks[tasks[what]].speed
            bars.update(tasks[what], completed=done, total=total, rate=f"{speed:,.0f}/s" if speed else "")

        yield show
