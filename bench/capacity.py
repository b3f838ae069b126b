"""python -m bench capacity: what a host needs for so many users, from figures that were measured on one like it.

Plain proportions, each printed with the figure that it rests on. Peaks are the operator's estimate (--peak): a day's
messages do not come evenly. What was not measured is not in it: TLS, media, search, backups.
"""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.result import read
from bench.summary import FOLDER

SECONDS_PER_DAY = 86_400
# Stored per event beside its payload, its send included: 58 measured after 600,000 of them were folded (5,000
# conversations, 2,000 devices, 10 events of each in a fold), 94 where most are alone of theirs in a fold.
EVENT_BYTES = 100
CORE_SHARE_MAX = 0.6  # above it queues grow: half load is what the latencies of the result were measured at

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    users: Annotated[int, typer.Option(min=1, help="Connected at the same time.")],
    messages_per_user_day: Annotated[float, typer.Option(min=0)] = 50,
    group_size: Annotated[int, typer.Option(min=2, help="Members of a typical conversation, all connected.")] = 10,
    payload: Annotated[int, typer.Option(min=0, help="Bytes of a typical message.")] = 200,
    peak: Annotated[float, typer.Option(min=1, help="Busiest minute over the mean of the day.")] = 5,
    retention_days: Annotated[int, typer.Option(min=1)] = 365,
    result: Annotated[Path, typer.Option(help="Folder of `python -m bench all`.")] = FOLDER,
    as_json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Cores, memory and disk for a load."""
    try:
        figures = figures_of(result)
    except (OSError, ValueError) as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(1)
    needs = needs_of(figures, users, messages_per_user_day, group_size, payload, peak, retention_days)
    if as_json:
        print(json.dumps({"figures": figures, "needs": needs}, indent=1))
        return
    print("\n".join(f"{name.replace('_', ' '):<42}{value:>16,.2f}" for name, value in needs.items()))
    print("from: " + ", ".join(f"{name.replace('_', ' ')} {value:,.3g}" for name, value in figures.items()))


def figures_of(folder: Path) -> dict[str, float]:
    """The four figures that capacity rests on, from the rows of chatd. ValueError when one was not measured."""
    return {
        "bytes_per_connection": _row(folder, "idle", "")["bytes_per_connection"],
        "idle_cpu_us_per_s": _row(folder, "idle", "")["server_cpu_us_per_connection_second"],
        "cpu_us_per_send": _row(folder, "durable", "durable, hot")["server_cpu_us_per_op"],
        "cpu_us_per_delivery": _row(folder, "group", "group, one to")["server_cpu_us_per_op"],
        "cpu_us_per_wake": _row(folder, "relay", "relay, ring of 1000, 1")["server_cpu_us_per_op"],
    }


def _row(folder: Path, scenario: str, work: str) -> dict[str, Any]:
    for row in read(folder / f"{scenario}.json")["rows"]:
        if row["server"] == "chatd" and row["work"].startswith(work):
            found: dict[str, Any] = row
            return found
    raise ValueError(f"{folder / scenario}.json has no row of chatd for '{work}': run `python -m bench all`")


def needs_of(
    figures: dict[str, float],
    users: int,
    messages_per_user_day: float,
    group_size: int,
    payload: int,
    peak: float,
    retention_days: int,
) -> dict[str, float]:
    """A delivery to somebody who was idle costs a wake-up of its own (one in flight), not a share of a batch."""
    messages_per_s = users * messages_per_user_day / SECONDS_PER_DAY
    deliveries_per_s = messages_per_s * (group_size - 1)
    sending = messages_per_s * peak * figures["cpu_us_per_send"] / 1e6
    delivering = deliveries_per_s * peak * (figures["cpu_us_per_delivery"] + figures["cpu_us_per_wake"]) / 1e6
    idling = users * figures["idle_cpu_us_per_s"] / 1e6
    events = messages_per_s * SECONDS_PER_DAY * retention_days
    return {
        "messages_per_s_at_peak": messages_per_s * peak,
        "deliveries_per_s_at_peak": deliveries_per_s * peak,
        "cores_at_peak": (sending + delivering + idling) / CORE_SHARE_MAX,
        "memory_gib_user_space": users * figures["bytes_per_connection"] / 2**30,
        "disk_gib_per_day": messages_per_s * SECONDS_PER_DAY * (payload + EVENT_BYTES) / 2**30,
        "disk_gib_retained": events * (payload + EVENT_BYTES) / 2**30,
    }
