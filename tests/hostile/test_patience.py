"""Slow, silent and stuck peers: nothing waits for them, and their end has the right name."""

import socket
import struct

import pytest
import trio
from support.live import Closed, Peer, peer
from support.siege import settled, siege

from chatd.testing import ChatdServer
from chatd.wire.frame import encode, make
from chatd.wire.schema import Close, Kind, Op


async def drip(one: Peer, data: bytes) -> None:
    """A byte every 60 ms, until the server has had enough."""
    try:
        for byte in data:
            await one.stream.send_all(bytes([byte]))
            await trio.sleep(0.06)
    except trio.BrokenResourceError:
        return


async def ends(one: Peer) -> None:
    """Returns when the server has closed it."""
    with trio.fail_after(5):
        try:
            while True:
                await one.read()
        except Closed:
            return


async def test_silence_after_connecting(server: ChatdServer) -> None:
    """TCP_DEFER_ACCEPT keeps the silent ones in the kernel; who came through has 0.6 s here (3 s by default)."""
    async with siege(server) as state:
        socks = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        await trio.sleep(1.2)
        for sock in socks:
            sock.close()
        counted = await state.closes()
        assert set(+counted) <= {Close.FIRST_BYTE_TIMEOUT, Close.PEER_CLOSED, Close.PEER_RESET}


async def test_a_login_that_drips_is_ended(server: ChatdServer) -> None:
    async with siege(server) as state:
        async with (slow := await Peer.connect(server)).stream, trio.open_nursery() as nursery:
            nursery.start_soon(drip, slow, bytes.fromhex("0f00 7000") + bytes(1000))
            await ends(slow)
            nursery.cancel_scope.cancel()
        counted = +(await state.closes())
        assert counted.total() == 1
        assert set(counted) <= {Close.AUTH_TIMEOUT, Close.SLOW_FRAME}


async def test_a_login_that_never_comes_is_ended(server: ChatdServer) -> None:
    async with siege(server) as state:
        async with (slow := await Peer.connect(server)).stream:
            await slow.hello()
            await ends(slow)
        await state.closed({Close.AUTH_TIMEOUT: 1})


@pytest.mark.parametrize("begun", [5, 200])
async def test_a_started_frame_must_be_completed(server: ChatdServer, begun: int) -> None:
    """Up to four bytes lie in the kernel, like a lone PING (SO_RCVLOWAT), until the heartbeat is looked for."""
    whole = encode(make(Op.SEND, cseq=1, cid=1, kind=int(Kind.CUSTOM), payload=bytes(400)))
    async with siege(server) as state, peer(server, "slow-frame") as slow:
        await slow.stream.send_all(whole[:begun])
        assert await slow.end(within_s=3) == Close.SLOW_FRAME
        await state.closed({Close.SLOW_FRAME: 1})


async def test_a_frame_that_drips_is_ended_though_bytes_come(server: ChatdServer) -> None:
    whole = encode(make(Op.SEND, cseq=1, cid=1, kind=int(Kind.CUSTOM), payload=bytes(400)))
    async with siege(server) as state, peer(server, "slow-frame") as slow, trio.open_nursery() as nursery:
        nursery.start_soon(drip, slow, whole)
        assert await slow.end(within_s=3) == Close.SLOW_FRAME
        nursery.cancel_scope.cancel()
        await state.closed({Close.SLOW_FRAME: 1})


async def test_receivers_that_never_read_cost_a_queue_and_no_more(server: ChatdServer) -> None:
    """The ladder: pushes stop at queue.soft_bytes, no progress for queue.stall_timeout_ms closes with SLOW."""
    async with siege(server) as state, peer(server, "loud") as loud:
        stuck = []
        for index in range(20):
            one = await Peer.connect(server, f"stuck-{index}", receive_bytes=4096)
            await one.login()
            stuck.append(one)
        cid = await loud.group([one.user for one in stuck])
        for _ in range(200):
            await loud.send(cid, bytes(2000), kind=Kind.CUSTOM)
        grown = await state.counters()
        assert grown["shards_queued_bytes"] <= 20 * (16_384 + 4_096)
        assert grown["shards_delivers_lagged"] > 0
        await state.closed({Close.SLOW: 20}, within_s=8)
        for one in stuck:
            await one.stream.aclose()


async def test_half_open_connections_are_noticed(server: ChatdServer) -> None:
    """A peer that half-closes has closed; one that resets, too. Nothing stays behind."""
    async with siege(server) as state:
        half = await Peer.connect(server, "half-open")
        async with half.stream:
            await half.login()
            half.stream.socket.shutdown(socket.SHUT_WR)
            await ends(half)
        gone = await Peer.connect(server, "reset")
        await gone.login()
        gone.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await gone.stream.aclose()
        await state.closed({Close.PEER_CLOSED: 1, Close.PEER_RESET: 1})
        gauge = (await state.counters())["shards_connections"]
        assert await settled(lambda: gauge, 0) == 0
