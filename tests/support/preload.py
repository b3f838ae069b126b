"""Libraries that are loaded in front of the C library of a server under test."""

import shutil
import subprocess
from pathlib import Path

import pytest

FAULTS = Path(__file__).resolve().parents[1] / "faults"
FAKETIME = (
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketime.so.1",
)


def compiled(source: str, directory: Path) -> str:
    """LD_PRELOAD for a C file of tests/faults. Skips without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    library = directory / f"{source}.so"
    command = [compiler, "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, FAULTS / source, "-ldl"]
    subprocess.run(command, check=True)
    return str(library)


def failing_disk(directory: Path) -> tuple[dict[str, str], Path, Path]:
    """Environment for servers whose journal can fail, and two files: as many bytes, so many failing syncs, so many
    writes without space (faultfs.c)."""
    armed, full = directory / "armed", directory / "full"
    armed.touch()
    full.touch()
    variables = {
        "LD_PRELOAD": compiled("faultfs.c", directory),
        "FAULTFS_PATH": "journal-",
        "FAULTFS_ARMED": str(armed),
        "FAULTFS_FULL": str(full),
    }
    return variables, armed, full


def stepping_clock(directory: Path) -> tuple[dict[str, str], Path]:
    """Environment for servers whose wall clock can be set, and the file that says by how many seconds it is off."""
    library = next((name for name in FAKETIME if Path(name).exists()), None)
    if library is None:
        pytest.skip("needs libfaketime (Debian package faketime)")
    file = directory / "clock"
    file.write_text("+0")
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(file),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }, file
