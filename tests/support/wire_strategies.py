"""Hypothesis strategies for frames, made from the schema: every op, every field, every flag."""

from hypothesis import strategies as st

from chatd.wire import Frame
from chatd.wire.schema import BODY_BYTES_MAX, EXTENSIONS, FLAG_EXT, OPS, RECORDS, Field, OpRule

FIXED = {"u8": 8, "u16": 16, "u32": 32, "u64": 64, "time40": 40, "varint": 63}
REST_BYTES_MAX = 300


def values(field: Field) -> st.SearchStrategy[object]:
    if field.type in FIXED:
        top = (1 << FIXED[field.type]) - 1
        return st.one_of(st.integers(0, min(top, 300)), st.integers(0, top), st.just(top))
    if field.type == "list":
        record = RECORDS[field.record]
        entry = st.fixed_dictionaries({inner.name: values(inner) for inner in record.fields})
        return st.lists(entry, max_size=min(field.limit, 5)).map(tuple)
    if field.type == "str":
        return st.text(max_size=(field.limit or REST_BYTES_MAX) // 4)
    if field.type in {"bytes", "rest", "msgpack"}:
        least = int(field.type == "msgpack")
        return st.binary(min_size=least, max_size=min(field.limit or REST_BYTES_MAX, REST_BYTES_MAX))
    width = int(field.type.removeprefix("bytes"))
    return st.binary(min_size=width, max_size=width)


def extension_lists(op: int) -> st.SearchStrategy[tuple[tuple[int, bytes], ...]]:
    """Unknown tags only: those of the schema have a layout."""
    tags = st.integers(1, 1 << 40).filter(lambda tag: (op, tag) not in EXTENSIONS)
    return st.dictionaries(tags, st.binary(max_size=40), max_size=4).map(lambda found: tuple(sorted(found.items())))


@st.composite
def frames_of(draw: st.DrawFn, op: int, rule: OpRule) -> Frame:
    fields = {field.name: draw(values(field)) for field in rule.layout.fields}
    extensions = draw(extension_lists(op)) if rule.layout.ext is not None else ()
    flags = draw(st.sampled_from([0, *rule.flags.values(), sum(rule.flags.values())]))
    return Frame(op, flags | (FLAG_EXT if extensions else 0), fields, extensions)


FRAMES = st.sampled_from(sorted(OPS)).flatmap(lambda op: frames_of(op, OPS[op]))


def raw_frames() -> st.SearchStrategy[bytes]:
    """A header that is right about its length around a body that need not be right about anything."""
    heads = st.tuples(st.one_of(st.sampled_from(sorted(OPS)), st.integers(0, 255)), st.integers(0, 255))
    return st.tuples(heads, st.binary(max_size=200)).map(
        lambda parts: len(parts[1]).to_bytes(2, "big") + bytes(parts[0]) + parts[1]
    )


assert REST_BYTES_MAX < BODY_BYTES_MAX
