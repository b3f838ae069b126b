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


def test_there_are_rows() -> None:
    assert len(ROWS) > 30
