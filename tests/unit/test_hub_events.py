"""Payloads that the hub writes by hand are those of the schema."""

from typing import Any

import pytest
from support.plain_core import PlainCore

from chatd.services import events
from chatd.storage.people_rows import CaseRow
from chatd.wire.payload import encode_payload
from chatd.wire.schema import KINDS, Kind

LONG = 1 << 40
WRITTEN: dict[Kind, tuple[tuple[Any, ...], dict[str, Any]]] = {
    Kind.CONVERSATION_CREATED: ((2, "title"), {"kind": 2, "title": "title"}),
    Kind.MEMBERS_ADDED: ((9, [1, LONG]), {"role": 9, "users": [{"user": 1}, {"user": LONG}]}),
    Kind.MEMBERS_REMOVED: (([LONG],), {"users": [{"user": LONG}]}),
    Kind.ROLE_CHANGED: ((LONG, 3), {"user": LONG, "role": 3}),
    Kind.TITLE_CHANGED: (("tïtle",), {"title": "tïtle"}),
    Kind.INFO_CHANGED: (("topic", "avatar"), {"topic": "topic", "avatar": "avatar"}),
    Kind.RULES_CHANGED: (
        (3600, 1 << 32, {5: 1, 1: 4095}),
        {"slow_mode_s": 3600, "history": 1 << 32, "denials": [{"role": 1, "rights": 4095}, {"role": 5, "rights": 1}]},
    ),
    Kind.RETENTION_CHANGED: ((30, LONG), {"days": 30, "events": LONG}),
    Kind.MEMBER_MUTED: ((LONG, LONG), {"user": LONG, "until_s": LONG}),
    Kind.MEMBER_BANNED: ((7, (1 << 32) - 1), {"user": 7, "until_s": (1 << 32) - 1}),
    Kind.BAN_LIFTED: ((LONG,), {"user": LONG}),
    Kind.ARCHIVED: ((True,), {"archived": 1}),
    Kind.DELETED: (("title",), {"title": "title"}),
    Kind.PUBLIC_NAME_CHANGED: (("name",), {"name": "name"}),
    Kind.CASE_CHANGED: (
        (CaseRow(cid=LONG, desk=7, customer=8, state=2, agent=LONG, since_ms=1, stars=5),),
        {"case": LONG, "state": 2, "agent": LONG, "customer": 8},
    ),
    Kind.CASE_RATED: ((CaseRow(LONG, 7, 8, 3, 0, 1, 5),), {"case": LONG, "stars": 5}),
}
# Who comes or goes is the sender.
BY_THEMSELVES: dict[Kind, tuple[tuple[Any, ...], dict[str, Any]]] = {
    Kind.MEMBER_LEFT: ((LONG,), {"user": LONG}),
    Kind.MEMBER_JOINED: ((LONG, 5), {"user": LONG, "by": 5}),
}


@pytest.mark.parametrize("kind", [*WRITTEN, *BY_THEMSELVES], ids=lambda kind: kind.name)
def test_payload_is_laid_out_as_the_schema_says(kind: Kind) -> None:
    core = PlainCore()
    core.put_conversation(7, 2, 0, 0, 0, 0, 0, [])
    write = getattr(events, {Kind.CONVERSATION_CREATED: "created"}.get(kind, kind.name.lower()))
    given, fields = (WRITTEN | BY_THEMSELVES)[kind]
    write(core, 7, *([3, *given] if kind in WRITTEN else given))
    found = core.last_event(7)
    assert found is not None
    assert (found[3], found[4]) == (kind, encode_payload(kind, fields))


def test_every_system_kind_is_looked_at() -> None:
    written = {kind for kind, rule in KINDS.items() if rule.layout is not None and not rule.client}
    assert written == {*WRITTEN, *BY_THEMSELVES}
