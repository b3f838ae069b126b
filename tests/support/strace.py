"""What the processes of a running server ask of the kernel, in the order in which the kernel did it.

strace is attached to all of them and follows their children; one tracer sees all calls of all processes, so its file
has one order. A call has two places in it: where it began and where it returned.
"""

import contextlib
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest

OUTPUT = "pwrite64,write,writev,sendto,sendmsg,fdatasync,fsync"
DISK = "pwrite64,ftruncate,fdatasync,fsync,unlink,unlinkat,rename,renameat,renameat2,sendto"
ATTACHED_WITHIN_S = 60.0
CONTENT_BYTES_MAX = 2 << 20
"""More than any write of ours has: content that is cut short would prove nothing."""
_TEXT = r'"((?:\\x[0-9a-f]{2})*)"'
_BEGUN = re.compile(rf"^(\d+) +(\w+)\((?:AT_FDCWD<[^>]*>, )?(?:\d+<((?:->|[^>])*)>+(?:\(deleted\))?|{_TEXT})")
_DATA = re.compile(rf"^, (?:\[\{{iov_base=)?{_TEXT}")
_NUMBERS = re.compile(r"^(?:, (\d+))+")
_RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>")
_RESULT = re.compile(r"\) += (-?\d+)")


class Call(NamedTuple):
    """begun: True where it began, False where it returned; a call that was not interrupted has both in a row.

    target: a path, or "TCP:[local->remote]". offset: the last number among the arguments. result: of the return;
    negative for an error.
    """

    begun: bool
    name: str
    target: str
    data: bytes
    result: int
    offset: int = 0


def parsed(lines: Iterator[str]) -> Iterator[Call]:
    """The calls of a trace made with -f -xx -yy."""
    waiting: dict[tuple[str, str], Call] = {}
    for line in lines:
        if begun := _BEGUN.match(line):
            pid, name, target, path = begun.groups()
            data = _DATA.match(line[begun.end() :])
            rest = line[begun.end() + (data.end() if data else 0) :]
            number = _NUMBERS.match(rest)
            content = bytes.fromhex(data[1].replace("\\x", "")) if data else b""
            assert len(content) < CONTENT_BYTES_MAX, f"a {name} of {len(content)} bytes or more: raise the limit"
            call = Call(True, name, plain(target or path), content, 0, int(number[1]) if number else 0)
            yield call
            if line.rstrip().endswith("<unfinished ...>"):
                waiting[pid, name] = call
            else:
                yield returned(call, line)
        elif (resumed := _RESUMED.match(line)) and (call := waiting.pop(resumed.groups(), None)):  # type: ignore[arg-type]
            yield returned(call, line)


def returned(call: Call, line: str) -> Call:
    result = _RESULT.search(line, max(0, len(line) - 80))
    return call._replace(begun=False, result=int(result[1]) if result else -1)


def plain(target: str) -> str:
    if not target.startswith("\\x"):
        return target
    return bytes.fromhex(target.replace("\\x", "")).decode(errors="replace")


def require() -> None:
    """Skip where nothing can be traced, and say why."""
    if shutil.which("strace") is None:
        pytest.skip("needs strace (apt-get install strace)")
    tried = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True)
    if tried.returncode != 0:
        pytest.skip(f"this system lets nobody trace: {tried.stderr.strip()[:200]}")


@contextmanager
def traced(pids: list[int], trace: Path, calls: str = OUTPUT) -> Iterator[None]:
    """These calls of these processes go to a file, complete after the block."""
    attach = [word for pid in pids for word in ("-p", str(pid))]
    command = ["strace", "-f", "-xx", "-yy", "-s", str(CONTENT_BYTES_MAX), "-e", f"trace={calls}", "-e", "signal=none"]
    tracer = subprocess.Popen([*command, "-o", trace, *attach], stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + ATTACHED_WITHIN_S
        while not all(is_traced(pid) for pid in pids):
            assert tracer.poll() is None, "strace ended by itself"
            assert time.monotonic() < deadline, "strace did not attach"
            time.sleep(0.02)
        yield
    finally:
        tracer.terminate()
        tracer.wait(30)


def is_traced(pid: int) -> bool:
    """Every thread of it; a thread that ends meanwhile does not count."""
    traced_by = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            traced_by.append("TracerPid:\t0" not in (task / "status").read_text())
    return all(traced_by)
