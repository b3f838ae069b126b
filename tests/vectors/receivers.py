"""Who can receive a vector: one function per implementation, and the reference's.

A receiver takes a vector of forbidden.json, brings a session into its state, feeds the bytes and says what happened:
"close REASON", "error CODE", "ignored" or "accepted", and the clause where it knows it, else "". To add an
implementation, add its function to RECEIVERS; receives says which side's frames it can take, elsewhere names clauses
that are judged behind it (the content of an extension is the hub's).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from support import frames, vectors
from support.rig import Rig

from chatd.engine.reference import ReferenceEngine
from chatd.wire import Frame, Framer, PeerProtocolError, Session, Verdict, WireError, decode, make
from chatd.wire.schema import CLIENT, SERVER, Close, ErrorCode, Op

SIDES = {"client": CLIENT, "server": SERVER}
REFUSALS = {Op.ERROR, Op.SEND_NAK}
WORDS = {
    Verdict.UNSUPPORTED: "error UNSUPPORTED",
    Verdict.NOT_ALLOWED_NOW: "error NOT_ALLOWED_NOW",
    Verdict.BAD_REQUEST: "error BAD_REQUEST",
    Verdict.IGNORE: "ignored",
    Verdict.PROCESS: "accepted",
}


def session_in(state: str, role: int) -> Session:
    """A session that walked to that state, without any feature."""
    session = Session(role)
    client, server = (session.sent, session.received) if role == CLIENT else (session.received, session.sent)
    hello = make(Op.HELLO, major=1, features=0, frame_bytes_max=65_535, window_frames=0, window_bytes=0, agent="")
    if state != "start":
        client(hello)
    if state in {"authenticating", "live"}:
        client(make(Op.AUTH, credential=4, device=0, identity="", proof=b"", label=""))
    if state == "live":
        server(Frame(Op.WELCOME, 0, {"features": 0}))
    return session


def reference(vector: dict[str, Any]) -> tuple[str, str]:
    session = session_in(vector["state"], CLIENT + SERVER - SIDES[vector["from"]])
    framer = Framer(body_bytes_max=session.receive_bytes_max)
    try:
        (frame,) = framer.feed(vectors.expand(vector["bytes"]))
        return WORDS[session.received(frame)], ""
    except WireError as error:
        return f"close {error.reason}", error.clause
    except PeerProtocolError as error:
        return f"close {error.reason}", ""


class ReferenceRig(Rig):
    engine_class = ReferenceEngine


def engine(vector: dict[str, Any], rig_class: type[Rig] = Rig) -> tuple[str, str]:
    """The engine through its second door, with a fake hub behind it."""
    with rig_class() as rig:
        client = rig.client()
        if vector["state"] != "start":
            client.feed(frames.hello(features=0))
        rig.automatic = vector["state"] == "live"
        if vector["state"] in {"authenticating", "live"}:
            client.feed(frames.auth(device=1))
        client.take()
        client.feed(vectors.expand(vector["bytes"]))
        answers = client.take()
        rig.settle()
        closed = [upcall[-1] for upcall in rig.upcalls if upcall[0] == "closed"]
    if closed:
        return f"close {Close(closed[0]).name}", ""
    return next((f"error {refusal(frame).name}" for frame in answers if frame.op in REFUSALS), "ignored"), ""


def refusal(frame: frames.Frame) -> ErrorCode:
    return ErrorCode(decode(frame.op, frame.flags, frame.body)["code"])


@dataclass(frozen=True)
class Receiver:
    receive: Callable[[dict[str, Any]], tuple[str, str]]
    receives: frozenset[str] = frozenset(SIDES)
    elsewhere: frozenset[str] = frozenset()


RECEIVERS = {
    "reference": Receiver(reference),
    "engine": Receiver(engine, frozenset({"client"}), frozenset({"ext.content"})),
    "reference engine": Receiver(
        partial(engine, rig_class=ReferenceRig), frozenset({"client"}), frozenset({"ext.content"})
    ),
}
