"""Scheduled messages, drafts, and what messages have become."""

from chatd.services import params
from chatd.services.messages import drafts, scheduled, states, typed
from chatd.services.method import CID, GUEST, PAGE_MAX, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import SEND_BODY_BYTES_MAX, TEXT_BYTES_MAX
from chatd.wire.schema import Method as Code

TARGETS_PER_REQUEST_MAX = 100
# A page of whole drafts has to fit into a frame.
DRAFTS_PAGE_MAX = 7
KINDS_PAGE_MAX = 10
EXTENSIONS = Param(5, "extensions", params.data(1024), b"")

TABLE: Table = {
    Code.MESSAGE_SCHEDULE: Method(
        scheduled.schedule,
        (
            CID,
            Param(2, "kind", params.identifier),
            Param(3, "payload", params.data(SEND_BODY_BYTES_MAX)),
            Param(4, "due_ms", params.identifier),
            EXTENSIONS,
        ),
        USER,
    ),
    Code.SCHEDULED_LIST: Method(scheduled.list_own, (), USER),
    Code.SCHEDULED_CANCEL: Method(scheduled.cancel, (Param(1, "number", params.identifier),), USER),
    Code.DRAFT_SET: Method(drafts.put, (CID, Param(2, "content", params.data(TEXT_BYTES_MAX), b"")), GUEST),
    Code.DRAFT_LIST: Method(drafts.list_own, page(1, DRAFTS_PAGE_MAX), GUEST),
    Code.MENTIONS_UNREAD: Method(states.unread_mentions, (Param(1, "cids", params.identifiers(PAGE_MAX)),), GUEST),
    Code.MESSAGE_STATES: Method(
        states.states, (CID, Param(2, "targets", params.identifiers(TARGETS_PER_REQUEST_MAX))), GUEST
    ),
    Code.PIN_LIST: Method(states.pins, (CID,), GUEST),
    Code.KIND_LIST: Method(
        typed.list_kinds,
        (Param(1, "after", params.public_name, ""), Param(2, "limit", params.limit(KINDS_PAGE_MAX), KINDS_PAGE_MAX)),
        GUEST,
    ),
}
