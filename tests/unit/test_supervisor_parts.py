"""Parts of the supervisor: back-off, aborts, the control socket, listeners, notification."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import trio

from chatd.config import load
from chatd.config.address import Address
from chatd.errors import ConfigError, InternalError
from chatd.supervisor.backoff import AbortCounter, Backoff
from chatd.supervisor.control import DESCRIPTORS_MAX, PACKET_BYTES_MAX, Control
from chatd.supervisor.listeners import close_listeners, open_listeners, probe
from chatd.supervisor.notify import notify, watchdog_interval_s
from chatd.supervisor.pulse import Pulse
from chatd.worker import _obey


def test_first_restart_is_immediate_and_later_ones_wait_longer() -> None:
    backoff = Backoff(1.5)
    assert [backoff.delay_s(0.1) for _ in range(7)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.5, 1.5]
    assert backoff.delay_s(11.0) == 0.0
    assert backoff.delay_s(0.1) == 0.1


def test_ten_thousand_failures_do_not_overflow() -> None:
    backoff = Backoff(1.5)
    assert {backoff.delay_s(0) for _ in range(10_000)} >= {1.5}


def test_three_aborts_in_a_minute() -> None:
    counter = AbortCounter()
    assert [counter.aborted(at) for at in (0, 30, 61, 90, 91)] == [False, False, False, True, True]
    counter.reset()
    assert not counter.aborted(92)


async def test_control_packets_carry_descriptors() -> None:
    ours, other = Control.pair()
    theirs = Control(other)
    read, write = os.pipe()
    assert await ours.send({"do": "link", "epoch": 1 << 62}, [write])
    received = await theirs.receive()
    assert received is not None
    message, (descriptor,) = received
    assert message == {"do": "link", "epoch": 1 << 62}
    assert not os.get_inheritable(descriptor)
    os.write(descriptor, b"x")
    assert os.read(read, 9) == b"x"
    for number in (read, write, descriptor):
        os.close(number)
    theirs.close()
    assert await ours.receive() is None
    assert not await ours.send({"do": "stop"})
    ours.close()


async def test_control_refuses_what_the_other_side_could_not_take() -> None:
    ours, other = Control.pair()
    with pytest.raises(InternalError):
        await ours.send({"do": "x" * PACKET_BYTES_MAX})
    with pytest.raises(InternalError):
        await ours.send({"do": "x"}, [0] * (DESCRIPTORS_MAX + 1))
    ours.close()
    other.close()


async def test_a_worker_that_cannot_read_its_control_socket_fails_instead_of_ending_in_peace() -> None:
    ours, other = Control.pair()
    send_commands, _ = trio.open_memory_channel[tuple[object, ...]](1)
    os.dup2(os.memfd_create("no socket"), ours._sock.fileno())
    with pytest.raises(InternalError, match="has to be replaced"):
        await _obey("hub", ours, send_commands, trio.CancelScope())
    ours.close()
    other.close()


STUCK = """
import os, time
import trio
from chatd import worker
from chatd.supervisor.pulse import Pulse

async def fail():
    await trio.sleep(0.05)
    raise MemoryError

async def main():
    async with trio.open_nursery() as nursery:
        nursery.start_soon(worker._beat, Pulse.create(), 0.01)
        nursery.start_soon(trio.to_thread.run_sync, time.sleep, 60)
        nursery.start_soon(fail)

worker.END_TIMEOUT_S = 0.2
trio.run(main)
"""


def test_a_worker_that_has_failed_ends_although_a_thread_does_not() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stderr.startswith("Timeout"), "stacks instead of silence"


def test_every_shard_has_a_socket_of_its_own_on_one_port() -> None:
    settings = load(flags={"listen.tcp": ["127.0.0.1:0", "[::1]:0"]})
    listeners = open_listeners(settings, 3)
    assert [len(listener.sockets) for listener in listeners] == [3, 3]
    for listener in listeners:
        assert {sock.getsockname()[1] for sock in listener.sockets} == {listener.port} != {0}
        assert all(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) for sock in listener.sockets)
        assert not any(sock.get_inheritable() for sock in listener.sockets)
    assert listeners[0].descriptor(4) == listeners[0].sockets[1].fileno()
    close_listeners(listeners)


def test_a_port_in_use_is_refused_although_reuse_is_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chatd.supervisor.listeners.TAKEN_RETRIES", 1)
    listeners = open_listeners(load(flags={"listen.tcp": ["127.0.0.1:0"]}), 1)
    taken = Address("127.0.0.1", listeners[0].port)
    with pytest.raises(ConfigError, match=r"uses this port"):
        open_listeners(load(flags={"listen.tcp": [str(taken)]}), 1)
    assert "uses this port" in (probe(taken) or "")
    close_listeners(listeners)
    assert probe(taken) is None


def test_no_listener_is_an_error() -> None:
    with pytest.raises(ConfigError, match="nobody could connect"):
        open_listeners(load(flags={"listen.tcp": []}), 1)


def test_notification_reaches_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"{tmp_path}/notify")
        monkeypatch.setenv("NOTIFY_SOCKET", f"{tmp_path}/notify")
        notify("READY=1", "STATUS=serving")
        assert systemd.recv(100) == b"READY=1\nSTATUS=serving"
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")


def test_watchdog_interval_is_half_of_the_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watchdog_interval_s() is None
    monkeypatch.setenv("WATCHDOG_USEC", "10000000")
    assert watchdog_interval_s() == 5.0
    monkeypatch.setenv("WATCHDOG_PID", "1")
    assert watchdog_interval_s() is None


def test_a_beat_is_seen_through_the_inherited_descriptor() -> None:
    ours = Pulse.create()
    theirs = Pulse(os.dup(ours.descriptor))
    assert ours.beat_at > time.monotonic()
    theirs.beat()
    last = ours.beat_at
    assert last <= time.monotonic()
    theirs.close()
    ours.close()
    assert ours.beat_at == last
