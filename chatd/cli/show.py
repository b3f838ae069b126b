"""How commands show events and times."""

import base64
from datetime import datetime
from typing import Any

from chatd.client import Event
from chatd.wire import decode_payload, schema
from chatd.wire.errors import WireError
from chatd.wire.schema import Kind

KIND_NAMES = {kind.value: kind.name for kind in Kind}


def local_time(time_ms: int, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime(pattern)


def event_json(event: Event) -> dict[str, Any]:
    """For programs: text where the payload is text, its fields where the kind has a layout, base64 otherwise."""
    shown: dict[str, Any] = {"cid": event.cid, "seq": event.seq, "sender": event.sender, "time_ms": event.time_ms}
    shown["kind"] = KIND_NAMES.get(event.kind, str(event.kind))
    fields = system_fields(event)
    if event.kind in (Kind.TEXT, Kind.MARKDOWN):
        shown["text"] = event.text
    elif fields is not None:
        shown["fields"] = fields
    else:
        shown["payload_base64"] = base64.b64encode(event.payload).decode()
    return shown


def system_fields(event: Event) -> dict[str, Any] | None:
    try:
        fields = decode_payload(event.kind, event.payload)
    except WireError:
        return None
    if fields is not None and isinstance(users := fields.get("users"), tuple):
        return {**fields, "users": [entry["user"] for entry in users]}
    return fields


def users_in(event: Event) -> set[int]:
    """Everybody an event names: its sender and who was added or removed."""
    fields = system_fields(event) or {}
    named = {event.sender, *fields.get("users", ())}
    return named | ({fields["user"]} if "user" in fields else set())


def event_text(event: Event, names: dict[int, str]) -> str:
    """For people: the text, or what happened."""

    def name(user: int) -> str:
        return names.get(user, f"user {user}")

    fields = system_fields(event) or {}
    match event.kind:
        case Kind.TEXT | Kind.MARKDOWN:
            return event.text
        case Kind.CONVERSATION_CREATED:
            return f"created the conversation {fields.get('title') or ''}".rstrip()
        case Kind.MEMBERS_ADDED:
            return "added " + ", ".join(map(name, fields.get("users", ())))
        case Kind.MEMBERS_REMOVED:
            return "removed " + ", ".join(map(name, fields.get("users", ())))
        case Kind.MEMBER_LEFT:
            return f"{name(fields.get('user', 0))} left"
        case Kind.ROLE_CHANGED:
            role = {value.value: value.name.lower() for value in schema.Role}.get(fields.get("role", 0), "?")
            return f"made {name(fields.get('user', 0))} {role}"
        case Kind.TITLE_CHANGED:
            return f"renamed the conversation to {fields.get('title', '')}"
    return f"[{KIND_NAMES.get(event.kind, f'kind {event.kind}')}, {event.size} bytes]"


def safe(text: str) -> str:
    """Text of other people without control characters: it must not move the reader's cursor or colours."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text.replace("\n", " ⏎ "))
