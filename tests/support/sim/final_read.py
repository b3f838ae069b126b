"""The end of a run: fresh devices read everything, and from the whole log follows who could read what."""

from typing import TYPE_CHECKING

from chatd.wire.payload import decode_payload
from chatd.wire.schema import Kind
from chatd.wire.varint import decode as varint
from support.history import Interval, Stored
from support.sim.device import Device
from support.sim.template import AUDITOR, template

if TYPE_CHECKING:
    from support.sim.world import World

READ_MS = 20_000


class Reader(Device):
    """A device that is new and keeps what it reads. store: into the history's stored events."""

    def __init__(self, world: "World", user: int, *, store: bool) -> None:
        super().__init__(world, user, 0)
        self._store = store
        self.system: list[tuple[int, int, int, bytes]] = []

    @property
    def complete(self) -> bool:
        """Everything that SYNC named has been pulled."""
        positions = self.positions
        return self.live and bool(positions.cursor) and positions.idle

    def _on_deliver(self, flags: int, body: bytes) -> None:
        super()._on_deliver(flags, body)
        if not self._store:
            return
        cid, at = varint(body, 0)
        seq, at = varint(body, at)
        sender, at = varint(body, at)
        kind, end = varint(body, at + 5)
        content = body[end:].decode("latin-1")
        tag = None
        if kind < Kind.CONVERSATION_CREATED:
            device, cseq, *_ = content.split(".")
            tag = (int(device), int(cseq))
        else:
            self.system.append((cid, seq, kind, body[end:]))
        event = Stored(cid, seq, sender, tag, int.from_bytes(body[at : at + 5], "big"), content)
        self.world.history.stored.append(event)


async def read(world: "World") -> None:
    """By the auditor, who is in every group, and by somebody else, whose reading must agree."""
    auditor = Reader(world, AUDITOR, store=True)
    await world.reading(auditor, READ_MS, lambda: auditor.complete)
    other = Reader(world, world.users[0], store=False)
    await world.reading(other, READ_MS, lambda: other.complete)
    for reader in (auditor, other):
        if not reader.complete:
            world.invalid.append(f"the final read of user {reader.user} was not complete")
    world.system_events = auditor.system


def intervals(world: "World") -> None:
    """Who was a member from where to where, as the log itself says it."""
    open_at: dict[tuple[int, int], int] = {}
    for cid, members in (template().groups | world.created).items():
        for user in {AUDITOR, *members}:
            open_at[cid, user] = 1
    for cid, seq, kind, payload in sorted(world.system_events):
        if kind not in (Kind.MEMBERS_ADDED, Kind.MEMBERS_REMOVED, Kind.MEMBER_LEFT):
            continue
        fields = decode_payload(kind, payload)
        assert fields is not None
        users = [fields["user"]] if kind == Kind.MEMBER_LEFT else [entry["user"] for entry in fields["users"]]
        for user in users:
            if kind == Kind.MEMBERS_ADDED:
                open_at.setdefault((cid, user), seq)
            else:
                world.history.intervals.append(Interval(user, cid, open_at.pop((cid, user)), seq))
    world.history.intervals += [Interval(user, cid, join) for (cid, user), join in open_at.items()]
