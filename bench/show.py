"""What a person sees: progress on a terminal, and a table at the end."""

from math import log
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

BLOCKS = " ▁▂▃▄▅▆▇█"
SKETCH_WIDTH = 24
SKETCH_FROM_WIDTH = 130


class Bar:
    """One line that says what is being measured; nothing when the output is no terminal."""

    def __init__(self, console: Console) -> None:
        self.progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("starting", total=1.0)

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def update(self, server: str, point: str, stage: str, done: float) -> None:
        self.progress.update(self.task, description=f"{server}: {point}: {stage}", completed=done)


def show(console: Console, document: dict[str, Any]) -> None:
    machine, settings = document["machine"], document["settings"]
    console.print(
        f"{machine['cpu']}, {machine['kernel']}, commit {machine['commit']}; {settings['cores']}; "
        f"{settings['payload_bytes']}-byte payloads, {settings['repeats']} repeats (medians; ± half the spread)",
        highlight=False,
    )
    for work in dict.fromkeys(row["work"] for row in document["rows"]):
        rows = [row for row in document["rows"] if row["work"] == work]
        console.print(_table(work, rows, console.width))
        _notes(console, rows)


COLUMNS = ("per s", "±", "CPU µs/op", "±", "p50 ms", "p99 ms", "p99.9 ms", "max ms", "B/conn", "connect ms", "gen.")


def _table(work: str, rows: list[dict[str, Any]], width: int) -> Table:
    table = Table(title=work, title_justify="left", title_style="bold")
    table.add_column("server", no_wrap=True)
    for column in COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    if width >= SKETCH_FROM_WIDTH:
        table.add_column("latency", no_wrap=True)
    for row in rows:
        cells = _cells(row)
        table.add_row(*cells, *([sketch(row.get("histogram_us", []))] if width >= SKETCH_FROM_WIDTH else []))
    return table


def _cells(row: dict[str, Any]) -> list[str]:
    latency = row["latency_us"]
    size = row["bytes_per_connection"]
    return [
        row["server"],
        f"{row['per_s']:,.0f}",
        _plus_minus(row["spread"]["per_s"], row["per_s"]),
        f"{row['server_cpu_us_per_op']:.3f}",
        _plus_minus(row["spread"]["server_cpu_us_per_op"], row["server_cpu_us_per_op"]),
        *[f"{latency[name] / 1000:.3f}" if latency else "–" for name in ("p50", "p99", "p999", "max")],
        f"{size:,.0f}" if size is not None else "–",
        f"{row['connect_ms']:.1f}",
        f"{row['generator_cpu_share']:.0%}",
    ]


def _plus_minus(spread: list[float], middle: float) -> str:
    """Half the distance between the best and the worst repeat, as a share of the median."""
    return f"{(spread[1] - spread[0]) / 2 / middle:.0%}" if middle and spread[1] > spread[0] else "–"


def sketch(buckets: list[tuple[float, int]]) -> str:
    """The latency histogram as one line, logarithmic from the first bucket to the last."""
    if len(buckets) < 2:
        return ""
    first, last = log(buckets[0][0] + 1e-3), log(buckets[-1][0] + 1e-3)
    heights = [0] * SKETCH_WIDTH
    for upper, count in buckets:
        place = int((log(upper + 1e-3) - first) / (last - first) * (SKETCH_WIDTH - 1))
        heights[place] += count
    highest = max(heights)
    return "".join(BLOCKS[0 if not count else 1 + round(count / highest * (len(BLOCKS) - 2))] for count in heights)


def _notes(console: Console, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if row["goal"]:
            console.print(f"  goal: {row['goal']}", style="dim", highlight=False)
        if "ratio_to_best_peer" in row:
            ratios = ", ".join(
                f"{name} {ratio:.2f}" for name, ratio in row["ratio_to_best_peer"].items() if ratio is not None
            )
            console.print(f"  chatd / best peer: {ratios}", highlight=False)
        if "server_cpu_us_per_connection_second" in row:
            share = row["server_cpu_us_per_connection_second"]
            console.print(f"  {row['server']}: {share:.3f} µs of CPU per connection and second", highlight=False)
        if "backlog" in row:
            highest, last = max(count for _, count in row["backlog"]), row["backlog"][-1][1]
            slopes = ", ".join(f"{slope:+,.0f}" for slope in row["backlog_flatness"])
            console.print(
                f"  {row['server']}, records not folded: {last:,} at the end, {highest:,} at most; "
                f"growth per s over the second half, by repeat: {slopes}",
                style="dim",
                highlight=False,
            )
        if row.get("counts", {}).get("reread"):
            read, kept = row["counts"]["reread"], row["counts"]["answered"]
            console.print(f"  {row['server']}, read again from the store: {read:,} of {kept:,}", highlight=False)
        if row.get("per_s_per_shard_core"):
            console.print(f"  {row['server']}: {row['per_s_per_shard_core']:,.0f} deliveries/s per shard core")
        if row.get("per_s_per_core"):
            console.print(f"  {row['server']}: {row['per_s_per_core']:,.0f} per s and core", highlight=False)
        if "bytes_per_stuck_reader" in row:
            sizes = ", ".join(f"{label} {size / 1024:,.0f}" for label, size in row["stuck_bytes"].items())
            counts = row["counts"]
            fate = f"{row['lost']:,} deliveries lost" if "lost" in row else f"{counts['lagged']:,} pulled, none lost"
            console.print(
                f"  {row['server']}: {row['bytes_per_stuck_reader'] / 1024:,.0f} KiB per stuck reader ({sizes}); "
                f"{counts['closed']} closed, {fate}",
                highlight=False,
            )
        if len(row["process_cpu_us_per_op"]) > 1:
            shares = ", ".join(f"{label} {us:.3f}" for label, us in row["process_cpu_us_per_op"].items())
            console.print(f"  {row['server']}, CPU µs/op by process: {shares}", style="dim", highlight=False)
        if "process_bytes_per_connection" in row and len(row["process_bytes_per_connection"]) > 1:
            sizes = ", ".join(f"{label} {size:,.0f}" for label, size in row["process_bytes_per_connection"].items())
            console.print(f"  {row['server']}, bytes per connection by process: {sizes}", style="dim", highlight=False)
        for key, name in (("delivery_us", "delivery"), ("ack_us", "acknowledgement")):
            if found := row.get(key):
                times = ", ".join(f"{share} {us / 1000:.3f}" for share, us in found.items())
                console.print(f"  {row['server']}, {name} ms: {times}", style="dim", highlight=False)
        for doubt in row["doubts"]:
            console.print(f"  doubt, {row['server']}: {doubt}", style="yellow", highlight=False)
        for fault in row["faults"]:
            console.print(f"  FAULT, {row['server']}: {fault}", style="red", highlight=False)
