"""Random scripts for support.twins: long enough to reach the corners, sensible enough not to die on the way.

A script is a function of its seed. Weights say how often a step is drawn; what a client sends is mostly well-formed and
mostly in order, because broken frames end a connection.
"""

from collections.abc import Callable
from random import Random

from chatd.wire.schema import OPS, Close
from support import frames
from support.twins import CLIENTS_MAX, Step

Draw = Callable[[Random], bytes]
SIZES = [0, 1, 20, 60, 200, 700]
REASONS = [int(reason) for reason in Close]
START: list[Step] = [step for client in range(3) for step in (("login", client, {}), ("drain_output", client))]


def client(rng: Random) -> int:
    return rng.randrange(CLIENTS_MAX)


def cid(rng: Random) -> int:
    return rng.randint(1, 3)


def payload(rng: Random) -> bytes:
    return bytes(rng.choice(SIZES))


class Sender:
    """What one client sends: its cseqs rise, with retries of the last few."""

    def __init__(self) -> None:
        self.cseq = 0

    def send(self, rng: Random) -> bytes:
        if rng.random() < 0.75:
            self.cseq += 1
        return frames.send(max(1, self.cseq - rng.choice([0, 0, 0, 1, 2])), cid(rng), payload(rng))

    def skip(self, rng: Random) -> bytes:
        return frames.frame(frames.SKIP, frames.varint(max(1, self.cseq - rng.randrange(3))))

    def frame(self, rng: Random) -> bytes:
        return rng.choices([self.send, self.skip, *FRAMES], [30, 3, *FRAMES.values()])[0](rng)


def odd_send(rng: Random) -> bytes:
    text = rng.choice([b"ok", b"\xff", bytes(8193)])
    return frames.send(rng.randrange(3), rng.randrange(3), text, rng.choice([0, 1, 2, 3, 16, 32, 1 << 40]))


def extended(rng: Random) -> bytes:
    """A SEND, PULL or EPHEMERAL with an extension that may or may not be understood."""
    block = bytes([rng.choice([1, 2, 3, 4]), 1, 0])
    head = rng.choice(
        [(frames.SEND, b"\x01\x05\x01"), (frames.PULL, b"\x05\x01\x00\x00"), (frames.EPHEMERAL, b"\x01\0\x10")]
    )
    tail = b"" if head[0] == frames.PULL else b"x"
    return frames.frame(head[0], head[1] + frames.prefixed(block) + tail, 1)


def streamed(rng: Random) -> bytes:
    """A frame of a live stream: with the feature or without, of a conversation or of none."""
    ids = frames.varint(rng.randint(0, 3)) + frames.varint(rng.choice([0, 5, 1 << 60]))
    cseq = frames.varint(rng.randrange(40))
    return rng.choice(
        [
            frames.frame(frames.STREAM_START, ids + b"\x01"),
            frames.frame(frames.STREAM_DELTA, ids + b"\x07" + payload(rng)),
            frames.frame(frames.STREAM_END, ids + cseq),
        ]
    )


def telemetry(rng: Random) -> bytes:
    """A value with a key, perhaps to be kept, perhaps too large or with an extension of another layout."""
    told = rng.choice(
        [b"\x00\x01", b"\x01\x00", b"\x02\x01", b"\x02\x03", b"\x80\x80\x02\x01", b"\x07", b"\x07\x01\x00"]
    )
    block = rng.choice([b"", b"\x02\x01\x00"]) + b"\x04" + frames.prefixed(told) + rng.choice([b"", b"\x06\x00"])
    value = rng.choice([payload(rng), payload(rng), bytes(1025)])
    return frames.frame(frames.EPHEMERAL, frames.varint(cid(rng)) + b"\x00\x04" + frames.prefixed(block) + value, 1)


def garbage(rng: Random) -> bytes:
    body = rng.randbytes(rng.randrange(40))
    return frames.frame(rng.choice([*OPS, 0x7E, 0xFE]), body, rng.choice([0, 0, 0, 1, 2, 0x40]))


def damaged(rng: Random) -> bytes:
    data = bytearray(Sender().frame(rng))
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    return bytes(data)


FRAMES: dict[Draw, float] = {
    lambda rng: frames.ephemeral(rng.randint(0, 3), payload(rng), rng.choice([1, 1, 3, 4, 4, 16, 17])): 12,
    lambda rng: frames.frame(frames.PING, rng.randbytes(rng.choice([0, 2, 32])), rng.choice([0, 2])): 5,
    lambda rng: frames.read(rng.randint(0, 3), rng.randint(0, 5)): 4,
    lambda rng: frames.pull(cid(rng)): 3,
    lambda rng: frames.subscribe(cid(rng), rng.randint(0, 7)): 6,
    lambda rng: frames.frame(frames.UNSUBSCRIBE, frames.varint(cid(rng))): 1,
    lambda rng: frames.request(rng.randint(0, 5)): 3,
    lambda _: frames.frame(frames.SYNC, bytes([0, 10])): 2,
    lambda _: frames.frame(frames.REAUTH, bytes([1, 0]) + frames.prefixed(b"new")): 1,
    odd_send: 3,
    extended: 1,
    streamed: 3,
    telemetry: 4,
    lambda rng: frames.ack(rng.randint(0, 3)): 0.1,
    lambda _: frames.hello(): 0.3,
    lambda _: frames.bye(): 0.1,
    lambda _: frames.frame(0x7E, b"unknown"): 0.5,
    lambda _: frames.frame(0xFE, b"unknown"): 0.5,
    lambda _: frames.frame(frames.STREAM_START, b"\xff"): 0.2,
    garbage: 0.1,
    damaged: 0.1,
}


