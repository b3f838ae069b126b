"""Live streams and telemetry in the engine: what goes to the hub, who gets what, which values replace others."""

import pytest
from support import frames
from support.rig import LIFTED, Client, Rig

STREAMS = 16
EPHEMERAL_TOPIC, STREAMS_TOPIC = 1, 4
DELTA = bytes([5, 9, 0]) + b"Once"


def telemetry(cid: int, value: bytes, key: int, flags: int = 0) -> bytes:
    told = frames.varint(key) + frames.varint(flags)
    block = frames.prefixed(b"\x04" + frames.prefixed(told))
    return frames.frame(frames.EPHEMERAL, frames.varint(cid) + b"\x00\x04" + block + value, 1)


def errors(client: Client) -> list[tuple[int, int, int]]:
    """(code, op, ref) of what was refused."""
    found = [frame for frame in client.take() if frame.op == frames.ERROR]
    return [(int.from_bytes(frame.body[:2], "big"), frame.body[2], frame.body[3]) for frame in found]


@pytest.mark.usefixtures("each_engine")
def test_without_the_feature_there_are_no_streams() -> None:
    with Rig() as rig:
        client = rig.client(1)
        for op, body in ((0x99, bytes([5, 0, 1])), (0x12, DELTA), (0x9A, bytes([5, 9, 1]))):
            client.feed(frames.frame(op, body))
            assert errors(client) == [(101, op, 0)]
        assert rig.hub.calls == rig.hub.sends == []


@pytest.mark.usefixtures("each_engine")
def test_a_start_is_a_call_and_a_delta_is_handed_over() -> None:
    with Rig() as rig:
        client = rig.client(1, features=STREAMS)
        client.feed(frames.frame(frames.STREAM_START, bytes([5, 0, 1])))
        client.feed(frames.frame(frames.STREAM_DELTA, DELTA))
        assert [(call.op, call.body) for call in rig.hub.calls] == [(0x99, bytes([5, 0, 1])), (0x12, DELTA)]
        rig.hub.frames(client.handle, frames.frame(frames.STREAM_START, bytes([5, 9, 1])), done=True)
        rig.settle()
        assert client.ops() == [frames.STREAM_START]
        for _ in range(16):
            client.feed(frames.frame(frames.STREAM_START, bytes([5, 0, 1])))
        assert errors(client) == []
        client.feed(frames.frame(frames.STREAM_START, bytes([5, 0, 1])))
        assert errors(client) == [(401, 0x99, 5)], "seventeen are outstanding"


@pytest.mark.usefixtures("each_engine")
def test_a_delta_that_cannot_go_is_refused() -> None:
    with Rig() as rig:
        client = rig.client(1, features=STREAMS)
        client.feed(frames.frame(frames.STREAM_DELTA, DELTA + bytes(16_385)))
        assert errors(client) == [(102, 0x12, 9)]
        rig.engine.unlink_hub()
        client.feed(frames.frame(frames.STREAM_DELTA, DELTA))
        assert errors(client) == [(500, 0x12, 9)]
        client.feed(frames.frame(frames.STREAM_DELTA, b"\x05\x09"))
        assert client.ops()[-1] == frames.BYE


@pytest.mark.usefixtures("each_engine")
def test_an_end_is_the_send_that_it_stands_for_and_survives_the_hub() -> None:
    with Rig() as rig:
        client = rig.client(1, features=STREAMS)
        rig.hub.automatic = False
        client.feed(frames.frame(frames.STREAM_END, bytes([5, 9, 7])))
        body = bytes([7, 5, 1, 5, 10, 3, 9, 0, 0])
        assert [(send.op, send.flags, send.body) for send in rig.hub.sends] == [(1, 1, body)]
        rig.link(rig.hub.successor())
        assert [send.body for send in rig.hub.sends] == [body], "the next hub gets it, too"
        rig.hub.answer(rig.hub.sends[0], frames.send_ack(7, 5, 3))
        rig.settle()
        assert client.ops() == [frames.SEND_ACK]
        client.feed(frames.frame(frames.STREAM_END, bytes([0, 9, 8])))
        assert client.ops() == [frames.SEND_NAK], "there is no conversation 0"
        client.feed(frames.frame(frames.STREAM_END, bytes([5, 9, 0])))
        assert client.ops() == [frames.BYE]


