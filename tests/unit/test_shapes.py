"""Schemas of TYPED messages: what they may say, and what a value that does not fit is told."""

from typing import Any

import pytest

from chatd.config import load
from chatd.errors import ConfigError
from chatd.services.messages.shapes import DEPTH_MAX, check, made
from chatd.supervisor.plan import checked_kinds

TEXT = {"type": "string", "minLength": 1, "maxLength": 3}
THING = {
    "type": "object",
    "required": ["name"],
    "additionalProperties": False,
    "properties": {
        "name": TEXT,
        "size": {"type": "integer", "minimum": 0, "maximum": 9},
        "weight": {"type": "number"},
        "good": {"type": "boolean"},
        "colour": {"type": "string", "enum": ["red", "blue"]},
        "tags": {"type": "array", "minItems": 1, "maxItems": 2, "items": TEXT},
        "any": {"type": "object"},
    },
}


def nested(depth: int) -> dict[str, Any]:
    return {"type": "array", "items": nested(depth - 1)} if depth > 1 else {"type": "boolean"}


@pytest.mark.parametrize(
    "value",
    [
        {"name": "a"},
        {
            "name": "abc",
            "size": 9,
            "weight": 1.5,
            "good": False,
            "colour": "red",
            "tags": ["x", "y"],
            "any": {"z": [1]},
        },
        {"name": "ä€😀", "weight": 2},
    ],
)
def test_what_fits(value: Any) -> None:
    check(made(THING), value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ([], "content is of type 'object'"),
        ({}, "content.name is missing"),
        ({"name": ""}, "content.name has at least 1 characters"),
        ({"name": "abcd"}, "content.name has at most 3 characters"),
        ({"name": b"a"}, "content.name is of type 'string'"),
        ({"name": "a", "size": 10}, "content.size is at most 9"),
        ({"name": "a", "size": -1}, "content.size is at least 0"),
        ({"name": "a", "size": True}, "content.size is of type 'integer'"),
        ({"name": "a", "size": 1.0}, "content.size is of type 'integer'"),
        ({"name": "a", "weight": False}, "content.weight is of type 'number'"),
        ({"name": "a", "good": 1}, "content.good is of type 'boolean'"),
        ({"name": "a", "colour": "green"}, "content.colour is one of 'red', 'blue'"),
        ({"name": "a", "tags": []}, "content.tags has at least 1 items"),
        ({"name": "a", "tags": ["x", "y", "z"]}, "content.tags has at most 2 items"),
        ({"name": "a", "tags": ["x", 5]}, r"content.tags\[1\] is of type 'string'"),
        ({"name": "a", "more": 1}, "content has no 'more'"),
    ],
)
def test_what_does_not_fit_is_named(value: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        check(made(THING), value)


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("string", "schema is not a table"),
        ({}, "schema.type is None"),
        ({"type": ["string", "null"]}, "schema.type is "),
        ({"type": "text"}, "schema.type is 'text'"),
        ({"type": "string", "pattern": "a*"}, "schema.pattern is not known here"),
        ({"type": "string", "minimum": 1}, "schema.minimum is not known here"),
        ({"type": "string", "maxLength": "3"}, "schema.maxLength is not a number"),
        ({"type": "string", "enum": ["a", 1]}, "schema.enum is not a list"),
        ({"type": "object", "required": ["x"]}, "schema.required is not names of properties"),
        ({"type": "object", "additionalProperties": {}}, "schema.additionalProperties is not true or false"),
        ({"type": "object", "properties": {"a": {"type": "array", "items": 1}}}, "schema.properties.a.items is not"),
        (nested(DEPTH_MAX + 1), "nested more than 8 deep"),
    ],
)
def test_a_schema_that_cannot_be_is_refused(schema: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        made(schema)


def test_the_deepest_schema() -> None:
    check(made(nested(DEPTH_MAX)), [[[[[[[True]]]]]]])


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ([{"name": "event", "content": {"type": "thing"}}], "hub.kinds: event: schema.type is 'thing'"),
        ([{"name": "event", "content": {"type": "string"}}] * 2, "hub.kinds: event: two kinds have this name"),
        ([{"name": "event", "content": {"type": "string", "title": "x" * 5000}}], "has more than 4096 bytes"),
    ],
)
def test_the_server_does_not_start_with_a_kind_that_cannot_be(kinds: list[dict[str, Any]], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        checked_kinds(load(None, {"hub.kinds": kinds}))
