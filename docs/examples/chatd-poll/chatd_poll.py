"""Polls: a question and two to ten choices, as MessagePack {"question": str, "choices": [str]}."""

import msgpack

SCHEMA = {
    "type": "object",
    "required": ["question", "choices"],
    "additionalProperties": False,
    "properties": {
        "question": {"type": "string", "minLength": 1, "maxLength": 300},
        "choices": {
            "type": "array",
            "minItems": 2,
            "maxItems": 10,
            "items": {"type": "string", "minLength": 1, "maxLength": 100},
        },
    },
}


def check(content: bytes) -> None:
    """What a schema cannot say. The server calls it for each poll that fits the schema, before it is stored."""
    choices = msgpack.unpackb(content)["choices"]
    if len(set(choices)) < len(choices):
        raise ValueError("two choices are the same")


# Without this the check is asked alone; a schema may also stand alone, as the object of the entry point.
check.schema = SCHEMA  # type: ignore[attr-defined]
