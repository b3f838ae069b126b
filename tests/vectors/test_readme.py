"""The specification is true: its examples decode to what it says, its client works, its tables are fresh."""

import re
import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from support import vectors

from chatd.wire import Frame, Framer, control, decode_one, encode, make
from chatd.wire.schema import FLAG_DELIVER_HISTORY, FLAG_SEND_NAK_RETRYABLE, Close, Kind, Op

EXAMPLES = vectors.examples()


def packed(frame: Frame) -> Frame:
    """Examples write MessagePack maps as maps."""
    fields = {name: control.pack(value) if isinstance(value, dict) else value for name, value in frame.fields.items()}
    lists = {name: tuple(value) for name, value in fields.items() if isinstance(value, list)}
    return Frame(frame.op, frame.flags, fields | lists, frame.extensions)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.call[:60])
def test_an_example_is_what_it_says(example: vectors.Example) -> None:
    frame = packed(example.frame())
    assert decode_one(example.bytes) == frame
    assert encode(frame) == example.bytes


def test_every_op_has_an_example() -> None:
    assert {example.frame().op for example in EXAMPLES} == set(Op)


def test_every_link_inside_the_page_leads_somewhere() -> None:
    heads = re.findall(r"^#+ (.+)$", vectors.readme(), flags=re.MULTILINE)
    anchors = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
    for link in re.findall(r"\]\(#([^)]+)\)", vectors.readme()):
        assert link in anchors, link
    for path in re.findall(r"\]\(((?!#|http)[^)#]+)", vectors.readme()):
        assert (vectors.ROOT / "protocol" / path).exists(), path


def test_generated_files_are_fresh() -> None:
    command = [sys.executable, str(vectors.ROOT / "protocol/generate.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def minimal_client() -> Callable[..., int | None]:
    (source,) = re.findall(r"```python\n(import hashlib.*?)```", vectors.readme(), flags=re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(source, "protocol/README.md", "exec"), namespace)  # our own README
    client: Callable[..., int | None] = namespace["client"]
    return client


class Server:
    """Plays one scene against the client of the README; records what it sent."""

    def __init__(self) -> None:
        self.framer = Framer()
        self.seen: list[Frame] = []
        self.outgoing: list[bytes] = []

    def send(self, data: bytes) -> None:
        while frames := self.framer.feed(data):
            data = b""
            for frame in frames:
                self.seen.append(frame)
                self.answer(frame)

    def recv(self) -> bytes:
        return self.outgoing.pop(0) if self.outgoing else b""

    def push(self, *frames: Frame) -> None:
        self.outgoing.append(b"".join(encode(frame) for frame in frames))

    def event(self, seq: int, sender: int = 8, flags: int = 0) -> Frame:
        return make(
            Op.DELIVER, flags=flags, cid=3, seq=seq, sender=sender, time=seq, kind=Kind.TEXT, payload=b"%d" % seq
        )

    def answer(self, frame: Frame) -> None:
        if frame.op == Op.HELLO:
            self.push(make(Op.CHALLENGE, nonce=b"0123456789abcdef"))
        elif frame.op == Op.AUTH:
            welcome = next(example for example in EXAMPLES if example.call.startswith("WELCOME"))
            self.outgoing += [welcome.bytes[:7], welcome.bytes[7:]]
        elif frame.op == Op.SEND and frame["cseq"] == 1:
            self.push(self.event(1), make(Op.SEND_ACK, cseq=1, cid=3, seq=2, time=2), self.event(5))
        elif frame.op == Op.SEND:
            nak = {"cseq": frame["cseq"], "cid": 3, "retry_after_ms": 9, "text": ""}
            self.push(make(Op.SEND_NAK, flags=FLAG_SEND_NAK_RETRYABLE, code=401, **nak))
            self.push(make(Op.SEND_NAK, code=301, **nak) if frame["cseq"] == 3 else make(Op.PING, flags=2, echo=b"?"))
        elif frame.op == Op.PULL and frame["from_seq"] == 3:
            self.push(
                *(self.event(seq, flags=FLAG_DELIVER_HISTORY) for seq in (3, 4)),
                make(Op.LAG, cid=3, from_seq=6, to_seq=9),
                make(Op.PULL_END, cid=3, next_seq=0, head_seq=9, floor_seq=1),
            )
        elif frame.op == Op.PULL:
            self.push(make(Op.PULL_END, cid=3, next_seq=0, head_seq=9, floor_seq=1))
            self.push(make(Op.BYE, reason=Close.GOING_AWAY, retry_after_ms=0, text=""))


def test_the_minimal_client_works() -> None:
    server, applied = Server(), []
    store = SimpleNamespace(
        outbox={1: (3, 1, b"hi"), 2: (3, 1, b"again"), 3: (99, 1, b"nowhere")},
        position={},
        apply=lambda cid, seq, sender, kind, payload: applied.append((cid, seq, sender, kind, payload)),
    )
    reason = minimal_client()(server.send, server.recv, store, 9, bytes(range(32)))
    assert reason == Close.GOING_AWAY
    auth = next(example for example in EXAMPLES if example.call.startswith("AUTH(credential=5"))
    assert server.seen[1] == auth.frame()
    assert [seq for _, seq, *_ in applied] == [1, 3, 4, 5]
    assert store.position == {3: 9}, "what the range of a PULL did not bring does not exist"
    assert store.outbox == {2: (3, 1, b"again")}
    assert [frame["count"] for frame in server.seen if frame.op == Op.ACK] == [1, 2, 3, 4]
    asked = [(frame["from_seq"], frame["to_seq"]) for frame in server.seen if frame.op == Op.PULL]
    assert asked == [(3, 4), (6, 9)]
    assert [frame["echo"] for frame in server.seen if frame.op == Op.PONG] == [b"?"]
