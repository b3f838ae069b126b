"""Load for the ack-after-fsync oracle: four devices in one group, every SEND with a payload of its own."""

from pathlib import Path

import trio

from chatd.testing import ChatdServer
from chatd.wire.schema import Op
from support.ack_oracle import Verdict, judge, tag
from support.live import Peer, peer, ready
from support.processes import children
from support.strace import parsed, traced

NAMES = ("ann", "bob", "carl", "dora")
WINDOW = 8


async def talk(who: Peer, cid: int, sends: int, pause_s: float) -> None:
    """Up to WINDOW wait for their answer, so that commits hold one record as well as many."""
    for start in range(0, sends, WINDOW):
        cseqs = [await who.post(cid, tag(who.device, who.cseq + 1)) for _ in range(min(WINDOW, sends - start))]
        for cseq in cseqs:
            answer = await who.answer(cseq)
            assert answer.op == Op.SEND_ACK, answer
        await trio.sleep(pause_s)


async def tagged_load(server: ChatdServer, sends: int, pause_s: float = 0.0) -> None:
    async with (
        peer(server, NAMES[0]) as ann,
        peer(server, NAMES[1]) as bob,
        peer(server, NAMES[2]) as carl,
        peer(server, NAMES[3]) as dora,
    ):
        cid = await ann.group([bob.user, carl.user, dora.user])
        async with trio.open_nursery() as nursery:
            for who in (ann, bob, carl, dora):
                nursery.start_soon(talk, who, cid, sends // len(NAMES), pause_s)
        # The last answer comes before the last push to another shard: whoever left now would not get it.
        for who in (ann, bob, carl, dora):
            await who.barrier()


async def judged_load(server: ChatdServer, sends: int, trace: Path) -> Verdict:
    """The verdict over `sends` SENDs to a server of its own processes."""
    await ready(server)
    with traced([server.pid, *children(server.pid)], trace):
        await tagged_load(server, sends)
    with trace.open(encoding="ascii") as lines:
        return judge(parsed(lines))
