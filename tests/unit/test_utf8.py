"""Text of a SEND is well-formed UTF-8: exactly what Python's own strict decoder takes."""

from itertools import product

import pytest
from support import frames
from support.rig import LIFTED, Rig

# The edges of every row of the Unicode standard's table 3-7, and of what stands between them.
FIRST = (
    0x41,
    0x7F,
    0x80,
    0xBF,
    0xC0,
    0xC1,
    0xC2,
    0xDF,
    0xE0,
    0xE1,
    0xEC,
    0xED,
    0xEE,
    0xEF,
    0xF0,
    0xF1,
    0xF3,
    0xF4,
    0xF5,
    0xFF,
)
TAIL = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@pytest.mark.parametrize("first", FIRST)
def test_sequences_are_taken_or_refused_as_the_standard_says(first: int) -> None:
    texts = [bytes([first, *tail[:length]]) for tail in product(TAIL, repeat=3) for length in range(4)]
    texts = sorted({lead + text for text in texts for lead in (b"", b"eight...")})
    with Rig(LIFTED, pending_sends_max=len(texts)) as rig:
        client = rig.client(1)
        for cseq, text in enumerate(texts, 1):
            client.feed(frames.send(cseq, 5, text))
            (answer,) = [frame.op for frame in client.take() if frame.op in (frames.SEND_ACK, frames.SEND_NAK)]
            assert (answer == frames.SEND_ACK) == is_utf8(text), text
