"""SEND and SKIP on their way to the hub: checks, rates, order, bounds, and hubs that die."""

import pytest
from support import frames
from support.frames import Frame
from support.rig import LIFTED, Client, Rig

from chatd.wire.schema import EXTENSION_BYTES_MAX

pytestmark = pytest.mark.usefixtures("each_engine")

BAD_REQUEST, UNSUPPORTED, TOO_LARGE = 103, 101, 102
RATE_LIMITED, BUSY, UNAVAILABLE, OUT_OF_ORDER = 400, 401, 500, 502
SEND_BODY_BYTES = len(frames.send(1, 5)) - 4


def nak(frame: Frame) -> tuple[int, int]:
    """cseq and code of a SEND_NAK."""
    assert frame.op == frames.SEND_NAK
    cseq, at = frames.read_varint(frame.body)
    _, at = frames.read_varint(frame.body, at)
    return cseq, int.from_bytes(frame.body[at : at + 2], "big")


def naks(client: Client) -> list[tuple[int, int]]:
    return [nak(frame) for frame in client.take() if frame.op == frames.SEND_NAK]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frames.send(1, 0), BAD_REQUEST),
        (frames.send(1, 5, kind=15), UNSUPPORTED),
        (frames.send(1, 5, kind=32), UNSUPPORTED),
        (frames.send(1, 5, kind=1 << 40), UNSUPPORTED),
        (frames.send(1, 5, b"\xff"), BAD_REQUEST),
        (frames.send(1, 5, b"\xed\xa0\x80"), BAD_REQUEST),
        (frames.send(1, 5, b"ok\xc0\x80"), BAD_REQUEST),
        (frames.send(1, 5, bytes(8193)), TOO_LARGE),
        (frames.send(1, 5, bytes(32766), kind=16), TOO_LARGE),
        (frames.frame(frames.SEND, bytes([1, 5, 1, 3, 7, 1, 0]) + b"x", 1), UNSUPPORTED),
    ],
)
def test_content_that_is_not_acceptable_gets_a_final_nak(data: bytes, code: int) -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(data)
        assert naks(client) == [(1, code)]
        assert rig.hub.sends == []


@pytest.mark.parametrize(
    "data",
    [
        frames.send(1, 5, bytes(8192)),
        frames.send(1, 5, "Grüße 你好 🙂".encode()),
        frames.send(1, 5, b"\xff\x00", kind=16),
        frames.send(1, 5, bytes(32765), kind=16),
        frames.frame(frames.SEND, bytes([1, 5, 1, 3, 8, 1, 0]) + b"x", 1),
    ],
)
def test_content_reaches_the_hub_as_it_came(data: bytes) -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(data)
        assert [send.body for send in rig.hub.sends] == [data[4:]]
        assert client.ops() == [frames.SEND_ACK]


def test_sender_gets_the_ack_and_others_the_event() -> None:
    with Rig() as rig:
        rig.hub.members[5] = {1, 2}
        sender, phone, other = rig.client(1), rig.client(2), rig.client(3)
        sender.feed(frames.send(1, 5))
        assert sender.ops() == [frames.SEND_ACK]
        assert [frame.ints(3) for frame in phone.take()] == [[5, 1, 1]]
        assert other.ops() == []


def test_sends_above_the_rate_are_refused_and_keep_their_order() -> None:
    with Rig(sends_burst=2) as rig:
        client = rig.client(1)
        client.feed(*(frames.send(cseq, 5) for cseq in range(1, 5)), frames.send(5, 6))
        assert naks(client) == [(3, RATE_LIMITED), (4, OUT_OF_ORDER), (5, RATE_LIMITED)]
        rig.advance(1000)
        client.feed(frames.send(6, 5), frames.send(4, 5))
        assert naks(client) == [(6, OUT_OF_ORDER), (4, OUT_OF_ORDER)]
        client.feed(frames.send(3, 5), frames.send(4, 5))
        rig.advance(1000)
        client.feed(frames.send(6, 5), frames.send(5, 6))
        assert naks(client) == []
        assert [(send.cseq, send.cid) for send in rig.hub.sends] == [(1, 5), (2, 5), (3, 5), (4, 5), (6, 5), (5, 6)]


def test_skip_opens_the_gate() -> None:
    with Rig(sends_burst=1) as rig:
        client = rig.client(1)
        client.feed(frames.send(1, 5), frames.send(2, 5))
        assert naks(client) == [(2, RATE_LIMITED)]
        rig.advance(1000)
        client.feed(frames.frame(frames.SKIP, frames.varint(2)), frames.send(3, 5))
        assert client.ops() == [frames.SEND_ACK, frames.SEND_ACK]


