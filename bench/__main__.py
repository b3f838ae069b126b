"""python -m bench SCENARIO | all | capacity | search | sync | backup | move: measure chatd. See bench/README.md."""

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench import backup, capacity, instructions, move, profile, search, suite, sync
from bench.generator import RunError
from bench.result import write, write_plot
from bench.run import Run
from bench.scenarios import SCENARIOS, Options
from bench.servers import SERVERS, StartError
from bench.show import Bar, show

NO_PEERS = "none"
FILE_WIDTH = 140  # of a table that goes into a file


def peers_of(text: str | None) -> tuple[str, ...] | None:
    if text is None:
        return None
    names = tuple(name for name in text.split(",") if name and name != NO_PEERS)
    known = {server.name for server in SERVERS.values()} | {server.peer for server in SERVERS.values()}
    if unknown := set(names) - known:
        raise typer.BadParameter(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(sorted(known))}")
    return names


COMMANDS = {
    "all": suite.app,
    "capacity": capacity.app,
    "profile": profile.app,
    "instructions": instructions.app,
    "search": search.app,
    "sync": sync.app,
    "backup": backup.app,
    "move": move.app,
}

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    scenario: Annotated[str, typer.Argument(help=f"One of {', '.join(SCENARIOS)}; or {', '.join(COMMANDS)}.")],
    connections: Annotated[int | None, typer.Option(min=1, help="Instead of the scenario's own points.")] = None,
    window: Annotated[int | None, typer.Option(min=1, max=64, help="Unanswered messages per connection.")] = None,
    payload: Annotated[int, typer.Option(min=32, max=8192, help="Bytes of every payload.")] = 64,
    seconds: Annotated[float | None, typer.Option(min=0.1, help="Measured interval.")] = None,
    warm_up: Annotated[float | None, typer.Option(min=0, help="Seconds of load before it.")] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Every point so many times; the table shows medians.")] = 3,
    peers: Annotated[
        str | None, typer.Option(help="Comma-separated, or `none`; the scenario's own without it.")
    ] = None,
    shards: Annotated[int, typer.Option(min=1, max=64, help="Shard processes of chatd.")] = 1,
    store: Annotated[
        str, typer.Option(help="Where chatd keeps messages: sqlite, or postgresql (a server is started).")
    ] = "sqlite",
    heartbeat_ms: Annotated[int | None, typer.Option(min=10, help="idle: heartbeat interval.")] = None,
    rate: Annotated[float | None, typer.Option(min=1, help="durable: only at so many sends per second.")] = None,
    stuck: Annotated[int | None, typer.Option(min=1, help="slow-reader: readers that do not read.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the result there.")] = None,
    plot_file: Annotated[Path | None, typer.Option("--plot", help="Latency and throughput, as SVG.")] = None,
    only_peers: Annotated[bool, typer.Option("--only-peers", help="Leave chatd out.")] = False,
) -> None:
    """Measure chatd beside its peers.

    Exit status 1: a figure cannot be believed, because a message was lost, damaged, or came twice or late.
    """
    if scenario not in SCENARIOS:
        raise typer.BadParameter(f"there is no scenario {scenario}; there are {', '.join(SCENARIOS)}")
    options = Options(
        connections=connections,
        window=window,
        payload=payload,
        seconds=seconds,
        warm_up=warm_up,
        repeats=repeats,
        peers=peers_of(peers),
        shards=shards,
        store=store,
        heartbeat_ms=heartbeat_ms,
        rate=rate,
        stuck=stuck,
        with_chatd=not only_peers,
    )
    console = Console()
    if not console.is_terminal:
        console = Console(width=FILE_WIDTH)
    try:
        with Bar(console) as bar:
            document = Run(SCENARIOS[scenario], options, bar.update).result()
    except (RunError, StartError) as error:
        console.print(f"bench: {error}", style="red", highlight=False)
        sys.exit(1)
    show(console, document)
    if json_file is not None:
        write(document, json_file)
    if plot_file is not None:
        write_plot(document, plot_file)
    if any(row["faults"] for row in document["rows"]):
        sys.exit(1)


if len(sys.argv) > 1 and sys.argv[1] in COMMANDS:
    COMMANDS[sys.argv[1]](sys.argv[2:], prog_name=f"python -m bench {sys.argv[1]}")
else:
    app(prog_name="python -m bench")
