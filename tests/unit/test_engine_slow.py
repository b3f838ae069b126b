"""Window, LAG and the ladder of a slow reader."""

import struct

import pytest
from support import frames
from support.rig import LIFTED, MANUAL, Client, Rig

pytestmark = pytest.mark.usefixtures("each_engine")

CLOSE_SLOW = 6


def push(rig: Rig, cid: int, seqs: range, *clients: Client, payload: bytes = b"x" * 1000) -> None:
    for seq in seqs:
        assert rig.hub.committed(cid, seq, frames.deliver(cid, seq, 9, payload), [c.handle for c in clients])
        rig.settle()


def lags(got: list[frames.Frame]) -> list[list[int]]:
    return [frame.ints(3) for frame in got if frame.op == frames.LAG]


def seqs(got: list[frames.Frame]) -> list[int]:
    return [frame.ints(2)[1] for frame in got if frame.op == frames.DELIVER]


def test_queue_over_the_soft_limit_lags_and_says_so() -> None:
    with Rig() as rig:
        client = rig.client(1)
        push(rig, 5, range(1, 201), client)
        assert rig.counter("queued_bytes") < 140_000
        got = client.take()
        pushed = len(seqs(got))
        assert 60 < pushed < 70
        assert lags(got) == [[5, pushed + 1, 200]]
        push(rig, 5, range(201, 203), client)
        assert seqs(client.take()) == [201, 202]


def test_exhausted_window_lags_until_half_of_it_is_acknowledged() -> None:
    with Rig() as rig:
        client = rig.client(1, window_frames=4)
        push(rig, 5, range(1, 8), client)
        got = client.take()
        assert seqs(got) == [1, 2, 3, 4]
        assert lags(got) == []
        client.feed(frames.ack(1))
        assert client.take() == []
        client.feed(frames.ack(2))
        assert lags(client.take()) == [[5, 5, 7]]
        push(rig, 5, range(8, 9), client)
        assert seqs(client.take()) == [8]


def test_window_counts_bytes_too() -> None:
    with Rig() as rig:
        client = rig.client(1, window_bytes=2500, frame_bytes_max=2048)
        push(rig, 5, range(1, 5), client)
        assert seqs(client.take()) == [1, 2]


def test_a_window_has_room_for_the_largest_frame() -> None:
    """Or a PULL that starts at a large event would never get on."""
    with Rig() as rig:
        assert rig.engine.terms(rig.client(1, window_bytes=1).handle)[3] == 65535 + 4
        assert rig.engine.terms(rig.client(2, window_bytes=1, frame_bytes_max=512).handle)[3] == 512 + 4


def test_seventeenth_conversation_means_sync() -> None:
    with Rig() as rig:
        client = rig.client(1, window_frames=1)
        for cid in range(1, 19):
            push(rig, cid, range(1, 2), client)
        assert seqs(client.take()) == [1]
        client.feed(frames.ack(1))
        assert lags(client.take()) == [[0, 0, 0]]


def test_answers_go_on_while_pushes_lag() -> None:
    with Rig() as rig:
        client = rig.client(1)
        push(rig, 5, range(1, 201), client)
        client.feed(frames.send(1, 6), frames.frame(frames.PING, b"", 2))
        got = client.take()
        assert frames.SEND_ACK in [frame.op for frame in got]
        assert frames.PONG in [frame.op for frame in got]


def test_hard_limit_closes_and_bye_still_fits() -> None:
    with Rig() as rig:
        client = rig.client(1)
        answer = frames.deliver(5, 1, 9, bytes(60_000), flags=2)
        for _ in range(6):
            rig.hub.frames(client.handle, answer)
            rig.settle()
        got = client.take()
        assert [frame.op for frame in got] == [frames.BYE]
        assert rig.hub.closed == [(client.handle, CLOSE_SLOW)]


def test_no_progress_for_thirty_seconds_closes() -> None:
    with Rig() as rig:
        client = rig.client(1)
        push(rig, 5, range(1, 2), client)
        rig.advance(29_900)
        assert rig.hub.closed == []
        rig.advance(200)
        assert rig.hub.closed == [(client.handle, CLOSE_SLOW)]


