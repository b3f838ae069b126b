"""Framing, states and rules of a connection, through the second door."""

import random

import pytest
from support import frames
from support.rig import TOKEN_EPOCH, Client, Rig

from chatd.wire.schema import LITE_FRAME_BYTES_MIN

pytestmark = pytest.mark.usefixtures("each_engine")

CLOSE_NORMAL, CLOSE_HEARTBEAT, CLOSE_BAD_FRAME, CLOSE_UNSUPPORTED, CLOSE_AUTH_FAILED = 1, 8, 9, 10, 12
ERR_UNSUPPORTED, ERR_NOT_ALLOWED_NOW, ERR_UNAVAILABLE = 101, 105, 500


def code_of(frame: frames.Frame) -> int:
    return int.from_bytes(frame.body[:2], "big")


def last(rig: Rig, kind: str) -> tuple[object, ...]:
    return [upcall for upcall in rig.upcalls if upcall[0] == kind][-1]


def closed_reason(rig: Rig, handle: int) -> int | None:
    return next((upcall[4] for upcall in rig.upcalls if upcall[0] == "closed" and upcall[1] == handle), None)


def test_login_reaches_python_and_hub() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello(features=1, window_frames=4), frames.auth(device=7, identity="eve", label="phone"))
        assert [frame.op for frame in client.take()] == [frames.WELCOME]
        assert rig.upcalls[0] == ("auth", client.handle, 1, 7, "eve", b"token", "phone", b"", "192.0.2.1")
        assert rig.upcalls[1][:2] == ("registered", client.handle)
        features, frame_bytes_max, window_frames, window_bytes, heartbeat_ms = rig.engine.terms(client.handle) or ()
        assert (features, frame_bytes_max, window_frames, window_bytes) == (1, 65535, 4, 1048576)
        assert 48_000 <= heartbeat_ms <= 72_000
        assert rig.hub.sessions == {client.handle: (7, 7)}


def test_challenge_nonce_comes_back_with_auth_once() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello(features=2))
        challenge = client.take()[0]
        assert (challenge.op, len(challenge.body)) == (frames.CHALLENGE, 16)
        rig.automatic = False
        client.feed(frames.auth(device=3))
        assert last(rig, "auth")[7] == challenge.body
        rig.engine.refuse(client.handle, frames.error(200))
        client.feed(frames.auth(device=3))
        assert last(rig, "auth")[7] == b""


def test_resume_reaches_python() -> None:
    with Rig() as rig:
        client = Client(rig)
        resume = frames.frame(frames.RESUME, frames.prefixed(b"ticket") + frames.varint(9) + frames.prefixed(b"cursor"))
        client.feed(frames.hello(), resume)
        assert rig.upcalls == [("resume", client.handle, b"ticket", 9, b"cursor", "192.0.2.1")]


@pytest.mark.parametrize("cut_seed", range(8))
def test_frames_may_be_cut_anywhere(cut_seed: int) -> None:
    login = frames.hello() + frames.auth(device=2)
    script = frames.frame(frames.PING, b"echo", 2) + frames.send(1, 5, b"x" * 6000)
    script += frames.frame(frames.PING, b"", 2) + frames.ack(0)
    rng = random.Random(cut_seed)
    with Rig() as rig:
        client = Client(rig)
        for data in (login, script):
            at = 0
            while at < len(data):
                size = 1 if cut_seed == 0 else rng.randint(1, 300)
                assert client.feed(data[at : at + size]) == len(data[at : at + size])
                at += size
        got = client.take()
        assert [frame.op for frame in got if frame.op != frames.PONG] == [frames.WELCOME, frames.SEND_ACK]
        assert [frame.body for frame in got if frame.op == frames.PONG] == [b"echo", b""]
        assert rig.hub.sends[0].body == frames.split(frames.send(1, 5, b"x" * 6000))[0].body
        assert rig.counter("parked_bytes") == 0


