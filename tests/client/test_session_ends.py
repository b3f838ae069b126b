"""How sessions end and go on: close reasons, GOAWAY, REDIRECT, tokens that expire. The session machine without I/O."""

from itertools import pairwise

import pytest
from support.fake_server import FakeLink, FakeServer

from chatd.client.errors import (
    CLOSED,
    AuthError,
    ClosedError,
    IncompatibleError,
    LoggedOutError,
    TakenOverError,
    closed,
)
from chatd.client.login import Credential
from chatd.client.model import Link, Promise, Sent, Settings
from chatd.client.session import REDIRECTS_MAX, ClientSession
from chatd.client.state import State
from chatd.wire import Frame, make, schema
from chatd.wire.schema import Close, ErrorCode, Op

ALICE, CID = 1, 7
HOME, AWAY = ("home", 7350), ("away", 7351)
TICKS_S = 0.01


class Story:
    """One session, its server and the clock. dials: where and when it connected."""

    def __init__(self, dice: float = 0.5) -> None:
        self.server = FakeServer()
        self.server.create(CID, ALICE)
        self.now = 100.0
        self.dials: list[tuple[tuple[str, int], float]] = []
        self.link: FakeLink | None = None
        self.unreachable: set[tuple[str, int]] = set()
        self.mute: set[tuple[str, int]] = set()
        self.session = ClientSession(
            Credential.jwt(str(ALICE)), State(), Settings(), address=HOME,
            random=lambda: dice, random_bytes=bytes, now=self.now,
        )  # fmt: skip

    def run(self, seconds: float) -> None:
        """Let time pass, in small steps; bytes travel at once."""
        until = self.now + seconds
        while self.now < until:
            self.step()
            self.now += TICKS_S

    def step(self) -> None:
        session = self.session
        session.tick(self.now)
        if self.link is None and (address := session.dial(self.now)):
            self.dials.append((address, self.now))
            if address in self.unreachable:
                session.lost(self.now, "refused")
                return
            self.link = self.server.connect()
            session.connected(self.now)
        if self.link is None:
            return
        out = session.take(self.now)
        if self.dials[-1][0] not in self.mute:
            self.link.feed(out)
        data, self.link.out = bytes(self.link.out), bytearray()
        session.received(data, self.now)
        if session.hang_up or self.link.closing:
            self.link.feed(session.take(self.now))
            self.link.close()
            self.link = None
            session.lost(self.now)

    def live(self) -> FakeLink:
        self.run(1.0)
        assert self.session.is_live
        assert self.link is not None
        return self.link

    def send(self, text: str) -> Promise[Sent]:
        return self.session.outbox.enqueue(CID, 1, text.encode())[1]


def test_a_send_of_which_the_server_knows_nothing_now_is_repeated_on_the_same_connection() -> None:
    """Its answer may come before that, and the answer to the repetition is one to nothing."""
    story = Story()
    link = story.live()
    link.hold_acks = []
    first, second = story.send("first"), story.send("second")
    story.run(2.0)
    for cseq in (1, 2):
        error = {"code": ErrorCode.UNAVAILABLE, "op": Op.SEND, "ref": cseq, "retry_after_ms": 100, "text": ""}
        link.emit(make(Op.ERROR, flags=schema.FLAG_ERROR_RETRYABLE, **error))
    story.run(8.0)
    link.emit(link.hold_acks[0])
    story.run(8.0)
    held, link.hold_acks = link.hold_acks, None
    assert [(ack["cseq"], ack["seq"]) for ack in held] == [(1, 1), (2, 2), (1, 1), (2, 2)]
    assert first.result().seq == 1
    for ack in held[1:]:
        link.emit(ack)
    story.run(1.0)
    assert second.result().seq == 2
    assert len(story.dials) == 1, "nothing is wrong with the connection"


# ------------------------------------------------------------ close reasons


def test_every_close_reason_says_what_to_do() -> None:
    assert CLOSED.keys() == set(Close)
    for reason in Close:
        error = closed(reason)
        again = "connects again by itself" in str(error)
        assert reason.name in str(error)
        assert again == (schema.CLOSE_THEN[reason] != "stop" and reason != Close.TOKEN_EXPIRED)
    assert str(closed(999, "news")) == "the session is closed (close reason 999): news"


ENDS = {Close.TAKEN_OVER: TakenOverError, Close.REPLACED: TakenOverError, Close.UNSUPPORTED: IncompatibleError}
ENDS |= dict.fromkeys((Close.AUTH_FAILED, Close.REVOKED), LoggedOutError)


