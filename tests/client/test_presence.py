"""The client's presence machine alone: leases are renewed, a new session asks again, notices become signals."""

from chatd.client.errors import ClientError
from chatd.client.model import Presence, Promise
from chatd.client.presence import RETRY_S, Presences
from chatd.wire.schema import Method, NoticeTopic, PresenceState


class Session:
    """What Presences needs of a session: asks are answered by the test."""

    def __init__(self) -> None:
        self.is_live = True
        self.signals: list[Presence] = []
        self.asked: list[tuple[int, dict[int, object], Promise[dict[int, object]]]] = []
        self.requests = self

    def ask(self, method: int, params: dict[int, object], timeout_s: float, now: float) -> Promise[dict[int, object]]:
        del timeout_s, now
        promise: Promise[dict[int, object]] = Promise()
        self.asked.append((method, params, promise))
        return promise


def made() -> tuple[Session, Presences]:
    session = Session()
    return session, Presences(session)  # type: ignore[arg-type]


def test_a_lease_is_renewed_at_its_half() -> None:
    session, presences = made()
    presences.follow([7], now=10.0)
    presences.plan(10.0)
    session.asked[0][2].resolve({1: [[7, 1, 0]], 2: 300_000, 3: []})
    assert session.signals == [Presence(7, PresenceState.ONLINE, 0)]
    assert presences.deadline() == 160.0
    presences.plan(159.0)
    assert len(session.asked) == 1
    presences.plan(160.0)
    assert session.asked[1][:2] == (Method.PRESENCE_FOLLOW, {1: [7]})


def test_only_changes_become_signals_and_strangers_none() -> None:
    session, presences = made()
    presences.follow([7], now=0.0)
    for state in (2, 2, 0):
        assert presences.on_notice(NoticeTopic.PRESENCE, {1: 7, 2: state, 3: 0})
    assert presences.on_notice(NoticeTopic.PRESENCE, {1: 8, 2: 1, 3: 0})
    assert presences.on_notice(NoticeTopic.PRESENCE, {1: 7, 2: 99, 3: 0})
    assert not presences.on_notice(NoticeTopic.SERVER, {1: "hello"})
    assert [signal.state for signal in session.signals] == [PresenceState.AWAY, PresenceState.OFFLINE]


def test_what_cannot_be_asked_is_asked_later() -> None:
    session, presences = made()
    presences.follow(range(1, 402), now=0.0)
    presences.plan(0.0)
    assert [len(params[1]) for _, params, _ in session.asked] == [200, 200, 1]  # type: ignore[arg-type]
    session.asked[0][2].fail(ClientError("of the test"))
    assert presences.deadline() == RETRY_S


def test_a_new_session_says_and_asks_again() -> None:
    session, presences = made()
    presences.follow([7], now=0.0)
    presences.say(PresenceState.AWAY, now=0.0)
    session.asked.clear()
    presences.on_live(50.0)
    presences.plan(50.0)
    assert [method for method, *_ in session.asked][:2] == [Method.PRESENCE_SET, Method.PRESENCE_FOLLOW]
    presences.unfollow([7], now=51.0)
    assert session.asked[-1][:2] == (Method.PRESENCE_UNFOLLOW, {1: [7]})
    presences.unfollow([7], now=52.0)
    assert len([method for method, *_ in session.asked if method == Method.PRESENCE_UNFOLLOW]) == 1
