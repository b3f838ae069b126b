"""The deliberate faults of `make sabotage` cannot be reached in what is built for use."""

from pathlib import Path

from chatd import _native

ROOT = Path(__file__).resolve().parents[2]


def test_a_normal_build_has_none_and_asks_for_none() -> None:
    assert not _native.SABOTAGE_BUILD
    # The string that getenv would be given; the module's own SABOTAGE_BUILD is another one.
    assert b"\0SABOTAGE\0" not in Path(_native.__file__).read_bytes()


def test_only_the_build_of_its_own_defines_them() -> None:
    asked = [path.name for path in (ROOT / "tools").iterdir() if "CHATD_SABOTAGES" in path.read_text()]
    assert asked == ["setup.sh"]
    assert "CHATD_SABOTAGES" not in (ROOT / ".ci/run").read_text()


def test_the_servers_python_knows_nothing_of_them() -> None:
    named = [path for path in (ROOT / "chatd").rglob("*.py") if "SABOTAGE" in path.read_text().upper()]
    assert named == []