@pytest.mark.parametrize("reason", Close, ids=lambda reason: reason.name)
def test_a_close_reason_ends_the_session_or_brings_the_client_back(reason: Close) -> None:
    story = Story()
    story.live().close(reason, retry_after_ms=300)
    began = story.now
    sent = story.send("waits")
    story.run(5.0)
    then = schema.CLOSE_THEN[reason]
    if then == "stop":
        assert len(story.dials) == 1, "no reconnect war"
        error = story.session.error
        assert isinstance(error, ClosedError)
        assert error.reason == reason
        assert type(error) is ENDS.get(reason, ClosedError)
        with pytest.raises(type(error)):
            sent.result()
    else:
        assert sent.result().seq == 1
        assert len(story.dials) == 2
        assert story.dials[1][1] - began >= 0.3, "retry_after is a floor"
        assert story.link is not None
        assert (story.link.seen[1].op == Op.RESUME) == (then == "ticket")
        waiting = [signal for signal in story.session.signals if isinstance(signal, Link) and signal.state == "waiting"]
        assert [link.reason for link in waiting] == [reason]


# ------------------------------------------------------------ GOAWAY


@pytest.mark.parametrize("dice", [0.0, 0.3, 0.999])
def test_goaway_moves_once_within_its_window_and_loses_nothing(dice: float) -> None:
    story = Story(dice)
    link = story.live()
    link.emit(make(Op.GOAWAY, reason=Close.GOING_AWAY, window_ms=4000, ticket=b"%d" % link.device))
    began = story.now
    story.run(0.05)
    before = story.send("on the old connection" if dice else "on the new one")
    story.run(0.05)
    assert before.done
    if dice == 0.3:
        # Said twice, or with a longer window: the move is not put off.
        link.emit(make(Op.GOAWAY, reason=Close.GOING_AWAY, window_ms=60_000, ticket=b""))
    story.run(6.0)
    assert len(story.dials) == 2
    assert story.dials[1][1] - began == pytest.approx(dice * 4.0, abs=3 * TICKS_S)
    assert story.link is not None
    assert story.link.seen[1].op == Op.RESUME
    assert story.send("later").done is False
    story.run(1.0)
    assert [event.payload.decode() for event in story.server.logs[CID].events][-1] == "later"
    assert link.seen[-1].op == Op.BYE


def test_goaway_then_the_end_of_the_worker_is_still_one_reconnect() -> None:
    story = Story(dice=0.9)
    link = story.live()
    link.emit(make(Op.GOAWAY, reason=Close.GOING_AWAY, window_ms=4000, ticket=b""))
    story.run(1.0)
    link.close(Close.GOING_AWAY)
    story.run(10.0)
    assert len(story.dials) == 2


# ------------------------------------------------------------ REDIRECT


def redirect(link: FakeLink, host: str = AWAY[0], port: int = AWAY[1]) -> None:
    link.emit(make(Op.REDIRECT, host=host, port=port, retry_after_ms=0))


def test_redirect_is_followed_and_kept_until_the_address_gives_no_session() -> None:
    story = Story()
    redirect(story.live())
    story.run(1.0)
    link = story.live()
    link.close()
    story.run(1.0)
    story.live().close()
    story.unreachable.add(AWAY)
    story.run(2.0)
    assert [address for address, _ in story.dials] == [HOME, AWAY, AWAY, AWAY, HOME]
    assert story.session.is_live


def test_redirect_may_come_instead_of_an_answer_to_the_login(monkeypatch: pytest.MonkeyPatch) -> None:
    story = Story()

    def moved(link: FakeLink, frame: Frame) -> None:
        link.error(frame, ErrorCode.MOVED)
        redirect(link)
        monkeypatch.undo()

    monkeypatch.setattr(FakeLink, "on_auth", moved)
    story.run(2.0)
    assert [address for address, _ in story.dials] == [HOME, AWAY]
    assert story.session.is_live


def test_an_address_that_never_answers_the_login_is_left_again() -> None:
    story = Story()
    redirect(story.live())
    story.mute.add(AWAY)
    story.run(12.0)
    assert [address for address, _ in story.dials] == [HOME, AWAY, HOME]
    assert story.session.is_live


def test_redirects_in_a_circle_are_followed_a_few_times_ever_more_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeLink, "on_auth", lambda link, _: redirect(link))
    story = Story()
    story.run(60.0)
    there = [address for address, _ in story.dials]
    assert there[: REDIRECTS_MAX + 3] == [HOME, *[AWAY] * REDIRECTS_MAX, HOME, AWAY]
    assert len(there) < 20


