"""What a scenario is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.shapes import Shape


@dataclass(frozen=True)
class Options:
    """What the command line leaves open is None: the scenario decides."""

    connections: int | None = None
    window: int | None = None
    payload: int = 64
    seconds: float | None = None
    warm_up: float | None = None
    repeats: int = 3
    peers: tuple[str, ...] | None = None
    shards: int = 1
    heartbeat_ms: int | None = None
    rate: float | None = None
    with_chatd: bool = True


@dataclass(frozen=True)
class Point:
    """One row per server: a shape of traffic with its parameters.

    resume: log in with resume tickets instead of tokens. login_only: what is measured ends when all are connected.
    rate: send so many per second, whatever the server does; 0: as fast as the windows allow.
    rate_share: send at this share of the rate that the same server reached at the point named `of`.
    goal: what measures.md asks of chatd here, for the table.
    """

    label: str
    work: str
    shape: Shape
    window: int = 1
    seconds: float = 5
    warm_up: float = 1
    heartbeat_ms: int = 0
    resume: bool = False
    login_only: bool = False
    of: str = ""
    rate: float = 0
    rate_share: float = 0
    goal: str = ""
    only: frozenset[str] = field(default_factory=frozenset)  # servers, all when empty


@dataclass(frozen=True)
class Scenario:
    """One `python -m bench NAME`.

    points: from the options. fresh: a new server for every measurement, because memory once taken hides what comes.
    shared_cores: see machine.Cores.
    """

    name: str
    title: str
    work: str
    peers: tuple[str, ...]
    points: Callable[[Options], list[Point]]
    fresh: bool = False
    shared_cores: bool = False
