"""Run a scenario: every point, every server, every repeat; then rows.

Repeats are the outer loop and servers the inner one, so that a slow minute of the machine hits all of them and not one.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from bench import generator
from bench.generator import Measurement, Order
from bench.machine import Cores, describe
from bench.prefill import ColdSet
from bench.rows import rows_of, rows_of_login
from bench.scenarios import Options, Point, Scenario
from bench.servers import SERVERS, Server
from bench.shapes import pooled

Progress = Callable[[str, str, str, float], None]  # server, point, stage, share done
OnStage = Callable[[Server, str], None]  # four times a second while the generator runs


class Run:
    def __init__(
        self,
        scenario: Scenario,
        options: Options,
        on_progress: Progress,
        on_stage: OnStage = lambda server, stage: None,
    ) -> None:
        self.scenario = scenario
        self.options = options
        self.on_progress = on_progress
        self.on_stage = on_stage
        self.cores = Cores(shared=scenario.shared_cores)
        self.settings: dict[str, object] = {}
        self.measured: dict[tuple[str, str], list[Measurement]] = {}

    def result(self) -> dict[str, Any]:
        """Measure everything. The document of bench/README.md: machine, settings, rows."""
        machine = describe()
        generator.build()
        points = self.scenario.points(self.options)
        with tempfile.TemporaryDirectory(prefix="bench-plan-") as directory, self._servers() as servers:
            for point in points:
                self._measure_point(point, servers, Path(directory))
        rows = [
            row for point in points for row in (rows_of_login if point.login_only else rows_of)(point, self._of(point))
        ]
        settings = {
            "scenario": self.scenario.name,
            "cores": str(self.cores),
            **self._common(),
            "servers": self.settings,
        }
        return {"machine": machine, "settings": settings, "rows": rows}

    def _of(self, point: Point) -> dict[str, list[Measurement]]:
        return {server: found for (server, label), found in self.measured.items() if label == point.label}

    def _common(self) -> dict[str, object]:
        return {
            "payload_bytes": self.options.payload,
            "repeats": self.options.repeats,
            "shards": self.options.shards,
            "store": self.options.store,
        }

    def _kinds(self) -> list[type[Server]]:
        wanted = self.options.peers if self.options.peers is not None else self.scenario.peers
        kinds = [SERVERS["chatd"]] if self.options.with_chatd else []
        for kind in SERVERS.values():
            named = kind.name in wanted or kind.peer in wanted
            if named and self.scenario.works & kind.works and kind not in kinds:
                kinds.append(kind)
        return kinds

    def _new(self, kind: type[Server], cold: ColdSet | None = None) -> Server:
        server = kind(self.cores.server)
        server.cold = cold
        server.shards = self.options.shards
        server.store = self.options.store
        server.lifted = not self.scenario.defaults
        return server

    @contextmanager
    def _servers(self) -> Iterator[list[Server]]:
        """All servers of the run, started; when every measurement wants a fresh one, only made."""
        servers = [self._new(kind) for kind in self._kinds()]
        self.settings = {server.name: server.settings() for server in servers}
        if self.scenario.fresh:
            yield servers
            return
        with ExitStack() as stack:
            for server in servers:
                self.on_progress(server.name, self.scenario.name, "start", 0)
                stack.enter_context(server.running())
            yield servers

    def _measure_point(self, point: Point, servers: list[Server], directory: Path) -> None:
        for _ in range(min(self.options.repeats, point.repeats or self.options.repeats)):
            for server in servers:
                work = point.work if server.name == "chatd" else point.peer_work or point.work
                if (point.only and server.name not in point.only) or work not in server.works:
                    continue
                if self.scenario.fresh or point.cold:
                    self.on_progress(server.name, point.label, "start", 0)
                    with self._new(type(server), point.cold).running() as fresh:
                        self._measure(point, fresh, directory)
                else:
                    self._measure(point, server, directory)

    def _measure(self, point: Point, server: Server, directory: Path) -> None:
        path = directory / f"{server.name}.plan"
        self.on_progress(server.name, point.label, "seed", 0)
        shape, window = pooled(point.shape, point.window, server.pool)
        server.plan(shape, path, point.credential)
        if point.restart:
            server.restart()
        ours = server.name == "chatd"
        cores = Cores(shared=self.cores.shared and not point.own_core)
        server.move_to(cores.server)
        order = Order(
            protocol=server.protocol,
            work=point.work if ours else point.peer_work or point.work,
            port=server.port,
            plan=path,
            processes=server.processes(),
            window=window,
            payload=point.payload or self.options.payload,
            seconds=point.seconds,
            warm_up=point.warm_up,
            rate=self._rate(point, server),
            heartbeat_ms=point.heartbeat_ms,
            stuck=point.stuck,
            reread=point.reread and ours,
        )
        backlog: list[tuple[float, int]] = []

        def follow(stage: str, done: float) -> None:
            self.on_progress(server.name, point.label, stage, done)
            self.on_stage(server, stage)
            if stage == "measure" and order.work == "durable" and (behind := server.backlog()) is not None:
                backlog.append((round(done * point.seconds, 2), behind))

        try:
            taken = generator.run(order, cores, follow)
        except generator.RunError as error:
            raise generator.RunError(f"{server.name}, {point.label}: {error}\n{server.log_end()}") from None
        taken = replace(taken, backlog=backlog)
        self.measured.setdefault((server.name, point.label), []).append(taken)

    def _rate(self, point: Point, server: Server) -> float:
        if not point.rate_share:
            return point.rate
        reached = self.measured[(server.name, point.of)]
        return point.rate_share * median(measurement.per_s for measurement in reached)
