"""What ephemeral messages cost the engine: one shard on loopback sockets, clients and hub in the same process.

    python bench/micro_engine.py relay|fanout [--connections N] [--window 64|16] [--rounds 50] [--body 64]

In a round every publisher sends its window in one write, the engine is polled until everything is delivered, and the
clients read it. Printed: deliveries, writes and CPU time per delivery of the polls alone, kernel included. Made to be
counted by `python -m bench instructions`, which runs it with two numbers of rounds and takes the difference.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parents[1] / "tests")]

from support import frames  # noqa: E402
from support.socket_shard import Shard  # noqa: E402

from chatd.engine.settings import EngineSettings  # noqa: E402

CONNECTIONS = {"relay": 200, "fanout": 500}
WINDOWS = {"relay": 64, "fanout": 16}
QUEUE_BYTES = EngineSettings().queue_hard_bytes


class Bench:
    """relay: connection i sends to i + 1 in conversation i + 1. fanout: connection 0 sends to all in conversation 1."""

    def __init__(self, work: str, connections: int, window: int, body: int) -> None:
        self.shard = Shard(queue_ephemeral_bytes=QUEUE_BYTES)
        self.polled_s = 0.0
        poll = self.shard.poll

        def timed() -> list[tuple[Any, ...]]:
            began = time.thread_time()
            upcalls: list[tuple[Any, ...]] = poll()
            self.polled_s += time.thread_time() - began
            return upcalls

        self.shard.poll = timed
        self.clients = [self.shard.login(number) for number in range(1, connections + 1)]
        fans_out = work == "fanout"
        for number, client in enumerate(self.clients):
            wanted = [1] if fans_out else [number or connections, number + 1]
            client.sendall(b"".join(frames.subscribe(cid) for cid in wanted))
            self.shard.receive(client, len(wanted))
        self.publishers = self.clients[:1] if fans_out else self.clients
        self.sent = [frames.ephemeral(1 + number, bytes(body)) * window for number in range(len(self.publishers))]
        self.deliveries = window * (connections - 1 if fans_out else connections)

    def round(self) -> None:
        engine = self.shard.engine
        wanted = engine.counters()["frames_out"] + self.deliveries
        for client, data in zip(self.publishers, self.sent, strict=True):
            client.sendall(data)
        while engine.counters()["frames_out"] < wanted:
            self.shard.step()
        for client in self.clients:
            try:
                client.recv(1 << 16)
            except BlockingIOError:
                continue

    def run(self, rounds: int) -> None:
        before = self.shard.engine.counters()
        self.polled_s = 0.0
        for _ in range(rounds):
            self.round()
        after = self.shard.engine.counters()
        count, writes = (after[name] - before[name] for name in ("ephemeral_out", "writes"))
        if count != rounds * self.deliveries:
            raise RuntimeError(f"{count} deliveries instead of {rounds * self.deliveries}")
        cost = self.polled_s / count * 1e6 if count else 0
        print(f"{count} deliveries, {writes} writes, {cost:.3f} µs CPU each")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=list(CONNECTIONS))
    for name, default in (("connections", 0), ("window", 0), ("rounds", 50), ("body", 64)):
        parser.add_argument(f"--{name}", type=int, default=default)
    settings = parser.parse_args()
    work = settings.work
    connections, window = settings.connections or CONNECTIONS[work], settings.window or WINDOWS[work]
    bench = Bench(work, connections, window, settings.body)
    try:
        bench.run(settings.rounds)
    finally:
        bench.shard.close()


if __name__ == "__main__":
    main()