def test_a_redirect_to_nowhere_is_not_followed() -> None:
    story = Story()
    redirect(story.live(), port=0)
    story.run(1.0)
    assert [address for address, _ in story.dials] == [HOME, HOME]


# ------------------------------------------------------------ tokens that expire


def expire(link: FakeLink, grace_ms: int = 60_000) -> None:
    fields = {"code": ErrorCode.TOKEN_EXPIRED, "op": Op.REAUTH, "ref": 0, "retry_after_ms": grace_ms, "text": ""}
    link.emit(make(Op.ERROR, **fields))


def test_a_fresh_credential_keeps_the_session() -> None:
    story = Story()
    link = story.live()
    for _ in range(2):
        expire(link)
        story.run(0.1)
        assert story.session.renewal.take()
        story.session.new_credential(Credential.jwt(str(ALICE)))
        story.run(0.1)
        assert link.seen[-1].op == Op.REAUTH
    sent = story.send("still here")
    story.run(0.1)
    assert sent.done
    assert len(story.dials) == 1


def test_a_refused_credential_is_asked_for_once_more_and_not_for_ever() -> None:
    story = Story()
    link = story.live()
    story.server.refuse_login = ErrorCode.TOKEN_EXPIRED
    expire(link)
    asked = 0
    for _ in range(100):
        story.run(0.1)
        if story.session.renewal.take():
            asked += 1
            story.session.new_credential(Credential.jwt(str(ALICE)))
    assert (asked, sum(frame.op == Op.REAUTH for frame in link.seen)) == (2, 2)
    assert story.session.is_live, "until the grace period ends"
    link.close(Close.TOKEN_EXPIRED)
    for _ in range(100):
        story.run(0.1)
        if story.session.renewal.take():
            story.session.new_credential(Credential.jwt(str(ALICE)))
    assert isinstance(story.session.error, AuthError)
    assert story.session.closed


def test_a_lost_session_needs_no_credential_as_long_as_it_has_a_ticket() -> None:
    story = Story()
    link = story.live()
    expire(link)
    story.run(0.1)
    assert story.session.renewal.take(), "asked, and the answer takes its time"
    link.close()
    story.run(1.0)
    assert story.session.is_live
    story.session.new_credential(Credential.jwt(str(ALICE)))
    story.run(1.0)
    assert story.session.is_live


def test_who_makes_tokens_may_be_away_for_a_while() -> None:
    story = Story()
    story.session.renewal.want()
    asked = []
    while len(asked) < 6:
        story.run(0.05)
        if story.session.renewal.take():
            asked.append(story.now)
            story.session.no_credential(story.now, "the web server is away")
        assert story.now < 200
    pauses = [later - earlier for earlier, later in pairwise(asked)]
    assert pauses == sorted(pauses), "more and more patiently"
    assert story.session.last_trouble == "the web server is away"
    story.session.new_credential(Credential.jwt(str(ALICE)))
    story.live()


# ------------------------------------------------------------ between BYE and the end of the transport


def test_wishes_between_bye_and_the_end_of_the_transport_are_kept_for_the_next_session() -> None:
    story = Story()
    link = story.live()
    link.close(Close.GOING_AWAY)
    story.session.received(bytes(link.out), story.now)
    link.out.clear()
    assert story.session.hang_up
    story.session.wishes.follow(CID, 1)
    story.session.wishes.mark_read(CID, 1, story.now)
    assert not story.session.wishes.ephemeral(CID, 1, b"\x01")
    story.session.new_credential(Credential.jwt(str(ALICE)))
    story.run(1.0)
    again = story.live()
    assert {Op.SUBSCRIBE, Op.READ} <= {frame.op for frame in again.seen}


def test_who_may_not_follow_now_follows_later() -> None:
    story = Story()
    link = story.live()
    story.session.wishes.follow(CID, 4)
    link.error(make(Op.SUBSCRIBE, cid=CID, topics=4), ErrorCode.BUSY, 500, CID)
    story.run(0.4)
    asked = [frame for frame in link.seen if frame.op == Op.SUBSCRIBE]
    assert len(asked) == 1
    story.run(0.4)
    asked = [frame for frame in link.seen if frame.op == Op.SUBSCRIBE]
    assert [frame["topics"] for frame in asked] == [4, 4]
