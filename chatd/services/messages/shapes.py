# Shapes: what a value looks like, in the part of JSON Schema that an operator needs and that one table can hold:
# type, enum, minLength, maxLength, minimum, maximum, items, minItems, maxItems, properties, required and
# additionalProperties, nested at most 8 deep; title and description say nothing. Whatever else a schema has is refused
# when it is made, not ignored when it counts.
"""A small part of JSON Schema: made once, then asked about values."""

import operator
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

DEPTH_MAX = 8
_WORDS = frozenset({"type", "enum", "title", "description"})
_TYPES: dict[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}
_PARTS = {"array": frozenset({"items"}), "object": frozenset({"properties", "required", "additionalProperties"})}


class Bound(NamedTuple):
    types: frozenset[str]
    measure: Callable[[Any], Any]
    fits: Callable[[Any, Any], bool]
    words: str


_TEXT, _NUMBERS, _LIST = frozenset({"string"}), frozenset({"integer", "number"}), frozenset({"array"})
BOUNDS = {
    "minLength": Bound(_TEXT, len, operator.ge, "has at least {} characters"),
    "maxLength": Bound(_TEXT, len, operator.le, "has at most {} characters"),
    "minimum": Bound(_NUMBERS, lambda value: value, operator.ge, "is at least {}"),
    "maximum": Bound(_NUMBERS, lambda value: value, operator.le, "is at most {}"),
    "minItems": Bound(_LIST, len, operator.ge, "has at least {} items"),
    "maxItems": Bound(_LIST, len, operator.le, "has at most {} items"),
}


class Shape(NamedTuple):
    """bounds: keyword → number. more: what is not among the properties may be there, too."""

    type: str
    enum: tuple[Any, ...]
    bounds: Mapping[str, float]
    items: "Shape | None"
    properties: Mapping[str, "Shape"]
    required: tuple[str, ...]
    more: bool


def made(schema: Any, where: str = "schema", depth: int = 1) -> Shape:
    """ValueError names the place in the schema and what is wrong there."""
    if not isinstance(schema, Mapping):
        raise ValueError(f"{where} is not a table")
    if depth > DEPTH_MAX:
        raise ValueError(f"{where} is nested more than {DEPTH_MAX} deep")
    kind = schema.get("type")
    if not isinstance(kind, str) or kind not in _TYPES:
        raise ValueError(f"{where}.type is {kind!r}; it is one of {', '.join(_TYPES)}")
    bounds = {word: schema[word] for word, bound in BOUNDS.items() if kind in bound.types and word in schema}
    unknown = sorted(schema.keys() - _WORDS - bounds.keys() - _PARTS.get(kind, frozenset()))
    if unknown:
        raise ValueError(f"{where}.{unknown[0]} is not known here, beside type {kind!r}")
    for word, bound in bounds.items():
        _check(is_a(bound, "number"), f"{where}.{word}", "a number")
    enum, required = schema.get("enum", []), schema.get("required", [])
    properties, more = schema.get("properties", {}), schema.get("additionalProperties", True)
    _check(isinstance(enum, list) and all(is_a(one, kind) for one in enum), f"{where}.enum", f"a list of type {kind!r}")
    _check(isinstance(properties, Mapping), f"{where}.properties", "a table")
    _check(isinstance(required, list) and set(required) <= set(properties), f"{where}.required", "names of properties")
    _check(is_a(more, "boolean"), f"{where}.additionalProperties", "true or false")
    return Shape(
        kind,
        tuple(enum),
        bounds,
        made(schema["items"], f"{where}.items", depth + 1) if "items" in schema else None,
        {name: made(one, f"{where}.properties.{name}", depth + 1) for name, one in properties.items()},
        tuple(required),
        bool(more),
    )


def _check(fits: bool, where: str, what: str) -> None:
    if not fits:
        raise ValueError(f"{where} is not {what}")


def is_a(value: Any, kind: str) -> bool:
    """Python takes True for a number; nobody else does."""
    return isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))


def check(shape: Shape, value: Any, where: str = "content") -> None:
    """ValueError names the field and what it has to be."""
    if not is_a(value, shape.type):
        raise ValueError(f"{where} is of type {shape.type!r}")
    if shape.enum and value not in shape.enum:
        raise ValueError(f"{where} is one of {', '.join(map(repr, shape.enum))}")
    for word, number in shape.bounds.items():
        bound = BOUNDS[word]
        if not bound.fits(bound.measure(value), number):
            raise ValueError(f"{where} {bound.words.format(number)}")
    if shape.type == "object":
        _check_parts(shape, value, where)
    elif shape.items is not None:
        for index, item in enumerate(value):
            check(shape.items, item, f"{where}[{index}]")


def _check_parts(shape: Shape, value: Mapping[Any, Any], where: str) -> None:
    missing = [name for name in shape.required if name not in value]
    if missing:
        raise ValueError(f"{where}.{missing[0]} is missing")
    for name, part in value.items():
        if name in shape.properties:
            check(shape.properties[name], part, f"{where}.{name}")
        elif not shape.more:
            raise ValueError(f"{where} has no {name!r}")
