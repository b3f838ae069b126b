"""The figures of docs/reliability.md, from the published results: `PYTHONPATH=.:tests python -m campaigns.figures`."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"
Result = dict[str, Any]


def kills(result: Result) -> tuple[str, str]:
    roles = {role: role.replace("_", " ") for role in result["recovery_s"]}
    by_role = ", ".join(f"{result['kills'][role]} of {name}s" for role, name in sorted(roles.items()))
    operations, unanswered = result["operations"], result["unanswered_at_kill"]
    times = ", ".join(f"{roles[role]} {s['p50']:.2f} / {s['p99']:.2f} s" for role, s in result["recovery_s"].items())
    done = (
        f"{result['kills']['all']} kills ({by_role}); {operations['sends_ok']:,} SENDs acknowledged,"
        f" {operations['delivered']:,} events delivered; unanswered at a kill: at least {unanswered['min']},"
        f" median {unanswered['p50']}"
    )
    return done, f"all nine clients answered again after (p50 / p99): {times}"


def crash_images(result: Result) -> tuple[str, str]:
    recorded = result["recorded"]
    done = (
        f"{sum(result['images'].values()):,} disks, cut at {result['cuts']:,} places of a run with"
        f" {recorded['write']:,} writes, {recorded['sync']:,} syncs, {recorded['delete']:,} removed files and"
        f" {recorded['mark']:,} acknowledgements"
    )
    return done, f"{result['acknowledged_events_required']:,} times an acknowledged event was looked for and found"


def simulation(result: Result) -> tuple[str, str]:
    faults = sum(result["faults"].values())
    seeds, runs = f"{result['seeds_done']:,} of {result['plan']['seeds']:,} seeds", sum(result["runs"].values())
    done = f"{seeds}, {runs:,} runs; {result['virtual_s']:,} virtual seconds"
    least = min(map(int, result["faults_per_run"]), default=0) if "faults_per_run" in result else 5
    seen = f"{result['operations']:,} operations of clients, {faults:,} faults that struck, {least} or more in each run"
    return done, seen


def failures(result: Result) -> tuple[str, str]:
    replaced = sum(row["worker_replaced"] for row in result["by_call"].values())
    ended = sum(row["server_ended"] for row in result["by_call"].values())
    numbers = f"n = 1..{result['upto']}" + (f", every {result['step']}th" if result["step"] > 1 else "")
    done = f"{result['failures']:,} failing calls, {numbers}; {result['sends_ok']:,} SENDs acknowledged"
    return done, f"{replaced} cost the worker, which was replaced; {ended} the server, which said why"


def sabotages(result: Result) -> tuple[str, str]:
    rows = result["rows"]
    return f"{len(rows)} deliberate faults", (
        f"{sum(row['caught'] for row in rows)} caught, the slowest after {max(row['seconds'] for row in rows)} s;"
        f" {sum(row['findings'] for row in result['without'].values())} findings without one"
    )


def fuzz(result: Result) -> tuple[str, str]:
    targets = result["targets"]
    inputs = ", ".join(f"{name} {done['inputs']:,}" for name, done in targets.items())
    edges, known = (sum(done[key] for done in targets.values()) for key in ("edges", "edges_of_corpus"))
    kept = sum(done["inputs_kept"] for done in targets.values())
    return (
        f"{result['minutes']:g} minutes, sanitized; inputs of each target: {inputs}",
        f"{edges:,} edges of native code, {edges - known:,} of them by mutation; {kept:,} inputs kept for it",
    )


def coverage(result: Result) -> tuple[str, str]:
    lines, branches = (f"{result[f'{what}_reached']:,} of {result[what]:,} {what}" for what in ("lines", "branches"))
    least, marks = result["lines_least_percent"], result["marks"]
    return (
        f"{lines} and {branches} of {len(result['files'])} files",
        f"least of a file: {least} % of lines; {marks} lines are marked, because no test reaches them on demand",
    )


CAMPAIGNS: dict[str, tuple[str, Callable[[Result], tuple[str, str]]]] = {
    "simulation": ("simulation", simulation),
    "kills": ("live kills", kills),
    "postgresql-kills": ("live kills, PostgreSQL's processes among them", kills),
    "crash-images": ("power cuts", crash_images),
    "failures": ("n-th failures", failures),
    "sabotages": ("sabotages", sabotages),
    "fuzz": ("mutated input", fuzz),
    "coverage": ("parsing code that tests reach", coverage),
}


def table() -> str:
    """One row for each published campaign. A campaign has one result at a time: a newer one replaces it."""
    rows = ["| campaign | done | seen | violations | result |", "|---|---|---|---|---|"]
    for name, (title, describe) in CAMPAIGNS.items():
        for path in RESULTS.glob(f"{name}-*.json"):
            result = json.loads(path.read_text(encoding="utf-8"))
            done, seen = describe(result)
            count = len(result.get("violations", ()))
            rows.append(f"| {title} | {done} | {seen} | {count} | [{path.stem}](../bench/results/{path.name}) |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    print(table(), end="")
