"""Reading protocol/vectors/*.json and README.md, for every implementation's runner."""

import json
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from chatd.wire import Frame, make
from chatd.wire.schema import FLAG_EXT, OPS, RECORDS, Field, Op

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "protocol/vectors"


def expand(text: str) -> bytes:
    """ "6162 00*3" → b"ab\\0\\0\\0"."""
    out = b""
    for token in text.split():
        digits, _, count = token.partition("*")
        out += bytes.fromhex(digits) * (int(count) if count else 1)
    return out


@cache
def read(name: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["vectors"]
    return listed


def load(name: str) -> list[dict[str, Any]]:
    """valid or forbidden, with the others that have its form."""
    mark = {"valid": "fields", "forbidden": "clause"}[name]
    return read(name) + [vector for other in ("contents", "regression") for vector in read(other) if mark in vector]


def value_of(field: Field, given: Any) -> Any:
    if field.type == "list":
        record = RECORDS[field.record]
        return tuple({inner.name: value_of(inner, entry[inner.name]) for inner in record.fields} for entry in given)
    if isinstance(given, dict):
        return expand(given["hex"]) if "hex" in given else expand(given["utf8"]).decode("utf-8")
    return given


def map_of(given: Any) -> Any:
    """A MessagePack map, or what is in one."""
    if isinstance(given, dict):
        if given.keys() == {"hex"}:
            return expand(given["hex"])
        return {int(key) if key.isdigit() else key: map_of(value) for key, value in given.items()}
    return [map_of(value) for value in given] if isinstance(given, list) else given


def frame_of(vector: dict[str, Any]) -> Frame:
    """The frame that a vector of valid.json describes in words."""
    op = Op[vector["op"]]
    rule = OPS[op]
    flags = sum(FLAG_EXT if name == "EXT" else rule.flags[name] for name in vector["flags"])
    fields = {field.name: value_of(field, vector["fields"][field.name]) for field in rule.layout.fields}
    extensions = tuple((entry["tag"], expand(entry["hex"])) for entry in vector.get("extensions", []))
    return Frame(op, flags, fields, extensions)


@dataclass(frozen=True)
class Example:
    """A ```frame block of README.md: hexadecimal lines, then the frame as a call."""

    bytes: bytes
    call: str

    def frame(self) -> Frame:
        name, _, arguments = self.call.partition("(")
        fields: dict[str, Any] = eval(f"dict({arguments}", {"bytes": bytes, "dict": dict})  # our own README
        names = fields.pop("flags", "").split()
        extensions = tuple(fields.pop("extensions", ()))
        flags = sum(OPS[Op[name]].flags[flag] for flag in names)
        return make(Op[name], flags=flags, extensions=extensions, **fields)


@cache
def readme() -> str:
    return (ROOT / "protocol/README.md").read_text(encoding="utf-8")


def examples() -> list[Example]:
    found = []
    for block in re.findall(r"```frame\n(.*?)\n```", readme(), flags=re.DOTALL):
        match = re.fullmatch(r"([0-9a-f \n]+)\n([A-Z_]+\(.*\))", block)
        assert match, f"not an example: {block}"
        found.append(Example(expand(match[1]), match[2]))
    return found


def named(vector: dict[str, Any]) -> str:
    """For pytest's ids."""
    return str(vector["name"])
