"""The ack-after-fsync oracle: nothing leaves for a client that a power cut could take back.

Read from the system calls of a running server. A record is durable when the journal write that holds its payload has
returned before a sync of the same file began, and that sync succeeded. After a failed sync nothing that was written
before counts: Linux may have dropped the pages and calls them clean, so a later sync proves nothing about them.
Payloads are tags that no other record has.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from chatd.wire.frame import Frame
from chatd.wire.framer import Framer
from chatd.wire.schema import Op
from support.invariants import Finding
from support.strace import Call

TAG = re.compile(rb"<tag \d+:\d+>")
WRITES, SENDS, SYNCS = {"pwrite64", "write"}, {"sendto", "write", "sendmsg"}, {"fdatasync", "fsync"}


def tag(device: int, cseq: int) -> bytes:
    """Payload of that SEND: three times the same, because a record may lie across two pages of the journal."""
    return b"<tag %d:%d>" % (device, cseq) * 3


@dataclass(slots=True)
class File:
    """Tags written to one journal file. syncing: what a sync that is under way covers."""

    written: set[bytes] = field(default_factory=set)
    syncing: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class Verdict:
    """acks, pushes: frames that were judged. A verdict about none of them proves nothing."""

    acks: int = 0
    pushes: int = 0
    syncs: int = 0
    findings: list[Finding] = field(default_factory=list)


def judge(calls: Iterable[Call], journal: str = "journal-") -> Verdict:
    verdict, files, durable = Verdict(), dict[str, File](), set[bytes]()
    streams: dict[str, tuple[Framer, list[int]]] = {}
    for call in calls:
        if journal in call.target:
            file = files.setdefault(call.target, File())
            if call.name in WRITES and not call.begun and call.result > 0:
                file.written.update(TAG.findall(call.data))
            elif call.name in SYNCS:
                verdict.syncs += not call.begun
                synced(file, call, durable)
        elif call.target.startswith("TCP:") and call.name in SENDS and call.begun:
            framer, devices = streams.setdefault(call.target, (Framer(), []))
            for frame in frames(framer, call.data):
                judge_frame(frame, devices, durable, verdict)
    return verdict


def synced(file: File, call: Call, durable: set[bytes]) -> None:
    if call.begun:
        file.syncing = set(file.written)
    elif call.result == 0:
        durable |= file.syncing
        file.written -= file.syncing
    else:
        file.written.clear()


def frames(framer: Framer, data: bytes) -> Iterator[Frame]:
    while found := framer.feed(data):
        yield from found
        data = b""


def judge_frame(frame: Frame, devices: list[int], durable: set[bytes], verdict: Verdict) -> None:
    """devices: whose connection it is, as its WELCOME said."""
    if frame.op == Op.WELCOME:
        devices.append(frame["device"])
    elif frame.op == Op.SEND_ACK and devices:
        verdict.acks += 1
        if TAG.findall(tag(devices[-1], frame["cseq"]))[0] not in durable:
            text = f"cseq {frame['cseq']} of device {devices[-1]} was acked before a sync covered its record"
            verdict.findings.append(Finding("EARLY_ACK", text))
    elif frame.op == Op.DELIVER and (found := TAG.findall(frame["payload"])):
        verdict.pushes += 1
        if found[0] not in durable:
            text = f"{frame['cid']}:{frame['seq']} was pushed before a sync covered its record"
            verdict.findings.append(Finding("EARLY_PUSH", text))
