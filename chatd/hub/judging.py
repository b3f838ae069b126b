# Judged SENDs. Some kinds and extensions need more than the core can check: it parks such a send (native/hub/park.pxi)
# and asks here. The verdict is given in a turn of the loop, the same one in which it is asked for when everything it
# needs is in memory: what it changes beside the event (rows, redactions) is staged with the event, so both are stored
# or neither. Order and idempotency stay the core's: later sends of the device wait behind the parked one, and a hub
# that dies in between has stored nothing, so the client's retry is judged anew.
"""From the upcall of a judged SEND to its verdict."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import trio

from chatd.hub.frames import ERROR_TEXT_BYTES_MAX, CallError, cut_text
from chatd.hub.rows import Missing
from chatd.wire.frame import decode_extensions
from chatd.wire.layout import Reader
from chatd.wire.schema import ErrorCode, Op

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

LOADS_PER_JUDGEMENT_MAX = 8
ROOM_RETRY_S = 0.02


class JudgedSend(NamedTuple):
    """One SEND that waits. extensions: by tag, as they came."""

    device: int
    cseq: int
    user: int
    cid: int
    kind: int
    extensions: dict[int, bytes]
    payload: bytes


class Verdict(NamedTuple):
    """The send may be stored. content: extension block (has_ext) and payload to store instead of what came; kind: to
    store instead of the one that came, 0: that one.

    effects: called with the seq of the event, stages what belongs to it; must not refuse any more.
    """

    effects: tuple[Callable[[int], None], ...] = ()
    content: bytes | None = None
    has_ext: bool = False
    kind: int = 0


Judge = Callable[["Hub", JudgedSend], Verdict]
"""Checks only. Raises CallError: the send is refused with that; Missing: it is judged again with that loaded."""


class Judging:
    """One per hub. At most one judgement per device is open, and as many as the core parks."""

    def __init__(self, hub: "Hub", judge: Judge) -> None:
        self._hub = hub
        self._judge = judge
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            await trio.sleep_forever()

    def on_need(self, device: int, cseq: int, user: int, cid: int, kind: int, has_ext: bool, content: bytes) -> None:
        reader = Reader(content)
        extensions = dict(decode_extensions(Op.SEND, reader)) if has_ext else {}
        send = JudgedSend(device, cseq, user, cid, kind, extensions, content[reader.offset :])
        self._submit(send, LOADS_PER_JUDGEMENT_MAX)

    def _submit(self, send: JudgedSend, loads_left: int) -> None:
        """Called by the loop, or by a task while the loop yields."""
        submitted = self._hub.committer.submit(partial(self._settle, send), partial(self._settled, send, loads_left))
        if not submitted:
            self._start(self._wait_for_room, send, loads_left)

    def _settle(self, send: JudgedSend) -> None:
        """In a turn."""
        try:
            verdict = self._judge(self._hub, send)
        except CallError as refusal:
            self._refuse(send, refusal)
            return
        seq = self._hub.core.judge(send.device, send.cseq, 0, b"", verdict.content, verdict.has_ext, verdict.kind)
        if seq:
            for effect in verdict.effects:
                effect(seq)

    def _refuse(self, send: JudgedSend, refusal: CallError) -> None:
        self._hub.core.judge(send.device, send.cseq, refusal.code, cut_text(refusal.text, ERROR_TEXT_BYTES_MAX))

    def _settled(self, send: JudgedSend, loads_left: int, error: BaseException | None) -> None:
        """The turn is over. What the core has a verdict for it has answered itself, and this changes nothing."""
        if isinstance(error, Missing) and loads_left:
            self._start(self._load, send, loads_left - 1, error)
        elif isinstance(error, Missing):
            text = "what this needs does not stay in memory; try again later"
            self._refuse(send, CallError(ErrorCode.BUSY, text))
        elif isinstance(error, CallError):
            self._refuse(send, error)

    def _start(self, *task: object) -> None:
        assert self._nursery is not None
        self._nursery.start_soon(*task)  # type: ignore[arg-type]

    async def _load(self, send: JudgedSend, loads_left: int, missing: Missing) -> None:
        try:
            await self._hub.load(missing)
        except CallError as refusal:
            log.debug("a judgement cannot be made: %s", refusal.text)
            self._hub.committer.submit(partial(self._refuse, send, refusal), lambda error: None)
            return
        self._submit(send, loads_left)

    async def _wait_for_room(self, send: JudgedSend, loads_left: int) -> None:
        await trio.sleep(ROOM_RETRY_S)
        self._submit(send, loads_left)


def refuse_all(hub: "Hub", send: JudgedSend) -> Verdict:
    """The judge of a hub without services."""
    raise CallError(ErrorCode.UNSUPPORTED, f"events of kind {send.kind} are not served here")
