"""Limits that only several processes together can keep: of a user over all shards, of memory, of a hub that lags."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager, suppress
from pathlib import Path

import trio
from support.hostile_servers import flags
from support.live import RETRYABLE, Closed, Peer, peer, shard_of
from support.siege import memory_bytes, processes

from chatd.testing import ChatdServer
from chatd.wire.frame import Frame, encode, make
from chatd.wire.schema import Close, Credential, ErrorCode, Kind, Op

SHARDS = 3


@contextmanager
def shards(directory: Path, *settings: str, lifted: bool = False) -> Iterator[ChatdServer]:
    with ChatdServer.start(
        directory, "--shards", str(SHARDS), *flags(*settings), inline=False, lifted=lifted
    ) as server:
        yield server


async def test_the_rate_of_sends_is_one_for_all_devices_on_all_shards(tmp_path: Path) -> None:
    """As in production: 50 at once and 10 a second, together; who waits as long as told is let through."""
    with shards(tmp_path) as server:
        async with AsyncExitStack() as stack:
            begun = time.monotonic()
            devices = [await stack.enter_async_context(peer(server, "ann", shard=index)) for index in range(SHARDS)]
            cid = await devices[0].group()
            answers: list[tuple[Peer, Frame]] = []
            for device in devices:
                cseqs = [await device.post(cid) for _ in range(40)]
                answers += [(device, await device.answer(cseq)) for cseq in cseqs]
            stored = sum(frame.op == Op.SEND_ACK for _, frame in answers)
            assert 50 <= stored <= 50 + 10 * (time.monotonic() - begun) + 1
            codes = {frame["code"] for _, frame in answers if frame.op == Op.SEND_NAK}
            assert codes == {ErrorCode.RATE_LIMITED, ErrorCode.OUT_OF_ORDER}
            device, refused = next(one for one in answers if one[1].op == Op.SEND_NAK)
            await trio.sleep(refused["retry_after_ms"] / 1000)
            assert (await device.send(cid, cseq=refused["cseq"])).op == Op.SEND_ACK


async def pour(one: Peer, data: bytes) -> None:
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while True:
            await one.stream.send_all(data)


async def test_a_device_that_flooded_is_refused_by_every_shard(tmp_path: Path) -> None:
    with shards(tmp_path, "session.flood_s=1", "session.flood_factor=2") as server:
        async with peer(server, "flooder") as flooder, trio.open_nursery() as nursery:
            nursery.start_soon(pour, flooder, encode(make(Op.READ, cid=1, seq=1)) * 200)
            with suppress(Closed):
                assert await flooder.end(within_s=20) == Close.FLOOD
            nursery.cancel_scope.cancel()
        asked: set[int] = set()
        with trio.fail_after(30):
            while len(asked) < SHARDS:
                async with (again := await Peer.connect(server, "flooder")).stream:
                    shard = await shard_of(again)
                    await again.hello()
                    await again.put(Op.AUTH, credential=int(Credential.JWT), device=flooder.device, identity="",
                                    proof=server.token("flooder").encode(), label="")  # fmt: skip
                    bye = await again.next(Op.BYE)
                    assert bye["reason"] == Close.SHED
                    assert 200_000 < bye["retry_after_ms"] <= 300_000
                    asked.add(shard)


def memory_of(server: ChatdServer) -> int:
    return sum(memory_bytes(pid) for pid in processes(server).values())


async def test_at_85_percent_of_its_memory_newcomers_are_told_when_to_come_back(tmp_path: Path) -> None:
    """The limit is set to what the same server has used a moment ago, and a tenth more."""
    with ChatdServer.start(tmp_path / "a", "--shards", "1", *flags(), inline=False, lifted=True) as server:
        async with peer(server, "first"):
            await trio.sleep(0.5)
            used = memory_of(server)
    limit = f"process.memory_bytes_max={used * 10 // 9}"
    with ChatdServer.start(tmp_path / "b", "--shards", "1", *flags(limit), inline=False, lifted=True) as server:
        with trio.fail_after(10):
            while b"memory pressure" not in server.log.read_bytes():  # noqa: ASYNC110 a log has no event
                await trio.sleep(0.05)
        await trio.sleep(0.2)
        for _ in range(3):
            async with (late := await Peer.connect(server, "late")).stream:
                await late.hello()
                await late.put(Op.AUTH, credential=int(Credential.JWT), device=0, identity="",
                               proof=server.token("late").encode(), label="")  # fmt: skip
                bye = await late.next(Op.BYE)
                assert bye["reason"] == Close.SHED
                assert 5_000 <= bye["retry_after_ms"] <= 30_000


async def flood_of_sends(one: Peer, cid: int) -> list[Frame]:
    """As many SENDs as may be unanswered, of 2,000 bytes, and what they get."""
    cseqs = [await one.post(cid, bytes(2000), kind=Kind.CUSTOM) for _ in range(64)]
    return [await one.answer(cseq) for cseq in cseqs]


async def test_a_hub_that_stands_still_means_busy_and_loses_nothing(tmp_path: Path) -> None:
    """What fits into the ring waits and is stored; the rest is refused after half a second, hub or no hub."""
    settings = ("hub.hub_ring_bytes=65536", "process.silence_timeout_ms=20000")
    with ChatdServer.start(tmp_path, "--shards", "1", *flags(*settings), inline=False, lifted=True) as server:
        async with AsyncExitStack() as stack:
            writers = [await stack.enter_async_context(peer(server, f"writer-{index}")) for index in range(4)]
            cids = [await writer.group() for writer in writers]
            hub = processes(server)["hub"]
            answers: list[list[Frame]] = [[] for _ in writers]
            os.kill(hub, signal.SIGSTOP)
            try:
                async with trio.open_nursery() as nursery:

                    async def write(index: int) -> None:
                        answers[index] = await flood_of_sends(writers[index], cids[index])

                    for index in range(len(writers)):
                        nursery.start_soon(write, index)
                    first = await first_refusal(writers)
                    assert first["code"] == ErrorCode.BUSY, "while the hub stands"
                    os.kill(hub, signal.SIGCONT)
            finally:
                os.kill(hub, signal.SIGCONT)
            for writer, cid, got in zip(writers, cids, answers, strict=True):
                refused = [frame for frame in got if frame.op == Op.SEND_NAK]
                assert {frame["code"] for frame in refused} <= {ErrorCode.BUSY, ErrorCode.OUT_OF_ORDER}
                assert all(frame.flags & RETRYABLE and frame["retry_after_ms"] for frame in refused)
                for frame in sorted(refused, key=lambda frame: int(frame["cseq"])):
                    answer = await writer.send(cid, bytes(2000), frame["cseq"], Kind.CUSTOM)
                    assert answer.op == Op.SEND_ACK
                assert len(await writer.log(cid, 2)) == 64, "each of them once"


async def first_refusal(writers: list[Peer]) -> Frame:
    """The first SEND_NAK that has come to any of them; it stays where it is."""
    with trio.fail_after(10):
        while True:
            for writer in writers:
                for frame in writer.frames:
                    if frame.op == Op.SEND_NAK:
                        return frame
            await trio.sleep(0.01)