def terms(rng: Random) -> dict[str, int]:
    return {
        "features": rng.randrange(32),
        "frame_bytes_max": rng.choice([128, 65_535]),
        "window_frames": rng.choice([0, 0, 1, 4]),
        "window_bytes": rng.choice([0, 0, 500]),
    }


STEPS: dict[Callable[[Random], Step], float] = {
    lambda rng: ("drain_output", client(rng)): 14,
    lambda rng: ("take", client(rng), rng.choice([0, 3, 40, 300])): 5,
    lambda rng: ("ack", client(rng), rng.choice([0, 0, 0, 1, 2])): 8,
    lambda rng: ("login", client(rng), terms(rng)): 12,
    lambda rng: ("open", client(rng)): 2,
    lambda rng: ("refused_login", client(rng), rng.randint(1, 3)): 2,
    lambda rng: ("end", client(rng)): 0.7,
    lambda rng: ("feed", client(rng), garbage(rng) * rng.choice([1, 1, 300]), "whole", 0): 0.2,
    lambda rng: ("feed", client(rng), rng.choice([frames.hello(7), frames.auth(2), b"\x00"]), "whole", 0): 3,
    lambda rng: ("feed", client(rng), frames.send(1, 1, bytes(9000), 16)[: rng.randrange(40)], "whole", 0): 0.3,
    lambda rng: ("advance", rng.randint(1, 30)): 14,
    lambda rng: ("advance", rng.choice([60, 125, 375, 640])): 3,
    lambda rng: ("advance", rng.choice([1250, 3750, 7500])): 0.5,
    lambda rng: ("python", rng.random() < 0.7): 2,
    lambda rng: ("serve", client(rng)): 3,
    lambda rng: ("refuse", client(rng), rng.choice([0, 0, 0, *REASONS[:1]])): 2,
    lambda rng: ("close", client(rng), rng.choice(REASONS), rng.randrange(500), rng.choice(["", "bye"])): 0.5,
    lambda rng: ("terms", client(rng)): 1,
    lambda rng: ("rpc", rng.randrange(5)): 1,
    lambda rng: ("ledger", cid(rng), rng.randint(1, 9)): 2,
    lambda rng: ("drain", rng.randint(1, 50)): 0.1,
    lambda rng: ("close_all", rng.choice(REASONS)): 0.1,
    lambda rng: ("commit", client(rng), rng.randrange(16)): 22,
    lambda rng: ("nak", client(rng)): 2,
    lambda rng: ("push", cid(rng), rng.choice(SIZES), rng.randrange(16), rng.choice([0, 0, 0, 1])): 14,
    lambda rng: ("push_again", cid(rng), rng.randrange(4)): 2,
    lambda rng: ("answer_call", client(rng), rng.randrange(4), rng.choice(["grant", "grant", "plain", "error"])): 12,
    lambda rng: ("grant", client(rng), cid(rng), rng.choice([0, 1, 3, 7, 7])): 9,
    lambda rng: ("grant_all", cid(rng)): 6,
    lambda rng: ("interest", cid(rng), rng.choice([0, 1, 2, 3])): 2,
    lambda rng: ("receipts", cid(rng)): 3,
    lambda rng: ("topic", cid(rng), rng.choice([1, 4, 4, 6]), rng.choice(SIZES), client(rng)): 5,
    lambda rng: ("peer", cid(rng), rng.choice([1, 3, 4, 16]), rng.choice(SIZES)): 9,
    lambda rng: ("kick", client(rng), rng.choice(REASONS)): 0.5,
    lambda rng: ("lost",): 0.5,
    lambda rng: ("hub_rpc", rng.randrange(4)): 1,
    lambda rng: ("hub_pauses", rng.randint(1, 80)): 2,
    lambda rng: ("unlink",): 0.7,
    lambda rng: ("relink",): 1.5,
    lambda rng: ("record", rng.randbytes(rng.randrange(60))): 0.15,
    lambda rng: ("truncated", rng.randint(1, 40)): 0.1,
}
FEED_WEIGHT = 45


def script(seed: int, length: int) -> list[Step]:
    """`length` steps behind a start with three sessions."""
    rng = Random(seed)
    senders = [Sender() for _ in range(CLIENTS_MAX)]
    steps = START[:]
    lazy = rng.randrange(2 * CLIENTS_MAX)  # a client that takes nothing, in every other script
    for _ in range(length):
        draw = rng.choices([None, *STEPS], [FEED_WEIGHT, *STEPS.values()])[0]
        if draw is not None:
            step = draw(rng)
            if step[0] not in {"drain_output", "take"} or step[1] != lazy:
                steps.append(step)
            continue
        index = client(rng)
        data = b"".join(senders[index].frame(rng) for _ in range(rng.choice([1, 1, 2, 4, 12])))
        steps.append(("feed", index, data, rng.choice(["whole", "whole", "bytes", "random"]), rng.randrange(100)))
    return steps


def shrink(steps: list[Step], fails: Callable[[list[Step]], bool]) -> list[Step]:
    """A script from which no run of steps can be left out without the failure going away."""
    size = len(steps) // 2
    while size:
        at = 0
        while at < len(steps):
            shorter = steps[:at] + steps[at + size :]
            if fails(shorter):
                steps = shorter
            else:
                at += size
        size //= 2
    return steps
