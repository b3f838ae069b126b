"""The commands as people type them, against the fake server (tests/integration has them with the real one)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest
from anyio.from_thread import start_blocking_portal
from support.fake_network import FakeNetwork, fake_network
from support.fake_server import FakeServer
from typer.testing import CliRunner

from chatd import secrets
from chatd.cli import COMMANDS, app, login
from chatd.cli.login import Login, PatientClient, safe_name
from chatd.cli.show import event_text, safe
from chatd.client import ClientError, Credential, Event, UnreachableError
from chatd.client.state import State
from chatd.client.transport import parse_server
from chatd.errors import ChatdError, ConfigError
from chatd.wire import encode, encode_payload, make
from chatd.wire.schema import Kind, Op

BOB = 2


def test_chat_says_before_its_screen_that_its_state_is_in_use(network: FakeNetwork, tmp_path: Path) -> None:
    held = State(tmp_path / "chat.db")
    ended = CliRunner().invoke(app, ["chat", "--as", "1", "--token", "1", "--state", str(tmp_path / "chat.db")])
    held.close()
    assert isinstance(ended.exception, ClientError)
    assert "in use by another chatd client: stop that one or choose another --state" in str(ended.exception)


@pytest.mark.parametrize(("server", "most_s"), [("127.0.0.1:1", 1.0), ("[::1]:1", 1.0), ("chat.example.org:1", 30.0)])
def test_commands_dial_a_server_on_this_host_every_second(tmp_path: Path, server: str, most_s: float) -> None:
    client = Login("chat", "ann", server, tmp_path, "1", tmp_path / "chat.db").client()
    assert client._settings.backoff_max_s == most_s


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeNetwork]:
    """A server whose users are numbers; --token N is user N."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    server = FakeServer()
    server.create(7, 1, BOB)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(fake_network(server)) as network:
        monkeypatch.setenv("CHATD_SERVER", network.address)
        yield network
        portal.call(anyio.sleep, 0)


def chatd(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.splitlines()]


def test_send_prints_the_place_of_the_message(network: FakeNetwork) -> None:
    assert chatd("send", "--as", "1", "--token", "1", "--group", "7", "hi") == "7:1\n"
    (sent,) = lines(chatd("send", "--as", "1", "--token", "1", "--to", "2", "--json", "direct"))
    assert (sent["cid"], sent["seq"], sent["dup"]) == (1002, 1, False)
    with pytest.raises(ChatdError, match="there is no user 'nobody' on this server: `chatd user add nobody`"):
        chatd("send", "--as", "1", "--token", "1", "--to", "nobody", "hi")
    assert "say where" in chatd("send", "--as", "1", "--token", "1", "hi", code=2)


def test_tail_prints_each_event_once_over_restarts(network: FakeNetwork) -> None:
    tail = ("tail", "--as", "2", "--token", "2", "--json")
    for number in range(3):
        network.server.append(7, 1, Kind.TEXT, b"number %d" % number)
    printed = lines(chatd(*tail, "--count", "2"))
    assert [(line["type"], line["seq"], line["text"]) for line in printed] == [
        ("event", 1, "number 0"),
        ("event", 2, "number 1"),
    ]
    network.server.append(7, 1, Kind.CUSTOM, b"\x00\xff")
    printed = lines(chatd(*tail, "--idle", "0.5"))
    assert [line["seq"] for line in printed] == [3, 4]
    assert printed[1]["payload_base64"] == "AP8="


