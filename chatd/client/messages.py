"""What messages can do: replies, forwards, mentions, edits, recalls, reactions, pins, expiry, schedules, drafts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chatd.client.model import Event, Sent
from chatd.wire import varint
from chatd.wire.frame import Extensions
from chatd.wire.layout import encode_fields
from chatd.wire.payload import encode_payload
from chatd.wire.schema import (
    EXTENSION_SEND_EXPIRES,
    EXTENSION_SEND_FORWARDED,
    EXTENSION_SEND_MENTIONS,
    EXTENSION_SEND_REPLY_TO,
    EXTENSIONS,
    Kind,
    Method,
    Op,
)

CIDS_PER_REQUEST_MAX = 200


@dataclass(frozen=True, slots=True)
class Scheduled:
    """A message that the server will send. preview: the first 256 bytes of its payload."""

    number: int
    cid: int
    due_ms: int
    kind: int
    preview: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    cid: int
    content: bytes
    changed_ms: int


@dataclass(frozen=True, slots=True)
class MessageState:
    """What a message has become. edit_seq: of the newest edit, 0: none. reactions: emoji → (how many, ours too)."""

    seq: int
    edit_seq: int
    reactions: dict[str, tuple[int, bool]]
    pinned: bool


@dataclass(frozen=True, slots=True)
class Pin:
    seq: int
    user: int
    pin_seq: int


def extension(tag: int, **fields: Any) -> tuple[int, bytes]:
    return tag, encode_fields(EXTENSIONS[Op.SEND, tag].fields, fields)


def extensions_of(reply_to: int, mentions: Sequence[int], everyone: bool, expires_s: int) -> Extensions:
    """The block of a SEND by its parts, in order of their tags."""
    found = []
    if reply_to:
        found.append(extension(EXTENSION_SEND_REPLY_TO, seq=reply_to))
    if mentions or everyone:
        users = [{"user": user} for user in sorted(set(mentions))]
        found.append(extension(EXTENSION_SEND_MENTIONS, flags=int(everyone), users=users))
    if expires_s:
        found.append(extension(EXTENSION_SEND_EXPIRES, seconds=expires_s))
    return tuple(found)


class Messages:
    """Typed helpers over `send` and `request`; refusals as there."""

    async def request(
        self, method: int, params: Mapping[int, Any] | None = None, *, timeout_s: float = 30.0
    ) -> dict[int, Any]:
        """See Client."""
        raise NotImplementedError

    async def send(
        self, cid: int, payload: str | bytes, kind: Kind = Kind.TEXT, *, extensions: Extensions = ()
    ) -> Sent:
        """See Client."""
        raise NotImplementedError

    # ------------------------------------------------------------ as events

    async def send_fields(self, cid: int, kind: Kind, fields: Mapping[str, Any], extensions: Extensions = ()) -> Sent:
        """An event of a kind whose payload has fields: media, places, cards and the like."""
        return await self.send(cid, encode_payload(kind, fields), kind, extensions=extensions)

    async def say(
        self,
        cid: int,
        text: str,
        *,
        reply_to: int = 0,
        mentions: Sequence[int] = (),
        everyone: bool = False,
        expires_s: int = 0,
    ) -> Sent:
        """A text. reply_to: the seq it answers; mentions: users, or everyone; expires_s: gone after so long."""
        return await self.send(cid, text, extensions=extensions_of(reply_to, mentions, everyone, expires_s))

    async def forward(self, event: Event, cid: int) -> Sent:
        """The same message into another conversation; the server names its author."""
        origin = extension(EXTENSION_SEND_FORWARDED, cid=event.cid, seq=event.seq, sender=0, time=0)
        return await self.send(cid, event.payload, Kind(event.kind), extensions=(origin,))

    async def edit(self, cid: int, seq: int, content: str | bytes) -> Sent:
        """Replace the payload of a message of ours. NotPermittedError after a day, if the operator set nothing else."""
        data = content.encode() if isinstance(content, str) else content
        return await self.send_fields(cid, Kind.EDIT, {"target": seq, "content": data})

    async def recall(self, cid: int, seq: int) -> Sent:
        """Take a message back: ours within two minutes, as a moderator any."""
        return await self.send_fields(cid, Kind.RECALL, {"target": seq})

    async def react(self, cid: int, seq: int, emoji: str, added: bool = True) -> Sent:
        """Add a reaction, or take it back."""
        return await self.send_fields(cid, Kind.REACTION, {"target": seq, "added": int(added), "emoji": emoji})

    async def pin(self, cid: int, seq: int, pinned: bool = True) -> Sent:
        return await self.send_fields(cid, Kind.PIN, {"target": seq, "pinned": int(pinned)})

    async def kinds(self) -> dict[str, str | None]:
        """Names of TYPED messages that this server knows → the schema of their content as JSON, None: not said."""
        found: dict[str, str | None] = {}
        while True:
            result = await self.request(Method.KIND_LIST, {1: max(found, default="")})
            found.update(dict(result[1]))
            if not result[2]:
                return found

    # ------------------------------------------------------------ later

    async def schedule(
        self,
        cid: int,
        payload: str | bytes,
        due_ms: int,
        kind: Kind = Kind.TEXT,
        *,
        reply_to: int = 0,
        mentions: Sequence[int] = (),
        everyone: bool = False,
        expires_s: int = 0,
    ) -> int:
        """Have the server send it at that Unix time. Returns the number that cancels it."""
        data = payload.encode() if isinstance(payload, str) else payload
        parts = extensions_of(reply_to, mentions, everyone, expires_s)
        block = b"".join(varint.encode(tag) + varint.encode(len(value)) + value for tag, value in parts)
        params = {1: cid, 2: int(kind), 3: data, 4: due_ms, 5: block}
        return int((await self.request(Method.MESSAGE_SCHEDULE, params))[1])

    async def scheduled(self) -> list[Scheduled]:
        """What is still to be sent, the earliest first."""
        return [Scheduled(*row) for row in (await self.request(Method.SCHEDULED_LIST))[1]]

    async def cancel_scheduled(self, number: int) -> None:
        await self.request(Method.SCHEDULED_CANCEL, {1: number})

    # ------------------------------------------------------------ drafts

    async def set_draft(self, cid: int, content: str | bytes) -> None:
        """Empty: no draft. Our other devices get it as a Notice."""
        data = content.encode() if isinstance(content, str) else content
        await self.request(Method.DRAFT_SET, {1: cid, 2: data})

    async def drafts(self) -> list[Draft]:
        """All of this user, by conversation: what a device that was away reads."""
        found: list[Draft] = []
        while True:
            result = await self.request(Method.DRAFT_LIST, {1: found[-1].cid if found else 0, 2: 0})
            found += [Draft(*row) for row in result[1]]
            if not result[2]:
                return found

    # ------------------------------------------------------------ what messages have become

    async def unread_mentions(self, cids: Sequence[int]) -> dict[int, tuple[int, int]]:
        """cid → how many unread messages mention us, and the first of them; those without left out."""
        found: dict[int, tuple[int, int]] = {}
        for start in range(0, len(cids), CIDS_PER_REQUEST_MAX):
            result = await self.request(Method.MENTIONS_UNREAD, {1: list(cids[start : start + CIDS_PER_REQUEST_MAX])})
            found.update({cid: (count, first) for cid, count, first in result[1]})
        return found

    async def message_states(self, cid: int, seqs: Sequence[int]) -> list[MessageState]:
        """Edits, reactions and pins of at most 100 messages, without reading the log for it."""
        rows = (await self.request(Method.MESSAGE_STATES, {1: cid, 2: list(seqs)}))[1]
        return [
            MessageState(seq, edit, {emoji: (count, mine) for emoji, count, mine in reactions}, pinned)
            for seq, edit, reactions, pinned in rows
        ]

    async def pins(self, cid: int) -> list[Pin]:
        """Newest first."""
        return [Pin(*row) for row in (await self.request(Method.PIN_LIST, {1: cid}))[1]]
