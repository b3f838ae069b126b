"""The tour of README.md does what it says: its commands run against a real server and print what is shown."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```console tour\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\((?!https?:)([^)#]+)")


def steps(markdown: str) -> list[tuple[str, str]]:
    """(command, expected output) of every console block, in order."""
    found: list[tuple[str, str]] = []
    for block in BLOCK.findall(markdown):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            found.append((command, output.rstrip("\n")))
    return found


def pattern(expected: str) -> str:
    """… stands for anything."""
    return ".*".join(re.escape(part) for part in expected.split("…"))


def test_the_tour_prints_what_readme_shows(tour_environment: dict[str, str]) -> None:
    tour = steps((ROOT / "README.md").read_text())
    assert len(tour) >= 5
    for command, expected in tour:
        done = subprocess.run(
            command, shell=True, cwd=ROOT, env=tour_environment, capture_output=True, text=True, timeout=30
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        assert re.fullmatch(pattern(expected), done.stdout.rstrip("\n"), re.DOTALL), f"{command}\n{done.stdout}"


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("*.md")))
def test_links_of_the_front_pages_lead_somewhere(page: str) -> None:
    for target in LINK.findall((ROOT / page).read_text()):
        assert (ROOT / target).exists(), f"{page} links to {target}"
