"""docs/features.md: no blanks, and everything that a row names exists."""

import re
from pathlib import Path

import pytest

from chatd.cli import COMMANDS
from chatd.client import Client, Folded
from chatd.wire.schema import EXTENSIONS, Kind, Method, NoticeTopic, Op

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (ROOT / "docs" / "features.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and not line.startswith("| capability")
]
WORDS = {member.name for enum in (Kind, Method, NoticeTopic, Op) for member in enum}
WORDS |= {layout.name for layout in EXTENSIONS.values()}
ON_BOTH_STORES = {"at", "place", "on_either_store", "with_plugin"}
"""Fixtures that give a test both stores; either_core, for a whole module, is another one."""
ON_ONE_STORE = {
    "streams of a producer that is lost",
    "telemetry: the newest value of each key",
    "make the index of a running server anew",
}
"""Shown on files alone so far."""


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_row_is_complete_and_true(row: list[str]) -> None:
    capability, ops, methods, commands, test = row
    assert all((capability, ops, methods, commands, test)), "no blanks"
    for word in re.findall(r"[A-Z][A-Z_]+", ops):
        assert word in WORDS, word
    for name in re.findall(r"`(\w+)", methods):
        assert hasattr(Client, name) or name == Folded.__name__, name
    for name in re.findall(r"`chatd (\w+)", commands):
        assert name in COMMANDS, name
    path, _, function = test.partition("::")
    source = (ROOT / path).read_text()
    found = re.search(rf"^(?:async )?def {re.escape(function)}\(([^)]*)\)", source, re.MULTILINE)
    assert found, test
    uses_both = ON_BOTH_STORES & set(re.findall(r"\w+", found[1])) or 'usefixtures("either_core")' in source
    of_an_operator = ops == methods == "–"
    assert uses_both or of_an_operator or capability in ON_ONE_STORE, f"{test} runs on one store only"
