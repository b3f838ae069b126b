"""Results as files: one row per line, figures with six digits, and beside them the plot."""

import json
from pathlib import Path
from typing import Any

from bench.plot import svg


def write(document: dict[str, Any], path: Path) -> None:
    rows = ",\n".join("  " + json.dumps(_short(row), ensure_ascii=False) for row in document["rows"])
    head = [f' "{name}": {json.dumps(_short(document[name]), ensure_ascii=False)},' for name in ("machine", "settings")]
    path.write_text("\n".join(["{", *head, ' "rows": [', rows, " ]", "}"]) + "\n", encoding="utf-8")


def write_plot(document: dict[str, Any], path: Path) -> None:
    path.write_text(svg(document), encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """ValueError when it is not a result."""
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    if "rows" not in document:
        raise ValueError(f"{path} is not a result of python -m bench")
    return document


def _short(value: Any) -> Any:
    match value:
        case float():
            return float(f"{value:.6g}")
        case dict():
            return {key: _short(item) for key, item in value.items()}
        case list() | tuple():
            return [_short(item) for item in value]
        case _:
            return value
