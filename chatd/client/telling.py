"""What is told while it happens: live streams, and telemetry with its last values."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from chatd.client.asking import Asking
from chatd.client.live_streams import OwnStream
from chatd.client.model import Promise, RunningStream, Sent
from chatd.wire.frame import Extensions
from chatd.wire.layout import encode_fields
from chatd.wire.schema import EXTENSION_EPHEMERAL_TELEMETRY, EXTENSIONS, EphemeralKind, Kind, Method, Op

if TYPE_CHECKING:
    from collections.abc import Callable

    from chatd.client.session import ClientSession

Value = TypeVar("Value")
VALUES_PER_REQUEST = 50
KEEP = 1


@dataclass(frozen=True, slots=True)
class LastValue:
    """A value of telemetry that the server has kept. age_ms: how old it was when it was asked for."""

    user: int
    key: int
    value: bytes
    time_ms: int
    age_ms: int


class StreamWriter:
    """What `stream` gives: `write` as often as there is something. sent: the event, once the block has ended."""

    def __init__(self, own: OwnStream, wake: "Callable[[], None]") -> None:
        self._own = own
        self._wake = wake
        self.sent: Sent | None = None

    @property
    def number(self) -> int:
        """The stream's id, as Streaming and the event's extension STREAM have it."""
        return self._own.stream

    def write(self, data: str | bytes) -> None:
        """Goes out with the next delta, of which there are at most ten a second. Raises what the server has refused the
        stream with, and InvalidError over 60,000 bytes.
        """
        self._own.write(data.encode() if isinstance(data, str) else data)
        self._wake()


class Telling(Asking):
    """Part of Client."""

    def _usable(self) -> "ClientSession":
        raise NotImplementedError

    def _wake(self) -> None:
        raise NotImplementedError

    async def _answer(self, promise: Promise[Value], timeout_s: float | None = None) -> Value:
        raise NotImplementedError

    def queue(
        self, cid: int, payload: str | bytes, kind: Kind = Kind.TEXT, extensions: Extensions = ()
    ) -> tuple[int, Promise[Sent]]:
        """See Client."""
        raise NotImplementedError

    # ------------------------------------------------------------ live streams

    @asynccontextmanager
    async def stream(self, cid: int, kind: Kind = Kind.TEXT, *, timeout_s: float = 30.0) -> AsyncIterator[StreamWriter]:
        """Write an event while others see it grow. When the block ends it is stored, whole, and `sent` says where.

        timeout_s: for the server to begin it. A block that ends with an error, and a program that ends, leave what was
        written to the server: when it hears nothing for half a minute it makes an event of it that is marked as
        truncated.
        """
        streams = self._usable().wishes.streams
        own = streams.start(cid, kind)
        self._wake()
        try:
            await self._answer(own.started, timeout_s)
            writer = StreamWriter(own, self._wake)
            yield writer
            if own.error is not None:
                raise own.error
            _, promise = self.queue(cid, b"", Kind(own.kind), own.end())
            writer.sent = await self._answer(promise)
        finally:
            streams.forget(own)

    def running_streams(self, cid: int) -> list[RunningStream]:
        """The streams of others that run in a conversation which we follow with Topic.STREAMS, with all that is known
        of them.
        """
        return [found for (where, _), found in self._usable().wishes.streams.running.items() if where == cid]

    # ------------------------------------------------------------ telemetry

    def send_telemetry(self, cid: int, value: bytes, key: int = 0, *, keep: bool = False) -> bool:
        """Tell a value to those who follow the conversation, which we must do, too. Under pressure only the newest of
        each key is told. keep: the server keeps the newest, at most 1,024 bytes, for `last_telemetry`. False: not
        connected, nothing was said.
        """
        extensions: Extensions = ()
        if key or keep:
            layout = EXTENSIONS[Op.EPHEMERAL, EXTENSION_EPHEMERAL_TELEMETRY]
            told = encode_fields(layout.fields, {"key": key, "flags": KEEP if keep else 0})
            extensions = ((EXTENSION_EPHEMERAL_TELEMETRY, told),)
        said = self._usable().wishes.ephemeral(cid, int(EphemeralKind.TELEMETRY), value, extensions)
        self._wake()
        return said

    async def last_telemetry(self, cid: int, user: int = 0) -> list[LastValue]:
        """What the server has kept of a conversation, by user and key; user: of this one only."""
        found: list[LastValue] = []
        while True:
            after = {3: found[-1].user, 4: found[-1].key} if found else {}
            result = await self.request(Method.TELEMETRY_LAST, {1: cid, 2: user, **after, 5: VALUES_PER_REQUEST})
            found += [LastValue(*row) for row in result[1]]
            if not result[2]:
                return found