@pytest.mark.parametrize("taken", [0, 100])
def test_shard_out_of_memory_for_queues_takes_from_the_largest(taken: int) -> None:
    with Rig(queues_bytes_max=100_000, queue_soft_bytes=1 << 20, queue_hard_bytes=1 << 21) as rig:
        small, large = rig.client(1), rig.client(2)
        push(rig, 4, range(1, 3), small)
        push(rig, 5, range(1, 11), large)
        if taken:
            rig.engine.take(large.handle, taken)
        push(rig, 5, range(11, 95), large)
        assert rig.counter("queued_bytes") <= 100_000
        assert rig.counter("sessions") == 2
        assert seqs(small.take()) == [1, 2]
        data = b""
        while chunk := rig.engine.take(large.handle):
            data += chunk
            rig.settle()
        assert rig.counter("delivers_lagged") > 0
        if taken == 0:
            got = frames.split(data)
            told = [(f.ints(3)[1], f.ints(3)[2]) for f in got if f.op == frames.LAG]
            missed = {seq for first, last in told for seq in range(first, last + 1)}
            assert missed | set(seqs(got)) == set(range(1, 95))
        assert rig.counter("queued_bytes") == 0


def test_shard_short_of_room_for_queues_drops_typing_first() -> None:
    """At 80 % of what all queues may hold; other frames go on."""
    with Rig(LIFTED, queues_bytes_max=80_000, queue_soft_bytes=1 << 20, queue_hard_bytes=1 << 21) as rig:
        typist, reader, slow = rig.client(1), rig.client(2), rig.client(3)
        for client in (typist, reader):
            client.join(5)
        for seq in range(1, 80):
            if rig.counter("queued_bytes") > 64_000:
                break
            push(rig, 6, range(seq, seq + 1), slow)
        assert rig.counter("lags") == 0, "90 % have not been reached"
        typist.feed(frames.ephemeral(5, b"\x01", kind=1), frames.ephemeral(5, b"x"))
        assert [frame.ints(3)[2] for frame in reader.take()] == [16]
        assert rig.counter("ephemeral_dropped") == 1


def test_shard_out_of_room_for_queues_closes_the_largest() -> None:
    """Answers cannot be left out like pushes: over the bound, who has the most of them goes, and only that one."""
    with Rig(queues_bytes_max=100_000, queue_soft_bytes=1 << 20, queue_hard_bytes=1 << 21) as rig:
        small, large = rig.client(1), rig.client(2)
        for client, count in ((small, 20), (large, 90)):
            client.feed(frames.pull(5))
            history = b"".join(frames.deliver(5, seq, payload=bytes(1000), flags=2) for seq in range(1, count + 1))
            rig.hub.frames(client.handle, history, done=False)
        rig.settle()
        rig.advance(1)
        assert rig.hub.closed == [(large.handle, CLOSE_SLOW)]
        assert rig.counter("closed_slow") == 1
        assert len(seqs(small.take())) == 20


def test_lost_events_send_everybody_to_sync() -> None:
    with Rig() as rig:
        client = rig.client(1)
        rig.hub.lost(50)
        rig.settle()
        assert lags(client.take()) == [[0, 0, 0]]
        assert rig.counter("routed_pos") == 50


def test_what_was_routed_is_not_routed_again() -> None:
    with Rig() as rig:
        client = rig.client(1)
        push(rig, 5, range(1, 4), client)
        for pos, seq in ((1, 1), (3, 3), (4, 3), (5, 4)):
            rig.hub.committed(5, seq, frames.deliver(5, seq), [client.handle], pos=pos)
        rig.settle()
        assert seqs(client.take()) == [1, 2, 3, 4]
        assert rig.counter("committed_old") == 3


def test_ephemeral_frames_go_first() -> None:
    with Rig(MANUAL, frames_per_s=0) as rig:
        sender, reader = rig.client(1), rig.client(2)
        sender.join(5)
        reader.join(5)
        for _ in range(60):
            sender.feed(frames.ephemeral(5, bytes(1000)))
        got = reader.take()
        assert len(got) == 32
        assert rig.counter("ephemeral_dropped") == 28


