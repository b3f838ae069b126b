"""Sessions of API keys that act as others: they end with the key."""

from pathlib import Path
from types import SimpleNamespace

import trio
import trio.testing

from chatd import secrets
from chatd.config import Settings
from chatd.shard import key_sessions
from chatd.shard.hub_calls import HubRefusalError
from chatd.shard.key_sessions import KeySessions
from chatd.shard.logins import Logins
from chatd.supervisor.plan import worker_settings
from chatd.wire.schema import Close, ErrorCode


def test_a_revoked_key_takes_its_sessions_and_later_logins_with_it() -> None:
    closed: list[int] = []
    sessions = KeySessions(lambda _: True, closed.append)
    for handle, key in ((1, 7), (2, 8), (3, 7), (4, 0)):
        sessions.opened(handle, key)
    assert sessions.revoke(7) == 2
    assert closed == [1, 3]
    assert sessions.is_revoked(7)
    assert not sessions.is_revoked(8)
    assert not sessions.is_revoked(0)


def test_reauthentication_with_another_credential_frees_the_session_of_the_key() -> None:
    closed: list[int] = []
    sessions = KeySessions(lambda _: True, closed.append)
    sessions.opened(1, 7)
    sessions.opened(1, 0)
    assert sessions.revoke(7) == 0
    assert closed == []


def test_handles_of_dead_connections_are_pruned_and_revocations_bounded() -> None:
    live: set[int] = set()
    sessions = KeySessions(live.__contains__, lambda _: None)
    for handle in range(10 * key_sessions.PRUNE_MIN):
        sessions.opened(handle, 7)
    assert len(sessions) <= key_sessions.PRUNE_MIN
    for key in range(1, 2 * key_sessions.REVOKED_MAX):
        sessions.revoke(key)
    assert sessions.is_revoked(key)
    assert not sessions.is_revoked(1)


class Answers:
    """The hub's side of HubCalls: what it says of each key; the first call finds no hub."""

    def __init__(self, subjects: dict[int, object]) -> None:
        self.subjects, self.questions, self.calls = subjects, {}, 0

    async def call(self, method: str, wanted: list[tuple[int, int]]) -> list[object]:
        self.calls += 1
        if self.calls == 1:
            raise HubRefusalError(ErrorCode.UNAVAILABLE, "restarting")
        assert method == "credentials"
        return [self.subjects[key] for _, key in wanted]


async def test_a_new_hub_is_asked_which_keys_still_hold(tmp_path: Path, autojump_clock: trio.testing.MockClock) -> None:
    settings = Settings(data=tmp_path)
    secrets.create(tmp_path)
    told = worker_settings(settings, "shard", secrets.load(settings))
    hub = Answers({7: None, 8: {"user": 1}})
    closed: list[tuple[int, int]] = []
    engine = SimpleNamespace(terms=lambda _: (0,), close=lambda *end: closed.append(end))
    async with trio.open_nursery() as nursery:
        logins = Logins(engine, hub, told, lambda: None, nursery.start_soon)  # type: ignore[arg-type]
        for handle, key in ((1, 7), (2, 8), (3, 7)):
            logins._keys.opened(handle, key)
        logins.on_link()
    assert closed == [(1, Close.REVOKED), (3, Close.REVOKED)]
    assert hub.calls == 2
