"""Bytes no client would send: lengths at every boundary, broken varints, garbage, in every state of a connection."""

from itertools import count
from random import Random

import pytest
import trio
from support.live import Closed, Peer, peer
from support.siege import siege

from chatd.testing import ChatdServer
from chatd.wire import varint
from chatd.wire.errors import WireError
from chatd.wire.framer import Framer
from chatd.wire.schema import CLIENT, LIVE, OPS, Close, Op

NUMBERS = [0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1, 2**32, 2**63 - 1]
BAD_VARINTS = {
    "overlong": b"\x80\x00",
    "overlong one": b"\x81\x00",
    "over 2^63": b"\xff" * 9 + b"\x01",
    "2^63": b"\x80" * 9 + b"\x01",
    "ten bytes": b"\xff" * 10,
    "truncated": b"\x80",
    "truncated nine": b"\xff" * 8,
}
names = count(1)


def frame(op: int, body: bytes, flags: int = 0) -> bytes:
    return len(body).to_bytes(2, "big") + bytes((op, flags)) + body


async def fate(server: ChatdServer, data: bytes, *, greeted: bool = False, name: str = "") -> str:
    """What a connection that sends data comes to: the reason of BYE, "dropped" without one, "alive"."""
    made = await Peer.connect(server, name)
    async with made.stream:
        if name:
            await made.login()
        elif greeted:
            await made.hello()
        try:
            await made.stream.send_all(data)
            await made.put(Op.PING, flags=2, echo=b"alive?")
            answer = await made.next(Op.PONG, Op.BYE)
        except (Closed, trio.BrokenResourceError):
            return "dropped"
        return "alive" if answer.op == Op.PONG else Close(answer["reason"]).name


async def fates(server: ChatdServer, *inputs: bytes, greeted: bool = False, login: bool = False) -> list[str]:
    found = {}
    at_once = trio.CapacityLimiter(32)

    async def one(index: int, data: bytes) -> None:
        async with at_once:
            found[index] = await fate(server, data, greeted=greeted, name=f"victim-{next(names)}" if login else "")

    async with trio.open_nursery() as nursery:
        for index, data in enumerate(inputs):
            nursery.start_soon(one, index, data)
    return [found[index] for index in range(len(inputs))]


def garbage() -> list[bytes]:
    random = Random(7)
    return [random.randbytes(size) for size in (4, 5, 64, 1000, 5000)] + [
        b"GET / HTTP/1.1\r\nHost: chatd\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\xff" * 5000,
    ]


async def test_garbage_before_login_is_dropped_without_a_byte(server: ChatdServer) -> None:
    # Random bytes may begin like an op that may be skipped; then it is the login that does not come in time.
    async with siege(server) as state:
        for greeted in (False, True):
            for found in await fates(server, *garbage(), greeted=greeted):
                assert found in ("dropped", "UNSUPPORTED", "alive")
        counted = await state.closes()
        assert set(+counted) <= {Close.BAD_FRAME, Close.UNSUPPORTED, Close.PEER_CLOSED, Close.PEER_RESET,
                                 Close.AUTH_TIMEOUT, Close.SLOW_FRAME}  # fmt: skip
        assert counted.total() == 2 * len(garbage())


async def test_garbage_after_login_closes_at_once(server: ChatdServer) -> None:
    bad = [frame(Op.SEND, b"\x80"), frame(Op.READ, b""), frame(Op.ACK, b"\x01\x01"), frame(Op.WELCOME, b"\x01"),
           frame(Op.PING, b"", flags=0xF0), frame(Op.SEND, b"\x01\x01\x01x", flags=0x02)]  # fmt: skip
    async with siege(server) as state:
        assert await fates(server, *bad, login=True) == ["BAD_FRAME"] * len(bad)
        await state.closed({Close.BAD_FRAME: len(bad)})


def values(kind: str, limit: int) -> list[bytes]:
    """Encodings of one field at its boundaries, canonical or not; the reference codec says which are legal."""
    if kind == "varint":
        return [varint.encode(number) for number in NUMBERS] + list(BAD_VARINTS.values())
    if kind in ("bytes", "str"):
        sizes = [size for size in (0, 1, limit - 1, limit, limit + 1) if size >= 0]
        long = [varint.encode(number) for number in (2**31, 2**32 - 1, 2**63 - 1)]
        return [varint.encode(size) + b"a" * size for size in sizes] + long + list(BAD_VARINTS.values())
    if kind == "rest":
        return [b"a" * size for size in (0, 1, limit - 1, limit, limit + 1)] if limit < 60_000 else [b"", b"a"]
    if kind == "msgpack":
        return [b"", b"\x80", b"\x81\x01\x01"]
    width = {"u8": 1, "u16": 2, "u32": 4, "u64": 8}[kind]
    return [bytes(width), b"\xff" * width, b"\x00" * (width - 1)]