MALFORMED_LIVE = {
    "overlong varint": frames.frame(frames.ACK, b"\x80\x00"),
    "trailing byte": frames.frame(frames.ACK, b"\x00\x00"),
    "cut field": frames.frame(frames.READ, b"\x05"),
    "overlong id of a call": frames.frame(frames.REQUEST, b"\x80\x00\x01\x80"),
    "empty body": frames.frame(frames.SEND),
    "unknown flag": frames.frame(frames.PING, b"", 0x40),
    "op of the server": frames.deliver(1, 1),
    "acknowledges what was never sent": frames.ack(1),
    "cseq 0": frames.send(0, 5),
    "long echo": frames.frame(frames.PING, bytes(33)),
    "extension tags do not ascend": frames.frame(frames.SEND, bytes([1, 5, 1, 6, 2, 1, 0, 2, 1, 0]), 1),
}


@pytest.mark.parametrize("data", MALFORMED_LIVE.values(), ids=MALFORMED_LIVE.keys())
def test_malformed_frame_of_a_session_closes_with_bye(data: bytes) -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(data, frames.frame(frames.PING, b"never", 2))
        got = client.take()
        assert [(frame.op, code_of(frame)) for frame in got] == [(frames.BYE, CLOSE_BAD_FRAME)]
        assert rig.hub.closed == [(client.handle, CLOSE_BAD_FRAME)]


@pytest.mark.parametrize(
    "data",
    [
        frames.send(1, 5),
        frames.frame(frames.HELLO, b"\x01"),
        frames.auth(),
        frames.hello(frame_bytes_max=127),
        frames.hello() + frames.hello(),
        b"\x10\x01\x81\x00",
        b"GET / HTTP/1.1\r\n\r\n",
        frames.hello() + frames.frame(frames.AUTH, bytes([1, 1]) + frames.prefixed(b"\xff") + b"\x00\x00"),
    ],
)
def test_malformed_stranger_gets_no_answer(data: bytes) -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(data)
        assert client.take() == []
        assert closed_reason(rig, client.handle) == CLOSE_BAD_FRAME
        assert rig.counter("connections") == 0


def test_unknown_ops() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.frame(0x7F, b"skipped"), frames.frame(0xFE, b"refused"), frames.frame(frames.PING, b"", 2))
        got = client.take()
        assert [frame.op for frame in got] == [frames.ERROR, frames.PONG]
        assert code_of(got[0]) == ERR_UNSUPPORTED
        assert got[0].body[2] == 0xFE


def test_login_ops_are_refused_in_a_live_session() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.hello())
        assert [(frame.op, code_of(frame)) for frame in client.take()] == [(frames.ERROR, ERR_NOT_ALLOWED_NOW)]


def test_wrong_major_version_is_told() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello(major=2))
        assert [(frame.op, code_of(frame)) for frame in client.take()] == [
            (frames.ERROR, ERR_UNSUPPORTED),
            (frames.BYE, CLOSE_UNSUPPORTED),
        ]


def test_third_failed_login_closes() -> None:
    with Rig() as rig:
        rig.automatic = False
        client = Client(rig)
        client.feed(frames.hello())
        for _ in range(3):
            client.feed(frames.auth())
            assert rig.engine.refuse(client.handle, frames.error(200))
        assert [frame.op for frame in client.take()] == [frames.ERROR, frames.ERROR, frames.ERROR, frames.BYE]
        assert closed_reason(rig, client.handle) == CLOSE_AUTH_FAILED
        assert not rig.engine.refuse(client.handle, frames.error(200))


@pytest.mark.parametrize(
    ("data", "after_ms", "reason"),
    [
        (b"", 3_000, 14),
        (frames.hello(), 5_000, 13),
        (frames.hello()[:3], 5_000, 13),
    ],
)
def test_stranger_has_little_time(data: bytes, after_ms: int, reason: int) -> None:
    with Rig() as rig:
        client = Client(rig)
        if data:
            client.feed(data)
        rig.advance(after_ms - 50)
        assert closed_reason(rig, client.handle) is None
        rig.advance(100)
        assert closed_reason(rig, client.handle) == reason