def test_client_that_ignores_refusals_is_closed() -> None:
    with Rig(LIFTED, sends_per_s=10, sends_burst=1, refused_sends_max=10) as rig:
        client = rig.client(1)
        client.feed(*(frames.send(cseq, 5) for cseq in range(1, 14)))
        assert client.ops()[-1] == frames.BYE
        assert rig.counter("closed_flood") == 1


def test_sixty_four_unanswered_sends_throttle_reading() -> None:
    with Rig(LIFTED) as rig:
        rig.hub.automatic = True
        client = rig.client(1)
        rig.hub.automatic = False
        data = b"".join(frames.send(cseq, 5) for cseq in range(1, 101))
        size = len(frames.send(1, 5))
        assert client.feed(data) == 64 * size
        assert len(rig.hub.sends) == 64
        assert client.feed(data[64 * size :]) == 0
        for send in list(rig.hub.sends):
            rig.hub.commit(send)
        rig.settle()
        assert ("resumed", client.handle) in rig.upcalls
        assert client.feed(data[64 * size :]) == 36 * size
        assert len(rig.hub.sends) == 100


@pytest.mark.parametrize("bound", [{"pending_sends_max": 10}, {"pending_bytes_max": 10 * SEND_BODY_BYTES + 1}])
def test_full_table_is_busy(bound: dict[str, int]) -> None:
    with Rig(**bound) as rig:
        client = rig.client(1)
        rig.hub.automatic = False
        client.feed(*(frames.send(cseq, 5) for cseq in range(1, 13)))
        assert naks(client) == [(11, BUSY), (12, OUT_OF_ORDER)]
        for send in list(rig.hub.sends):
            rig.hub.commit(send)
        rig.settle()
        client.feed(frames.send(11, 5))
        assert rig.hub.sends[-1].cseq == 11


@pytest.mark.parametrize("size", [EXTENSION_BYTES_MAX, EXTENSION_BYTES_MAX + 1])
def test_extension_block_has_a_limit(size: int) -> None:
    """An unknown even tag is ignored, whatever it holds, but not beyond the size of a block."""
    block = frames.varint(2) + frames.varint(size - 3) + bytes(size - 3)
    with Rig() as rig:
        client = rig.client(1)
        rig.hub.automatic = False
        client.feed(frames.frame(frames.SEND, b"\x01\x05\x01" + frames.varint(size) + block + b"x", 1))
        fits = size == EXTENSION_BYTES_MAX
        assert len(rig.hub.sends) == fits
        assert rig.counter("closed_bad_frame") == (not fits)


def test_without_a_hub_sends_wait_two_seconds() -> None:
    with Rig() as rig:
        client = rig.client(1)
        rig.engine.unlink_hub()
        client.feed(frames.send(1, 5), frames.send(2, 6))
        rig.advance(1_900)
        assert client.take() == []
        rig.advance(200)
        assert naks(client) == [(1, UNAVAILABLE), (2, UNAVAILABLE)]
        client.feed(frames.send(3, 5))
        assert naks(client) == [(3, OUT_OF_ORDER)]
        assert rig.counter("sends_pending_bytes") == 0


def test_what_a_dead_hub_had_is_told_of_once_and_answered_by_the_next() -> None:
    """It may be stored: to refuse it would say that it is not."""
    with Rig() as rig:
        client, other = rig.client(1), rig.client(2)
        rig.hub.automatic = False
        client.feed(frames.send(1, 5), frames.frame(frames.SKIP, frames.varint(2)))
        rig.advance(1_000)
        other.feed(frames.send(1, 6))
        rig.engine.unlink_hub()
        client.feed(frames.send(3, 5))
        rig.advance(900)
        assert client.take() == []
        rig.advance(100)
        assert told(client) == [(frames.SEND, 1), (frames.SKIP, 2)]
        rig.advance(1_000)
        assert naks(client) == [(3, UNAVAILABLE)]
        assert told(other) == [(frames.SEND, 1)]
        rig.advance(10_000)
        assert client.take() == other.take() == []
        heir = rig.hub.successor()
        heir.automatic = True
        rig.link(heir)
        assert [send.cseq for send in rig.hub.sends] == [1, 2, 1]
        assert [client.ops(), other.ops()] == [[frames.SEND_ACK] * 2, [frames.SEND_ACK]]


def told(client: Client) -> list[tuple[int, int]]:
    """(op, cseq) of each ERROR UNAVAILABLE, and nothing else came."""
    found = client.take()
    assert all(frame.op == frames.ERROR for frame in found), found
    assert all(int.from_bytes(frame.body[:2], "big") == UNAVAILABLE for frame in found)
    return [(frame.body[2], frame.body[3]) for frame in found]


