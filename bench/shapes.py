"""Shapes: who connects, who sends to whom. The same for every server; conversation ids and credentials come later."""

from dataclasses import dataclass
from typing import TextIO

POOLED_WINDOW_MAX = 256  # of the generator's schedule


@dataclass(frozen=True)
class Shape:
    """Connections and channels by number.

    publish, subscribe: per connection, the channels it sends to and receives from.
    members: per channel, its users. A number below the count of connections is that connection's user; higher ones are
    users that exist and stay offline.
    """

    name: str
    publish: list[tuple[int, ...]]
    subscribe: list[tuple[int, ...]]
    members: list[tuple[int, ...]]

    @property
    def connection_count(self) -> int:
        return len(self.publish)

    @property
    def user_count(self) -> int:
        return max(self.connection_count, 1 + max((max(users) for users in self.members), default=0))


@dataclass(frozen=True)
class Credential:
    """What one connection logs in with: a credential code of the protocol, 0 for a resume ticket."""

    code: int = 0
    device: int = 0
    identity: str = ""
    proof: bytes = b""


def ring(count: int) -> Shape:
    """Connection i sends to i + 1. Three at least: in a ring of two both directions would be one conversation."""
    if count < 3:
        raise ValueError("a ring has three connections at least")
    return Shape(
        f"ring of {count}",
        publish=[(i,) for i in range(count)],
        subscribe=[((i - 1) % count,) for i in range(count)],
        members=[(i, (i + 1) % count) for i in range(count)],
    )


def ping() -> Shape:
    """One connection sends to one other."""
    return Shape("one to one", publish=[(0,), ()], subscribe=[(), (0,)], members=[(0, 1)])


def fan_out(count: int) -> Shape:
    """Connection 0 sends to all others."""
    return Shape(
        f"one to {count - 1}",
        publish=[(0,), *[() for _ in range(count - 1)]],
        subscribe=[(), *[(0,) for _ in range(count - 1)]],
        members=[tuple(range(count))],
    )


def pairs(senders: int, conversations: int, *, online: bool) -> Shape:
    """Direct conversations, evenly spread: conversation k belongs to sender k modulo their number.

    online: the other member is another sender, who is connected and receives; otherwise a user who stays offline.
    """
    publish: list[list[int]] = [[] for _ in range(senders)]
    members: list[tuple[int, ...]] = []
    for number in range(conversations):
        sender, turn = number % senders, number // senders
        other = (sender + 1 + turn) % senders if online else senders + (sender + turn) % senders
        members.append((sender, other))
        publish[sender].append(number)
        if online:
            publish[other].append(number)
    channels = [tuple(own) for own in publish]
    return Shape(
        f"{senders} devices, {conversations} conversations, recipients {'online' if online else 'offline'}",
        publish=channels,
        subscribe=channels if online else [() for _ in channels],
        members=members,
    )


def pooled(shape: Shape, window: int, connections: int | None) -> tuple[Shape, int]:
    """The same channels and the same number of unanswered messages, over fewer connections; the shape as it is when it
    has no more than those."""
    if connections is None or shape.connection_count <= connections:
        return shape, window
    publish: list[list[int]] = [[] for _ in range(connections)]
    for number, channels in enumerate(shape.publish):
        publish[number % connections] += channels
    share = -(-shape.connection_count // connections)
    own = [tuple(dict.fromkeys(channels)) for channels in publish]
    pool = Shape(shape.name, publish=own, subscribe=[() for _ in own], members=shape.members)
    return pool, min(window * share, POOLED_WINDOW_MAX)


def idle(count: int) -> Shape:
    """Every connection follows one conversation of two, and nobody sends."""
    count += count % 2
    return Shape(
        f"{count} idle",
        publish=[() for _ in range(count)],
        subscribe=[(i // 2,) for i in range(count)],
        members=[(2 * i, 2 * i + 1) for i in range(count // 2)],
    )


def write_plan(file: TextIO, shape: Shape, credentials: list[Credential], ids: list[int]) -> None:
    """The generator's plan (bench/loadgen/plan.h): ids[k] is the server's name of channel k."""
    for credential, publish, subscribe in zip(credentials, shape.publish, shape.subscribe, strict=True):
        fields = (
            str(credential.code),
            str(credential.device),
            credential.identity or "-",
            credential.proof.hex() or "-",
            ",".join(str(ids[channel]) for channel in publish) or "-",
            ",".join(str(ids[channel]) for channel in subscribe) or "-",
        )
        file.write(" ".join(fields) + "\n")