def test_slow_credential_check_is_our_fault_and_said() -> None:
    with Rig() as rig:
        rig.automatic = False
        client = Client(rig)
        client.feed(frames.hello(), frames.auth())
        rig.advance(5_100)
        got = client.take()
        assert [frame.op for frame in got] == [frames.ERROR, frames.BYE]
        assert code_of(got[0]) == ERR_UNAVAILABLE


def test_preauth_bytes_are_bounded() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello())
        for _ in range(300):
            client.feed(frames.frame(frames.PING, bytes(32)))
        assert closed_reason(rig, client.handle) == CLOSE_BAD_FRAME


# Records keep the low 32 bits of times in milliseconds, which start over every 49 days.
MOMENTS = pytest.mark.parametrize("uptime_ms", [0, (1 << 32) - 3000], ids=["start", "49 days"])


@MOMENTS
def test_silence_closes_after_one_and_a_half_intervals(uptime_ms: int) -> None:
    with Rig(heartbeat_ms=1000, heartbeat_jitter_percent=0) as rig:
        rig.advance(uptime_ms)
        client = rig.client(1)
        rig.advance(1400)
        client.feed(frames.frame(frames.PING))
        rig.advance(1400)
        assert closed_reason(rig, client.handle) is None
        rig.advance(200)
        assert closed_reason(rig, client.handle) == CLOSE_HEARTBEAT


@MOMENTS
def test_slow_frame_closes(uptime_ms: int) -> None:
    with Rig() as rig:
        rig.advance(uptime_ms)
        client = rig.client(1)
        data = frames.send(1, 5, bytes(8000))
        client.feed(data[:4])
        for at in range(4, 16):
            rig.advance(1000)
            client.feed(data[at : at + 1])
        assert closed_reason(rig, client.handle) == 7


def test_heartbeats_are_spread() -> None:
    with Rig() as rig:
        intervals = set()
        for user in range(1, 30):
            client = rig.client(user)
            intervals.add((rig.engine.terms(client.handle) or ())[4])
        assert len(intervals) > 20


def test_bye_closes_without_answer() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.bye())
        assert client.take() == []
        assert rig.hub.closed == [(client.handle, CLOSE_NORMAL)]


def test_close_says_bye_with_its_text_once() -> None:
    with Rig() as rig:
        client = rig.client(1)
        assert rig.engine.close(client.handle, 18, 5000, "maintenance")
        assert not rig.engine.close(client.handle, 18)
        got = client.take()
        assert [frame.op for frame in got] == [frames.BYE]
        assert got[0].body == b"\x00\x12" + frames.varint(5000) + frames.prefixed(b"maintenance")
        assert rig.counter("closed_kicked") == 1


def test_token_expiry_is_announced_and_reauth_extends() -> None:
    with Rig() as rig:
        rig.automatic = False
        client = Client(rig)
        client.feed(frames.hello(), frames.auth())
        start_s = 1735689600 + rig.now_ms // 1000
        rig.engine.register(client.handle, 1, 1, 0, 0, start_s + 30)
        rig.settle()
        rig.engine.welcome(client.handle, frames.welcome(1, 1, 1))
        rig.settle()
        client.take()
        rig.advance(31_000)
        assert [(frame.op, code_of(frame)) for frame in client.take()] == [(frames.ERROR, 201)]
        client.feed(frames.frame(frames.REAUTH, bytes([1, 0]) + frames.prefixed(b"new")))
        assert last(rig, "reauth")[:5] == ("reauth", client.handle, 1, "", b"new")
        assert rig.engine.reauthenticated(client.handle, start_s + 61, frames.welcome(1, 1, 1))
        rig.advance(29_000)
        assert [frame.op for frame in client.take()] == [frames.WELCOME]
        rig.advance(2_000)
        client.feed(frames.frame(frames.PING))
        assert [frame.op for frame in client.take()] == [frames.ERROR]
        rig.advance(57_000)
        assert client.take() == []
        rig.advance(3_000)
        assert [(frame.op, code_of(frame)) for frame in client.take()] == [(frames.BYE, 16)]


