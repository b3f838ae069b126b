"""What a newcomer tries: two people in mid-conversation, `kill -9` of the whole server, start it again.

Both programs are what an application would write with chatd.client, and do nothing about the crash themselves.
"""

import json
from pathlib import Path

import pytest
import trio
from support.history import Applied, History, Send, digest, now
from support.invariants import check
from support.probe import Probe, read_log

from chatd.client import Client, Credential, Event, Settings
from chatd.testing import ChatdServer

MESSAGES = 60
PATIENCE_S = 30.0
QUICK = Settings(start="beginning", backoff_base_s=0.05, backoff_max_s=0.3)


class Person:
    """Writes MESSAGES messages and notes what is acknowledged and what arrives."""

    def __init__(self, history: History, client: Client) -> None:
        self.history, self.client = history, client
        self.written = self.heard = 0

    async def talk(self, cid: int) -> None:
        for number in range(1, MESSAGES + 1):
            tag = {"u": self.client.user, "d": self.client.device, "n": number, "c": cid}
            payload, invoked = json.dumps(tag).encode(), now()
            ref = await self.client.send(cid, payload)
            user, device = self.client.user, self.client.device
            self.history.add(Send(user, device, number, cid, digest(payload), invoked, invoked, now(), "ok", ref.seq))
            self.written += 1
            await trio.sleep(0.01)

    async def listen(self, cid: int) -> None:
        async for event in self.client.events():
            if isinstance(event, Event) and event.cid == cid:
                self._heard(event)

    def _heard(self, event: Event) -> None:
        self.heard = event.seq
        self.history.add(Applied(self.client.device, event.cid, event.seq, digest(event.payload), now()))


@pytest.mark.parametrize("inline", [True, False])
async def test_conversation_survives_kill_9_of_the_whole_server(tmp_path: Path, inline: bool) -> None:
    history = History()
    with ChatdServer.start(tmp_path, *([] if inline else ["--shards", "2"]), inline=inline) as server:
        credentials = [Credential.jwt(server.token(name)) for name in ("ann", "bob")]
        async with (
            Client(server.address, credentials[0], state=tmp_path / "ann", settings=QUICK) as ann,
            Client(server.address, credentials[1], state=tmp_path / "bob", settings=QUICK) as bob,
        ):
            people = [Person(history, ann), Person(history, bob)]
            cid = await ann.direct(bob.user)
            async with trio.open_nursery() as listeners:
                for person in people:
                    listeners.start_soon(person.listen, cid)
                with trio.fail_after(PATIENCE_S):
                    async with trio.open_nursery() as talkers:
                        for person in people:
                            talkers.start_soon(person.talk, cid)
                        for killed_at in (MESSAGES // 4, MESSAGES // 2):
                            while min(person.written for person in people) < killed_at:  # noqa: ASYNC110
                                await trio.sleep(0.005)
                            server.kill()
                            await trio.to_thread.run_sync(server.launch)
                probe = Probe(history, ("127.0.0.1", server.port), server.token("ann"))
                await read_log(history, probe, cid)
                head = max(event.seq for event in history.stored)
                with trio.fail_after(PATIENCE_S):
                    while any(person.heard < head for person in people):  # noqa: ASYNC110
                        await trio.sleep(0.01)
                listeners.cancel_scope.cancel()
            history.expected_online[cid] = frozenset({ann.device, bob.device})
    assert check(history) == []
    assert sum(event.device_cseq is not None for event in history.stored) == 2 * MESSAGES
