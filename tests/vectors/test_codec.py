"""The vectors against the reference codec and the session table. Other implementations have runners of their own."""

from contextlib import suppress
from typing import Any

import pytest
from vectors import vectors

from chatd.wire import Frame, Framer, PeerProtocolError, Session, Verdict, WireError, encode, make
from chatd.wire.schema import CLIENT, HEADER_BYTES, OPS, SERVER, Close, ErrorCode, Op

SIDES = {"client": CLIENT, "server": SERVER}


def named(vector: dict[str, Any]) -> str:
    return str(vector["name"])


@pytest.mark.parametrize("vector", vectors.load("valid"), ids=named)
def test_a_valid_frame_decodes_to_its_fields_and_back(vector: dict[str, Any]) -> None:
    data = vectors.expand(vector["bytes"])
    expected = vectors.frame_of(vector)
    assert Framer().feed(data) == [expected]
    assert encode(expected) == data


@pytest.mark.parametrize("vector", vectors.load("valid"), ids=named)
def test_no_valid_frame_can_be_cut_short(vector: dict[str, Any]) -> None:
    """A shorter body is another frame or a broken one, never the same: the length is part of the meaning."""
    data = vectors.expand(vector["bytes"])
    if len(data) == HEADER_BYTES or len(data) > 1000:
        return
    shorter = (len(data) - HEADER_BYTES - 1).to_bytes(2, "big") + data[2:-1]
    with suppress(WireError):
        assert Framer().feed(shorter) != [vectors.frame_of(vector)]


def session_in(state: str, role: int) -> Session:
    """A session that walked to that state, without any feature."""
    session = Session(role)
    client, server = (session.sent, session.received) if role == CLIENT else (session.received, session.sent)
    hello = make(Op.HELLO, major=1, features=0, frame_bytes_max=0, window_frames=0, window_bytes=0, agent="")
    if state != "start":
        client(hello)
    if state in {"authenticating", "live"}:
        client(make(Op.AUTH, credential=4, device=0, identity="", proof=b"", label=""))
    if state == "live":
        server(Frame(Op.WELCOME, 0, {"features": 0}))
    return session


def outcome(vector: dict[str, Any]) -> tuple[str, str]:
    """(what the receiver does, clause of the codec): closes, answers an error or ignores."""
    session = session_in(vector["state"], CLIENT + SERVER - SIDES[vector["from"]])
    framer = Framer(body_bytes_max=session.receive_bytes_max)
    try:
        (frame,) = framer.feed(vectors.expand(vector["bytes"]))
        verdict = session.received(frame)
    except WireError as error:
        return f"close {error.reason}", error.clause
    except PeerProtocolError as error:
        return f"close {error.reason}", ""
    words = {Verdict.UNSUPPORTED: "error UNSUPPORTED", Verdict.IGNORE: "ignored", Verdict.PROCESS: "accepted"}
    return words[verdict], ""


@pytest.mark.parametrize("vector", vectors.load("forbidden"), ids=named)
def test_a_forbidden_frame_ends_as_its_clause_says(vector: dict[str, Any]) -> None:
    expected = next(
        f"{word} {vector[word]}" if word != "ignored" else word
        for word in ("close", "error", "ignored")
        if word in vector
    )
    happened, clause = outcome(vector)
    assert happened == expected
    if clause:
        assert clause == vector["clause"]
    else:
        assert vector["clause"].split(".")[0] in {"session", "op"} or vector["clause"] == "ext.unknown"


def test_vectors_are_complete_and_well_named() -> None:
    valid, forbidden = vectors.load("valid"), vectors.load("forbidden")
    assert {vector["op"] for vector in valid} == {op.name for op in Op}
    assert {op.name for op in Op if not OPS[op].empty} <= {vector["name"].split()[0] for vector in forbidden}
    for listed in (valid, forbidden):
        names = [(vector["name"], vector.get("clause")) for vector in listed]
        assert len(set(names)) == len(names)
    for vector in forbidden:
        assert f"`{vector['clause']}`" in vectors.readme(), vector["clause"]
        assert vector.get("close", "BAD_FRAME") in Close.__members__
        assert vector.get("error", "UNSUPPORTED") in ErrorCode.__members__
    assert all("found" in vector for vector in vectors.read("regression"))
