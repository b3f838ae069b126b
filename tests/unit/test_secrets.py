"""Secrets: made at random, private, long enough, nobody's example; ticket keys rotate."""

import os
from pathlib import Path

import pytest

from chatd import secrets
from chatd.config import load
from chatd.config.load import Settings
from chatd.errors import ConfigError


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    settings = load(flags={"data": str(tmp_path / "data")})
    secrets.create(settings.data)
    return settings


def test_made_once_and_private(settings: Settings) -> None:
    paths = sorted(path.name for path in settings.secrets_dir.iterdir())
    assert paths == ["jwt.key", "ticket.keys"]
    for path in settings.secrets_dir.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600
    assert settings.secrets_dir.stat().st_mode & 0o777 == 0o700
    before = secrets.load(settings)
    assert secrets.create(settings.data) == []
    assert secrets.load(settings) == before


def test_two_installations_share_nothing(settings: Settings, tmp_path: Path) -> None:
    secrets.create(tmp_path / "other")
    other = (tmp_path / "other" / "secrets" / "jwt.key").read_text()
    assert other != (settings.secrets_dir / "jwt.key").read_text()


def test_secrets_are_not_in_the_settings(settings: Settings) -> None:
    key = (settings.secrets_dir / "jwt.key").read_text().strip()
    assert key not in repr(settings)
    assert key not in settings.model_dump_json()


@pytest.mark.parametrize("secret", ["short", "A" * 42, "00" * 31, *sorted(secrets.SHIPPED_EXAMPLES)])
def test_weak_and_published_secrets_are_refused(settings: Settings, secret: str) -> None:
    (settings.secrets_dir / "jwt.key").write_text(secret)
    with pytest.raises(ConfigError, match=r"jwt\.key"):
        secrets.load(settings)


def test_readable_by_others_is_refused(settings: Settings) -> None:
    (settings.secrets_dir / "jwt.key").chmod(0o640)
    with pytest.raises(ConfigError, match="chmod 600"):
        secrets.load(settings)


def test_private_key_of_an_issuer_is_refused(settings: Settings) -> None:
    pem = settings.data / "issuer.pem"
    pem.write_text("-----BEGIN PRIVATE KEY-----\n")
    issuer = {"issuer": "https://id.example.org", "keys": {"1": str(pem)}}
    external = load(flags={"data": str(settings.data), "auth.issuers": [issuer]})
    with pytest.raises(ConfigError, match="private key"):
        secrets.load(external)


def test_ticket_keys_rotate_and_three_are_kept(settings: Settings) -> None:
    now = secrets.read_ticket_keys(settings.data)[0][1]
    assert not secrets.rotate_ticket_keys(settings.data, 100, now + 99)
    for step in range(1, 6):
        assert secrets.rotate_ticket_keys(settings.data, 100, now + 100 * step)
    numbers = [number for number, _, _ in secrets.read_ticket_keys(settings.data)]
    assert numbers == [6, 5, 4]


def test_damaged_ticket_keys_say_what_to_do(settings: Settings) -> None:
    path = settings.secrets_dir / "ticket.keys"
    path.write_text("1 now zz\n")
    with pytest.raises(ConfigError, match="chatd init"):
        secrets.load(settings)


def test_private_file_is_whole_or_absent(tmp_path: Path) -> None:
    path = tmp_path / "key"
    secrets.write_private(path, "first")
    secrets.write_private(path, "second")
    assert path.read_text() == "second"
    assert os.listdir(tmp_path) == ["key"]  # noqa: PTH208
