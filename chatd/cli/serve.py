"""`chatd serve`."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(add_completion=False)

# Options that are settings: name of the parameter → key of the configuration.
FLAGS = {
    "data": "data",
    "store": "store",
    "listen": "listen.tcp",
    "tls": "listen.tls",
    "shards": "process.shards",
    "inline": "process.inline",
    "log_format": "log.format",
    "log_level": "log.level",
}


@app.command(help="Run the server until SIGTERM or ^C. Without options: 127.0.0.1:7350, everything in ./data.")
def serve(
    config: Annotated[Path | None, typer.Option(help="Configuration file; default ./chatd.toml.")] = None,
    data: Annotated[Path | None, typer.Option(help="Directory of store and secrets.")] = None,
    store: Annotated[str | None, typer.Option(help="sqlite, or postgresql://user@host/database.")] = None,
    listen: Annotated[list[str] | None, typer.Option(help="host:port for plain TCP; may be repeated.")] = None,
    tls: Annotated[list[str] | None, typer.Option(help="host:port for TLS; may be repeated.")] = None,
    shards: Annotated[int | None, typer.Option(help="Shard processes, 0: one per core.")] = None,
    inline: Annotated[bool | None, typer.Option("--inline", help="All roles in this one process.")] = None,
    log_format: Annotated[str | None, typer.Option("--log", help="human, json or auto.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting: --set session.sends_per_s=20")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Only say whether this configuration would work.")] = False,
) -> None:
    from chatd.config import load

    given: dict[str, Any] = locals()
    flags = {key: _text(given[name]) for name, key in FLAGS.items() if given[name] not in (None, [])}
    flags |= parse_settings(settings or [])
    loaded = load(config, flags)
    if check:
        from chatd.server.check import report

        raise typer.Exit(report(loaded))
    from chatd.server.serve import serve as run

    raise typer.Exit(run(loaded, config, flags))


def _text(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def parse_settings(assignments: list[str]) -> dict[str, Any]:
    """KEY=VALUE, the value as JSON where it is that, as text otherwise."""
    parsed: dict[str, Any] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise typer.BadParameter(f"{assignment!r} is not KEY=VALUE")
        try:
            parsed[key] = json.loads(value)
        except ValueError:
            parsed[key] = value
    return parsed
