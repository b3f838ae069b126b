"""EXPIRES: messages that go by themselves, also when the server was away at that time."""

from functools import partial
from typing import TYPE_CHECKING, Any

from chatd.hub.frames import CallError
from chatd.hub.judging import JudgedSend
from chatd.hub.redactions import EXPIRED
from chatd.services.messages.parts import Effect
from chatd.services.messages.recalls import erasure
from chatd.storage.message_rows import ExpiryRow
from chatd.wire.schema import EXTENSION_SEND_EXPIRES, ErrorCode

if TYPE_CHECKING:
    from chatd.hub.loop import Hub


def judge(hub: "Hub", send: JudgedSend, fields: dict[str, Any]) -> tuple[bytes, tuple[Effect, ...]]:
    seconds = fields["seconds"]
    if not 1 <= seconds <= hub.settings.expiry_max_s:
        text = f"a message expires after 1 to {hub.settings.expiry_max_s} s, not {seconds}"
        raise CallError(ErrorCode.BAD_REQUEST, text)
    return send.extensions[EXTENSION_SEND_EXPIRES], (partial(_stage, hub, send.cid, seconds),)


def _stage(hub: "Hub", cid: int, seconds: int, seq: int) -> None:
    state = hub.core.conversation(cid)
    assert state is not None
    hub.rows.stage("expiry", ExpiryRow(cid, seq, state[4] + 1000 * seconds))
    hub.timers.expect("expiry", state[4] + 1000 * seconds)


def expire(hub: "Hub", row: ExpiryRow) -> None:
    """In a turn, when it is due."""
    if hub.rows.find("expiry", (row.cid, row.seq)) is not None:
        erasure(hub, row.cid, row.seq, EXPIRED)(0)


def abandon(hub: "Hub", row: ExpiryRow, refusal: CallError) -> None:
    hub.rows.remove("expiry", row)
