"""No SEND_ACK and no DELIVER leaves the server before a successful sync of the journal covers the record."""

from pathlib import Path

import pytest
from support import strace
from support.ack_oracle import judge, tag
from support.strace import Call, parsed
from support.traced_load import judged_load

from chatd.testing import ChatdServer
from chatd.wire.frame import encode, make
from chatd.wire.schema import OPS, Op

SENDS = 1000


@pytest.mark.parametrize("shards", [1, 3])
async def test_every_ack_and_every_push_follows_its_sync(tmp_path: Path, shards: int) -> None:
    strace.require()
    with ChatdServer.start(tmp_path, "--shards", str(shards), inline=False) as server:
        verdict = await judged_load(server, SENDS, tmp_path / "trace")
    assert verdict.findings == []
    assert (verdict.acks, verdict.pushes) == (SENDS, 3 * SENDS)
    assert verdict.syncs > SENDS // 100


# ---- the oracle itself
SOCKET, JOURNAL = "TCP:[127.0.0.1:1->127.0.0.1:2]", "/data/journal-00000001.db-wal"
DEVICE, CSEQ = 7, 3


def both(name: str, target: str, data: bytes = b"", result: int = 0) -> list[Call]:
    return [Call(True, name, target, data, 0), Call(False, name, target, data, result or len(data))]


def sent(op: Op, **fields: object) -> list[Call]:
    return both("sendto", SOCKET, encode(make(op, **fields)))


def welcome() -> list[Call]:
    zero = {field.name: b"" if field.name in ("cursor", "ticket") else 0 for field in OPS[Op.WELCOME].layout.fields}
    return sent(Op.WELCOME, **{**zero, "device": DEVICE})


WRITE = both("pwrite64", JOURNAL, b"page" + tag(DEVICE, CSEQ))
SYNC, FAILED_SYNC = both("fdatasync", JOURNAL), both("fdatasync", JOURNAL, result=-1)
ACK = sent(Op.SEND_ACK, cseq=CSEQ, cid=1, seq=2, time=0)
PUSH = sent(Op.DELIVER, cid=1, seq=2, sender=9, time=0, kind=1, payload=tag(DEVICE, CSEQ))


@pytest.mark.parametrize(
    ("calls", "words"),
    [
        ([*WRITE, *SYNC, *ACK, *PUSH], []),
        ([*WRITE, *FAILED_SYNC, *WRITE, *SYNC, *ACK], []),
        (ACK, ["EARLY_ACK"]),
        ([*WRITE, *ACK, *SYNC], ["EARLY_ACK"]),
        ([*WRITE, *PUSH, *SYNC, *ACK], ["EARLY_PUSH"]),
        ([*WRITE, *FAILED_SYNC, *ACK], ["EARLY_ACK"]),
        ([*WRITE, *FAILED_SYNC, *SYNC, *ACK], ["EARLY_ACK"]),  # a sync that is tried again proves nothing
        ([*SYNC, *WRITE, *ACK], ["EARLY_ACK"]),
        ([*WRITE, *both("fdatasync", "/data/chatd.db"), *ACK], ["EARLY_ACK"]),
        ([SYNC[0], *WRITE, SYNC[1], *ACK], ["EARLY_ACK"]),  # written while the sync was under way
        ([*WRITE, SYNC[0], *ACK, SYNC[1]], ["EARLY_ACK"]),
    ],
)
def test_the_oracle_names_what_is_early(calls: list[Call], words: list[str]) -> None:
    assert [finding.word for finding in judge([*welcome(), *calls]).findings] == words


def test_interrupted_calls_are_put_together() -> None:
    lines = [
        r'7 pwrite64(3<\x2f\x61>, "\x68\x69", 2, 0 <unfinished ...>',
        r'8 sendto(4<TCP:[127.0.0.1:1->127.0.0.1:2]>, "\x6f", 1, 0, NULL, 0) = 1',
        r"7 <... pwrite64 resumed>) = 2",
        r"7 fdatasync(3<\x2f\x61>) = -1 EIO (Input/output error) (INJECTED)",
    ]
    assert [(call.begun, call.name, call.target, call.data, call.result) for call in parsed(iter(lines))] == [
        (True, "pwrite64", "/a", b"hi", 0),
        (True, "sendto", "TCP:[127.0.0.1:1->127.0.0.1:2]", b"o", 0),
        (False, "sendto", "TCP:[127.0.0.1:1->127.0.0.1:2]", b"o", 1),
        (False, "pwrite64", "/a", b"hi", 2),
        (True, "fdatasync", "/a", b"", 0),
        (False, "fdatasync", "/a", b"", -1),
    ]
