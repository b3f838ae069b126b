"""Who you are not: broken tokens of every kind, ids of others, MessagePack bombs; and resources that run out."""

import base64
import json
import os
import resource
import time
from itertools import count
from pathlib import Path
from typing import Any

import jwt
import msgpack
import pytest
import trio
from support.hostile_servers import start
from support.live import Closed, Peer, peer
from support.siege import processes, siege

from chatd import secrets
from chatd.testing import ChatdServer
from chatd.wire.frame import encode, make
from chatd.wire.schema import Close, Credential, ErrorCode, Method, Op

names = count(1)


def tokens(server: ChatdServer) -> dict[str, bytes]:
    """One broken thing each; the rest of the token is right, its signature included where there can be one."""
    key = secrets.read_secret(server.data / "secrets" / "jwt.key")
    good = jwt.decode(server.token("mallory"), options={"verify_signature": False})
    header = jwt.get_unverified_header(server.token("mallory"))
    now = int(time.time())

    def made(changes: dict[str, Any], headers: dict[str, Any] | None = None, secret: str = key) -> bytes:
        claims = {name: value for name, value in {**good, **changes}.items() if value is not None}
        return jwt.encode(claims, secret, algorithm="HS256", headers={**header, **(headers or {})}).encode()

    def unsigned(algorithm: str) -> bytes:
        parts = ({**header, "alg": algorithm}, good)
        packed = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in parts]
        return b".".join([*packed, b""])

    return {
        "alg none": unsigned("none"),
        "alg None": unsigned("nOnE"),
        "no signature": unsigned("HS256"),
        "another key": made({}, secret="x" * 64),
        "kid traversal": made({}, {"kid": "../../../../dev/null"}),
        "kid unknown": made({}, {"kid": "other"}),
        "jku": made({}, {"jku": "http://127.0.0.1:1/keys"}),
        "x5u": made({}, {"x5u": "http://127.0.0.1:1/cert"}),
        "jwk": made({}, {"jwk": {"kty": "oct", "k": "AA"}}),
        "typ": made({}, {"typ": "refresh"}),
        "aud": made({"aud": "another"}),
        "aud list": made({"aud": [good["aud"]]}),
        "iss": made({"iss": "another"}),
        "iss missing": made({"iss": None}),
        "sub missing": made({"sub": None}),
        "exp missing": made({"exp": None}),
        "nbf missing": made({"nbf": None}),
        "nbf future": made({"nbf": now + 500, "exp": now + 900}),
        "expired": made({"nbf": now - 900, "exp": now - 300}),
        "too long a life": made({"exp": now + 10**6}),
        "true": made({"exp": True}),
        "huge": made({"exp": 2**63}),
        "sub long": made({"sub": "m" * 65}),
        "empty": b"",
        "dots": b"..",
        "nested": b".".join([base64.urlsafe_b64encode(b"[" * 700), b"e30", b"x"]),
        "binary": bytes(range(256)),
        "2048 bytes": b"a" * 2048,
    }


async def test_no_broken_token_opens_a_session(server: ChatdServer) -> None:
    """AUTH_FAILED without a word, or TOKEN_EXPIRED for one that was good."""
    async with siege(server) as state:
        for name, token in tokens(server).items():
            async with (one := await Peer.connect(server)).stream:
                await one.hello()
                answer = await one.auth(Credential.JWT, token)
                assert answer.op == Op.ERROR, name
                expected = ErrorCode.TOKEN_EXPIRED if name == "expired" else ErrorCode.AUTH_FAILED
                assert (answer["code"], answer["text"]) == (expected, ""), name
            if len(token) > 40:
                state.secrets.append(token[-30:])


async def foreign(one: Peer, ours: dict[str, int], method: Method) -> list[bytes]:
    """The REPLY to a method for the foreign id and for an absent one, without the request's id."""
    params: dict[Method, Any] = {
        Method.CONVERSATION_GET: lambda cid: {1: cid},
        Method.CONVERSATION_SET_TITLE: lambda cid: {1: cid, 2: "mine"},
        Method.MEMBER_LIST: lambda cid: {1: cid},
        Method.MEMBER_ADD: lambda cid: {1: cid, 2: [one.user]},
        Method.MEMBER_REMOVE: lambda cid: {1: cid, 2: [ours["user"]]},
        Method.MEMBER_LEAVE: lambda cid: {1: cid},
        Method.MEMBER_SET_ROLE: lambda cid: {1: cid, 2: one.user, 3: 3},
        Method.DEVICE_REVOKE: lambda device: {1: device},
    }
    there = ours["device"] if method == Method.DEVICE_REVOKE else ours["cid"]
    answers = []
    for number in (there, 2**40):
        reply = await one.request(method, params[method](number))
        answers.append(encode(make(Op.REPLY, id=1, code=reply["code"], retry_after_ms=reply["retry_after_ms"],
                                   result=reply["result"])))  # fmt: skip
        assert reply["code"] == ErrorCode.NOT_FOUND, (method, number, reply)
    return answers


