"""Ephemeral frames that come in one read travel as one: every follower gets the same bytes as if they did not."""

import socket

from support import frames
from support.socket_shard import Shard, running

CID = 7
TELEMETRY = 4


def followers(shard: Shard, count: int) -> list[socket.socket]:
    clients = [shard.login(user) for user in range(1, count + 1)]
    for client in clients:
        client.sendall(frames.subscribe(CID))
        assert shard.receive(client)[0].op == frames.SUBSCRIBE
    return clients


def payload(number: int, size: int = 60) -> bytes:
    return number.to_bytes(4, "big") + bytes(size - 4)


def numbers(received: list[frames.Frame], size: int = 60) -> list[int]:
    return [int.from_bytes(frame.body[-size:][:4], "big") for frame in received]


def test_one_write_in_is_one_write_out_with_every_frame() -> None:
    with running() as shard:
        sender, *others = followers(shard, 4)
        before = shard.engine.counters()
        sender.sendall(b"".join(frames.ephemeral(CID, payload(number)) for number in range(100)))
        for other in others:
            assert numbers(shard.receive(other, 100)) == list(range(100))
        after = shard.engine.counters()
        assert after["frames_out"] - before["frames_out"] == after["ephemeral_out"] - before["ephemeral_out"] == 300
        assert after["writes"] - before["writes"] == 3
        assert after["queued_bytes"] == 0


def test_frames_of_other_ops_and_conversations_do_not_change_the_order() -> None:
    with running() as shard:
        sender, other = followers(shard, 2)
        for client in (sender, other):
            client.sendall(frames.subscribe(CID + 1))
            shard.receive(client)
        kinds = [16, 16, TELEMETRY, 16, 16]
        sender.sendall(
            b"".join(
                frames.ephemeral(CID + number % 2, payload(number), kind)
                + (frames.frame(frames.PING, b"x", 2) if number == 3 else b"")
                for number, kind in enumerate(kinds)
            )
        )
        assert numbers(shard.receive(other, len(kinds))) == list(range(len(kinds)))
        assert shard.receive(sender)[0].op == frames.PONG


def test_whoever_takes_small_frames_only_gets_the_small_ones_of_a_burst() -> None:
    with running() as shard:
        sender, large = followers(shard, 2)
        small = shard.connect(frames.hello(frame_bytes_max=200) + frames.auth(device=9))
        shard.receive(small)
        small.sendall(frames.subscribe(CID))
        shard.receive(small)
        sizes = [60, 300, 61]
        sender.sendall(b"".join(frames.ephemeral(CID, bytes(size)) for size in sizes))
        assert len(shard.receive(large, 3)) == 3
        assert [len(frame.body) for frame in shard.receive(small, 2)] == [
            len(frames.ephemeral(CID, bytes(size))) - 4 for size in (60, 61)
        ]


def test_a_reader_that_stops_amid_a_burst_gets_whole_frames_in_order_later() -> None:
    """The first write is short: what is left of the burst is queued frame by frame, and the rest is dropped or sent by
    the limit of the queue as ever."""
    with running(send_buffer_bytes=4096) as shard:
        sender, quick = followers(shard, 2)
        slow = shard.connect(frames.hello() + frames.auth(device=9), receive_bytes=4096)
        shard.receive(slow)
        slow.sendall(frames.subscribe(CID))
        shard.receive(slow)
        rounds, per_round, size = 40, 16, 1000
        for round_number in range(rounds):
            first = round_number * per_round
            sender.sendall(
                b"".join(frames.ephemeral(CID, payload(first + number, size), 16) for number in range(per_round))
            )
            assert numbers(shard.receive(quick, per_round), size) == list(range(first, first + per_round))
        counters = shard.engine.counters()
        assert counters["short_writes"] > 0
        assert counters["ephemeral_dropped"] > 0
        arrived = counters["ephemeral_out"] - rounds * per_round
        got = numbers(shard.receive(slow, arrived), size)
        assert len(got) == arrived
        assert got == sorted(set(got))
        shard.until("queued_bytes", 0)
        assert shard.engine.counters()["frames_out"] >= rounds * per_round + arrived


def test_a_connection_that_is_closed_amid_a_burst_gets_whole_frames_and_bye() -> None:
    with running(send_buffer_bytes=4096) as shard:
        sender, slow = followers(shard, 2)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sender.sendall(b"".join(frames.ephemeral(CID, payload(number, 1000)) for number in range(128)))
        shard.until("ephemeral_in", 128)
        assert shard.engine.counters()["short_writes"] == 1
        handle = next(h for h, (user, _) in shard.hub.sessions.items() if user == 2)
        shard.engine.close(handle, 18)
        counters = shard.engine.counters()
        got = shard.receive(slow, 1000)
        assert got[-1].op == frames.BYE
        arrived = numbers(got[:-1], 1000)
        assert arrived == sorted(set(arrived))
        assert len(arrived) == counters["ephemeral_out"]
