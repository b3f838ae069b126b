"""`chatd init`."""

from pathlib import Path
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_STORE, Store

app = typer.Typer(add_completion=False)


@app.command(help="Prepare a data directory: secrets, store, first administrator. Changes nothing that is there.")
def init(
    data: Annotated[Path, typer.Option(help="Directory of store and secrets.")] = Path("data"),
    store: Store = DEFAULT_STORE,
) -> None:
    from chatd.init import ADMIN_NAME, admin_key_path, initialise

    made, created = initialise(data, store)
    for path in made:
        typer.echo(f"made {path}")
    if created:
        typer.echo(f"The administrator is {ADMIN_NAME}; log in with the API key in {admin_key_path(data)}.")
    else:
        typer.echo(f"{data} has users already: nothing to do.")
