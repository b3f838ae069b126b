"""What a short text costs on the wire beside its own bytes."""

from chatd.wire.frame import encode, make
from chatd.wire.schema import Kind, Op

TEXT = b"sixty-four bytes of text, as people write them in one sentence.."
OVERHEAD_BYTES_MAX = 22
# Four bytes as varint, the highest: 268 million conversations, users, and events of one conversation.
LARGE = 2**28 - 1


def delivered(cid: int, seq: int, sender: int) -> bytes:
    return encode(make(Op.DELIVER, cid=cid, seq=seq, sender=sender, time=2**40 - 1, kind=int(Kind.TEXT), payload=TEXT))


def test_a_text_of_64_bytes_has_at_most_22_bytes_of_overhead() -> None:
    assert len(TEXT) == 64
    assert len(delivered(LARGE, LARGE, LARGE)) - len(TEXT) == OVERHEAD_BYTES_MAX
    assert len(delivered(1, 1, 2)) - len(TEXT) == 13


def test_sending_it_costs_less() -> None:
    send = encode(make(Op.SEND, cseq=LARGE, cid=LARGE, kind=int(Kind.TEXT), payload=TEXT))
    assert len(send) - len(TEXT) <= OVERHEAD_BYTES_MAX
