"""login: what it costs to come (back): by resume ticket, by JSON Web Token, by password. Peers only connect.

From connect() to logged in, 64 connections at a time, nothing subscribed. The rate per core is what one core would do,
all processes of the server counted; the time on the clock belongs to the generator as much as to the server.
"""

from bench.scenarios.base import Options, Point, Scenario
from bench.shapes import Shape

PASSWORDS = 100  # argon2id costs 19 ms each, by intention


def points(options: Options) -> list[Point]:
    count = options.connections or 5000
    return [
        _point(count, "ticket", "resume by ticket", "≥ 20,000 per s and core"),
        _point(count, "token", "login by JSON Web Token", ""),
        _point(min(count, PASSWORDS), "password", "login by password", ""),
    ]


def _point(count: int, credential: str, name: str, goal: str) -> Point:
    """What a peer does instead of resuming is to connect, so it stands beside the first."""
    strangers = Shape(name, publish=[() for _ in range(count)], subscribe=[() for _ in range(count)], members=[])
    return Point(
        label=f"{name}, {count} connections",
        work="idle",
        shape=strangers,
        seconds=0.1,
        warm_up=0,
        credential=credential,
        login_only=True,
        goal=goal,
        only=frozenset() if credential == "ticket" else frozenset({"chatd"}),
    )


LOGIN = Scenario(
    name="login",
    title="logins and resumes",
    works=frozenset({"idle"}),
    peers=("nats", "redis", "mosquitto"),
    points=points,
)
