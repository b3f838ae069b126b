"""What all campaigns write: the machine, the command, the figures, the violations."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.machine import describe


def machine(module: str) -> dict[str, object]:
    """Taken before the campaign starts: its time and load are those of the beginning."""
    return {**describe(), "command": shlex.join(["python", "-m", module, *sys.argv[1:]])}


def write(path: Path | None, result: dict[str, Any]) -> None:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result, indent=1) + "\n")


def spread(values: Sequence[float], digits: int = 3) -> dict[str, float]:
    """p50, p90, p99 and maximum, by nearest rank."""
    if not values:
        return {}
    ranked = sorted(values)
    found = {f"p{p}": ranked[max(0, -(-len(ranked) * p // 100) - 1)] for p in (50, 90, 99)}
    return {name: round(value, digits) for name, value in {**found, "max": ranked[-1]}.items()}