def test_handle_of_a_reused_slot_is_another_one() -> None:
    with Rig() as rig:
        first = rig.client(1)
        first.end()
        rig.advance(2_000)
        second = rig.client(2)
        assert second.handle & 0xFFFFFFFF == first.handle & 0xFFFFFFFF
        assert second.handle != first.handle
        assert not rig.engine.close(first.handle, 18)
        assert rig.engine.take(first.handle) == b""
        assert rig.hub.kick(first.handle, 5)
        rig.settle()
        assert second.take() == []
        assert rig.counter("sessions") == 1


def test_commands_reject_nonsense() -> None:
    with Rig() as rig:
        client = rig.client(1)
        with pytest.raises(ValueError, match="complete frame"):
            rig.engine.welcome(client.handle, b"\x00\x05\x84\x00")
        with pytest.raises(ValueError, match="close reason"):
            rig.engine.close(client.handle, 99)
        with pytest.raises(ValueError, match="close reason"):
            rig.engine.close_all(0)
        assert rig.engine.terms(12345) is None


def test_disposed_engine_says_so() -> None:
    rig = Rig()
    rig.client(1)
    rig.close()
    with pytest.raises(ValueError, match="disposed"):
        rig.engine.poll(0)
    rig.engine.dispose()


def test_one_reauth_at_a_time() -> None:
    with Rig() as rig:
        client = rig.client(1)
        reauth = frames.frame(frames.REAUTH, bytes([1, 0]) + frames.prefixed(b"new"))
        client.feed(reauth, reauth)
        assert [(frame.op, code_of(frame)) for frame in client.take()] == [(frames.ERROR, ERR_NOT_ALLOWED_NOW)]
        assert rig.engine.refuse(client.handle, frames.error(200))
        client.feed(reauth)
        assert rig.engine.reauthenticated(client.handle, 0, frames.welcome(1, 1, 1))
        client.feed(reauth)
        assert [upcall[0] for upcall in rig.upcalls].count("reauth") == 3


def test_what_is_not_taken_now_is_not_decoded() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.frame(frames.AUTH, b"\xff"), frames.frame(0x99, b"\xff"))
        assert [(frame.op, code_of(frame)) for frame in client.take()] == [
            (frames.ERROR, ERR_NOT_ALLOWED_NOW),
            (frames.ERROR, ERR_UNSUPPORTED),
        ]


def test_connections_max_is_exact() -> None:
    with Rig(connections_max=3) as rig:
        for _ in range(3):
            Client(rig)
        with pytest.raises(MemoryError):
            Client(rig)


@pytest.mark.parametrize("frame_bytes_max", [LITE_FRAME_BYTES_MIN, LITE_FRAME_BYTES_MIN - 1])
def test_smallest_clients_have_buffers_of_128_bytes(frame_bytes_max: int) -> None:
    with Rig() as rig:
        Client(rig).feed(frames.hello(frame_bytes_max=frame_bytes_max))
        assert rig.counter("closed_bad_frame") == (frame_bytes_max < LITE_FRAME_BYTES_MIN)


def test_acks_are_charged_as_frames_only_when_they_come_too_often() -> None:
    """One in 20 ms costs its bytes, like any number of PINGs; more often they are frames like others."""
    with Rig(frames_per_s=10, frames_burst=2) as rig:
        client = rig.client(1)
        client.feed(*(frames.frame(frames.PING) for _ in range(20)))
        for _ in range(20):
            rig.advance(20)
            client.feed(frames.ack(0))
        assert rig.counter("throttled") == 0
        client.feed(*(frames.ack(0) for _ in range(4)))
        assert rig.counter("throttled") == 1


