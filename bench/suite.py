"""python -m bench all: every scenario, its result and plot under bench/results/full/, and README's table from them."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from bench.generator import RunError
from bench.result import write, write_plot
from bench.run import Run
from bench.scenarios import SCENARIOS, Options
from bench.servers import StartError
from bench.show import Bar, show
from bench.summary import FOLDER, README, update_readme

# A heartbeat interval has to be seen whole, a cold set is filled, a group is started anew: these cost minutes, and
# their figures hardly wander.
REPEATS_MAX = {"idle": 1, "slow-reader": 2, "durable": 2, "latency": 2}
WARM_UP_S = 1
IDLE_CONNECTIONS = 15_000  # of the three sizes that the scenario has, the one with most users
QUICK_SECONDS, QUICK_HEARTBEAT_MS = 0.5, 3000

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    seconds: Annotated[float, typer.Option(min=0.1, help="Measured interval of every point.")] = 2.5,
    repeats: Annotated[int, typer.Option(min=1, help="Of every point, where it is not slow.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Does everything work? Half seconds, no repeats.")] = False,
    folder: Annotated[Path, typer.Option(help="Where results and plots go.")] = FOLDER,
    readme: Annotated[bool, typer.Option(help="Write README's table anew.")] = True,
    only: Annotated[str, typer.Option(help="Comma-separated scenarios; all without it.")] = "",
) -> None:
    """Run every scenario. Exit status 1: a figure cannot be believed; the table is left alone then."""
    console = Console(width=None if sys.stdout.isatty() else 140)
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [name for name in SCENARIOS if not only or name in only.split(",")]
    believed, began = True, time.monotonic()
    for name in chosen:
        options = Options(
            connections=IDLE_CONNECTIONS if name == "idle" and not quick else None,
            seconds=None if name == "idle" else QUICK_SECONDS if quick else seconds,
            warm_up=QUICK_SECONDS if quick else WARM_UP_S,
            repeats=1 if quick else min(repeats, REPEATS_MAX.get(name, repeats)),
            heartbeat_ms=QUICK_HEARTBEAT_MS if quick else None,
            quick=quick,
        )
        console.rule(f"{name}, after {time.monotonic() - began:.0f} s")
        try:
            with Bar(console) as bar:
                document = Run(SCENARIOS[name], options, bar.update).result()
        except (RunError, StartError) as error:
            console.print(f"bench: {name}: {error}", style="red", highlight=False)
            believed = False
            continue
        show(console, document)
        write(document, folder / f"{name}.json")
        write_plot(document, folder / f"{name}.svg")
        believed = believed and not any(row["faults"] for row in document["rows"])
    console.rule(f"{len(chosen)} scenarios in {time.monotonic() - began:.0f} s")
    if not believed:
        sys.exit(1)
    if readme:
        update_readme(README, folder)
