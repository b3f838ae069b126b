"""Scenes whose clients are driven frame by frame: slow readers, stopped shards, clocks, reused places."""

import os
import signal
import socket
import struct
from pathlib import Path

import trio

from chatd.testing import ChatdServer
from chatd.wire.frame import Frame
from chatd.wire.schema import Credential, Op
from support.history import Connected, History, Lag, Seen, Send, digest, now
from support.invariants import Finding, skipped, twin
from support.live import Closed, Peer, peer, shard_of
from support.places import SMALL
from support.preload import stepping_clock
from support.probe import stored_event
from support.processes import workers
from support.scenes import served

HISTORY = 2
HOUR_S = 3600
ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER: close resets the connection at once."""


async def a_reader_that_stops(directory: Path) -> list[Finding]:
    """Nobody reads for 300 events; then all there is, and what comes next."""
    options = [word for setting in SMALL for word in ("--set", setting)]
    async with (
        served(directory, 1, *options) as server,
        peer(server, "ann") as ann,
        peer(server, "bob", receive_bytes=4096) as bob,
    ):
        cid = await ann.group([bob.user])
        for _ in range(300):
            await ann.say(cid, bytes(1000))
        with trio.move_on_after(2):
            while True:
                await bob.read()
        last = await ann.say(cid, b"last")
        with trio.move_on_after(3):
            await bob.next(Op.DELIVER, where=lambda frame: frame["seq"] == last)
        history = seen_by(bob, [*bob.frames], cid)
        history.add(Seen(1, bob.user, bob.device, cid, last, ann.user, 0, "", now()))
    return [Finding("SKIP", text) for text in skipped(history)]


def seen_by(who: Peer, frames: list[Frame], cid: int) -> History:
    history = History()
    for frame in frames:
        if frame.op == Op.DELIVER and frame["cid"] == cid and not frame.flags & HISTORY:
            seq, content = frame["seq"], digest(frame["payload"])
            history.add(Seen(1, who.user, who.device, cid, seq, frame["sender"], frame["time"], content, now()))
        elif frame.op == Op.LAG:
            history.add(Lag(1, frame["cid"], frame["from_seq"], frame["to_seq"], now()))
    return history


async def the_clock_is_set(directory: Path) -> list[Finding]:
    variables, clock = stepping_clock(directory)
    async with served(directory, **variables) as server, peer(server, "ann") as ann, peer(server, "bob") as bob:
        cid = await ann.group([bob.user])
        clock.write_text(f"{HOUR_S:+d}")
        await trio.sleep(0.5)
        try:
            for who in (ann, bob):
                await who.say(cid)
        except (Closed, trio.BrokenResourceError) as error:
            return [Finding("DROPPED", f"a step of the wall clock closed a connection: {error!r}")]
    return []


async def the_place_of_another(directory: Path) -> list[Finding]:
    """Connections that end while their login is under way, and others that get their place at once."""
    async with served(directory) as server:
        async with peer(server, "ann") as ann, peer(server, "bob") as bob:
            pass  # two users, one device each
        for _ in range(300):
            leaving = await Peer.connect(server, "ann")
            await leaving.hello()
            proof = server.token("ann").encode()
            await leaving.put(
                Op.AUTH, credential=int(Credential.JWT), device=ann.device, identity="", proof=proof, label=""
            )
            leaving.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            leaving.stream.socket.close()
            found = await crossed(server, bob)
            if found:
                return found
    return []


async def crossed(server: ChatdServer, bob: Peer) -> list[Finding]:
    """bob logs in again, and is bob."""
    coming = await Peer.connect(server, "bob")
    async with coming.stream:
        try:
            answer = await coming.login(device=bob.device)
        except (Closed, trio.BrokenResourceError, trio.TooSlowError) as error:
            return [Finding("CROSS", f"a login got the fate of another: {error!r}")]
        if answer.op != Op.WELCOME or answer["user"] != bob.user:
            return [Finding("CROSS", f"bob, user {bob.user}, was answered {answer}")]
    return []


async def a_device_moves_on(directory: Path) -> list[Finding]:
    """Its shard stands still, so it logs in on another one; then the first shard wakes up with a SEND of the old
    connection in its hands."""
    async with served(directory, 2, "--set", "hub.takeover_wait_ms=100") as server, peer(server, "ann", shard=0) as old:
        cid = await old.group()
        await old.say(cid, b"{}")
        new = await reached(server, shard=1)
        stopped = workers(server.pid)["shard 0"]
        os.kill(stopped, signal.SIGSTOP)
        try:
            answer = await new.login(device=old.device)
            welcomed = now()
            cseq = await old.post(cid, b'{"d":%d,"n":%d}' % (old.device, old.cseq + 1))
            sent = now()
        finally:
            os.kill(stopped, signal.SIGCONT)
        if answer.op != Op.WELCOME:
            return [Finding("INVALID", f"the second login got {answer}: the run proves nothing")]
        await trio.sleep(1)
        history = History()
        history.add(Connected(1, old.user, old.device, 0.0))
        history.add(Connected(2, old.user, old.device, welcomed))
        history.add(Send(old.user, old.device, cseq, cid, "", sent, sent, now(), connection=1))
        for frame in (await new.pull_frames(cid))[0]:
            if frame["payload"].startswith(b'{"d"'):
                history.add(stored_event(frame))
        await new.stream.aclose()
    return [Finding("TWIN", text) for text in twin(history)]


async def reached(server: ChatdServer, shard: int) -> Peer:
    """A connection to that shard, before its login."""
    while True:
        made = await Peer.connect(server, "ann")
        if await shard_of(made) == shard:
            return made
        await made.stream.aclose()
