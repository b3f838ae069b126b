# Memberships not folded yet, by user.
# The core knows the members of the conversations it holds; SYNC and listings ask the other way round: which
# conversations has this user? The main database answers that by an index, but for the MEMBER records it does not hold
# yet. Those are kept here, few and briefly, and merged over what a reader brings.
"""MEMBER records between commit and fold, found by user."""

from collections import deque
from typing import NamedTuple

from chatd.hub.core import Core
from chatd.hub.frames import CallError
from chatd.wire.schema import ErrorCode

UNFOLDED_INTERVALS_MAX = 500_000


class Membership(NamedTuple):
    """One interval as a MEMBER record says it. pos: of that record."""

    cid: int
    user: int
    join_seq: int
    leave_seq: int
    role: int
    pos: int


class Memberships:
    """The same life as Rows: staged, then committed or rejected, then folded."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._by_user: dict[int, dict[tuple[int, int], Membership]] = {}
        self._order: deque[Membership] = deque(maxlen=UNFOLDED_INTERVALS_MAX + 1000)
        self._undo: list[tuple[Membership, Membership | None]] = []

    def of_user(self, user: int) -> list[Membership]:
        """The user's unfolded intervals, each in its newest form."""
        return list(self._by_user.get(user, {}).values())

    def check_room(self) -> None:
        if len(self._order) >= UNFOLDED_INTERVALS_MAX:
            raise CallError(ErrorCode.BUSY, "too many membership changes wait to be folded; try again later", 1000)

    def stage(self, cid: int, user: int, role: int, join_seq: int, leave_seq: int = 0) -> None:
        pos = self._core.stage_member(cid, user, role, join_seq, leave_seq)
        self._put(Membership(cid, user, join_seq, leave_seq, role, pos))

    def replayed(self, cid: int, user: int, join_seq: int, leave_seq: int, role: int, pos: int) -> None:
        self._put(Membership(cid, user, join_seq, leave_seq, role, pos))
        self._undo.clear()

    def _put(self, new: Membership) -> None:
        intervals = self._by_user.setdefault(new.user, {})
        self._undo.append((new, intervals.get((new.cid, new.join_seq))))
        intervals[new.cid, new.join_seq] = new
        self._order.append(new)

    def committed(self) -> None:
        self._undo.clear()

    def rejected(self) -> None:
        for new, before in reversed(self._undo):
            self._order.pop()
            self._forget(new)
            if before is not None:
                self._by_user.setdefault(new.user, {})[new.cid, new.join_seq] = before
        self._undo.clear()

    def folded(self, folded_pos: int) -> None:
        while self._order and self._order[0].pos <= folded_pos:
            self._forget(self._order.popleft())

    def _forget(self, entry: Membership) -> None:
        intervals = self._by_user.get(entry.user)
        if intervals is None or intervals.get((entry.cid, entry.join_seq)) is not entry:
            return
        del intervals[entry.cid, entry.join_seq]
        if not intervals:
            del self._by_user[entry.user]
