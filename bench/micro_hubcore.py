"""What one SEND costs the hub without its store: poll + batch + publish, in microseconds, with rings of real size.

    python bench/micro_hubcore.py [--conversations 5000] [--devices 2000] [--batch 200] [--sends 200000]

The shard's side (writing SENDs, reading the rings empty) is not timed. Percentiles over the
batches are printed; nothing is asserted.
"""

import argparse
import random
import statistics
import sys
import time
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from support.fakehub import FakeHub  # noqa: E402
from support.fakeshard import FakeShard, Session  # noqa: E402

from chatd._native import HubCore  # noqa: E402


def prepared(conversations: int, devices: int) -> tuple[FakeHub, FakeShard, list[Session]]:
    """Direct conversations between random users, one device each, all online on one shard."""
    chance = random.Random(1)
    hub = FakeHub(HubCore)
    shard = FakeShard(hub.core)
    for user in range(1, devices + 1):
        hub.person(user, user)
    members = {cid: chance.sample(range(1, devices + 1), 2) for cid in range(1, conversations + 1)}
    for cid, users in members.items():
        hub.conversation(cid, *users, kind=1)
    sessions = [hub.login(shard, 1_000_000 + user, user, user) for user in range(1, devices + 1)]
    return hub, shard, sessions


def run(conversations: int, devices: int, batch: int, sends: int) -> list[tuple[float, ...]]:
    """Microseconds per send of each batch: poll, batch, publish and their sum."""
    chance = random.Random(2)
    hub, shard, sessions = prepared(conversations, devices)
    core = hub.core
    pairs = [(sessions[row[0] - 1], cid) for cid, made in hub.conversations.items() for row in made[6]]
    cseqs = dict.fromkeys((session.device for session in sessions), 0)
    costs = []
    clock = time.perf_counter
    for number in range(2 * conversations // batch + sends // batch):
        warm = number >= 2 * conversations // batch
        for session, cid in chance.choices(pairs, k=batch) if warm else pairs[number * batch : (number + 1) * batch]:
            cseqs[session.device] += 1
            shard.send(session, cseqs[session.device], cid, bytes(64))
        started = clock()
        upcalls = core.poll(hub.now_ms, hub.tick_ms)
        polled = clock()
        for upcall in upcalls:
            hub.answer(upcall)
        answered = clock()
        core.batch()
        made = clock()
        core.publish()
        published = clock()
        if warm:
            parts = (polled - started, made - answered, published - made)
            costs.append(tuple(part / batch * 1e6 for part in (*parts, sum(parts))))
        shard.read_raw()
        core.freed(max(0, core.committed_pos - 100_000))
    return costs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("conversations", 5000), ("devices", 2000), ("batch", 200), ("sends", 200_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    costs = run(settings.conversations, settings.devices, settings.batch, settings.sends)
    for name, column in zip(("poll", "batch", "publish", "all"), zip(*costs, strict=True), strict=True):
        ordered = sorted(column)
        print(
            f"{name:8} p10 {ordered[len(ordered) // 10]:6.3f}  median {statistics.median(ordered):6.3f}"
            f"  p99 {ordered[len(ordered) * 99 // 100]:6.3f} us per send"
        )


if __name__ == "__main__":
    main()
