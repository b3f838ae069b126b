"""Batches for storage tests: the reference encoders with short names, and a seeded traffic of many conversations."""

import random
from dataclasses import dataclass, field

from chatd.storage import journal_codec as codec

TS0 = 1_760_000_000_000


def event_batch(pos: int, count: int, *, before: int = 0) -> bytes:
    """count messages of conversation 1 whose seqs and cseqs are their positions less the records before the first."""
    return b"".join(
        codec.encode_event((1, seq, TS0 + seq, 7, 1, seq, 1, seq, seq - 3, b"body %d" % seq, 1))
        for seq in range(pos - before, pos - before + count)
    )


@dataclass
class Traffic:
    """Random but consistent batches: every conversation's seq, every device's cseq without gaps."""

    seed: int
    conversations: int = 20
    devices: int = 10
    pos: int = 1
    heads: dict[int, int] = field(default_factory=dict)
    cseqs: dict[int, int] = field(default_factory=dict)
    events: dict[tuple[int, int], codec.EventTuple] = field(default_factory=dict)
    idempotency: dict[tuple[int, int], tuple[int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)

    def batch(self, count: int) -> tuple[int, int, bytes]:
        """The next (pos, count, blob); the model advances with it."""
        pos, self.pos = self.pos, self.pos + count
        return pos, count, b"".join(self._record() for _ in range(count))

    def _record(self) -> bytes:
        device = self.random.randint(1, self.devices)
        cseq = self.cseqs[device] = self.cseqs.get(device, 0) + 1
        if self.random.random() < 0.05:
            self.idempotency[device, cseq] = (0, 0)
            return codec.encode_skip(device, cseq)
        cid = self.random.randint(1, self.conversations)
        seq = self.heads[cid] = self.heads.get(cid, 0) + 1
        body = self.random.randbytes(self.random.choice((0, 1, 7, 64, 64, 3000)))
        digest = self.random.getrandbits(64) - 2**63
        event = (cid, seq, TS0 + seq, device, device, cseq, 1, seq, digest, body, 1)
        self.events[cid, seq] = event
        self.idempotency[device, cseq] = (cid, seq)
        return codec.encode_event(event)
