"""schema.toml → schema.json (for generators of other languages) and the tables of README.md between their markers."""

import json
import re
from collections.abc import Callable, Iterable
from typing import Any

from emit_c import COMMAND
from model import Field, Layout, Op, Schema

SIDE_WORDS = {"client": "client → server", "server": "server → client", "both": "both ways"}
STATE_WORDS = {"before": "before login", "live": "live", "any": "any state"}


def as_json(schema: Schema) -> str:
    """The whole schema as JSON, field lists as they stand in schema.toml."""
    return json.dumps({"generated": COMMAND} | schema.raw, indent=1, ensure_ascii=False) + "\n"


def fill_markers(schema: Schema, text: str) -> str:
    """Replace what stands between `<!-- table NAME [OP] -->` and `<!-- end -->`. KeyError for a wrong NAME."""

    def replace(match: re.Match[str]) -> str:
        name, _, argument = match[2].partition(" ")
        return f"{match[1]}\n{TABLES[name](schema, argument)}\n{match[3]}"

    return re.sub(r"(<!-- table ([\w ]+) -->)\n.*?(<!-- end -->)", replace, text, flags=re.DOTALL)


def table(heads: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    heads = list(heads)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(cell).replace("|", "‖") for cell in row) + " |" for row in rows]
    return "\n".join(lines)


def field_words(field: Field) -> str:
    kind = f"list of {field.record}" if field.type == "list" else field.type
    return f"{field.name} {kind}" + (f" (at most {field.limit})" if field.limit else "")


def layout_words(layout: Layout) -> str:
    words = [field_words(field) for field in layout.fields]
    if layout.ext is not None:
        words.insert(layout.ext, "ext")
    return " · ".join(words)


def op_table(schema: Schema, name: str) -> str:
    """What stands under the heading of an op: code, direction, state, flags, layout, meaning."""
    op = next(op for op in schema.ops if op.name == name)
    head = f"**0x{op.code:02X}**, {SIDE_WORDS[op.side]}, {STATE_WORDS[op.state]}" + (", lite" if op.lite else "")
    flags = ", ".join(f"{flag} 0x{bit:02X}" for flag, bit in op.flags.items())
    feature = f" Needs feature {op.feature}." if op.feature else ""
    lines = [head + (f". Flags: {flags}" if flags else "") + "." + feature, "", f"    {layout_words(op.layout)}", ""]
    records = [field.record for field in op.layout.fields if field.type == "list"]
    for record in records:
        lines += [f"    {record}: {layout_words(schema.records[record])}", ""]
    for extension in schema.extensions:
        if extension.op == op.name:
            lines += [f"    extension {extension.tag} {extension.name}: {layout_words(extension.layout)}\n"]
    return "\n".join([*lines, op.doc])


def ops_table(schema: Schema, _: str) -> str:
    rows = [
        (f"0x{op.code:02X}", anchored(op), SIDE_WORDS[op.side], op.state, "lite" if op.lite else "", op.feature)
        for op in schema.ops
    ]
    return table(("op", "name", "direction", "state", "profile", "feature"), rows)


def anchored(op: Op) -> str:
    return f"[{op.name}](#{'streams' if op.name.startswith('STREAM') else op.name.lower()})"


def bits_table(name: str) -> Callable[[Schema, str], str]:
    def fill(schema: Schema, _: str) -> str:
        rows = [(1 << entry["bit"], key, entry["doc"]) for key, entry in schema.table(name).items()]
        return table(("value", "name", "meaning"), rows)

    return fill


def codes_line(name: str) -> Callable[[Schema, str], str]:
    """A small closed set as one line: 1 DIRECT · 2 GROUP."""

    def fill(schema: Schema, _: str) -> str:
        return " · ".join(f"{entry['code']} {key}" for key, entry in schema.table(name).items())

    return fill


def kinds_table(schema: Schema, _: str) -> str:
    rows = [
        (
            entry["code"],
            name,
            payload_words(schema, name),
            entry["payload_bytes_max"],
            "yes" if entry.get("message") else "no",
        )
        for name, entry in schema.table("kind").items()
        if entry.get("client")
    ]
    return table(("kind", "name", "payload", "bytes at most", "counts as unread"), rows)


def payload_words(schema: Schema, name: str) -> str:
    layout, words = schema.kinds[name], schema.raw["kind"][name].get("payload", "")
    return ": ".join(part for part in (layout and layout_words(layout), words) if part)


def system_kinds_table(schema: Schema, _: str) -> str:
    rows = [
        (entry["code"], name, layout_words(layout))
        for name, entry in schema.table("kind").items()
        if (layout := schema.kinds[name]) is not None and not entry.get("client")
    ]
    return table(("kind", "name", "payload"), rows)


def ephemeral_kinds_table(schema: Schema, _: str) -> str:
    rows = []
    for name, entry in schema.table("ephemeral_kind").items():
        every = entry.get("per_cid_interval_ms")
        note = f"; once per {every} ms and conversation, more are dropped" if every else ""
        rows.append((entry["code"], name, entry["doc"] + note))
    return table(("kind", "name", "meaning"), rows)


def methods_table(schema: Schema, _: str) -> str:
    rows = [
        (entry["code"], name, map_words(entry["params"]), map_words(entry["result"]), entry.get("doc", ""))
        for name, entry in schema.table("method").items()
    ]
    return table(("method", "name", "params", "result", ""), rows)


def map_words(keys: dict[str, str]) -> str:
    return "<br>".join(f"{key}: {words}" for key, words in keys.items()) or "–"


def notices_table(schema: Schema, _: str) -> str:
    rows = [
        (entry["code"], name, map_words(entry["content"]), entry["doc"])
        for name, entry in schema.table("notice").items()
    ]
    return table(("topic", "name", "content", "meaning"), rows)


def errors_table(schema: Schema, _: str) -> str:
    rows = [(entry["code"], name, entry["class"], entry["doc"]) for name, entry in schema.table("error").items()]
    return table(("code", "name", "class", "meaning"), rows)


def closes_table(schema: Schema, _: str) -> str:
    rows = [(entry["code"], name, entry["then"], entry["doc"]) for name, entry in schema.table("close").items()]
    return table(("reason", "name", "then", "meaning"), rows)


def limits_table(schema: Schema, _: str) -> str:
    return table(("limit", "value"), ((f"`{name}`", value) for name, value in schema.raw["limits"].items()))


TABLES: dict[str, Callable[[Schema, str], str]] = {
    "op": op_table,
    "ops": ops_table,
    "features": bits_table("features"),
    "topics": bits_table("topic"),
    "conversation_kinds": codes_line("conversation_kind"),
    "presence": codes_line("presence"),
    "audiences": codes_line("audience"),
    "command_states": codes_line("command_state"),
    "case_states": codes_line("case_state"),
    "roles": codes_line("role"),
    "rights": bits_table("right"),
    "kinds": kinds_table,
    "system_kinds": system_kinds_table,
    "ephemeral_kinds": ephemeral_kinds_table,
    "methods": methods_table,
    "notices": notices_table,
    "errors": errors_table,
    "closes": closes_table,
    "limits": limits_table,
}
