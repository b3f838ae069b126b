"""schema.toml → chatd/wire/schema.py: enums, limits and the layouts the reference codec reads."""

from collections.abc import Iterator

from emit_c import COMMAND
from model import Field, Layout, Schema

ENUMS = {  # table: (class, base, docstring)
    "features": ("Feature", "IntFlag", "Bits of HELLO.features and WELCOME.features."),
    "topic": ("Topic", "IntFlag", "Bits of SUBSCRIBE.topics."),
    "notice": ("NoticeTopic", "IntEnum", "NOTICE.topic."),
    "presence": ("PresenceState", "IntEnum", "What is seen of a user."),
    "audience": ("Audience", "IntEnum", "Who may see a user's presence."),
    "command_state": ("CommandState", "IntEnum", "COMMAND_RESULT.state."),
    "case_state": ("CaseState", "IntEnum", "State of a case of a service desk."),
    "credential": ("Credential", "IntEnum", "AUTH.credential."),
    "conversation_kind": ("ConversationKind", "IntEnum", "Kind of a conversation."),
    "member_state": ("MemberState", "IntEnum", "State in a SYNC entry."),
    "role": ("Role", "IntEnum", "Role of a member."),
    "right": ("Right", "IntFlag", "What a member may do."),
    "kind": ("Kind", "IntEnum", "Kind of an event."),
    "ephemeral_kind": ("EphemeralKind", "IntEnum", "Kind of an EPHEMERAL."),
    "method": ("Method", "IntEnum", "REQUEST.method."),
    "error": ("ErrorCode", "IntEnum", "Codes of ERROR, SEND_NAK and REPLY."),
    "close": ("Close", "IntEnum", "Why a connection ended: wire code; the name is also metric label and log field."),
}

PREAMBLE = '''
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from typing import Final


@dataclass(frozen=True, slots=True)
class Field:
    """One field. type: as in schema.toml; record: of a list; limit: bytes or items at most, 0 = what the body holds."""

    name: str
    type: str
    record: str = ""
    limit: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Fields in wire order. ext: how many of them stand before the extension block; None: the op takes none."""

    name: str
    fields: tuple[Field, ...]
    ext: int | None = None


@dataclass(frozen=True, slots=True)
class OpRule:
    """An op. sides: CLIENT | SERVER may send it; states: BEFORE | LIVE; flags: by name without EXT, mask with it."""

    layout: Layout
    sides: int
    states: int
    lite: bool
    empty: bool
    feature: int  # must have been agreed; 0: none needed
    flags: dict[str, int]
    flags_mask: int


@dataclass(frozen=True, slots=True)
class KindRule:
    """An event kind. message: counts for unread; client: may be sent; judged: the hub's Python side looks at it first;
    layout: of the payload, None = free bytes.
    """

    message: bool
    client: bool
    judged: bool
    payload_bytes_max: int
    layout: Layout | None


CLIENT: Final = 1
SERVER: Final = 2
BEFORE: Final = 1
LIVE: Final = 2
'''.strip("\n")


def module(schema: Schema) -> str:
    lines = [f'"""{COMMAND}"""', "", *PREAMBLE.splitlines(), "", *scalars(schema), ""]
    lines += enum("Op", "IntEnum", "The ops.", [(op.name, op.code) for op in schema.ops], hexadecimal=True)
    for table, (name, base, doc) in ENUMS.items():
        entries = schema.table(table)
        values = [(key, entry.get("code", 1 << entry.get("bit", 0))) for key, entry in entries.items()]
        lines += enum(name, base, doc, values)
    lines += ["", "# flags by op"]
    lines += [f"FLAG_{op.name}_{key}: Final = 0x{bit:02X}" for op in schema.ops for key, bit in op.flags.items()]
    lines += ["", "# extensions by op"]
    lines += [f"EXTENSION_{each.op}_{each.name}: Final = {each.tag}" for each in schema.extensions]
    lines += ["", "# limits"]
    lines += [f"{name.upper()}: Final = {value}" for name, value in schema.raw["limits"].items()]
    for part in (records, ops, kinds, extensions, outcomes):
        lines += ["", *part(schema)]
    return "\n".join(lines) + "\n"


def scalars(schema: Schema) -> Iterator[str]:
    protocol, frame = schema.raw["protocol"], schema.raw["frame"]
    yield f"MAJOR: Final = {protocol['major']}"
    yield f'SUBPROTOCOL: Final = "{protocol["subprotocol"]}"'
    yield f'ALPN: Final = "{protocol["alpn"]}"'
    yield f"TIME_EPOCH_MS: Final = {protocol['time_epoch_ms']}"
    yield f"HEADER_BYTES: Final = {frame['header_bytes']}"
    yield f"BODY_BYTES_MAX: Final = {frame['body_bytes_max']}"
    yield f"OP_MUST_UNDERSTAND: Final = 0x{frame['op_must_understand']:02X}"
    yield f"FLAG_EXT: Final = 0x{frame['flag_ext']:02X}"


