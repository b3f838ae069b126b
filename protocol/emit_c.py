"""schema.toml → native/common/schema.pxi (Cython, for the engine) and chatd_schema.h (C, for SDKs)."""

from collections.abc import Iterator

from model import THEN, Schema

COMMAND = "Generated from protocol/schema.toml by `make wire`; edit that file instead."
PREFIXES = {
    "features": "FEATURE",
    "topic": "TOPIC",
    "notice": "NOTICE",
    "presence": "PRESENCE",
    "audience": "AUDIENCE",
    "command_state": "COMMAND",
    "case_state": "CASE",
    "credential": "CREDENTIAL",
    "conversation_kind": "CONVERSATION",
    "member_state": "MEMBER_STATE",
    "role": "ROLE",
    "right": "RIGHT",
    "kind": "KIND",
    "ephemeral_kind": "EPHEMERAL",
    "method": "METHOD",
    "error": "ERR",
    "close": "CLOSE",
}


def constants(schema: Schema) -> Iterator[tuple[str, list[tuple[str, int]]]]:
    """(heading, [(NAME, value)]) in the order of both files; no value needs more than 31 bits."""
    frame = schema.raw["frame"]
    yield (
        "frame",
        [
            ("PROTOCOL_MAJOR", schema.raw["protocol"]["major"]),
            ("FRAME_HEADER_BYTES", frame["header_bytes"]),
            ("FRAME_BODY_BYTES_MAX", frame["body_bytes_max"]),
            ("OP_MUST_UNDERSTAND", frame["op_must_understand"]),
            ("FLAG_EXT", frame["flag_ext"]),
        ],
    )
    yield "ops", [(f"OP_{op.name}", op.code) for op in schema.ops]
    yield "flags by op", [(f"FLAG_{op.name}_{flag}", bit) for op in schema.ops for flag, bit in op.flags.items()]
    yield (
        "extensions by op",
        [(f"EXTENSION_{extension.op}_{extension.name}", extension.tag) for extension in schema.extensions],
    )
    for table, prefix in PREFIXES.items():
        entries = schema.table(table)
        yield table, [(f"{prefix}_{name}", code_of(entry)) for name, entry in entries.items()]
    yield "limits", [(f"LIMIT_{name.upper()}", value) for name, value in schema.raw["limits"].items()]
    yield "limits of fields: bytes, or items of a list", list(field_limits(schema))


def code_of(entry: dict[str, int]) -> int:
    return entry["code"] if "code" in entry else 1 << entry["bit"]


def field_limits(schema: Schema) -> Iterator[tuple[str, int]]:
    layouts = [op.layout for op in schema.ops] + list(schema.records.values())
    for layout in layouts + [layout for layout in schema.kinds.values() if layout]:
        for field in layout.fields:
            if field.limit:
                unit = "COUNT" if field.type == "list" else "BYTES"
                yield f"LIMIT_{layout.name.upper()}_{field.name.upper()}_{unit}_MAX", field.limit


def tables(schema: Schema, prefix: str, storage: str = "static const") -> Iterator[str]:
    """C: rules by op, by kind, names and consequences. Unknown codes have zeroed entries and NULL names."""
    yield f"struct {prefix}op_rule {{"
    yield "    uint8_t known;    /* 0: no such op */"
    yield "    uint8_t sides;    /* who may send it: 1 client, 2 server */"
    yield "    uint8_t states;   /* when: 1 before login, 2 live */"
    yield "    uint8_t flags;    /* bits that may be set, EXT included */"
    yield "    uint8_t lite;     /* may be sent to a LITE client */"
    yield "    uint8_t empty;    /* the body may be empty */"
    yield "    uint8_t feature;  /* bit that must have been agreed, 0: none */"
    yield "    const char *name;"
    yield "};"
    yield f"{storage} struct {prefix}op_rule {prefix}ops[256] = {{"
    features = schema.raw["features"]
    for op in schema.ops:
        feature = code_of(features[op.feature]) if op.feature else 0
        row = f"1, {op.sides}, {op.states}, 0x{op.flags_mask:02X}, {int(op.lite)}, {int(op.empty)}, {feature}"
        yield f'    [0x{op.code:02X}] = {{ {row}, "{op.name}" }},'
    yield "};"
    yield f"struct {prefix}kind_rule {{"
    yield "    uint8_t known;"
    yield "    uint8_t message;  /* counts for unread */"
    yield "    uint8_t client;   /* may be sent with SEND */"
    yield "    uint8_t judged;   /* the hub looks into its payload before it is stored */"
    yield "    uint32_t payload_bytes_max;  /* of a SEND; 0: kinds that only the server writes */"
    yield "};"
    yield f"{storage} struct {prefix}kind_rule {prefix}kinds[{size_of(schema, 'kind')}] = {{"
    for entry in schema.table("kind").values():
        marks = ", ".join(str(int(entry.get(mark, False))) for mark in ("message", "client", "judged"))
        yield f"    [{entry['code']}] = {{ 1, {marks}, {entry.get('payload_bytes_max', 0)} }},"
    yield "};"
    yield f"struct {prefix}close_rule {{"
    yield "    const char *name; /* wire, metric label and log field */"
    yield "    uint8_t then;     /* 1 reconnect with the ticket, 2 reconnect with a credential, 3 stop */"
    yield "};"
    yield f"{storage} struct {prefix}close_rule {prefix}closes[{size_of(schema, 'close')}] = {{"
    for name, entry in schema.table("close").items():
        yield f'    [{entry["code"]}] = {{ "{name}", {THEN[entry["then"]]} }},'
    yield "};"
    yield f"struct {prefix}error_rule {{"
    yield "    const char *name;"
    yield "    uint8_t retryable;"
    yield "};"
    yield f"{storage} struct {prefix}error_rule {prefix}errors[{size_of(schema, 'error')}] = {{"
    for name, entry in schema.table("error").items():
        yield f'    [{entry["code"]}] = {{ "{name}", {int(entry.get("retryable", False))} }},'
    yield "};"