PLAIN = {"varint": b"\x01", "bytes": b"\x01a", "str": b"\x01a", "rest": b"a", "msgpack": b"\x80",
         "u8": b"\x01", "u16": b"\x00\x01"}  # fmt: skip


def bodies(op: int) -> list[bytes]:
    """Every field at every boundary, the others plain; every truncation; one byte too many; an empty body."""
    fields = OPS[op].layout.fields
    plain = [PLAIN[field.type] for field in fields]
    whole = b"".join(plain)
    made = [whole[:size] for size in range(len(whole))] + [whole, whole + b"\x00"]
    for index, field in enumerate(fields):
        made += [b"".join([*plain[:index], value, *plain[index + 1 :]]) for value in values(field.type, field.limit)]
    return list(dict.fromkeys(made))


def is_legal(data: bytes) -> bool:
    framer = Framer()
    try:
        return bool(framer.feed(data))
    except WireError:
        return False


LIVE_OPS = [op for op, rule in OPS.items() if rule.sides & CLIENT and rule.states & LIVE and not rule.feature]
# These end the connection or answer by rules of their own, whatever their numbers.
ENDING = {Op.BYE, Op.REAUTH}


@pytest.mark.parametrize("op", [Op(op) for op in LIVE_OPS if op not in ENDING], ids=lambda op: op.name)
async def test_every_boundary_of_every_field_after_login(server: ChatdServer, op: Op) -> None:
    """What the reference codec refuses closes with BAD_FRAME, at once; what it takes never does."""
    made = [frame(op, body) for body in bodies(op)]
    good, bad = [data for data in made if is_legal(data)], [data for data in made if not is_legal(data)]
    async with siege(server) as state:
        found = await fates(server, *bad, login=True)
        assert found == ["BAD_FRAME"] * len(bad), [data.hex() for data, how in zip(bad, found, strict=True)
                                                   if how != "BAD_FRAME"]  # fmt: skip
        for data in good:
            # An ACK of more than was delivered is a lie, cseq 0 is none: bad frames, too.
            allowed = {"alive", "BAD_FRAME"} if op in (Op.ACK, Op.SEND, Op.SKIP) else {"alive"}
            assert await fate(server, data, name=f"victim-{next(names)}") in allowed, data.hex()
        assert set(+await state.closes()) <= {Close.BAD_FRAME, Close.PEER_CLOSED, Close.PEER_RESET}


@pytest.mark.parametrize("op", [Op.HELLO, Op.AUTH, Op.RESUME], ids=lambda op: op.name)
async def test_every_boundary_of_every_field_before_login(server: ChatdServer, op: Op) -> None:
    """A stranger's malformed frame is dropped without a byte; what is legal gets an answer or silence, never more."""
    made = [frame(op, body) for body in bodies(op)]
    bad = [data for data in made if not is_legal(data)]
    good = [data for data in made if is_legal(data)]
    async with siege(server) as state:
        assert await fates(server, *bad, greeted=op != Op.HELLO) == ["dropped"] * len(bad)
        for found in await fates(server, *good, greeted=op != Op.HELLO):
            assert found in ("alive", "dropped", "UNSUPPORTED")
        assert (await state.closes()).total() == len(made)


@pytest.mark.parametrize(("greeted", "login"), [(False, False), (True, False), (False, True)])
async def test_every_op_in_every_wrong_state(server: ChatdServer, greeted: bool, login: bool) -> None:
    """Known ops by the table; unknown ones are skipped by their length without the top bit, refused with it."""
    async with siege(server) as state:
        found = await fates(
            server, *[frame(op, b"\x01" * 4) for op in range(256)], greeted=greeted or login, login=login
        )
        for op, how in enumerate(found):
            rule = OPS.get(op)
            if rule is None:
                refused = "alive" if login else "UNSUPPORTED"
                assert how == (refused if op & 0x80 else "alive"), hex(op)
            elif not rule.sides & CLIENT:
                assert how == ("BAD_FRAME" if login else "dropped"), hex(op)
        assert (await state.closes()).total() == 256


async def test_unknown_op_with_the_top_bit_is_answered_unsupported(server: ChatdServer) -> None:
    async with siege(server), peer(server, "curious") as one:
        for op in (0x7F, 0xFF):
            await one.stream.send_all(frame(op, b"whatever"))
        answer = await one.next(Op.ERROR)
        assert (answer["code"], answer["op"]) == (101, 0xFF)


@pytest.mark.parametrize("size", [4095, 4096, 4097, 65_535])
async def test_frames_before_login_are_small(server: ChatdServer, size: int) -> None:
    async with siege(server):
        expected = "alive" if size <= 4096 else "dropped"
        assert await fate(server, frame(0x70, bytes(size)), greeted=True) == expected


async def test_bytes_before_login_are_few(server: ChatdServer) -> None:
    async with siege(server) as state:
        assert await fate(server, frame(0x70, bytes(4000)) * 3, greeted=True) == "dropped"
        await state.closed({Close.BAD_FRAME: 1})
