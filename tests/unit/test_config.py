"""Settings: where they come from, what is refused, and what the example says."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from chatd.config import Settings, example_toml, load, plain
from chatd.config.address import Address
from chatd.config.engine import engine_settings
from chatd.engine.settings import EngineSettings
from chatd.errors import ConfigError
from chatd.hub.rights import Roles
from chatd.supervisor.plan import checked_roles
from chatd.wire.schema import Right, Role


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def written(text: str) -> Path:
    path = Path("some.toml")
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_need_nothing() -> None:
    settings = load()
    assert settings.data == Path("data")
    assert settings.listen.tcp == [Address("127.0.0.1", 7350)]
    assert 1 <= settings.shard_count <= 64


def test_example_is_complete_and_has_the_defaults() -> None:
    text = example_toml()
    assert load(written(text)) == load()
    parsed = tomllib.loads(text)
    for name, section in load():
        if isinstance(parsed.get(name), dict):
            missing = type(section).model_fields.keys() - parsed[name].keys()
            assert missing <= {"issuers", "kinds", "roles", "certificate", "key", "directory"}


def test_every_setting_is_explained_and_bounded() -> None:
    for name, section in load():
        for key, field in getattr(type(section), "model_fields", {}).items():
            assert field.description, f"{name}.{key}"
            if field.annotation is int:
                assert {type(rule).__name__ for rule in field.metadata} == {"Ge", "Le"}, f"{name}.{key} has no range"


def test_file_environment_and_flags_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    path = written("[session]\nsends_per_s = 1\nsends_burst = 1\nframes_burst = 1\n")
    monkeypatch.setenv("CHATD_SESSION__SENDS_BURST", "2")
    monkeypatch.setenv("CHATD_SESSION__FRAMES_BURST", "2")
    session = load(path, {"session.frames_burst": 3}).session
    assert (session.sends_per_s, session.sends_burst, session.frames_burst) == (1, 2, 3)


def test_chatd_toml_of_the_working_directory_is_read() -> None:
    Path("chatd.toml").write_text("[process]\nshards = 3\n", encoding="utf-8")
    assert load().shard_count == 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("colour = 1", "colour: there is no such setting"),
        ("[session]\nsends_per_day = 1", "session.sends_per_day: there is no such setting"),
        ("[session]\nsends_burst = 0", "session.sends_burst: Input should be greater than or equal to 1, not 0"),
        ("[listen]\ntcp = ['::1:5']", "write IPv6 addresses in brackets"),
        ("[listen]\ntcp = ['localhost']", "must be host:port"),
        ("[accept]\naddress_exempt = ['10.0.0.1/8']", "accept.address_exempt.0"),
        ("[auth]\nissuers = [{issuer = 'x', keys = {}, algorithm = 'none'}]", "auth.issuers.0.algorithm"),
        ("a = ", "not valid TOML"),
    ],
)
def test_faults_name_the_key(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(written(text))
    assert named in str(caught.value)


def test_misspelt_environment_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHATD_SESION__SENDS_PER_S", "1")
    with pytest.raises(ConfigError, match="CHATD_SESION__SENDS_PER_S is no setting"):
        load()


def test_missing_file_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml: No such file"):
        load(Path("absent.toml"))


def test_engine_settings_are_fields_of_the_engine() -> None:
    settings = engine_settings(load())
    engine = EngineSettings(**settings)
    assert engine.sends_per_s == load().session.sends_per_s
    assert engine.connections_max >= 16


def test_sections_become_json() -> None:
    for name in Settings.model_fields:
        if name not in ("data", "store"):
            assert json.loads(json.dumps(plain(getattr(load(), name)))) is not None


def test_the_store_is_sqlite_or_a_database(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load().store == "sqlite"
    monkeypatch.setenv("CHATD_STORE", "postgresql://chatd:secret@db1,db2/chatd")
    assert load().store == "postgresql://chatd:secret@db1,db2/chatd"
    assert "secret" not in load().model_dump_json()
    for wrong in ("mysql://x", "postgresql://chatd@db/chatd?password=secret"):
        with pytest.raises(ConfigError, match=r"store: (must be|has its password)") as refused:
            load(flags={"store": wrong})
        assert "secret" not in str(refused.value)


@pytest.mark.parametrize(("role", "word"), [
    ({"code": 7, "name": "x"}, "8"),
    ({"code": 9, "name": "owner"}, "taken"),
    ({"code": 9, "name": "x", "inherits": "nobody"}, "nobody"),
    ({"code": 9, "name": "x", "inherits": "owner"}, "owner"),
    ({"code": 9, "name": "x", "grants": ["fly"]}, "fly"),
])  # fmt: skip
def test_roles_that_cannot_be_are_refused(role: dict[str, Any], word: str) -> None:
    with pytest.raises(ConfigError, match=word):
        checked_roles(load(None, {"hub.roles": [role]}))


def test_roles_inherit_from_those_before_them() -> None:
    herald = {"code": 8, "name": "herald", "inherits": "moderator", "denies": ["remove"]}
    chief = {"code": 9, "name": "chief", "inherits": "herald", "grants": ["edit_info"]}
    own = checked_roles(load(None, {"hub.roles": [herald, chief]}))
    found = Roles(own).by_name["chief"]
    assert found.rank == Roles().rank(Role.MODERATOR)
    assert found.rights == (Roles().by_code[Role.MODERATOR].rights & ~Right.REMOVE) | Right.EDIT_INFO