def test_frame_that_waits_is_charged_once() -> None:
    with Rig(frames_per_s=10, frames_burst=1, bytes_per_s=1000, bytes_burst=1100) as rig:
        client = rig.client(1)
        reads = frames.read(5, 1) + frames.frame(0x7E, bytes(496)) + frames.frame(0x7E, bytes(496))
        taken = client.feed(reads)
        for _ in range(2):
            rig.advance(104)
            taken += client.feed(reads[taken:])
        assert taken == len(reads)


def test_close_for_slowness_says_bye_whatever_was_queued() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.feed(frames.frame(frames.PING, b"", 2))
        rig.engine.close(client.handle, 6, text="too slow")
        assert client.ops()[-1] == frames.BYE


@pytest.mark.parametrize(("first_byte_ms", "step_ms", "count"), [(400, 8, 70), (3_000, 8, 70), (40_000, 1_000, 70)])
def test_deadline_fires_within_a_tick_wherever_it_falls_in_the_wheel(
    first_byte_ms: int, step_ms: int, count: int
) -> None:
    with Rig(first_byte_ms=first_byte_ms) as rig:
        opened, closed = {}, {}
        while len(closed) < count:
            if len(opened) < count and rig.now_ms % step_ms == 0:
                opened[Client(rig).handle] = rig.now_ms
            rig.advance(8)
            closed |= {upcall[1]: rig.now_ms for upcall in rig.upcalls}
            rig.upcalls.clear()
            assert rig.now_ms < 200_000
        assert {closed[handle] - at - first_byte_ms for handle, at in opened.items()} <= set(range(8))


def test_engine_is_disposed_of_while_a_slow_reader_closes() -> None:
    rig = Rig()
    client = rig.client(1)
    rig.hub.committed(5, 1, frames.deliver(5, 1), [client.handle])
    rig.settle()
    rig.engine.close(client.handle, 18)
    rig.settle()
    rig.close()


@pytest.mark.parametrize("lost", [False, True])
def test_what_is_pushed_between_registration_and_welcome_is_told_by_lag(lost: bool) -> None:
    with Rig() as rig:
        rig.automatic = False
        client = Client(rig)
        client.feed(frames.hello(features=2), frames.auth(device=1))
        rig.engine.register(client.handle, 1, 1, 0, 0, 0)
        rig.settle()
        assert last(rig, "registered")
        for seq in (3, 4):
            rig.hub.committed(5, seq, frames.deliver(5, seq), [client.handle])
        if lost:
            rig.hub.lost(9)
        rig.settle()
        assert client.ops() == [frames.CHALLENGE]
        rig.engine.welcome(client.handle, frames.welcome(1, 1, 1))
        rig.hub.committed(5, 5, frames.deliver(5, 5), [client.handle], pos=10)
        rig.settle()
        got = client.take()
        assert [frame.op for frame in got] == [frames.WELCOME, frames.LAG, frames.DELIVER]
        assert got[1].ints(3) == ([0, 0, 0] if lost else [5, 3, 4])


@pytest.mark.parametrize(("features", "told"), [(0, frames.GOAWAY), (1, frames.BYE)])
def test_who_logs_in_while_the_shard_drains_is_told_at_once(features: int, told: int) -> None:
    with Rig() as rig:
        rig.engine.drain(1000)
        rig.advance(1500)
        client = Client(rig)
        client.feed(frames.hello(features=features), frames.auth(device=4))
        welcome, last = client.take()
        assert (welcome.op, last.op) == (frames.WELCOME, told)
        if told == frames.GOAWAY:
            assert frames.read_varint(last.body, 2)[0] == 500, "not longer than until the last BYE"
            assert last.body[-1] == 0, "no ticket: that of WELCOME stays good"


def test_a_fresh_hub_is_told_how_old_a_credential_is() -> None:
    with Rig() as rig:
        client = Client(rig)
        client.feed(frames.hello(), frames.auth(device=4))
        (first,) = rig.hub.logins
        rig.engine.unlink_hub()
        rig.link(rig.hub.successor())
        rig.settle()
        assert [login[1:4] + login[5:] for login in rig.hub.logins] == [first[1:4] + first[5:]]
        assert first[5] == TOKEN_EPOCH
