"""The folded view against a plain model of what people did, in whichever order events come, repeat and lose content."""

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chatd.client.folded import Folded
from chatd.client.model import Event
from chatd.wire.payload import encode_payload
from chatd.wire.schema import Kind

USERS = (1, 2, 3)
EMOJI = ("👍", "x")


class Conversation(RuleBasedStateMachine):
    """The model: a list of messages as they are now. The log: every event, later with tombstones in it."""

    @initialize()
    def begin(self) -> None:
        self.log: list[Event] = []
        self.said: dict[int, dict[str, Any]] = {}
        self.early = Folded()

    def append(self, sender: int, kind: Kind, payload: bytes) -> int:
        seq = len(self.log) + 1
        event = Event(1, seq, sender, 1000 * seq, kind, payload, size=len(payload))
        self.log.append(event)
        self.early.add(event)
        return seq

    def act(self, sender: int, kind: Kind, **fields: Any) -> int:
        return self.append(sender, kind, encode_payload(kind, fields))

    def target(self, choice: int) -> int:
        alive = [seq for seq, message in self.said.items() if not message["recalled"]]
        return alive[choice % len(alive)] if alive else 0

    @rule(sender=st.sampled_from(USERS), text=st.text(max_size=5))
    def say(self, sender: int, text: str) -> None:
        seq = self.append(sender, Kind.TEXT, text.encode())
        message = {"text": text.encode(), "edited": False, "recalled": False, "pinned": False, "reactions": set()}
        self.said[seq] = message | {"edits": []}

    @rule(choice=st.integers(0, 20), text=st.text(max_size=5))
    def edit(self, choice: int, text: str) -> None:
        if seq := self.target(choice):
            edit = self.act(1, Kind.EDIT, target=seq, content=text.encode())
            self.said[seq].update(text=text.encode(), edited=True)
            self.said[seq]["edits"].append(edit)

    @rule(choice=st.integers(0, 20))
    def recall(self, choice: int) -> None:
        if seq := self.target(choice):
            self.act(1, Kind.RECALL, target=seq)
            message = self.said[seq]
            for gone in (seq, *message["edits"]):
                old = self.log[gone - 1]
                self.log[gone - 1] = Event(1, gone, old.sender, old.time_ms, old.kind, b"", tombstone=True)
            message.update(text=b"", recalled=True, edited=False, pinned=False, reactions=set())

    @rule(choice=st.integers(0, 20), sender=st.sampled_from(USERS), emoji=st.sampled_from(EMOJI))
    def react(self, choice: int, sender: int, emoji: str) -> None:
        if seq := self.target(choice):
            added = (emoji, sender) not in self.said[seq]["reactions"]
            self.act(sender, Kind.REACTION, target=seq, added=int(added), emoji=emoji)
            self.said[seq]["reactions"] ^= {(emoji, sender)}

    @rule(choice=st.integers(0, 20))
    def pin(self, choice: int) -> None:
        if seq := self.target(choice):
            self.said[seq]["pinned"] = not self.said[seq]["pinned"]
            self.act(1, Kind.PIN, target=seq, pinned=int(self.said[seq]["pinned"]))

    @invariant()
    def everybody_sees_the_same(self) -> None:
        """Who was there from the start, who reads the log now, and who got it twice and in disorder."""
        if not hasattr(self, "log"):
            return
        late, mixed = Folded(), Folded()
        disorder = [*self.log, *self.log]
        random.Random(len(self.log)).shuffle(disorder)
        for folded, events in ((late, self.log), (mixed, disorder)):
            for event in events:
                folded.add(event)
        for folded in (self.early, late, mixed):
            seen = {
                message.event.seq: {
                    "text": message.payload,
                    "edited": message.edited,
                    "recalled": message.recalled,
                    "pinned": message.pinned,
                    "reactions": {(emoji, user) for emoji, users in message.reactions.items() for user in users},
                }
                for message in folded.messages()
            }
            assert seen == {seq: {k: v for k, v in said.items() if k != "edits"} for seq, said in self.said.items()}


TestConversation = Conversation.TestCase
TestConversation.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_an_expired_message_shows_nothing_before_the_server_says_so() -> None:
    folded = Folded()
    folded.add(Event(1, 1, 1, 10_000, Kind.TEXT, b"soon gone", extensions={8: b"\x05"}))
    assert [message.payload for message in folded.messages(14_999)] == [b"soon gone"]
    assert [(message.payload, message.recalled) for message in folded.messages(15_000)] == [(b"", True)]


def test_forgetting_keeps_what_is_newer() -> None:
    folded = Folded()
    for seq in (1, 2, 3):
        folded.add(Event(1, seq, 1, seq, Kind.TEXT, b"%d" % seq))
    folded.add(Event(1, 4, 1, 4, Kind.EDIT, encode_payload(Kind.EDIT, {"target": 3, "content": b"new"})))
    folded.forget(3)
    assert [message.payload for message in folded.messages()] == [b"new"]
