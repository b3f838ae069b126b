"""Logins against a running server: every credential, resume, takeover, revocation, expiry, limits."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.raw import RawConnection, device_proof

from chatd.client import Client
from chatd.secrets import mint
from chatd.shard.ticket import TICKET_BYTES
from chatd.testing import ChatdServer
from chatd.wire.schema import Close, Credential, ErrorCode, Feature, Op


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChatdServer]:
    options = ["--set", "auth.guests=true", "--set", "auth.reauth_grace_s=2", "--log", "json"]
    with ChatdServer.start(tmp_path_factory.mktemp("logins"), "--shards", "2", *options, inline=False) as server:
        with RawConnection(server.port) as connection:
            connection.auth(Credential.JWT, server.token("admin").encode())
            connection.expect(Op.WELCOME)
        yield server


def connect(server: ChatdServer, features: Feature = Feature(0)) -> RawConnection:  # noqa: B008
    return RawConnection(server.port, features=features)


def admin(server: ChatdServer) -> Client:
    return server.client("admin")


def admin_key(server: ChatdServer) -> bytes:
    return (server.data / "secrets" / "admin.key").read_text().strip().encode()


def test_jwt(server: ChatdServer) -> None:
    with connect(server) as first, connect(server) as second:
        first.auth(Credential.JWT, server.token("alice").encode())
        welcome = first.expect(Op.WELCOME)
        assert len(welcome["ticket"]) == TICKET_BYTES
        assert welcome["heartbeat_ms"] in range(48_000, 72_001)
        second.auth(Credential.JWT, server.token("alice").encode(), device=welcome["device"])
        again = second.expect(Op.WELCOME)
        assert (again["user"], again["device"]) == (welcome["user"], welcome["device"])
        assert again["session_epoch"] > welcome["session_epoch"]
        assert first.expect(Op.BYE)["reason"] == Close.TAKEN_OVER


def test_api_key_for_itself_and_for_others(server: ChatdServer) -> None:
    users = []
    for identity in ("", "admin", "carol"):
        with connect(server) as connection:
            connection.auth(Credential.API_KEY, admin_key(server), identity)
            users.append(connection.expect(Op.WELCOME)["user"])
    assert users[0] == users[1] != users[2]


async def test_password_and_its_wrong_answers(server: ChatdServer) -> None:
    async with admin(server) as boss:
        user = await boss.admin_create_user("paula", "Paula", "correct horse", admin=False)
    with connect(server) as connection:
        connection.auth(Credential.PASSWORD, b"correct horse", "paula")
        assert connection.expect(Op.WELCOME)["user"] == user
    answers = []
    for name, password in (("paula", b"wrong"), ("nobody at all", b"wrong"), ("alice", b"wrong"), ("paula", b"")):
        with connect(server) as connection:
            connection.auth(Credential.PASSWORD, password, name)
            answers.append(connection.expect(Op.ERROR))
    assert {(frame["code"], frame["text"], frame["retry_after_ms"]) for frame in answers} == {
        (ErrorCode.AUTH_FAILED, "", 0)
    }


def test_guest(server: ChatdServer) -> None:
    with connect(server) as connection, connect(server) as other:
        connection.auth(Credential.GUEST, identity="Passer-by")
        other.auth(Credential.GUEST)
        assert connection.expect(Op.WELCOME)["user"] != other.expect(Op.WELCOME)["user"]


async def test_device_key(server: ChatdServer) -> None:
    async with server.client("alice") as alice:
        device, key = await alice.create_device_key("sensor")
    for right in (True, False):
        with connect(server, Feature.CHALLENGE) as connection:
            nonce = connection.expect(Op.CHALLENGE)["nonce"]
            proof = device_proof(key if right else bytes(32), nonce, device)
            connection.auth(Credential.DEVICE_KEY, proof, device=device)
            assert connection.expect(Op.WELCOME if right else Op.ERROR)
    with connect(server) as connection:
        connection.auth(Credential.DEVICE_KEY, device_proof(key, b"", device), device=device)
        assert connection.expect(Op.ERROR)["code"] == ErrorCode.AUTH_FAILED


def test_resume_on_any_shard_and_not_with_a_touched_ticket(server: ChatdServer) -> None:
    with connect(server) as connection:
        connection.auth(Credential.JWT, server.token("rita").encode())
        welcome = connection.expect(Op.WELCOME)
    for _ in range(6):
        with connect(server) as connection:
            connection.resume(welcome["ticket"], welcome["log_epoch"], welcome["cursor"])
            resumed = connection.expect(Op.RESUMED)
        assert (resumed["user"], resumed["device"], resumed["continuity"]) == (welcome["user"], welcome["device"], 1)
    with connect(server) as connection:
        connection.resume(welcome["ticket"], welcome["log_epoch"] + 1, welcome["cursor"])
        assert connection.expect(Op.RESUMED)["continuity"] == 0
    touched = bytes((*welcome["ticket"][:-1], welcome["ticket"][-1] ^ 1))
    with connect(server) as connection:
        for _ in range(3):
            connection.resume(touched)
            assert connection.expect(Op.ERROR)["code"] == ErrorCode.AUTH_FAILED
        assert connection.expect(Op.BYE)["reason"] == Close.AUTH_FAILED


async def test_revocation_ends_sessions_tickets_and_tokens(server: ChatdServer) -> None:
    old = server.token("mallory").encode()
    with connect(server) as connection:
        connection.auth(Credential.JWT, old)
        welcome = connection.expect(Op.WELCOME)
        async with admin(server) as boss:
            await boss.admin_revoke_user(welcome["user"])
        assert connection.expect(Op.BYE)["reason"] == Close.REVOKED
    with connect(server) as connection:
        connection.resume(welcome["ticket"])
        assert connection.expect(Op.ERROR)["code"] == ErrorCode.REVOKED
    with connect(server) as connection:
        connection.auth(Credential.JWT, old)
        assert connection.expect(Op.ERROR)["code"] == ErrorCode.REVOKED
        connection.auth(Credential.JWT, server.token("mallory").encode())
        assert connection.expect(Op.WELCOME)["user"] == welcome["user"]


def test_many_first_logins_of_one_user_make_one_user(server: ChatdServer) -> None:
    connections = [connect(server) for _ in range(8)]
    for connection in connections:
        connection.auth(Credential.JWT, server.token("newcomer").encode())
    users = {connection.expect(Op.WELCOME)["user"] for connection in connections}
    for connection in connections:
        connection.sock.close()
    assert len(users) == 1


def test_foreign_device_is_refused(server: ChatdServer) -> None:
    with connect(server) as connection, connect(server) as thief:
        connection.auth(Credential.JWT, server.token("alice").encode())
        device = connection.expect(Op.WELCOME)["device"]
        thief.auth(Credential.JWT, server.token("trudy").encode(), device=device)
        assert thief.expect(Op.ERROR)["code"] == ErrorCode.AUTH_FAILED


def test_expiry_is_told_reauth_goes_on_and_silence_ends(server: ChatdServer) -> None:
    with connect(server) as connection, connect(server) as silent:
        for each in (connection, silent):
            each.auth(Credential.JWT, mint(server.data, "emma", 2).encode())
        welcome, _ = connection.expect(Op.WELCOME), silent.expect(Op.WELCOME)
        for each in (connection, silent):
            told = each.expect(Op.ERROR)
            assert (told["code"], told["retry_after_ms"]) == (ErrorCode.TOKEN_EXPIRED, 2000)
        connection.send(Op.REAUTH, credential=1, identity="", proof=server.token("trudy").encode())
        assert connection.expect(Op.ERROR)["code"] == ErrorCode.AUTH_FAILED
        connection.send(Op.REAUTH, credential=1, identity="", proof=server.token("emma").encode())
        again = connection.expect(Op.WELCOME)
        assert (again["user"], again["session_epoch"]) == (welcome["user"], welcome["session_epoch"])
        assert silent.expect(Op.BYE)["reason"] == Close.TOKEN_EXPIRED
        connection.send(Op.PING, flags=2, echo=b"alive")
        assert connection.expect(Op.PONG)["echo"] == b"alive"


def test_a_ticket_does_not_prolong_its_token(server: ChatdServer) -> None:
    with connect(server) as connection:
        connection.auth(Credential.JWT, mint(server.data, "emma", 1).encode())
        ticket = connection.expect(Op.WELCOME)["ticket"]
    time.sleep(1.5)
    with connect(server) as connection:
        connection.resume(ticket)
        connection.expect(Op.RESUMED)
        assert connection.expect(Op.ERROR)["code"] == ErrorCode.TOKEN_EXPIRED


def test_guessing_is_limited_from_loopback_too(tmp_path: Path) -> None:
    with ChatdServer.start(tmp_path, lifted=False) as server:
        for number in range(7):
            with connect(server) as connection:
                connection.auth(Credential.PASSWORD, b"Tr0ub4dor", "admin")
                refused = connection.expect(Op.ERROR)
                assert refused["code"] == (ErrorCode.AUTH_FAILED if number < 5 else ErrorCode.RATE_LIMITED)
        assert refused["retry_after_ms"] in range(1, 12_001)
        with connect(server) as connection:
            connection.auth(Credential.GUEST)
            assert connection.expect(Op.ERROR)["code"] == ErrorCode.AUTH_FAILED
        for _ in range(30):
            with connect(server) as connection:
                connection.auth(Credential.JWT, server.token("alice").encode())
                connection.expect(Op.WELCOME)
        assert "Tr0ub4dor" not in server.log.read_text()


def test_no_token_password_or_key_in_the_log(server: ChatdServer) -> None:
    log = server.log.read_text()
    assert "login refused" in log
    for secret in ("correct horse", "eyJ", admin_key(server).decode()):
        assert secret not in log
