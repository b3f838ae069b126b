# Values that their senders want to be kept: the newest of each sender and key, so that who joins later need not wait
# for the next one. They are no events and nothing durable: they live here, go with the hub's process, and come back
# with what devices send next. They outlive a shard. A full table lets go of what was written longest ago, and a
# conversation that has more than its share of its own.
"""The last TELEMETRY values of conversations."""

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from chatd.hub import frames
from chatd.hub.frames import CallError
from chatd.wire.errors import WireError
from chatd.wire.frame import decode
from chatd.wire.schema import EXTENSION_EPHEMERAL_TELEMETRY, ErrorCode, Op, Right

if TYPE_CHECKING:
    from chatd.hub.calls import Call
    from chatd.hub.loop import Hub

VALUES_MAX = 50_000
BYTES_MAX = 16 << 20
"""Of all values together."""
PER_CONVERSATION_MAX = 1000

Place = tuple[int, int]
"""user, key"""


class Value(NamedTuple):
    payload: bytes
    wall_ms: int
    monotonic_ms: int


class Telemetry:
    """One per hub."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._values: OrderedDict[tuple[int, Place], Value] = OrderedDict()
        self._places: dict[int, OrderedDict[Place, None]] = {}
        """By conversation; both in the order in which they were written."""
        self._bytes = 0

    def on_value(self, call: "Call") -> None:
        """An EPHEMERAL that a shard has checked and passed on because its value is to be kept."""
        try:
            frame = decode(call.op, call.flags, call.body)
            told = frame.extension(EXTENSION_EPHEMERAL_TELEMETRY)
        except WireError:
            return
        cid = frame["cid"]
        rights = self._hub.core.rights(cid, call.user)
        key = told["key"] if told is not None else None
        if not isinstance(key, int) or rights is None:
            # A hub that has just started has not read the conversation yet: the next value is kept.
            return
        if not rights & Right.WRITE:
            refusal = CallError(ErrorCode.FORBIDDEN, "you may not write there, so nothing of it is kept")
            self._hub.core.frames(call.shard, call.handle, frames.error(Op.EPHEMERAL, cid, refusal), False)
            return
        value = Value(frame["payload"], self._hub.clock.wall_ms(), self._hub.clock.monotonic_ms())
        self._put(cid, (call.user, key), value)

    def last(self, cid: int, user: int, after: Place, limit: int) -> tuple[list[tuple[Place, Value]], bool]:
        """Values behind `after`, by user and key; user 0: of all. And whether there are more."""
        places = sorted(place for place in self._places.get(cid, ()) if place > after and user in (0, place[0]))
        return [(place, self._values[cid, place]) for place in places[:limit]], len(places) > limit

    def _put(self, cid: int, place: Place, value: Value) -> None:
        self._drop(cid, place)
        self._values[cid, place] = value
        places = self._places.setdefault(cid, OrderedDict())
        places[place] = None
        self._bytes += len(value.payload)
        if len(places) > PER_CONVERSATION_MAX:
            self._drop(cid, next(iter(places)))
        while len(self._values) > VALUES_MAX or self._bytes > BYTES_MAX:
            self._drop(*next(iter(self._values)))

    def _drop(self, cid: int, place: Place) -> None:
        old = self._values.pop((cid, place), None)
        if old is None:
            return
        self._bytes -= len(old.payload)
        del self._places[cid][place]
        if not self._places[cid]:
            del self._places[cid]