def enum(name: str, base: str, doc: str, values: list[tuple[str, int]], hexadecimal: bool = False) -> list[str]:
    rows = [f"    {key} = {f'0x{value:02X}' if hexadecimal else value}" for key, value in values]
    return ["", f"class {name}({base}):", f'    """{doc}"""', "", *rows, ""]


def layout(entry: Layout, indent: str) -> Iterator[str]:
    """A Layout(...) expression over several lines, the first one without indent."""
    yield "Layout("
    yield f'{indent}    "{entry.name}",'
    fields = [field_expression(field) for field in entry.fields]
    if len(fields) == 1:
        yield f"{indent}    ({fields[0]},),"
    else:
        yield f"{indent}    ("
        yield from (f"{indent}        {field}," for field in fields)
        yield f"{indent}    ),"
    if entry.ext is not None:
        yield f"{indent}    ext={entry.ext},"
    yield f"{indent})"


def field_expression(field: Field) -> str:
    record = f', record="{field.record}"' if field.record else ""
    limit = f", limit={field.limit}" if field.limit else ""
    return f'Field("{field.name}", "{field.type}"{record}{limit})'


def nested(prefix: str, entry: Layout, suffix: str, indent: str) -> list[str]:
    lines = list(layout(entry, indent))
    lines[0] = f"{indent}{prefix}{lines[0]}"
    lines[-1] += suffix
    return lines


def records(schema: Schema) -> Iterator[str]:
    yield "RECORDS: Final[dict[str, Layout]] = {"
    for name, entry in schema.records.items():
        yield from nested(f'"{name}": ', entry, ",", "    ")
    yield "}"


def ops(schema: Schema) -> Iterator[str]:
    yield "OPS: Final[dict[int, OpRule]] = {"
    for op in schema.ops:
        yield f"    Op.{op.name}: OpRule("
        yield from nested("layout=", op.layout, ",", "        ")
        yield f"        sides={op.sides},"
        yield f"        states={op.states},"
        yield f"        lite={op.lite},"
        yield f"        empty={op.empty},"
        yield f"        feature={f'Feature.{op.feature}' if op.feature else 0},"
        flags = ", ".join(f'"{name}": 0x{bit:02X}' for name, bit in op.flags.items())
        yield f"        flags={{{flags}}},"
        yield f"        flags_mask=0x{op.flags_mask:02X},"
        yield "    ),"
    yield "}"


def kinds(schema: Schema) -> Iterator[str]:
    yield "KINDS: Final[dict[int, KindRule]] = {"
    for name, entry in schema.table("kind").items():
        yield f"    Kind.{name}: KindRule("
        yield f"        message={entry.get('message', False)},"
        yield f"        client={entry.get('client', False)},"
        yield f"        judged={entry.get('judged', False)},"
        yield f"        payload_bytes_max={entry.get('payload_bytes_max', 0)},"
        described = schema.kinds[name]
        if described is None:
            yield "        layout=None,"
        else:
            yield from nested("layout=", described, ",", "        ")
        yield "    ),"
    yield "}"


def extensions(schema: Schema) -> Iterator[str]:
    judged = sorted(extension.tag for extension in schema.extensions if extension.op == "SEND" and extension.judged)
    tags = ", ".join(map(str, judged))
    yield "# Extensions of SEND that the hub's Python side looks at before the event is stored."
    yield f"SEND_JUDGED_TAGS: Final[frozenset[int]] = frozenset({{{tags}}})"
    yield ""
    yield "# (op, tag): layout of the bytes"
    yield "EXTENSIONS: Final[dict[tuple[int, int], Layout]] = {"
    for extension in schema.extensions:
        yield from nested(f"(Op.{extension.op}, {extension.tag}): ", extension.layout, ",", "    ")
    yield "}"


def outcomes(schema: Schema) -> Iterator[str]:
    yield "# What a client does after a close: ticket (resume), fresh (log in with a credential) or stop."
    yield "CLOSE_THEN: Final[dict[int, str]] = {"
    for name, entry in schema.table("close").items():
        yield f'    Close.{name}: "{entry["then"]}",'
    yield "}"
    yield ""
    yield "ERROR_CLASS: Final[dict[int, str]] = {"
    for name, entry in schema.table("error").items():
        yield f'    ErrorCode.{name}: "{entry["class"]}",'
    yield "}"
    yield ""
    yield "RETRYABLE: Final[frozenset[int]] = frozenset("
    yield "    {"
    for name, entry in schema.table("error").items():
        if entry.get("retryable"):
            yield f"        ErrorCode.{name},"
    yield "    }"
    yield ")"