async def test_who_waits_for_a_session_is_soon_told_why(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(login, "SILENT_S", 0.1)
    with pytest.raises(UnreachableError):
        async with PatientClient("127.0.0.1:1", Credential.guest(), wait_s=0.3):
            pass
    assert "refused): is the server running there? Trying for 0.3 s" in capsys.readouterr().err


def test_history_shows_the_newest_or_a_range(network: FakeNetwork) -> None:
    for number in range(10):
        network.server.append(7, 1, Kind.TEXT, b"number %d" % number)
    history = ("history", "7", "--as", "2", "--token", "2", "--json")
    assert [line["seq"] for line in lines(chatd(*history, "--last", "3"))] == [8, 9, 10]
    assert [line["seq"] for line in lines(chatd(*history, "--from-seq", "2", "--to-seq", "6"))] == [2, 3, 4, 5, 6]


def test_decode_explains_and_says_by_its_code_whether_it_is_sound() -> None:
    frame = encode(make(Op.ACK, count=3)).hex(":")
    assert "ACK" in chatd("decode", frame)
    assert "cut off" in chatd("decode", frame[:-3], code=1)
    assert "not hexadecimal" in chatd("decode", "xyz", code=2)


def test_token_is_signed_with_the_secret_of_the_data_directory(tmp_path: Path) -> None:
    secrets.create(tmp_path)
    token = chatd("token", "alice", "--data", str(tmp_path)).strip()
    key = secrets.read_secret(tmp_path / "secrets" / "jwt.key")
    claims = jwt.decode(token, key, algorithms=["HS256"], audience="chatd", issuer="chatd")
    assert claims["sub"] == "alice"
    assert claims["exp"] - claims["nbf"] == 900
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "kid": "local", "typ": "JWT"}
    with pytest.raises(ConfigError, match="`chatd init`"):
        secrets.mint(tmp_path / "elsewhere", "alice")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in {"serve", "init", "config"}])
def test_help_is_there_for_every_command(command: str) -> None:
    assert "Usage" in chatd(command, "--help")


def test_state_files_of_different_users_differ() -> None:
    names = ["alice", "../alice", "a/b", "a%2fb", "..", ".", "Älice"]
    assert len({safe_name(name) for name in names}) == len(names)
    assert all("/" not in safe_name(name) and safe_name(name).strip(".") for name in names)
    assert Login("tail", "bob", data=Path("d")).state_path == Path("d/clients/bob/tail.db")


def test_a_command_finds_the_server_of_its_data_directory(tmp_path: Path) -> None:
    assert Login("tail", "bob", data=tmp_path).address == "127.0.0.1:7350"
    (tmp_path / "run.json").write_text(
        '{"listeners": [{"kind": "tls", "host": "::", "port": 1}, {"kind": "tcp", "host": "::1", "port": 7351}]}'
    )
    assert Login("tail", "bob", data=tmp_path).address == "[::1]:7351"
    assert Login("tail", "bob", "example.org", tmp_path).address == "example.org"


def test_servers_are_read_as_people_write_them() -> None:
    assert parse_server("example.org") == ("example.org", 7350)
    assert parse_server("[::1]:99") == ("::1", 99)
    with pytest.raises(ClientError, match="write host:port"):
        parse_server("example.org:0")


def test_texts_of_others_cannot_move_the_cursor() -> None:
    assert safe("a\x1b[2Jb\nc") == "a\ufffd[2Jb ⏎ c"
    payload = encode_payload(Kind.MEMBERS_ADDED, {"role": 1, "users": [{"user": 2}, {"user": 3}]})
    event = Event(7, 1, 1, 0, Kind.MEMBERS_ADDED, payload)
    assert event_text(event, {2: "bob"}) == "added bob, user 3"


@pytest.mark.parametrize(("kind", "fields", "said"), [
    (Kind.MEMBER_MUTED, {"user": 2, "until_s": 0}, "lets bob write again"),
    (Kind.MEMBER_BANNED, {"user": 2, "until_s": 9}, "banned bob"),
    (Kind.BAN_LIFTED, {"user": 3}, "lifted the ban of user 3"),
    (Kind.MEMBER_JOINED, {"user": 2, "by": 3}, "bob joined"),
    (Kind.INFO_CHANGED, {"topic": "news", "avatar": ""}, "changed the topic to news"),
    (Kind.RULES_CHANGED, {"slow_mode_s": 5, "history": 0, "denials": []}, "changed the rules: slow mode 5 s"),
    (Kind.PUBLIC_NAME_CHANGED, {"name": "here"}, "set the public name here"),
    (Kind.DELETED, {"title": "t"}, "deleted the conversation t"),
    (Kind.ROLE_CHANGED, {"user": 2, "role": 9}, "made bob role 9"),
])  # fmt: skip
def test_what_happened_is_said_in_words(kind: Kind, fields: dict[str, Any], said: str) -> None:
    event = Event(7, 1, 1, 0, kind, encode_payload(kind, fields))
    assert event_text(event, {2: "bob"}) == said
