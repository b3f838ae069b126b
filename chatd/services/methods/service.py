"""Conversations of devices, service desks."""

from chatd.services import desks, device_conversations, params
from chatd.services.method import ADMIN, CID, GUEST, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import CaseState
from chatd.wire.schema import Method as Code

CASES_MAX = 100
DESKS_MAX = 50
STARS_MAX = 5

_AGENT = params.after

TABLE: Table = {
    Code.DEVICE_OPEN: Method(device_conversations.open_device, (Param(1, "device", params.identifier),), GUEST),
    Code.COMMAND_LIST: Method(device_conversations.list_commands, (CID,), GUEST),
    Code.DESK_SET: Method(desks.set_desk, (Param(1, "name", params.user_name), Param(2, "cid", params.after)), ADMIN),
    Code.DESK_LIST: Method(
        desks.list_desks,
        (Param(1, "after", params.public_name, ""), Param(2, "limit", params.limit(DESKS_MAX), DESKS_MAX)),
        GUEST,
    ),
    Code.CASE_OPEN: Method(
        desks.open_case,
        (
            Param(1, "name", params.user_name),
            Param(2, "subject", params.title, ""),
            Param(3, "customer", params.after, 0),
        ),
        GUEST,
    ),
    Code.CASE_LIST: Method(
        desks.list_cases,
        (
            Param(1, "desk", params.identifier),
            Param(2, "state", params.number(0, max(CaseState)), 0),
            *page(3, CASES_MAX),
        ),
        USER,
    ),
    Code.CASE_ASSIGN: Method(desks.assign, (CID, Param(2, "agent", _AGENT), Param(3, "expected", _AGENT, None)), USER),
    Code.CASE_CLOSE: Method(desks.close, (CID, Param(2, "closed", params.boolean)), GUEST),
    Code.CASE_RATE: Method(desks.rate, (CID, Param(2, "stars", params.number(1, STARS_MAX))), GUEST),
}