async def test_ids_of_others_look_like_ids_of_nothing(server: ChatdServer) -> None:
    """Every op and method with an id, by a stranger, a guest and a former member: byte for byte as for an absent id."""
    async with siege(server), peer(server, "owner") as owner, peer(server, "former") as former:
        cid = await owner.group([former.user])
        await owner.say(cid)
        ours = {"cid": cid, "user": owner.user, "device": owner.device}
        async with (guest := await Peer.connect(server)).stream, peer(server, f"stranger-{next(names)}") as stranger:
            await guest.hello()
            await guest.auth(Credential.GUEST)
            for one in (stranger, guest):
                for method in (Method.CONVERSATION_GET, Method.CONVERSATION_SET_TITLE, Method.MEMBER_LIST,
                               Method.MEMBER_ADD, Method.MEMBER_REMOVE, Method.MEMBER_LEAVE, Method.MEMBER_SET_ROLE,
                               Method.DEVICE_REVOKE):  # fmt: skip
                    reply = await one.request(method, {1: cid})
                    if reply["code"] == ErrorCode.FORBIDDEN and one is guest:
                        continue  # the kind of account is judged before the id, whatever it is
                    found, absent = await foreign(one, ours, method)
                    assert found == absent, method
                await ops_are_blind(one, cid)
        assert (await owner.call(Method.CONVERSATION_GET, {1: cid}))[5] == 2


async def ops_are_blind(one: Peer, cid: int) -> None:
    """PULL, SUBSCRIBE, SEND: the same bytes but for the id; READ and EPHEMERAL: the same, too, or silence."""
    for op, fields in ((Op.PULL, {"from_seq": 1, "to_seq": 0, "limit": 1}), (Op.SUBSCRIBE, {"topics": 1})):
        answers = []
        for number in (cid, 2**40):
            await one.put(op, cid=number, **fields)
            answer = await one.next(Op.ERROR)
            assert (answer["code"], answer["op"], answer["ref"]) == (ErrorCode.NOT_FOUND, op, number)
            answers.append((answer.flags, answer["retry_after_ms"], answer["text"]))
        assert answers[0] == answers[1]
    refusals = [await one.send(number) for number in (cid, 2**40)]
    assert {(nak.op, nak["code"], nak["text"], nak.flags) for nak in refusals} == {
        (Op.SEND_NAK, ErrorCode.NOT_FOUND, refusals[0]["text"], 0)
    }
    said = []
    for number in (cid, 2**40):
        await one.put(Op.READ, cid=number, seq=1)
        await one.put(Op.EPHEMERAL, cid=number, sender=0, kind=16, payload=b"boo")
        await one.barrier()
        said.append([{**answer.fields, "ref": 0} for answer in one.take(Op.ERROR)])
    assert said[0] == said[1]
    assert one.take(Op.BYE, Op.EPHEMERAL, Op.DELIVER) == []


async def test_ids_of_other_devices_do_not_log_in(server: ChatdServer) -> None:
    async with siege(server), peer(server, "owner") as owner:
        answers = []
        for device in (owner.device, 2**40):
            async with (one := await Peer.connect(server, "thief")).stream:
                answer = await one.login(device=device) if device else None
                answers.append(answer)
        assert all(answer is not None and answer["code"] == ErrorCode.AUTH_FAILED for answer in answers)
        assert len({(answer["text"], answer["retry_after_ms"]) for answer in answers if answer is not None}) == 1


