"""The vectors against every implementation that receives frames."""

from typing import Any

import pytest
from support import vectors
from vectors.receivers import RECEIVERS

from chatd.wire.schema import OPS, SERVER, Op

BEFORE_LOGIN = {"HELLO": "start", "AUTH": "greeted", "RESUME": "greeted", "CHALLENGE": "greeted"}
AUTHENTICATING = {"WELCOME", "RESUMED"}
JUDGED_BY_THE_SESSION = ("session.", "op.", "ext.unknown", "ext.content")


@pytest.mark.parametrize("name", RECEIVERS)
@pytest.mark.parametrize("vector", vectors.load("forbidden"), ids=vectors.named)
def test_a_forbidden_frame_ends_as_its_clause_says(vector: dict[str, Any], name: str) -> None:
    receiver = RECEIVERS[name]
    if vector["from"] not in receiver.receives or vector["clause"] in receiver.elsewhere:
        return
    expected = next(
        f"{word} {vector[word]}" if word != "ignored" else word
        for word in ("close", "error", "ignored")
        if word in vector
    )
    happened, clause = receiver.receive(vector)
    assert happened == expected
    assert clause in {"", vector["clause"]}
    if name == "reference" and not clause:
        assert vector["clause"].startswith(JUDGED_BY_THE_SESSION)


@pytest.mark.parametrize("name", RECEIVERS)
@pytest.mark.parametrize("vector", vectors.load("valid"), ids=vectors.named)
def test_a_valid_frame_is_accepted_where_it_belongs(vector: dict[str, Any], name: str) -> None:
    op = vector["op"]
    rule = OPS[Op[op]]
    sender = "server" if rule.sides == SERVER else "client"
    receiver = RECEIVERS[name]
    if rule.feature or sender not in receiver.receives or vector.get("layout_only"):
        return
    state = "authenticating" if op in AUTHENTICATING else BEFORE_LOGIN.get(op, "live")
    happened, _ = receiver.receive(vector | {"state": state, "from": sender})
    if name == "reference":
        assert happened == "accepted"
    else:
        assert happened not in {"close BAD_FRAME", "close UNSUPPORTED"}, "what a value means is judged elsewhere"
