"""The engine on real loopback sockets: accepting, reading, writing, descriptors, addresses."""

import contextlib
import select
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import frames
from support.socket_shard import running


def test_two_users_talk_over_tcp() -> None:
    with running() as shard:
        shard.hub.members[5] = {1, 2}
        with shard.login(1) as first, shard.login(2) as second:
            first.sendall(frames.send(1, 5, b"over the wire"))
            assert shard.receive(second)[0].body.endswith(b"over the wire")
            assert shard.receive(first)[0].op == frames.SEND_ACK
            shard.until("sessions", 2)
        shard.until("sessions", 0)
        shard.until("connections", 0)
        assert shard.engine.counters()["closed_peer_closed"] == 2
        assert {reason for _, reason in shard.hub.closed} == {2}


def test_descriptor_becomes_readable_for_every_reason() -> None:
    with running() as shard:
        client = shard.login(1)

        def readable() -> bool:
            return bool(select.select([shard.engine.fileno()], [], [], 1)[0])

        def settle() -> None:
            while shard.engine.poll(0) or shard.engine.busy():
                pass
            assert not select.select([shard.engine.fileno()], [], [], 0)[0]

        settle()
        client.sendall(frames.frame(frames.PING, b"x", 2))
        assert readable()
        settle()
        shard.hub.rpc(7, b"\x80")
        assert readable()
        assert ("rpc", 7, b"\x80") in shard.engine.poll(0)
        settle()
        handle = next(iter(shard.hub.sessions))
        shard.engine.close(handle, 18)
        assert readable()
        client.close()


def test_lone_ping_wakes_nobody_and_keeps_alive() -> None:
    with running(heartbeat_ms=300, heartbeat_jitter_percent=0) as shard, shard.login(1) as client:
        while shard.engine.poll(0) or shard.engine.busy():
            pass
        polls = shard.engine.counters()["polls"]
        start = time.monotonic()
        for beat in range(1, 6):
            while (left := start + 0.3 * beat - time.monotonic()) > 0:
                wait = min(left, max(shard.engine.timeout_ms(), 1) / 1000)
                assert not select.select([shard.engine.fileno()], [], [], wait)[0]
                if wait < left:
                    shard.step()
            client.sendall(frames.frame(frames.PING))
        assert shard.engine.counters()["polls"] - polls < 30
        assert shard.engine.counters()["sessions"] == 1
        assert shard.engine.counters()["probes"] >= 1
        shard.until("closed_heartbeat_timeout", 1)
        assert shard.receive(client)[0].op == frames.BYE


def test_end_of_a_frame_shorter_than_a_ping_wakes() -> None:
    with running() as shard, shard.login(1) as client:
        data = frames.send(1, 5, bytes(50))
        client.sendall(data[:-2])
        for _ in range(20):
            shard.step()
        client.sendall(data[-2:])
        assert shard.receive(client)[0].op == frames.SEND_ACK


def test_large_output_is_written_as_the_reader_reads() -> None:
    with running(queue_soft_bytes=1 << 22, queue_hard_bytes=1 << 23) as shard, shard.login(1) as client:
        handle = next(iter(shard.hub.sessions))
        for seq in range(1, 301):
            shard.hub.committed(5, seq, frames.deliver(5, seq, 9, bytes([seq % 251]) * 3000), [handle])
            shard.step()
        got = shard.receive(client, 300)
        assert [frame.ints(2)[1] for frame in got] == list(range(1, 301))
        assert all(frame.body[-1] == frame.ints(2)[1] % 251 for frame in got)
        assert shard.engine.counters()["short_writes"] > 0
        assert shard.engine.counters()["queued_bytes"] == 0


def test_reader_that_stopped_is_closed_and_pins_little() -> None:
    with running(stall_ms=200, linger_ms=50) as shard, shard.login(1) as client:
        handle = next(iter(shard.hub.sessions))
        end = time.monotonic() + 10
        seq = held_bytes = 0
        while not shard.engine.counters()["closed_slow"]:
            assert time.monotonic() < end
            for _ in range(10):
                seq += 1
                shard.hub.committed(5, seq, frames.deliver(5, seq, 9, bytes(1000)), [handle])
            shard.step()
            held_bytes = max(held_bytes, shard.engine.counters()["queued_bytes"])
            time.sleep(0.002)
        # The soft limit, in blocks of the pool.
        assert held_bytes < 140_000
        shard.until("connections", 0)
        assert shard.engine.counters()["queued_bytes"] == 0
        client.close()


