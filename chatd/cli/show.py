"""How commands show events and times."""

import base64
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime
from typing import Any

import typer

from chatd.client import Event
from chatd.wire import decode_payload, schema
from chatd.wire.errors import WireError
from chatd.wire.schema import Kind

KIND_NAMES = {kind.value: kind.name for kind in Kind}
COMMAND_STATES = {state.value: state.name.lower() for state in schema.CommandState}
CASE_STATES = {state.value: state.name.lower() for state in schema.CaseState}


def local_time(time_ms: int, pattern: str = "%Y-%m-%d %H:%M:%S") -> str:
    return datetime.fromtimestamp(time_ms / 1000).astimezone().strftime(pattern)


def moment(text: str) -> int:
    """Unix milliseconds of a date or time as people type it: local, unless it names its zone."""
    try:
        return int(datetime.fromisoformat(text).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise typer.BadParameter(f"{text!r} is no date or time; write 2026-11-21 or 2026-11-21T09:30") from None


def event_json(event: Event) -> dict[str, Any]:
    """For programs: text where the payload is text, its fields where the kind has a layout, base64 otherwise."""
    shown: dict[str, Any] = {"cid": event.cid, "seq": event.seq, "sender": event.sender, "time_ms": event.time_ms}
    shown["kind"] = KIND_NAMES.get(event.kind, str(event.kind))
    for name in ("tombstone", "reply_to", "forwarded_from", "expires_ms", "stream", "truncated"):
        if value := getattr(event, name):
            shown[name] = value
    if event.mentions:
        shown["mentions"] = sorted(event.mentions)
    if event.now.edit_seq:
        shown |= {"edit_seq": event.now.edit_seq, "edited_ms": event.now.edited_ms}
    if event.now.pinned:
        shown["pinned"] = True
    if event.now.reactions:
        shown["reactions"] = {reaction.emoji: reaction.count for reaction in event.now.reactions}
    fields = system_fields(event)
    if event.kind in (Kind.TEXT, Kind.MARKDOWN):
        shown["text"] = event.text
    elif fields is not None:
        shown["fields"] = {name: printable(value) for name, value in fields.items()}
    else:
        shown["payload_base64"] = base64.b64encode(event.payload).decode()
    return shown


# System events that say it in one sentence, with the fields of their payload.
WHAT_HAPPENED: dict[int, str] = {
    Kind.INFO_CHANGED: "changed the topic to {topic}",
    Kind.RULES_CHANGED: "changed the rules: slow mode {slow_mode_s} s",
    Kind.RETENTION_CHANGED: "changed what is kept: {days} days, {events} events (0: all)",
    Kind.MEMBER_BANNED: "banned {user}",
    Kind.BAN_LIFTED: "lifted the ban of {user}",
    Kind.MEMBER_JOINED: "{user} joined",
    Kind.ARCHIVED: "archived the conversation or opened it again",
    Kind.DELETED: "deleted the conversation {title}",
    Kind.CASE_RATED: "rated case {case}: {stars} of 5",
    Kind.PUBLIC_NAME_CHANGED: "set the public name {name}",
}


def printable(value: Any) -> Any:
    """Bytes inside fields as text where they are text."""
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value


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
    if event.tombstone:
        return "(recalled or expired)"
    match event.kind:
        case Kind.TEXT | Kind.MARKDOWN:
            return marks_of(event, name) + event.text
        case Kind.EDIT:
            return f"edited {fields.get('target', 0)}: {printable(fields.get('content', b''))}"
        case Kind.RECALL:
            return f"recalled {fields.get('target', 0)}"
        case Kind.REACTION:
            verb = "reacted to" if fields.get("added") else "took back, on"
            return f"{verb} {fields.get('target', 0)}: {fields.get('emoji', '')}"
        case Kind.PIN:
            return f"{'pinned' if fields.get('pinned') else 'unpinned'} {fields.get('target', 0)}"
        case Kind.STICKER | Kind.IMAGE | Kind.VOICE | Kind.VIDEO | Kind.FILE | Kind.LOCATION | Kind.CONTACT:
            about = fields.get("caption") or fields.get("name") or fields.get("emoji") or ""
            return f"[{KIND_NAMES[event.kind].lower()}] {about}".rstrip()
        case Kind.COMMAND:
            return f"command {fields.get('name', '')} {printable(fields.get('arguments', b''))}".rstrip()
        case Kind.COMMAND_RESULT:
            state = COMMAND_STATES.get(fields.get("state", 0), "?")
            return f"command {fields.get('command', 0)} {state}: {printable(fields.get('content', b''))}"
        case Kind.CASE_CHANGED:
            agent = f", {name(fields['agent'])} has it" if fields.get("agent") else ""
            return f"case {fields.get('case', 0)} is {CASE_STATES.get(fields.get('state', 0), '?')}{agent}"
        case Kind.CONVERSATION_CREATED:
            return f"created the conversation {fields.get('title') or ''}".rstrip()
        case Kind.MEMBERS_ADDED:
            return "added " + ", ".join(map(name, fields.get("users", ())))
        case Kind.MEMBERS_REMOVED:
            return "removed " + ", ".join(map(name, fields.get("users", ())))
        case Kind.MEMBER_LEFT:
            return f"{name(fields.get('user', 0))} left"
        case Kind.ROLE_CHANGED:
            code = fields.get("role", 0)
            role = {value.value: value.name.lower() for value in schema.Role}.get(code, f"role {code}")
            return f"made {name(fields.get('user', 0))} {role}"
        case Kind.TITLE_CHANGED:
            return f"renamed the conversation to {fields.get('title', '')}"
        case Kind.MEMBER_MUTED:
            until_s = fields.get("until_s", 0)
            end = f"muted {{}} until {local_time(until_s * 1000)}" if until_s else "lets {} write again"
            return end.format(name(fields.get("user", 0)))
    if event.kind in WHAT_HAPPENED:
        said = {key: name(value) if key == "user" else value for key, value in fields.items()}
        return WHAT_HAPPENED[event.kind].format_map(defaultdict(str, said)).rstrip()
    return f"[{KIND_NAMES.get(event.kind, f'kind {event.kind}')}, {event.size} bytes]"


def marks_of(event: Event, name: Callable[[int], str]) -> str:
    """What stands before a text: what it answers, whose words it forwards, that it is not all of it."""
    marks = f"(re {event.reply_to}) " if event.reply_to else ""
    marks += f"(from {name(event.forwarded_from)}) " if event.forwarded_from else ""
    return marks + "(cut off) " if event.truncated else marks


def safe(text: str) -> str:
    """Text of other people without control characters: it must not move the reader's cursor or colours."""
    return "".join(char if char.isprintable() or char == "\t" else "\ufffd" for char in text.replace("\n", " ⏎ "))
