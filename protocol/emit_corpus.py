"""vectors/*.json → corpus/: small inputs that fuzzers of frame parsers start from.

Sound frames by op, one broken frame per clause, and whole sessions: mutations of these reach further than noise does.
"""

import json
from pathlib import Path
from typing import Any

SEED_BYTES_MAX = 2048

# Ops of vectors in the order in which a session sends them; the vectors' first frame of each is taken.
SESSIONS = {
    "session-client": [
        "HELLO",
        "AUTH",
        "SUBSCRIBE",
        "SYNC",
        "PULL",
        "SEND",
        "EPHEMERAL",
        "READ",
        "ACK",
        "REQUEST",
        "BYE",
    ],
    "session-resume": ["HELLO", "RESUME", "SYNC", "SEND", "SKIP", "SEND", "PING", "REAUTH", "UNSUBSCRIBE", "BYE"],
    "session-server": ["CHALLENGE", "WELCOME", "SYNC_PAGE", "DELIVER", "PULL_END", "SEND_ACK", "LAG", "GOAWAY", "BYE"],
}


def corpus(folder: Path) -> dict[str, bytes]:
    """File name and content of every seed."""
    valid, forbidden = read(folder / "valid.json"), read(folder / "forbidden.json")
    seeds: dict[str, bytes] = {}
    for vector in valid:
        data = expand(vector["bytes"])
        name = f"op-{vector['op'].lower()}"
        if len(seeds.get(name, b"")) + len(data) <= SEED_BYTES_MAX:
            seeds[name] = seeds.get(name, b"") + data
    for vector in forbidden:
        data = expand(vector["bytes"])
        if len(data) <= SEED_BYTES_MAX:
            seeds.setdefault(f"clause-{vector['clause'].replace('.', '-')}", data)
    first: dict[str, bytes] = {}
    for vector in valid:
        first.setdefault(vector["op"], expand(vector["bytes"]))
    for name, ops in SESSIONS.items():
        seeds[name] = b"".join(first[op] for op in ops)
    return seeds


def read(path: Path) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))["vectors"]
    return vectors


def expand(text: str) -> bytes:
    out = b""
    for token in text.split():
        digits, _, count = token.partition("*")
        out += bytes.fromhex(digits) * (int(count) if count else 1)
    return out