def test_full_ring_is_busy_after_half_a_second() -> None:
    with Rig(LIFTED) as rig:
        client = rig.client(1)
        pump, rig.hub.pump = rig.hub.pump, lambda: 0
        for cseq in range(1, 61):
            client.feed(frames.send(cseq, 5, bytes(32000), kind=16))
        waiting = rig.counter("sends_pending")
        assert waiting == 60
        rig.advance(600)
        refused = naks(client)
        assert refused
        assert {code for _, code in refused} == {BUSY}
        rig.hub.pump = pump
        rig.settle()
        assert len(rig.hub.sends) + len(refused) == 60
        assert [send.cseq for send in rig.hub.sends] == sorted(send.cseq for send in rig.hub.sends)


def test_unanswered_sends_are_replayed_to_the_next_hub_in_order() -> None:
    with Rig() as rig:
        rig.hub.members[5] = {1, 2}
        first, second = rig.client(1), rig.client(2)
        rig.hub.automatic = False
        first.feed(frames.send(1, 5, b"a"))
        second.feed(frames.send(1, 5, b"b"))
        first.feed(frames.send(2, 5, b"c"))
        dead = rig.hub
        assert len(dead.sends) == 3
        rig.engine.unlink_hub()
        rig.advance(1_000)
        assert first.take() == second.take() == []
        first.feed(frames.send(3, 5, b"d"))
        heir = dead.successor()
        heir.automatic = True
        rig.link(heir)
        assert [record[0] for record in heir.starts] == [8, 9]
        assert {login[::2][:2] for login in heir.logins} == {(1, 1), (1, 2)}
        assert [send.body[-1:] for send in heir.sends] == [b"a", b"b", b"c", b"d"]
        assert {send.session_epoch for send in heir.sends} == {101, 102}
        assert [frame.op for frame in first.take()] == [
            frames.SEND_ACK,
            frames.DELIVER,
            frames.SEND_ACK,
            frames.SEND_ACK,
        ]
        assert rig.counter("sends_replayed") == 3
        assert rig.counter("sends_pending") == 0


def test_late_answers_go_nowhere() -> None:
    with Rig() as rig:
        client = rig.client(1)
        rig.hub.automatic = False
        client.feed(frames.send(1, 5))
        client.end()
        rig.hub.commit(rig.hub.sends[0])
        rig.settle()
        assert rig.counter("answers_late") == 1
        assert rig.counter("sends_pending") == 0


def test_positions_are_coalesced() -> None:
    with Rig() as rig:
        rig.hub.members[5] = {1, 2}
        sender, reader = rig.client(1), rig.client(2)
        for cseq in range(1, 9):
            sender.feed(frames.send(cseq, 5))
        assert reader.ops() == [frames.DELIVER] * 8
        reader.feed(frames.ack(3), frames.ack(8), frames.read(5, 2), frames.read(5, 7), frames.read(5, 4))
        rig.advance(1000)
        assert rig.hub.positions == [(2, 5, 8, 7)]
        rig.advance(5000)
        assert len(rig.hub.positions) == 1


def test_read_of_nothing_is_refused() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.read(0, 3), frames.read(5, 0))
        assert client.ops() == [frames.ERROR, frames.ERROR]


def test_a_fresh_hub_is_told_what_the_last_one_refused_before_the_rest_is_replayed() -> None:
    with Rig() as rig:
        client = rig.client(1)
        rig.hub.automatic = False
        client.feed(*(frames.send(cseq, 5, b"x") for cseq in (1, 2, 3)))
        first, second, _ = rig.hub.sends
        busy = [frames.varint(send.cseq) + frames.varint(5) + bytes([1, 0x91, 100, 0]) for send in (first, second)]
        rig.hub.answer(first, frames.frame(frames.SEND_NAK, busy[0], 2))
        rig.hub.answer(second, frames.frame(frames.SEND_NAK, busy[1], 2))
        rig.settle()
        client.feed(frames.send(1, 5, b"x"))
        assert client.ops() == [frames.SEND_NAK] * 2
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        rig.settle()
        assert sorted(mark[2:] for mark in rig.hub.marks) == [(5, 1), (5, 2)], "also the one that is retried already"
        assert [send.cseq for send in rig.hub.sends] == [3, 1]
        rig.hub.answer(rig.hub.sends[1], frames.send_ack(1, 5, 1))
        rig.settle()
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        rig.settle()
        assert [mark[2:] for mark in rig.hub.marks] == [(5, 2)], "stored: nothing waits for it"
