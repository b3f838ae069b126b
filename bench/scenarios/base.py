"""What a scenario is made of."""

from collections.abc import Callable
from dataclasses import dataclass, field

from bench.prefill import ColdSet
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
    store: str = "sqlite"
    heartbeat_ms: int | None = None
    rate: float | None = None
    stuck: int | None = None
    quick: bool = False  # sets that take long to make are small
    with_chatd: bool = True


@dataclass(frozen=True)
class Point:
    """One row per server: a shape of traffic with its parameters.

    credential: what connections log in with: token, ticket, password. login_only: what is measured ends when all are
    connected. peer_work: what peers do instead of `work`. stuck: so many readers do not read. reread: read all again.
    restart: start the server anew when it has been filled, so that its tables are empty.
    cold: a server of its own on this store. repeats: at most so many, 0: the run's.
    payload: bytes, instead of the run's. own_core: see machine.Cores, where the scenario shares them.
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
    peer_work: str = ""
    credential: str = "token"
    stuck: int = 0
    reread: bool = False
    restart: bool = False
    payload: int = 0
    cold: ColdSet | None = None
    repeats: int = 0
    own_core: bool = False
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
    shared_cores: see machine.Cores. defaults: peers keep their own limits on what waits for a client.
    """

    name: str
    title: str
    peers: tuple[str, ...]
    points: Callable[[Options], list[Point]]
    works: frozenset[str]  # a peer takes part when it knows one of these
    fresh: bool = False
    shared_cores: bool = False
    defaults: bool = False