def test_only_the_newest_telemetry_waits() -> None:
    with Rig(LIFTED) as rig:
        sender, reader = rig.client(1), rig.client(2)
        sender.join(5)
        reader.join(5)
        for _ in range(20):
            sender.feed(frames.ephemeral(5, bytes(1000)))
        for value in range(50):
            sender.feed(frames.ephemeral(5, bytes([value]), kind=4))
        got = [frame.body for frame in reader.take()]
        assert [body[3:] for body in got[20:]] == [bytes([49])] or len(got) <= 22
        assert rig.counter("ephemeral_replaced") >= 48


def test_small_client_gets_a_stub() -> None:
    with Rig() as rig:
        small, large = rig.client(1, frame_bytes_max=128), rig.client(2)
        push(rig, 5, range(1, 2), small, large)
        stub = small.take()[0]
        assert stub.flags == 4
        assert stub.ints(3) == [5, 1, 9]
        assert stub.body[3 + 5 :] == b"\x01" + frames.varint(1000)
        assert len(large.take()[0].body) > 1000


def test_pull_answers_use_window_and_calls_are_bounded() -> None:
    with Rig() as rig:
        client = rig.client(1, window_frames=8)
        client.feed(frames.pull(5), frames.pull(6), frames.pull(7))
        assert [(frame.op, struct.unpack_from(">HB", frame.body)) for frame in client.take()] == [
            (frames.ERROR, (401, frames.PULL))
        ]
        assert [call.window_frames for call in rig.hub.calls] == [8, 8]
        history = b"".join(frames.deliver(5, seq, flags=2) for seq in range(1, 4))
        rig.hub.frames(client.handle, history + frames.pull_end(5), done=True)
        rig.settle()
        assert client.ops() == [frames.DELIVER] * 3 + [frames.PULL_END]
        client.feed(frames.pull(8))
        assert rig.hub.calls[-1].window_frames == 5
        client.feed(frames.ack(3))
        rig.hub.frames(client.handle, frames.pull_end(6), done=True)
        rig.settle()
        client.feed(frames.pull(9))
        assert rig.hub.calls[-1].window_frames == 8


def test_calls_of_a_dead_hub_are_answered() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.request(77), frames.pull(5))
        rig.engine.unlink_hub()
        got = client.take()
        assert [frame.op for frame in got] == [frames.ERROR, frames.ERROR]
        assert [struct.unpack_from(">HBB", frame.body) for frame in got] == [
            (500, frames.REQUEST, 77),
            (500, frames.PULL, 5),
        ]
        client.feed(frames.request(78))
        assert client.ops() == [frames.ERROR]


def test_calls_of_a_dead_hub_are_answered_in_their_order() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(*(frames.request(number) for number in range(1, 6)))
        rig.hub.frames(client.handle, frames.frame(frames.REPLY, frames.varint(2) + b"\0\0\0\x80"), done=True)
        rig.settle()
        client.take()
        rig.engine.unlink_hub()
        assert [frame.body[3] for frame in client.take()] == [1, 3, 4, 5]


def test_ledger_follows_an_event() -> None:
    with Rig(ledger_entries=64) as rig:
        fast, slow = rig.client(1), rig.client(2, window_frames=1)
        push(rig, 5, range(1, 3), fast, slow)
        fast.take()
        slow.take()
        fast.feed(frames.ack(2))
        slow.feed(frames.ack(1))
        slow.take()
        entries, aged_out = rig.engine.ledger(5, 2)
        assert not aged_out
        assert [(hop, user) for _, _, hop, user, _ in entries] == [
            ("routed", 0),
            ("queued", 1),
            ("lagged", 2),
            ("written", 1),
            ("acked", 1),
            ("lag_sent", 2),
        ]
        assert [hop for _, _, hop, _, _ in rig.engine.ledger(5, 2, 1)[0]] == ["routed", "queued", "written", "acked"]
        push(rig, 6, range(1, 40), fast)
        assert rig.engine.ledger(5, 2) == ([], True)