@pytest.mark.usefixtures("each_engine")
def test_followers_of_the_topic_get_what_the_hub_says_but_for_one() -> None:
    with Rig() as rig:
        writer, reader, other = (rig.client(user, features=STREAMS) for user in (1, 2, 3))
        for client, topics in ((writer, STREAMS_TOPIC), (reader, STREAMS_TOPIC), (other, EPHEMERAL_TOPIC)):
            client.join(5, topics)
        rig.hub.topic(5, STREAMS_TOPIC, frames.frame(frames.STREAM_DELTA, DELTA), writer.handle)
        rig.settle()
        assert [client.ops() for client in (writer, reader, other)] == [[], [frames.STREAM_DELTA], []]
        rig.hub.grant(reader.handle, 5, 0)
        rig.hub.topic(5, STREAMS_TOPIC, frames.frame(frames.STREAM_DELTA, DELTA))
        rig.settle()
        assert reader.ops() == [], "who was removed gets nothing more"


# ---- telemetry
@pytest.mark.usefixtures("each_engine")
def test_only_values_of_one_key_replace_each_other() -> None:
    with Rig(LIFTED) as rig:
        sender, reader = rig.client(1), rig.client(2)
        sender.join(5)
        reader.join(5)
        for _ in range(20):
            sender.feed(frames.ephemeral(5, bytes(1000)))
        for value in range(30):
            for key in (0, 1, 2):
                sender.feed(telemetry(5, bytes([value]), key))
        values = [(frame.body[6], frame.body[-1]) for frame in reader.take()[20:]]
        assert sorted(set(values[-3:])) == [(0, 29), (1, 29), (2, 29)], "the newest of each"
        assert rig.counter("ephemeral_replaced") >= 80


@pytest.mark.usefixtures("each_engine")
def test_a_value_to_be_kept_goes_to_the_hub_and_to_the_followers() -> None:
    with Rig() as rig:
        sender, reader = rig.client(1), rig.client(2)
        for client in (sender, reader):
            client.join(5)
        rig.hub.calls.clear()
        sender.feed(telemetry(5, b"not", 7), telemetry(5, b"kept", 7, 1))
        assert [frame.body[-4:] for frame in reader.take()][1] == b"kept"
        assert [(call.op, call.flags, call.body[-4:]) for call in rig.hub.calls] == [(frames.EPHEMERAL, 1, b"kept")]
        rig.engine.unlink_hub()
        sender.feed(telemetry(5, b"lost", 7, 1))
        assert rig.counter("ephemeral_dropped") == 1
        assert [frame.body[-4:] for frame in reader.take()] == [b"lost"], "followers get it all the same"


@pytest.mark.usefixtures("each_engine")
def test_values_that_cannot_be_are_refused() -> None:
    with Rig() as rig:
        client = rig.client(1)
        client.join(5)
        bad = frames.frame(frames.EPHEMERAL, bytes([5, 0, 4, 3, 4, 1, 7]), 1)
        for data, code in (
            (telemetry(5, b"x", 32_767, 1), 0),
            (telemetry(5, b"x", 32_768, 1), 103),
            (telemetry(5, bytes(1024), 1, 1), 0),
            (telemetry(5, bytes(1025), 1, 1), 102),
            (telemetry(5, bytes(1025), 1), 0),
            (bad, 103),
        ):
            client.feed(data)
            assert errors(client) == ([(code, frames.EPHEMERAL, 5)] if code else [])
