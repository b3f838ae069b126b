# Presence costs only those who ask for it. The core keeps no clock for anybody and says only when a watched user's
# first session begins or last one ends; who follows whom is kept here, by session and for the time of a lease, so that
# nothing has to be taken back when a client dies. Who may be seen is decided by the caller (services/presence.py).
#
# An end is told after GRACE_S only: a client that changes networks is not gone. A beginning, and a change that a client
# asked for, is told after SETTLE_S, so that a storm of logins becomes one notice per user.
"""Who is there, for those who follow: leases, notices, and when somebody was last seen."""

import heapq
import logging
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

import trio

from chatd.hub import frames
from chatd.hub.frames import CallError
from chatd.storage.people_rows import LastSeenRow
from chatd.wire.schema import ErrorCode, NoticeTopic, PresenceState

if TYPE_CHECKING:
    from chatd.hub.loop import Hub

log = logging.getLogger(__name__)

LEASE_S = 300.0
GRACE_S = 3.0
SETTLE_S = 0.2
FOLLOWED_PER_SESSION_MAX = 500
FOLLOWERS_PER_USER_MAX = 1000
LEASES_MAX = 200_000
STATES_MAX = 100_000
UNWRITTEN_MAX = 100_000
WRITTEN_PER_TURN = 1000
WRITE_INTERVAL_S = 1.0

_PRESENT = (PresenceState.ONLINE, PresenceState.AWAY)
"""The most present first."""


class Session(NamedTuple):
    """epoch is never given to another session, whichever shard it is on."""

    user: int
    device: int
    epoch: int


