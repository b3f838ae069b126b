"""`chatd config`: the configuration file explained."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The configuration: an example file, or what holds.")


@app.command(help="Print a complete configuration file with every default and what it means.")
def example() -> None:
    from chatd.config import example_toml

    typer.echo(example_toml(), nl=False)


@app.command(help="Print the settings that hold here, from file and environment, as JSON. Secrets are not among them.")
def show(config: Annotated[Path | None, typer.Option(help="Configuration file.")] = None) -> None:
    from chatd.config import load

    typer.echo(load(config).model_dump_json(indent=2))
