"""What the hub costs per SEND by itself: reading the ring, checking, the journal, publishing. No sockets, one process.

    python bench/micro_hub.py [--conversations 5000] [--devices 2000] [--batch 200] [--rounds 500] [--body 64]
                              [--offline] [--directory DIR]

CPU time of this thread (time.thread_time), so noise of other processes hardly touches it; `append` also shows elapsed
time, because it waits for the disk. Every conversation has two members; without --offline both are online, so each SEND
makes a COMMITTED record and an ANSWER.
"""

import argparse
import random
import shutil
import tempfile
import time
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from struct import Struct

from chatd._native import HubCore, Ring
from chatd.hub.core_settings import HubCoreSettings
from chatd.storage.sqlite.store import SqliteStore

# native/link.h: link_send, link_login, link_received
SEND = Struct("<BBHIQQQQQ")
LOGIN = Struct("<BBHIQQQQQII")
RECEIVED = Struct("<B7xQ")
S_SEND, S_LOGIN, S_RECEIVED, S_READY = 1, 5, 8, 9
REGISTERED_EPOCH = Struct("<BxHIQQQQ")
RING_BYTES = 4 << 20
KIND_CUSTOM = 16
STAGES = ("poll", "batch", "append", "publish", "freed")


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


class Shard:
    """The other end of the link: all devices are logged in on it."""

    def __init__(self, core: HubCore) -> None:
        self.to_hub, self.from_hub = Ring.create(RING_BYTES, 1), Ring.create(RING_BYTES, 1)
        ends = [Ring.attach(ring.memfd, ring.fileno(), 1) for ring in (self.to_hub, self.from_hub)]
        core.link(0, 1, *ends)
        for kind in (S_RECEIVED, S_READY):
            self.write(RECEIVED.pack(kind, 0))
        self.token = 0
        self.received_bytes = 0

    def write(self, record: bytes) -> None:
        if not self.to_hub.put(record):
            raise RuntimeError("the ring is full; a smaller --batch")

    def drain(self) -> int:
        count = 0
        while (record := self.from_hub.read()) is not None:
            count += 1
            self.received_bytes += len(record)
        return count


class Bench:
    def __init__(self, arguments: argparse.Namespace, directory: Path) -> None:
        self.arguments = arguments
        self.random = random.Random(7)
        self.core = HubCore(HubCoreSettings())
        self.shard = Shard(self.core)
        self.store = SqliteStore.open(directory)
        self.cpu: dict[str, float] = defaultdict(float)
        self.elapsed: dict[str, float] = defaultdict(float)
        self.epochs: dict[int, int] = {}
        self.cseqs: dict[int, int] = defaultdict(int)
        self.now_ms = time.time_ns() // 1_000_000

    def prepare(self) -> None:
        """Users, devices and conversations into the tables, as loading would; then everybody logs in."""
        devices, conversations = self.arguments.devices, self.arguments.conversations
        online = devices if not self.arguments.offline else devices // 2
        for number in range(1, devices + 1):
            self.core.put_user(number, 0, 0)
            self.core.put_device(number, number, 0, 0)
        self.members = []
        for cid in range(1, conversations + 1):
            sender = 1 + (cid - 1) % online
            other = 1 + (sender + (cid - 1) // online) % devices if online == devices else sender + online
            self.members.append(sender)
            rows = [(user, 1, 1, 0, 0, 0, 0) for user in sorted({sender, other})]
            self.core.put_conversation(cid, 1, 0, 0, 0, 0, 0, rows)
        for number in range(1, online + 1):
            self.shard.write(LOGIN.pack(S_LOGIN, 0, 0, 65535, number, number, number, 0, 0, 0, 0))
        self.shard.to_hub.publish()
        while len(self.epochs) < online:
            self.core.poll(self.now_ms)
            while (record := self.shard.from_hub.read()) is not None:
                _, _, _, handle, _, _, epoch = REGISTERED_EPOCH.unpack_from(record)
                self.epochs[handle] = epoch

    def sends(self) -> None:
        payload = self.random.randbytes(self.arguments.body)
        for _ in range(self.arguments.batch):
            cid = self.random.randint(1, self.arguments.conversations)
            device = self.members[cid - 1]
            self.cseqs[device] += 1
            self.shard.token += 1
            body = varint(self.cseqs[device]) + varint(cid) + varint(KIND_CUSTOM) + payload
            epoch = self.epochs[device]
            head = (S_SEND, 0, 0, len(body), device, self.shard.token, device, device, epoch)
            self.shard.write(SEND.pack(*head) + body)
        self.shard.to_hub.publish()

    def round(self) -> None:
        """One turn of the hub's loop, stage by stage."""
        marks = [(time.thread_time(), time.perf_counter())]

        def mark() -> None:
            marks.append((time.thread_time(), time.perf_counter()))

        upcalls = self.core.poll(self.now_ms)
        mark()
        if upcalls or self.core.staged_count != self.arguments.batch:
            raise RuntimeError(f"{self.core.staged_count} staged, {upcalls[:3]}")
        pos, count, blob = self.core.batch()
        mark()
        self.store.append(pos, count, blob)
        mark()
        self.core.publish()
        mark()
        self.core.freed(pos + count - 1)
        mark()
        for stage, (before, after) in zip(STAGES, pairwise(marks), strict=True):
            self.cpu[stage] += after[0] - before[0]
            self.elapsed[stage] += after[1] - before[1]

    def run(self) -> None:
        self.prepare()
        for _ in range(self.arguments.rounds):
            self.sends()
            self.round()
            self.shard.drain()
        sends = self.arguments.rounds * self.arguments.batch
        size = self.shard.received_bytes / sends
        print(f"{sends:,} sends in batches of {self.arguments.batch}, {size:.0f} bytes to the shard for each")
        stages = [(stage, self.cpu[stage], self.elapsed[stage]) for stage in STAGES]
        for stage, cpu, elapsed in [*stages, ("together", sum(self.cpu.values()), sum(self.elapsed.values()))]:
            print(f"  {stage:8} {cpu / sends * 1e6:6.3f} µs CPU, {elapsed / sends * 1e6:6.3f} µs elapsed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("conversations", 5000), ("devices", 2000), ("batch", 200), ("rounds", 500), ("body", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--offline", action="store_true", help="recipients are not online")
    parser.add_argument("--directory", type=Path, help="where the store is made; must not exist")
    arguments = parser.parse_args()
    root = arguments.directory or Path(tempfile.mkdtemp(prefix="micro-hub-", dir=Path(__file__).parent))
    try:
        Bench(arguments, root / "data").run()
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