def size_of(schema: Schema, table: str) -> int:
    return max(code_of(entry) for entry in schema.table(table).values()) + 1


def pxi(schema: Schema) -> str:
    """Constants as enums, so that the C compiler folds them, and the tables as C, which Cython cannot initialise."""
    lines = [f"# {COMMAND}", ""]
    for heading, values in constants(schema):
        lines += [f"# {heading}", "cdef enum:"]
        lines += [f"    {name} = {number(name, value)}" for name, value in values]
        lines.append("")
    lines += ["# Sizes of the tables below: a code at or above them is unknown.", "cdef enum:"]
    for table, name in (("kind", "WIRE_KINDS"), ("close", "WIRE_CLOSES"), ("error", "WIRE_ERRORS")):
        lines.append(f"    {name}_SIZE = {size_of(schema, table)}")
    judged = [extension.tag for extension in schema.extensions if extension.op == "SEND" and extension.judged]
    lines += ["", "# Bit n: extension n of a SEND is judged by the hub's Python side.", "cdef enum:"]
    lines += [f"    WIRE_SEND_JUDGED_TAGS = {sum(1 << tag for tag in judged)}"]
    lines += ["", "cdef extern from *:", '    """']
    lines += [f"    {line}" for line in tables(schema, "wire_", "static const __attribute__((unused))")]
    lines += [
        f"    #define WIRE_TIME_EPOCH_MS ((uint64_t){schema.raw['protocol']['time_epoch_ms']})",
        '    """',
        "    struct wire_op_rule:",
        *(f"        uint8_t {name}" for name in ("known", "sides", "states", "flags", "lite", "empty", "feature")),
        "        const char* name",
        "    const wire_op_rule wire_ops[256]",
        "    struct wire_kind_rule:",
        *(f"        uint8_t {name}" for name in ("known", "message", "client", "judged")),
        "        uint32_t payload_bytes_max",
        "    const wire_kind_rule wire_kinds[WIRE_KINDS_SIZE]",
        "    struct wire_close_rule:",
        "        const char* name",
        "        uint8_t then",
        "    const wire_close_rule wire_closes[WIRE_CLOSES_SIZE]",
        "    struct wire_error_rule:",
        "        const char* name",
        "        uint8_t retryable",
        "    const wire_error_rule wire_errors[WIRE_ERRORS_SIZE]",
        "    const uint64_t WIRE_TIME_EPOCH_MS",
    ]
    return "\n".join(lines) + "\n"


def number(name: str, value: int) -> str:
    return f"0x{value:02X}" if name.startswith(("OP_", "FLAG_")) else str(value)


def header(schema: Schema) -> str:
    """One header that a C client includes: the same names with the prefix CHATD_."""
    lines = [
        f"/* {COMMAND} */",
        "#ifndef CHATD_SCHEMA_H",
        "#define CHATD_SCHEMA_H",
        "#include <stdint.h>",
        "",
    ]
    for heading, values in constants(schema):
        lines += [f"/* {heading} */"]
        lines += [f"#define CHATD_{name} {number(name, value)}" for name, value in values]
        lines.append("")
    lines += [
        f"#define CHATD_TIME_EPOCH_MS UINT64_C({schema.raw['protocol']['time_epoch_ms']})",
        "",
        "/* Rules by code, for clients that want them: define CHATD_SCHEMA_TABLES before including. */",
        "#ifdef CHATD_SCHEMA_TABLES",
        *tables(schema, "chatd_"),
        "#endif",
        "#endif",
    ]
    return "\n".join(lines) + "\n"