class Presence:
    """One per hub. Everything here may be forgotten: a hub that starts knows no leases, and clients renew theirs."""

    def __init__(self, hub: "Hub") -> None:
        self._hub = hub
        self._followers: dict[int, set[Session]] = {}
        self._leases: OrderedDict[tuple[Session, int], float] = OrderedDict()
        self._followed_count: dict[Session, int] = {}
        self._states: OrderedDict[int, tuple[int, PresenceState]] = OrderedDict()
        """What a session said of itself, by device: (epoch, state)."""
        self._told: dict[int, PresenceState] = {}
        self._due: list[tuple[float, int, float]] = []
        self._looks: set[tuple[int, float]] = set()
        """What of a user is due after so long: two looks at most, however often he changes."""
        self._woken = trio.Event()
        self._unwritten_ms: OrderedDict[int, int] = OrderedDict()
        self._left_ms: dict[int, int] = {}
        """When those who are followed were last there."""

    # ------------------------------------------------------------ what happens

    def on_presence(self, user: int, online: bool) -> None:
        """The first session of a watched user has begun, or its last one has ended."""
        self._look_at(user, SETTLE_S if online else GRACE_S)

    def on_closed(self, shard: int, handle: int, user: int, device: int, reason: int) -> None:
        del shard, handle, reason
        was = self._states.pop(device, None)
        if self._hub.core.sessions(user) or (was is not None and was[1] == PresenceState.INVISIBLE):
            return
        now_ms = self._unwritten_ms[user] = self._hub.clock.wall_ms()
        self._unwritten_ms.move_to_end(user)
        if len(self._unwritten_ms) > UNWRITTEN_MAX:
            self._unwritten_ms.popitem(last=False)
        if user in self._followers:
            self._left_ms[user] = now_ms

    def set_state(self, session: Session, state: PresenceState) -> None:
        self._states[session.device] = session.epoch, state
        self._states.move_to_end(session.device)
        if len(self._states) > STATES_MAX:
            self._states.popitem(last=False)
        self._look_at(session.user, SETTLE_S)

    def followers_of(self, user: int) -> set[int]:
        """Users with a session that follows."""
        return {session.user for session in self._followers.get(user, ())}

    def hide(self, user: int, viewers: set[int]) -> None:
        """These may not see the user any more: to those who follow he goes."""
        followers = [session for session in self._followers.get(user, ()) if session.user in viewers]
        self._tell(user, followers, PresenceState.OFFLINE, 0)
        for session in followers:
            if (session, user) in self._leases:
                self._end(session, user)

    # ------------------------------------------------------------ who follows

    def follow(self, session: Session, users: list[int]) -> list[int]:
        """Begin or renew leases; those that could not be had. CallError LIMIT_REACHED or BUSY for too many."""
        self._expire()
        fresh = [user for user in users if (session, user) not in self._leases]
        if self._followed_count.get(session, 0) + len(fresh) > FOLLOWED_PER_SESSION_MAX:
            text = f"a session follows at most {FOLLOWED_PER_SESSION_MAX} users; unfollow some"
            raise CallError(ErrorCode.LIMIT_REACHED, text)
        if len(self._leases) + len(fresh) > LEASES_MAX:
            raise CallError(ErrorCode.BUSY, "too many leases on presence at the moment; try again later", 30_000)
        refused = []
        deadline = self._hub.clock.monotonic_s() + LEASE_S
        for user in users:
            followers = self._followers.setdefault(user, set())
            if session not in followers and len(followers) >= FOLLOWERS_PER_USER_MAX:
                refused.append(user)
                continue
            if not followers:
                self._hub.core.watch(user, True)
                self._told[user] = self.state(user)
            if session not in followers:
                followers.add(session)
                self._followed_count[session] = self._followed_count.get(session, 0) + 1
            self._leases[session, user] = deadline
            self._leases.move_to_end((session, user))
        return refused

    def unfollow(self, session: Session, users: list[int]) -> None:
        for user in users:
            if (session, user) in self._leases:
                self._end(session, user)

    def _expire(self) -> None:
        now = self._hub.clock.monotonic_s()
        while self._leases:
            (session, user), deadline = next(iter(self._leases.items()))
            if deadline > now:
                return
            self._end(session, user)

    def _end(self, session: Session, user: int) -> None:
        self._leases.pop((session, user), None)
        followers = self._followers[user]
        followers.discard(session)
        self._followed_count[session] -= 1
        if not self._followed_count[session]:
            del self._followed_count[session]
        if not followers:
            del self._followers[user], self._told[user]
            self._left_ms.pop(user, None)
            self._hub.core.watch(user, False)

    # ------------------------------------------------------------ what is seen

    def state(self, user: int) -> PresenceState:
        """As others see it."""
        states = {self._said(device, epoch) for _, _, device, epoch in self._hub.core.sessions(user)}
        return next((state for state in _PRESENT if state in states), PresenceState.OFFLINE)

    def _said(self, device: int, epoch: int) -> PresenceState:
        said_in, state = self._states.get(device, (0, PresenceState.ONLINE))
        return state if said_in == epoch else PresenceState.ONLINE

    def seen_ms(self, user: int, row: LastSeenRow | None) -> int:
        """When the user was last seen, given what is stored. Unix milliseconds, 0: never."""
        return self._unwritten_ms.get(user, 0) or (row.seen_ms if row is not None else 0)

    # ------------------------------------------------------------ telling

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_changes)
            nursery.start_soon(self._write_last_seen)

    def _look_at(self, user: int, after_s: float) -> None:
        if user in self._followers and (user, after_s) not in self._looks:
            self._looks.add((user, after_s))
            heapq.heappush(self._due, (self._hub.clock.monotonic_s() + after_s, user, after_s))
            self._woken.set()

    async def _tell_changes(self) -> None:
        while True:
            if not self._due:
                self._woken = trio.Event()
                await self._woken.wait()
            wait_s = self._due[0][0] - self._hub.clock.monotonic_s()
            if wait_s > 0:
                await trio.sleep(min(wait_s, SETTLE_S))
                continue
            _, user, after_s = heapq.heappop(self._due)
            self._looks.discard((user, after_s))
            self._settle(user)
            await trio.lowlevel.checkpoint()

    def _settle(self, user: int) -> None:
        if user not in self._followers:
            return
        state = self.state(user)
        if state != self._told[user]:
            self._told[user] = state
            seen_ms = self._left_ms.get(user, 0) if state == PresenceState.OFFLINE else 0
            self._tell(user, list(self._followers[user]), state, seen_ms)

    def _tell(self, user: int, followers: list[Session], state: PresenceState, seen_ms: int) -> None:
        frame = frames.notice(NoticeTopic.PRESENCE, {1: user, 2: int(state), 3: seen_ms})
        for session in followers:
            sessions = self._hub.core.sessions(session.user)
            place = next((found for found in sessions if found[3] == session.epoch), None)
            if place is None:
                self._end(session, user)
            else:
                self._hub.core.frames(place[0], place[1], frame, False)

    # ------------------------------------------------------------ what is kept

    async def _write_last_seen(self) -> None:
        while True:
            await trio.sleep(WRITE_INTERVAL_S)
            self._expire()
            if not self._unwritten_ms:
                continue
            rows = [LastSeenRow(*entry) for entry in list(self._unwritten_ms.items())[:WRITTEN_PER_TURN]]
            try:
                await self._hub.change(lambda rows=rows: self._stage(rows))  # type: ignore[misc]
            except CallError as refusal:
                log.debug("last seen times wait: %s", refusal)
                continue
            for row in rows:
                if self._unwritten_ms.get(row.uid) == row.seen_ms:
                    del self._unwritten_ms[row.uid]

    def _stage(self, rows: list[LastSeenRow]) -> None:
        for row in rows:
            self._hub.rows.stage("last_seen", row)
