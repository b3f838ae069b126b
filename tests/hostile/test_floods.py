"""Too much of everything: frames, connections, logins, calls. Limits as in production, for loopback too."""

import socket
import time
from contextlib import suppress
from functools import partial
from itertools import count

import msgpack
import pytest
import trio
from support.live import Closed, Peer, peer
from support.siege import Siege, administrator, siege, together

from chatd.testing import ChatdServer
from chatd.wire.frame import encode, make
from chatd.wire.schema import Close, Credential, ErrorCode, Method, Op

numbers = count(1)


async def pour(one: Peer, data: bytes, seconds: float) -> None:
    """Write as fast as the socket takes it, until the time is up or the server ends it."""
    with trio.move_on_after(seconds):
        while True:
            try:
                await one.stream.send_all(data)
            except trio.BrokenResourceError:
                return


async def test_flooding_is_throttled_then_closed_then_banned(limited: ChatdServer) -> None:
    """Twice the rate for a second here; ten times for ten seconds by default. The ban holds for logins and resumes."""
    name = f"flooder-{next(numbers)}"
    async with siege(limited) as state:
        flooder = await Peer.connect(limited, name)
        async with flooder.stream:
            await flooder.login()
            ticket, device = flooder.welcome["ticket"], flooder.device
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pour, flooder, encode(make(Op.READ, cid=1, seq=1)) * 200, 12)
                # BYE may be overtaken by the reset of what it had not read.
                with suppress(Closed):
                    assert await flooder.end(within_s=12) == Close.FLOOD
                nursery.cancel_scope.cancel()
        await state.closed({Close.FLOOD: 1})
        assert (await state.counters())["shards_throttled"] >= 1
        for back in ("auth", "resume"):
            again = await Peer.connect(limited, name)
            async with again.stream:
                await again.hello()
                if back == "auth":
                    await again.put(Op.AUTH, credential=int(Credential.JWT), device=device, identity="",
                                    proof=limited.token(name).encode(), label="")  # fmt: skip
                else:
                    await again.put(Op.RESUME, ticket=ticket, log_epoch=0, cursor=b"")
                bye = await again.next(Op.BYE)
                assert bye["reason"] == Close.SHED
                assert 200_000 < bye["retry_after_ms"] <= 300_000
        # The user's other devices are free to come.
        async with peer(limited, name):
            pass


async def test_large_frames_are_throttled_to_the_rate_of_bytes(limited: ChatdServer) -> None:
    """What TCP holds back never arrives: the server has read the burst and what the rate allows, no more."""
    async with siege(limited) as state, peer(limited, f"hose-{next(numbers)}") as one:
        before = (await state.counters())["shards_bytes_in"]
        begun = time.monotonic()
        await pour(one, encode(make(Op.EPHEMERAL, cid=1, sender=0, kind=16, payload=bytes(16_000))), 2)
        read = (await state.counters())["shards_bytes_in"] - before
        assert read < 524_288 + 65_536 * (time.monotonic() - begun + 2) + 262_144


@pytest.mark.parametrize("op", ["SYNC", "PULL", "REQUEST", "SUBSCRIBE", "UNSUBSCRIBE"])
async def test_calls_beyond_the_limits_are_busy(limited: ChatdServer, op: str) -> None:
    """Every call gets exactly one answer; those over the rate or over what may be outstanding get BUSY."""
    frames = {
        "SYNC": make(Op.SYNC, cursor=b"", limit=1),
        "PULL": make(Op.PULL, cid=99, from_seq=1, to_seq=0, limit=1),
        "REQUEST": make(Op.REQUEST, id=1, method=int(Method.USER_GET), params=msgpack.packb({1: [1]})),
        "SUBSCRIBE": make(Op.SUBSCRIBE, cid=99, topics=1),
        "UNSUBSCRIBE": make(Op.UNSUBSCRIBE, cid=99),
    }
    async with siege(limited), peer(limited, f"caller-{next(numbers)}") as one:
        await one.stream.send_all(encode(frames[op]) * 100)
        answers = [
            await one.next(Op.ERROR, Op.REPLY, Op.SYNC_PAGE, Op.PULL_END, Op.UNSUBSCRIBE, Op.SUBSCRIBE)
            for _ in range(100)
        ]
        busy = [frame for frame in answers if frame.op in (Op.ERROR, Op.REPLY) and frame["code"] == ErrorCode.BUSY]
        assert busy or op == "UNSUBSCRIBE"
        assert all(frame["retry_after_ms"] for frame in busy)


