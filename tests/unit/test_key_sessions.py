"""Sessions of API keys that act as others: they end with the key."""

from chatd.shard import key_sessions
from chatd.shard.key_sessions import KeySessions


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
