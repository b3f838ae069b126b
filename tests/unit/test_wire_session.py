"""What is legal when, from both ends."""

import pytest

from chatd.wire import Frame, LocalProtocolError, PeerProtocolError, Phase, Session, Verdict, make
from chatd.wire.schema import BODY_BYTES_MAX, CLIENT, LIVE, OPS, PREAUTH_FRAME_BYTES_MAX, SERVER, Feature, Op

HELLO = make(Op.HELLO, major=1, features=0, frame_bytes_max=512, window_frames=0, window_bytes=0, agent="")
AUTH = make(Op.AUTH, credential=4, device=0, identity="", proof=b"", label="")
RESUME = make(Op.RESUME, ticket=b"t", log_epoch=0, cursor=b"")
WELCOME = Frame(Op.WELCOME, 0, {"features": Feature(0)})
BYE = make(Op.BYE, reason=1, retry_after_ms=0, text="")


def error(op: int) -> Frame:
    return make(Op.ERROR, code=200, ref=0, retry_after_ms=0, text="", op=op)


def live(role: int, features: int = 0) -> Session:
    session = Session(role)
    mine, theirs = (session.sent, session.received) if role == CLIENT else (session.received, session.sent)
    mine(HELLO)
    mine(AUTH)
    theirs(Frame(Op.WELCOME, 0, {"features": features}))
    assert session.phase is Phase.LIVE
    return session


@pytest.mark.parametrize("role", [CLIENT, SERVER])
def test_a_login_walks_the_phases(role: int) -> None:
    session = Session(role)
    mine, theirs = (session.sent, session.received) if role == CLIENT else (session.received, session.sent)
    assert session.phase is Phase.START
    mine(HELLO)
    theirs(make(Op.CHALLENGE, nonce=bytes(16)))
    assert session.phase is Phase.GREETED
    mine(RESUME)
    theirs(error(Op.RESUME))
    assert session.phase is Phase.GREETED
    mine(AUTH)
    assert session.phase is Phase.AUTHENTICATING
    theirs(WELCOME)
    assert session.phase is Phase.LIVE
    mine(BYE)
    assert session.phase is Phase.CLOSED


def test_reauth_is_answered_once() -> None:
    session = live(SERVER)
    session.received(make(Op.REAUTH, credential=1, identity="", proof=b"x"))
    again = session.received(make(Op.REAUTH, credential=1, identity="", proof=b"x"))
    assert again is Verdict.NOT_ALLOWED_NOW
    session.sent(error(Op.SEND))
    assert session.phase is Phase.REAUTHENTICATING
    session.sent(WELCOME)
    with pytest.raises(LocalProtocolError):
        session.sent(WELCOME)
    session.received(make(Op.REAUTH, credential=1, identity="", proof=b"x"))
    session.sent(error(Op.REAUTH))
    assert session.phase is Phase.LIVE


@pytest.mark.parametrize("op", sorted(OPS))
def test_before_hello_only_ping_pong_and_bye_come_from_a_client(op: int) -> None:
    if op == Op.HELLO:
        return
    session = Session(SERVER)
    if op in {Op.PING, Op.PONG, Op.BYE}:
        assert session.received(Frame(op, 0, {})) is Verdict.PROCESS
        return
    with pytest.raises(PeerProtocolError) as caught:
        session.received(Frame(op, 0, {}))
    assert caught.value.reason == "BAD_FRAME"


@pytest.mark.parametrize("role", [CLIENT, SERVER])
@pytest.mark.parametrize("op", sorted(OPS))
def test_a_live_session_takes_what_the_schema_says(op: int, role: int) -> None:
    session = live(role, features=sum(Feature))
    rule = OPS[op]
    peer = CLIENT + SERVER - role
    legal = rule.sides & peer and rule.states & LIVE and op != Op.WELCOME
    frame = Frame(op, 0, {"op": 0})
    if legal:
        assert session.received(frame) is Verdict.PROCESS
    elif role == SERVER and rule.sides & peer:
        assert session.received(frame) is Verdict.NOT_ALLOWED_NOW
    else:
        with pytest.raises(PeerProtocolError):
            session.received(frame)


def test_ops_without_their_feature_are_unsupported() -> None:
    server = live(SERVER)
    assert server.received(make(Op.STREAM_START, cid=1, stream=0, kind=1)) is Verdict.UNSUPPORTED
    assert server.received(make(Op.STREAM_DELTA, cid=1, stream=1, offset=0, payload=b"")) is Verdict.UNSUPPORTED
    client = live(CLIENT)
    assert client.received(make(Op.RECEIPT, cid=1, entries=())) is Verdict.IGNORE
    with pytest.raises(PeerProtocolError) as caught:
        client.received(make(Op.STREAM_END, cid=1, stream=1, cseq=1))
    assert caught.value.reason == "UNSUPPORTED"


def test_unknown_ops_are_skipped_or_refused() -> None:
    server = live(SERVER)
    assert server.received(Frame(0x7E, 0, {"body": b""})) is Verdict.IGNORE
    assert server.received(Frame(0xFE, 0, {"body": b""})) is Verdict.UNSUPPORTED
    for session in (live(CLIENT), Session(SERVER)):
        assert session.received(Frame(0x7E, 0, {"body": b""})) is Verdict.IGNORE
        with pytest.raises(PeerProtocolError) as caught:
            session.received(Frame(0xFE, 0, {"body": b""}))
        assert caught.value.reason == "UNSUPPORTED"


def test_odd_extensions_must_be_understood() -> None:
    server = live(SERVER)
    fields = {"cseq": 1, "cid": 1, "kind": 1, "payload": b""}
    assert server.received(make(Op.SEND, extensions=((200, b""),), **fields)) is Verdict.PROCESS
    assert server.received(make(Op.SEND, extensions=((5, b""), (200, b"")), **fields)) is Verdict.UNSUPPORTED


def test_a_broken_extension_is_a_bad_request() -> None:
    pull = make(Op.PULL, cid=1, from_seq=2, to_seq=2, limit=1, extensions=((1, b"\x00"),))
    assert pull.malformed_extension == 1
    assert live(SERVER).received(pull) is Verdict.BAD_REQUEST
    sound = make(Op.PULL, cid=1, from_seq=2, to_seq=2, limit=1, extensions=((1, b"\x00\x40"),))
    assert sound.extension(1) == {"offset": 0, "length": 64}
    assert live(SERVER).received(sound) is Verdict.PROCESS


def test_nothing_follows_bye() -> None:
    session = live(SERVER)
    session.received(BYE)
    with pytest.raises(LocalProtocolError):
        session.sent(make(Op.PING, echo=b""))
    with pytest.raises(PeerProtocolError):
        session.received(make(Op.PING, echo=b""))


def test_a_server_takes_small_frames_before_login() -> None:
    assert Session(SERVER).receive_bytes_max == PREAUTH_FRAME_BYTES_MAX
    assert live(SERVER).receive_bytes_max == BODY_BYTES_MAX
    assert Session(CLIENT).receive_bytes_max == BODY_BYTES_MAX