BOMBS = {
    "depth": b"\x81\x01" + b"\x91" * 30_000,
    "huge array": b"\x81\x01\xdd\xff\xff\xff\xff",
    "huge map": b"\xdf\xff\xff\xff\xff",
    "huge string": b"\x81\x01\xdb\xff\xff\xff\xff",
    "huge binary": b"\x81\x01\xc6\xff\xff\xff\xff",
    "string keys": msgpack.packb({"1": 1}),
    "no map": msgpack.packb([1, 2]),
    "trailing": msgpack.packb({1: 1}) + b"\x00",
    "extension": b"\x81\x01\xc7\xff\x05" + bytes(255),
    "timestamp": b"\x81\x01\xd6\xff" + bytes(4),
    "nan": b"\x81\x01\xcb\x7f\xf8" + bytes(6),
    "list as key": b"\x81\x91\x01\x01",
    "negative key": b"\x81\xff\x01",
    "truncated": b"\x82\x01\x01",
    "surrogate": b"\x81\x01\xa3\xed\xa0\x80",
}


@pytest.mark.parametrize("name", BOMBS)
async def test_message_pack_that_is_no_parameters(server: ChatdServer, name: str) -> None:
    async with siege(server), peer(server, "bomber") as one:
        for method in (Method.USER_GET, Method.CONVERSATION_CREATE):
            body = b"\x07" + bytes([method]) + BOMBS[name]
            await one.stream.send_all(len(body).to_bytes(2, "big") + bytes((Op.REQUEST, 0)) + body)
            reply = await one.next(Op.REPLY, Op.ERROR)
            assert reply["code"] == ErrorCode.BAD_REQUEST, reply


async def test_running_out_of_descriptors_spares_those_who_are_there(tmp_path: Path) -> None:
    """prlimit on the shard: EMFILE is survived, newcomers are reset, then it goes on."""
    with start(tmp_path, "one shard", lifted=True) as server:
        async with siege(server) as state:
            shard = processes(server)["shard 0"]
            limits = resource.prlimit(shard, resource.RLIMIT_NOFILE)
            open_now = len(os.listdir(f"/proc/{shard}/fd"))  # noqa: PTH208
            resource.prlimit(shard, resource.RLIMIT_NOFILE, (open_now + 4, limits[1]))
            made = []
            for _ in range(30):
                one = await Peer.connect(server)
                made.append(one)
                try:
                    await one.hello()
                except trio.BrokenResourceError:
                    continue
            trips = state.round_trips
            with trio.fail_after(5):
                while (await state.counters())["shards_descriptors_exhausted"] < 3:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            with trio.fail_after(5):
                while state.round_trips < trips + 5:  # noqa: ASYNC110
                    await trio.sleep(0.05)
            resource.prlimit(shard, resource.RLIMIT_NOFILE, limits)
            for one in made:
                await one.stream.aclose()
            async with peer(server, "late"):
                pass


async def test_short_of_memory_newcomers_are_refused_and_the_others_go_on(tmp_path: Path) -> None:
    """The limit lies below what the server uses: 95 % and more, so nobody is accepted; sessions could not be made."""
    with start(tmp_path, "one shard", "process.memory_bytes_max=1000", lifted=True) as server:
        log = server.log
        with trio.fail_after(5):
            while b"memory pressure" not in log.read_bytes():  # noqa: ASYNC110
                await trio.sleep(0.05)
        await trio.sleep(0.2)
        async with (late := await Peer.connect(server, "late")).stream:
            await late.hello()
            with trio.move_on_after(0.5) as patience, pytest.raises(Closed):
                await late.read()
            assert patience.cancelled_caught


async def test_revoking_a_key_ends_the_sessions_it_opened_as_others(server: ChatdServer) -> None:
    async with siege(server) as state:
        admin = state.admin
        bridge = (await admin.call(Method.ADMIN_USER_CREATE, {1: f"bridge-{next(names)}"}))[1]
        made = await admin.call(Method.ADMIN_API_KEY_CREATE, {1: bridge, 2: "bridge", 3: True})
        async with (puppet := await Peer.connect(server)).stream, peer(server, "puppet") as own:
            await puppet.hello()
            welcome = await puppet.auth(Credential.API_KEY, made[1].encode(), "puppet")
            assert welcome.op == Op.WELCOME
            assert welcome["ticket"] == b"", "a ticket would outlive the key"
            assert puppet.user == own.user
            await admin.call(Method.ADMIN_API_KEY_REVOKE, {1: made[2]})
            assert await puppet.end() == Close.REVOKED
            await own.barrier()
        state.secrets.append(made[1].encode())
        await state.closed({Close.REVOKED: 1, Close.PEER_CLOSED: 1})
