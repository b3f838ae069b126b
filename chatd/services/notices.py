"""NOTICE frames: what the other devices of a user, or those who may act, are told at once. Who is not online reads the
list behind it later."""

from collections.abc import Iterable
from typing import Any

from chatd.hub import frames
from chatd.services.caller import Caller
from chatd.wire.schema import NoticeTopic, Right

ENTITLED_MAX = 500
"""Members of a larger conversation are not looked through; those who may act read the list."""


def tell(
    caller: Caller, users: Iterable[int], topic: NoticeTopic, content: dict[int, Any], but_device: int = 0
) -> None:
    """After the commit. Every live session of these users gets it, the one of but_device excepted."""
    frame = frames.notice(topic, content)
    for user in users:
        caller.core.notify(user, frame, but_device)


def entitled(caller: Caller, cid: int, right: Right) -> list[int]:
    """Present members with that right."""
    members = caller.core.present(cid, 0, ENTITLED_MAX + 1) or []
    if len(members) > ENTITLED_MAX:
        return []
    return [member[0] for member in members if (caller.core.rights(cid, member[0]) or 0) & right]
