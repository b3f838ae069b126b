"""docs/limits.md: every limit it names exists, and so does every test."""

import re
from pathlib import Path

import pytest

from chatd.config import Settings
from chatd.wire import schema

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    line.strip("| ").split(" | ")
    for line in (ROOT / "docs" / "limits.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| Limit")
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("`"))
def test_row_names_what_exists(row: list[str]) -> None:
    limits, _default, _unit, _behaviour, shown_by = row
    for name in re.findall(r"`([^`]+)`", limits):
        if "." in name:
            section, key = name.split(".")
            assert key in Settings.model_fields[section].annotation.model_fields, name
        else:
            assert hasattr(schema, name), name
    path, _, test = shown_by.partition("::")
    assert re.search(rf"^(async )?def {re.escape(test)}\(", (ROOT / path).read_text(), re.MULTILINE), shown_by


def test_every_limit_of_the_operator_has_a_row() -> None:
    sections = {
        name: Settings.model_fields[name].annotation.model_fields for name in ("accept", "session", "queue", "hub")
    }
    assert {f"{name}.{key}" for name, keys in sections.items() for key in keys} - named() == set()


def test_every_limit_of_the_wire_has_a_row() -> None:
    words = {name for name in vars(schema) if name.endswith(("_MAX", "_MIN", "_MIN_MS"))}
    assert words - named() == set()


def named() -> set[str]:
    return {name for row in ROWS for name in re.findall(r"`([^`]+)`", row[0])}
