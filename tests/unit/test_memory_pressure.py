"""Memory pressure: what the supervisor reads, and the level that follows."""

import os
from pathlib import Path

import pytest

from chatd.supervisor.memory import LOOK_INTERVAL_S, NORMAL, SHED, STOP, UNLIMITED_LOOK_INTERVAL_S, Memory


def cgroup_v2(root: Path, current: int, limit: str, cache: int = 0) -> Memory:
    directory = root / "sys/fs/cgroup/system.slice/chatd.service"
    directory.mkdir(parents=True, exist_ok=True)
    (root / "proc/self").mkdir(parents=True, exist_ok=True)
    (root / "proc/self/cgroup").write_text("0::/system.slice/chatd.service\n")
    (directory / "memory.current").write_text(f"{current}\n")
    (directory / "memory.max").write_text(f"{limit}\n")
    (directory / "memory.stat").write_text(f"anon 5\ninactive_file {cache}\n")
    return Memory(0, root)


@pytest.mark.parametrize(
    ("current", "cache", "level"),
    [(840, 0, NORMAL), (850, 0, SHED), (949, 0, SHED), (950, 0, STOP), (990, 200, NORMAL), (5000, 0, STOP)],
)
def test_levels_of_a_cgroup(tmp_path: Path, current: int, cache: int, level: int) -> None:
    assert cgroup_v2(tmp_path, current, "1000", cache).level([]) == level


def test_a_cgroup_without_limit_never_sheds(tmp_path: Path) -> None:
    assert cgroup_v2(tmp_path, 1 << 40, "max").level([]) == NORMAL


def test_cgroup_v1(tmp_path: Path) -> None:
    directory = tmp_path / "sys/fs/cgroup/memory/chatd"
    directory.mkdir(parents=True)
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/cgroup").write_text("4:cpu:/x\n3:memory:/chatd\n0::/\n")
    (directory / "memory.usage_in_bytes").write_text("900\n")
    (directory / "memory.limit_in_bytes").write_text("1000\n")
    (directory / "memory.stat").write_text("total_inactive_file 10\n")
    assert Memory(0, tmp_path).level([]) == SHED
    (directory / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert Memory(0, tmp_path).level([]) == NORMAL


def test_without_cgroups_and_without_a_setting_there_is_no_limit(tmp_path: Path) -> None:
    memory = Memory(0, tmp_path)
    assert memory.level([os.getpid()]) == NORMAL
    assert memory.look_again_s == UNLIMITED_LOOK_INTERVAL_S


def test_a_limit_that_comes_later_is_kept_an_eye_on(tmp_path: Path) -> None:
    memory = cgroup_v2(tmp_path, 900, "max")
    assert (memory.level([]), memory.look_again_s) == (NORMAL, UNLIMITED_LOOK_INTERVAL_S)
    limit = next(tmp_path.rglob("memory.max"))
    limit.write_text("1000\n")
    assert (memory.level([]), memory.look_again_s) == (SHED, LOOK_INTERVAL_S)


def test_a_named_limit_counts_our_processes() -> None:
    used, limit = Memory(1 << 50).usage([os.getpid(), 2**22 + 1])
    assert limit == 1 << 50
    assert used > 1 << 20
    assert Memory(1).level([os.getpid()]) == STOP
    assert Memory(1 << 50).level([os.getpid()]) == NORMAL
