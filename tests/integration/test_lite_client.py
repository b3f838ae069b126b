"""The lite profile on a real server: a C client without malloc and with 512-byte frames logs in by device key, sends,
receives, resumes, and fetches by byte ranges an event that is larger than its buffer."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatd.testing import ChatdServer

ROOT = Path(__file__).resolve().parents[2]
SDK = ROOT / "sdk" / "c"
PATIENCE_S = 10


class Device:
    """The example program as a process: commands in, one event per line out."""

    def __init__(self, program: Path, port: int, device: int, key: bytes, cid: int) -> None:
        self.process = subprocess.Popen(
            [program, "127.0.0.1", str(port), str(device), key.hex(), str(cid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )

    def say(self, command: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def until(self, name: str) -> dict[str, str]:
        """Read lines up to the next event of that name; returns its fields."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith(name + " "):
                return dict(re.findall(r"(\w+)=(\S*)", line))
        raise AssertionError(f"the device ended before {name}")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = tmp_path_factory.mktemp("sdk-c")
    subprocess.run(["make", "-s", "-C", SDK, f"BUILD={build}"], check=True, timeout=60)
    return build / "chatd-lite-example"


@pytest.fixture
def device(chatd_server: ChatdServer, program: Path) -> Iterator[tuple[Device, int, list[int]]]:
    """A device of the user "sensor" in a direct conversation with "owner"; seqs that "owner" has sent."""
    with chatd_server.blocking_client("sensor") as sensor, chatd_server.blocking_client("owner") as owner:
        device, key = sensor.create_device_key("thermometer")
        cid = owner.direct(owner.user_named("sensor").id)
        sent = [owner.send(cid, "hello device").seq, owner.send(cid, "x" * 3000).seq]
    running = Device(program, chatd_server.port, device, key, cid)
    yield running, cid, sent
    running.close()


@pytest.mark.timeout(60)
def test_a_device_chats_resumes_and_fetches_by_ranges(
    chatd_server: ChatdServer, device: tuple[Device, int, list[int]]
) -> None:
    lite, cid, (small, large) = device
    lite.until("online")
    while int((event := lite.until("event"))["seq"]) < small:
        pass
    assert bytes.fromhex(event["payload"]) == b"hello device"

    stub = lite.until("stub")
    assert (int(stub["seq"]), int(stub["length"])) == (large, 3000)
    lite.say(f"fetch {large} 1000 900")
    parts: dict[int, bytes] = {}
    while sum(map(len, parts.values())) < 900:
        chunk = lite.until("chunk")
        assert int(chunk["length"]) == 3000
        parts[int(chunk["offset"])] = bytes.fromhex(chunk["payload"])
    assert min(parts) == 1000
    assert b"".join(parts[offset] for offset in sorted(parts)) == b"x" * 900
    lite.until("fetch-end")

    lite.say("send 21.5 degrees")
    assert int(lite.until("acked")["seq"]) == large + 1
    lite.say("drop")
    lite.until("online")
    lite.say("send 22.0 degrees")
    assert int(lite.until("acked")["seq"]) == large + 2

    with chatd_server.blocking_client("owner") as owner:
        texts = [event.payload for event in owner.history(cid).events]
    assert texts[-2:] == [b"21.5 degrees", b"22.0 degrees"]


def test_the_client_calls_no_allocator(tmp_path: Path) -> None:
    objects = [tmp_path / f"{name}.o" for name in ("chatd_lite", "sha256")]
    for target in objects:
        subprocess.run(
            ["cc", "-std=c11", "-Os", f"-I{ROOT / 'protocol'}", "-c", SDK / f"{target.stem}.c", "-o", target],
            check=True,
        )
    wanted = subprocess.run(["nm", "-u", *objects], check=True, capture_output=True, text=True).stdout
    assert set(re.findall(r"U (\w+)", wanted)) - {"memcpy", "memmove", "memset", "strlen", "chatd_hmac_sha256"} <= {
        "__stack_chk_fail"
    }
