"""The vectors of frames that a server sends, against the client library's session."""

from typing import Any

import pytest
from support import vectors

from chatd.client import Credential
from chatd.client.model import Settings
from chatd.client.session import ClientSession
from chatd.client.state import State
from chatd.wire import encode, make
from chatd.wire.schema import OPS, SERVER, Op

WELCOME = encode(
    make(
        Op.WELCOME,
        **dict.fromkeys(("user", "device", "session_epoch", "cseq_stored", "log_epoch", "time"), 1),
        **dict.fromkeys(("features", "frames_per_s", "sends_per_s"), 0),
        frame_bytes_max=65_535,
        window_frames=1024,
        window_bytes=1 << 20,
        heartbeat_ms=60_000,
        cursor=b"",
        ticket=b"",
    )
)
FROM_SERVER = [vector for vector in vectors.load("forbidden") if vector["from"] == "server"]
VALID_LIVE = [
    vector
    for vector in vectors.load("valid")
    if OPS[Op[vector["op"]]].sides & SERVER
    and not OPS[Op[vector["op"]]].feature
    and not vector.get("layout_only")
    and vector["op"] not in {"CHALLENGE", "WELCOME", "RESUMED"}
]


def session_in(state: str) -> ClientSession:
    session = ClientSession(
        Credential.jwt("token"),
        State(),
        Settings(),
        address=("server", 1),
        random=lambda: 0.5,
        random_bytes=bytes,
    )
    assert session.dial(0.0)
    session.connected(0.0)
    if state == "live":
        session.received(WELCOME, 0.0)
        assert session.phase == "live"
    return session


@pytest.mark.parametrize("vector", VALID_LIVE, ids=vectors.named)
def test_a_valid_frame_of_the_server_never_makes_the_client_leave(vector: dict[str, Any]) -> None:
    session = session_in("live")
    session.received(vectors.expand(vector["bytes"]), 1.0)
    assert vector["op"] in {"BYE", "REDIRECT"} or not session.hang_up


@pytest.mark.parametrize("vector", FROM_SERVER, ids=vectors.named)
def test_a_forbidden_frame_of_the_server_ends_the_connection_and_nothing_else(vector: dict[str, Any]) -> None:
    session = session_in(vector["state"])
    session.received(vectors.expand(vector["bytes"]), 1.0)
    assert session.hang_up == ("close" in vector)
    assert not session.closed
