"""The schema as objects, checked: what schema.toml may say and what the emitters may rely on."""

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCALARS = {"u8", "u16", "u32", "u64", "varint", "time40", "bytes", "str", "rest", "msgpack"}
TAKES_THE_REST = {"rest", "msgpack"}
STATES = {"before": 1, "live": 2, "any": 3}
SIDES = {"client": 1, "server": 2, "both": 3}
CODED = (
    *("error", "close", "kind", "ephemeral_kind", "method", "notice", "presence", "audience"),
    *("credential", "conversation_kind", "role", "command_state", "case_state"),
)
THEN = {"ticket": 1, "fresh": 2, "stop": 3}


@dataclass(frozen=True)
class Field:
    name: str
    type: str  # one of SCALARS, bytesN or list
    record: str = ""  # of a list
    limit: int = 0  # bytes, or items of a list; 0: only what the body bounds


@dataclass(frozen=True)
class Layout:
    """Fields in wire order. ext: how many of them stand before the extension block, None when there is none."""

    name: str
    fields: tuple[Field, ...]
    ext: int | None = None


@dataclass(frozen=True)
class Op:
    name: str
    code: int
    sides: int
    states: int
    lite: bool
    empty: bool
    flags: dict[str, int]
    layout: Layout
    doc: str
    side: str
    state: str
    feature: str  # name of the feature it needs, or ""

    @property
    def flags_mask(self) -> int:
        return sum(self.flags.values()) | (FLAG_EXT if self.layout.ext is not None else 0)


FLAG_EXT = 0x01


@dataclass(frozen=True)
class Extension:
    """One tag of one op; schema.toml may name several ops at once."""

    name: str
    op: str
    tag: int
    layout: Layout
    judged: bool


@dataclass(frozen=True)
class Schema:
    raw: dict[str, Any]
    ops: list[Op]
    extensions: list[Extension]
    records: dict[str, Layout]
    kinds: dict[str, Layout | None]

    def table(self, name: str) -> dict[str, dict[str, Any]]:
        """A closed set of schema.toml: {NAME: {code or bit, ...}} in order of its codes."""
        entries: dict[str, dict[str, Any]] = self.raw[name]
        return dict(sorted(entries.items(), key=lambda entry: entry[1].get("code", entry[1].get("bit", 0))))


def load(path: Path) -> Schema:
    """Read schema.toml. Raises ValueError naming what is inconsistent."""
    raw = tomllib.loads(path.read_text(encoding="utf-8"))
    if raw["frame"]["flag_ext"] != FLAG_EXT:
        raise ValueError("frame.flag_ext must be the lowest bit")
    records = {name: layout_of(name, entry) for name, entry in raw["record"].items()}
    ops = sorted((op_of(name, entry) for name, entry in raw["op"].items()), key=lambda op: op.code)
    kinds = {name: layout_of(name, entry) if "fields" in entry else None for name, entry in raw["kind"].items()}
    extensions = [extension for name, entry in raw["extension"].items() for extension in extensions_of(name, entry)]
    schema = Schema(raw, ops, extensions, records, kinds)
    check(schema)
    return schema


def op_of(name: str, entry: dict[str, Any]) -> Op:
    return Op(
        name=name,
        code=entry["code"],
        sides=SIDES[entry["from"]],
        states=STATES[entry["state"]],
        lite=entry.get("lite", False),
        empty=entry.get("empty", False),
        flags=entry.get("flags", {}),
        layout=layout_of(name, entry),
        doc=entry["doc"],
        side=entry["from"],
        state=entry["state"],
        feature=entry.get("feature", ""),
    )


def extensions_of(name: str, entry: dict[str, Any]) -> list[Extension]:
    ops = [entry["op"]] if isinstance(entry["op"], str) else entry["op"]
    return [Extension(name, op, entry["tag"], layout_of(name, entry), entry.get("judged", False)) for op in ops]


def layout_of(name: str, entry: dict[str, Any]) -> Layout:
    fields: list[Field] = []
    ext: int | None = None
    limits: dict[str, int] = entry.get("limits", {})
    for item in entry["fields"]:
        if item == ["ext"]:
            ext = len(fields)
            continue
        field_name, type_name = item
        listed = re.fullmatch(r"list<(\w+)>", type_name)
        if listed:
            fields.append(Field(field_name, "list", listed[1], limits.get(field_name, 0)))
        else:
            fields.append(Field(field_name, type_name, "", limits.get(field_name, 0)))
    unknown = set(limits) - {field.name for field in fields}
    if unknown:
        raise ValueError(f"{name}: limits of fields that do not exist: {sorted(unknown)}")
    return Layout(name, tuple(fields), ext)


def check(schema: Schema) -> None:
    codes = [op.code for op in schema.ops]
    if len(set(codes)) != len(codes):
        raise ValueError("two ops share a code")
    for op in schema.ops:
        if op.feature and op.feature not in schema.raw["features"]:
            raise ValueError(f"{op.name}: unknown feature {op.feature}")
        bits = [FLAG_EXT, *op.flags.values()]
        if len(set(bits)) != len(bits) or any(bit & (bit - 1) for bit in bits):
            raise ValueError(f"{op.name}: flags must be distinct single bits, the lowest is EXT")
    tags = [(extension.op, extension.tag) for extension in schema.extensions]
    if len(set(tags)) != len(tags):
        raise ValueError("two extensions of an op share a tag")
    layouts = [op.layout for op in schema.ops] + list(schema.records.values())
    layouts += [extension.layout for extension in schema.extensions]
    for layout in layouts + [layout for layout in schema.kinds.values() if layout]:
        check_layout(schema, layout)
    for name in CODED:
        numbers = [entry["code"] for entry in schema.raw[name].values()]
        if len(set(numbers)) != len(numbers):
            raise ValueError(f"{name}: two entries share a code")


def check_layout(schema: Schema, layout: Layout) -> None:
    for index, field in enumerate(layout.fields):
        if field.type == "list":
            if field.record not in schema.records or not field.limit:
                raise ValueError(f"{layout.name}.{field.name}: a list needs a record and a limit")
        elif field.type not in SCALARS and not re.fullmatch(r"bytes[1-9]\d*", field.type):
            raise ValueError(f"{layout.name}.{field.name}: unknown type {field.type}")
        if field.type in TAKES_THE_REST and index != len(layout.fields) - 1:
            raise ValueError(f"{layout.name}.{field.name}: only the last field can take the rest")
