"""The wall clock is set by an hour, forwards and backwards, under a running server (libfaketime; contract, section 11).

The processes see a changed CLOCK_REALTIME and an unchanged CLOCK_MONOTONIC, as after settimeofday.
"""

from pathlib import Path

import pytest
import trio
from support.live import Peer, peer
from support.preload import stepping_clock

from chatd.secrets import mint
from chatd.testing import ChatdServer
from chatd.wire.schema import Credential, ErrorCode, Op

HOUR_S = 3600


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that says by how many seconds the clock of servers started now is off."""
    variables, file = stepping_clock(tmp_path)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    return file


async def test_clock_steps_disturb_nobody_and_time_never_falls(tmp_path: Path, clock: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "2", inline=False) as server:
        async with peer(server, "ann", shard=0) as ann, peer(server, "bob", shard=1) as bob:
            cid = await ann.group([bob.user])
            steps = (0, HOUR_S, 0, -HOUR_S, 0)
            for offset in steps:
                clock.write_text(f"{offset:+d}")
                await trio.sleep(0.05)
                for each in (ann, bob, ann):
                    await each.say(cid)
                await proves_life(ann)
                await proves_life(bob)
            frames, _ = await bob.pull_frames(cid)
            assert [frame["seq"] for frame in frames] == list(range(1, 3 + 3 * len(steps)))
            times = [frame["time"] for frame in frames]
            assert times == sorted(times)
            assert times[-1] - times[2] >= 1000 * (HOUR_S - 60), "the step forwards was seen"
            pushed = [frame["seq"] for frame in await bob.delivered(cid, frames[-1]["seq"])]
            assert pushed == sorted(pushed)
        told = [line for line in server.log.read_text().splitlines() if "the clock was set by" in line]
        assert len(told) == len(steps) - 1, "each step is logged once"


async def test_expiry_of_tokens_follows_the_new_clock(tmp_path: Path, clock: Path) -> None:
    with ChatdServer.start(tmp_path, "--shards", "1", inline=False) as server:
        async with peer(server, "ann"):
            token = mint(server.data, "ann", 600)
            clock.write_text(f"{HOUR_S:+d}")
            late = await Peer.connect(server)
            async with late.stream:
                await late.hello()
                refused = await late.auth(Credential.JWT, token.encode())
                assert (refused.op, refused["code"]) == (Op.ERROR, ErrorCode.TOKEN_EXPIRED)


async def proves_life(who: Peer) -> None:
    await who.put(Op.PING, flags=2, echo=b"still there")
    assert (await who.next(Op.PONG))["echo"] == b"still there"