async def test_sends_of_a_user_over_the_rate_are_refused_and_told_when(limited: ChatdServer) -> None:
    async with siege(limited), peer(limited, f"sender-{next(numbers)}") as one:
        cid = await one.group()
        cseqs = [await one.post(cid) for _ in range(60)]
        answers = [await one.answer(cseq) for cseq in cseqs]
        refused = [frame for frame in answers if frame.op == Op.SEND_NAK]
        assert {frame["code"] for frame in refused} <= {ErrorCode.RATE_LIMITED, ErrorCode.OUT_OF_ORDER}
        assert all(frame["retry_after_ms"] for frame in refused if frame["code"] == ErrorCode.RATE_LIMITED)
        assert sum(frame.op == Op.SEND_ACK for frame in answers) >= 50


async def test_failed_logins_are_counted_limited_and_logged_once_a_minute(limited: ChatdServer) -> None:
    """Three failures close; then others from that address go on. Memory: argon2 takes 19 MiB for one password."""
    async with siege(limited, growth_bytes_max=28 << 20) as state:
        for _ in range(10):
            async with (guesser := await Peer.connect(limited)).stream:
                await guesser.hello()
                for _ in range(3):
                    await guesser.put(Op.AUTH, credential=int(Credential.PASSWORD), device=0, identity="citizen-a",
                                      proof=b"hunter2-secret", label="")  # fmt: skip
                    assert (await guesser.next(Op.ERROR))["code"] in (ErrorCode.AUTH_FAILED, ErrorCode.RATE_LIMITED)
                assert await guesser.end() == Close.AUTH_FAILED
        state.secrets.append(b"hunter2")
        await state.closed({Close.AUTH_FAILED: 10})


async def test_others_naming_a_device_do_not_shut_it_out(limited: ChatdServer) -> None:
    """Only logins whose credential was good count for flapping."""
    async with peer(limited, "quiet") as one:
        device = one.device
    async with siege(limited):
        for _ in range(7):
            async with (liar := await Peer.connect(limited)).stream:
                await liar.hello()
                for _ in range(3):
                    await liar.auth(Credential.JWT, b"a.b.c", device=device)
        async with peer(limited, "quiet", device=device):
            pass


async def test_a_device_that_comes_and_goes_is_refused_for_a_while(limited: ChatdServer) -> None:
    async with peer(limited, "flapper") as one:
        device = one.device
    async with siege(limited):
        for _ in range(14):
            async with (again := await Peer.connect(limited, "flapper")).stream:
                await again.login(device=device)
        async with (again := await Peer.connect(limited, "flapper")).stream:
            await again.hello()
            await again.put(Op.AUTH, credential=int(Credential.JWT), device=device, identity="",
                            proof=limited.token("flapper").encode(), label="")  # fmt: skip
            assert await again.end() == Close.SHED


async def churn(server: ChatdServer, host: int, seconds: float) -> None:
    """Connect and close from one source address as fast as it goes, with and without a first byte."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sock = trio.socket.socket()
        try:
            await sock.bind((f"127.0.1.{host}", 0))
            await sock.connect(("127.0.0.1", server.port))
            if host % 2:
                await sock.send(b"\x00")
        except OSError:
            await trio.sleep(0.005)
        finally:
            sock.close()
        await trio.sleep(0.002)


async def test_connections_come_and_go_from_many_addresses(limited: ChatdServer) -> None:
    """Each address has its own rate; nothing of the churn stays."""
    async with siege(limited) as state:
        await together(*(partial(churn, limited, host, 3.0) for host in range(1, 41)))
        grown = await state.counters()
        assert grown["shards_accepted"] + grown["shards_accept_shed"] > 200
        await state_is_empty(state)


async def state_is_empty(state: Siege) -> None:
    """All connections of the attack are gone; those of the siege itself stay."""
    with trio.fail_after(6):
        while (await state.counters())["shards_connections"] != 0:  # noqa: ASYNC110 a gauge has no event
            await trio.sleep(0.05)
    grown = await state.counters()
    ended = sum(count for name, count in grown.items() if name.startswith("shards_closed_"))
    assert ended == grown["shards_accepted"], "every connection that was accepted has one close reason"


async def test_one_address_has_a_rate_of_connections(limited: ChatdServer) -> None:
    """Address 127.0.2.1: a burst of 200, then the rate."""
    async with siege(limited) as state:
        socks = []
        for _ in range(260):
            sock = socket.socket()
            sock.bind(("127.0.2.1", 0))
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", limited.port))
            socks.append(sock)
        await trio.sleep(0.3)
        for sock in socks:
            try:
                sock.send(b"\x00")
            except OSError:
                continue
        with trio.fail_after(5):
            while (await state.counters())["shards_accept_shed"] == 0:  # noqa: ASYNC110
                await trio.sleep(0.05)
        for sock in socks:
            sock.close()
        await state_is_empty(state)


async def test_administrator_can_see_all_of_it(limited: ChatdServer) -> None:
    admin = await administrator(limited)
    async with admin.stream:
        found = (await admin.call(Method.ADMIN_STATS))[1]
    assert {f"shards_closed_{reason.name.lower()}" for reason in Close} <= found.keys()