def test_reset_by_the_peer_is_survived() -> None:
    with running() as shard:
        client = shard.login(1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.close()
        shard.until("closed_peer_reset", 1)
        shard.until("connections", 0)


def test_takeover_kicks_the_old_connection() -> None:
    with running() as shard, shard.login(1) as old:
        handle = next(iter(shard.hub.sessions))
        shard.hub.kick(handle, 5)
        got = shard.receive(old, 1)
        assert (got[0].op, got[0].body[:2]) == (frames.BYE, b"\x00\x05")
        shard.until("closed_taken_over", 1)
        shard.step()
        assert shard.hub.closed == [(handle, 5)]
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                old.sendall(frames.send(1, 5) * 100)
                shard.step()
        assert shard.hub.sends == []


def test_too_many_strangers_push_the_oldest_out() -> None:
    with running(preauth_connections_max=4) as shard:
        clients = []
        for _ in range(6):
            clients.append(shard.connect())
            shard.until("accepted", len(clients))
        shard.until("closed_preauth_evicted", 2)
        assert shard.engine.counters()["preauth"] == 4
        for client in clients[:2]:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        for client in clients:
            client.close()


def test_one_address_cannot_take_all() -> None:
    with running(loopback_unlimited=0, connections_per_address_max=3) as shard:
        clients = [shard.connect() for _ in range(5)]
        shard.until("accept_shed", 2)
        assert shard.engine.counters()["accepted"] == 3
        for client in clients:
            client.close()
        shard.until("connections", 0)
        with shard.connect():
            shard.until("accepted", 4)


def test_connects_of_one_address_have_a_rate() -> None:
    with running(loopback_unlimited=0, accepts_per_address_per_s=1, accepts_per_address_burst=2) as shard:
        clients = [shard.connect() for _ in range(4)]
        shard.until("accept_shed", 2)
        for client in clients:
            client.close()


def test_a_shard_full_of_sessions_sheds_who_comes() -> None:
    """There is no stranger to make room."""
    with running(connections_max=1) as shard, shard.login(1) as client, shard.connect():
        shard.until("accept_shed", 1)
        client.sendall(frames.frame(frames.PING, b"echo", 2))
        assert shard.receive(client)[0].op == frames.PONG


def test_frames_that_came_together_wait_together_for_their_rate() -> None:
    """One of them is handled each time, the others stay parked in front of what comes later."""
    with running(frames_per_s=50, frames_burst=1) as shard, shard.login(1) as client:
        handled = shard.engine.counters()["frames_in"]
        client.sendall(b"".join(frames.read(5, seq) for seq in range(1, 7)))
        shard.until("frames_in", handled + 6)
        client.sendall(frames.frame(frames.PING, b"echo", 2))
        assert shard.receive(client)[0].op == frames.PONG
        assert shard.engine.counters()["parked_bytes"] == 0


def proxy_header(source: str, command: int = 0x21) -> bytes:
    body = socket.inet_aton(source) + bytes(4) + struct.pack(">HH", 1234, 443)
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack(">BBH", command, 0x11, len(body) + 4) + body + b"\x04\x00\x01x"


def proxied(family: int, body: bytes, command: int = 0x21) -> bytes:
    """A PROXY header of any content."""
    return b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack(">BBH", command, family, len(body)) + body


@pytest.mark.parametrize("cut", [0, 5, 14, 20])
def test_proxy_header_names_the_client(cut: int) -> None:
    with running(proxy=True) as shard:
        data = proxy_header("203.0.113.9") + frames.hello() + frames.auth()
        with shard.connect(data[:cut]) as client:
            for _ in range(20):
                shard.step()
            client.sendall(data[cut:])
            assert shard.receive(client)[0].op == frames.WELCOME
            assert shard.addresses == ["203.0.113.9"]


def test_balancer_may_check_itself() -> None:
    data = proxy_header("203.0.113.9", 0x20) + frames.hello() + frames.auth()
    with running(proxy=True) as shard, shard.connect(data) as client:
        assert shard.receive(client)[0].op == frames.WELCOME
        assert shard.addresses == ["127.0.0.1"]


def test_balancer_may_speak_ipv6() -> None:
    source = socket.inet_pton(socket.AF_INET6, "2001:db8::9")
    data = proxied(0x21, source + bytes(16) + struct.pack(">HH", 1234, 443)) + frames.hello() + frames.auth()
    with running(proxy=True) as shard, shard.connect(data) as client:
        assert shard.receive(client)[0].op == frames.WELCOME
        assert shard.addresses == ["2001:db8::9"]


def test_a_client_behind_a_balancer_has_limits_of_its_own() -> None:
    header = proxy_header("203.0.113.9")
    with (
        running(proxy=True, connections_per_address_max=1) as shard,
        shard.connect(header) as first,
        shard.connect(header),
    ):
        shard.until("closed_shed", 1)
        first.sendall(frames.hello() + frames.auth())
        assert shard.receive(first)[0].op == frames.WELCOME


@pytest.mark.parametrize(
    "data",
    [
        frames.hello(),
        b"\r\n\r\n\x00\r\nQUIT\n\x11\x11\x00\x0c",
        b"\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff",
        proxied(0x11, bytes(12), command=0x22),
        proxied(0x31, bytes(216)),
        proxied(0x12, bytes(12)),
        proxied(0x11, bytes(11)),
        proxied(0x21, bytes(35)),
    ],
)
def test_missing_or_broken_proxy_header_is_dropped(data: bytes) -> None:
    with running(proxy=True) as shard, shard.connect(data):
        shard.until("closed_proxy_failed", 1)


def test_only_trusted_balancers_name_addresses() -> None:
    with running(proxy=True) as shard:
        shard.engine.trust([], ["127.0.0.128/25", "fd00::/8"])
        with shard.connect(proxy_header("203.0.113.9") + b"\xff" * 4000):
            shard.until("closed_bad_frame", 1)
        with shard.connect(frames.hello() + frames.auth()) as client:
            assert shard.receive(client)[0].op == frames.WELCOME
        assert shard.addresses == ["127.0.0.1"]
        data = proxy_header("203.0.113.9") + frames.hello() + frames.auth()
        with socket.create_connection(shard.address, source_address=("127.0.0.130", 0)) as client:
            client.settimeout(5)
            client.sendall(data)
            assert shard.receive(client)[0].op == frames.WELCOME
        assert shard.addresses == ["127.0.0.1", "203.0.113.9"]


@pytest.mark.parametrize(
    ("network", "is_exempt"), [("127.0.0.0/8", True), ("127.0.0.1/32", True), ("0.0.0.0/0", True), ("::/0", True),
                               ("127.0.0.2/31", False), ("10.0.0.0/8", False), ("::1/128", False)]
)  # fmt: skip
def test_exempt_networks_have_no_limit_of_addresses(network: str, is_exempt: bool) -> None:
    with running(loopback_unlimited=0, connections_per_address_max=1) as shard:
        shard.engine.trust([network], [])
        clients = [shard.connect() for _ in range(3)]
        shard.until("accepted" if is_exempt else "accept_shed", 3 if is_exempt else 2)
        for client in clients:
            client.close()


def test_networks_are_bounded() -> None:
    with running() as shard, pytest.raises(ValueError, match="64"):
        shard.engine.trust(["10.0.0.0/8"] * 65, [])


def test_drain_tells_everybody_and_closes() -> None:
    with running() as shard, shard.login(1) as client:
        shard.engine.drain(50)
        got = shard.receive(client, 2)
        assert [frame.op for frame in got] == [frames.GOAWAY, frames.BYE]
        shard.until("closed_going_away", 1)


def test_listener_can_be_taken_away() -> None:
    with running() as shard:
        shard.engine.unlisten(shard.listener.fileno())
        with shard.connect():
            for _ in range(20):
                shard.step()
            assert shard.engine.counters()["accepted"] == 0


EXHAUSTION = """
import os, resource, sys
sys.path[:0] = sys.argv[1:]
from test_engine_sockets import *
with running(accept_pause_ms=20) as shard:
    first = shard.login(1)
    clients = [shard.connect() for _ in range(20)]
    limit = len(os.listdir("/proc/self/fd")) - 1 + 5
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    shard.until("descriptors_exhausted", 3)
    assert shard.engine.counters()["accepted"] == 6, shard.engine.counters()["accepted"]
    first.sendall(frames.send(1, 5))
    assert shard.receive(first)[0].op == frames.SEND_ACK
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    for client in clients:
        client.close()
    shard.until("sessions", 1)
    with shard.login(2) as late:
        pass
print("survived")
"""


def test_running_out_of_descriptors_is_survived() -> None:
    here = Path(__file__).resolve()
    paths = [str(here.parents[up]) for up in range(3)]
    done = subprocess.run([sys.executable, "-c", EXHAUSTION, *paths], capture_output=True, text=True, timeout=60)
    assert done.stdout == "survived\n", done.stderr
