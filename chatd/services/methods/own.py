"""How one has a conversation for oneself, and what one reports."""

from chatd.services import own, params, reports
from chatd.services.method import CID, GUEST, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import Method as Code

UNTIL_S_MAX = (1 << 32) - 1

_FLAG = params.boolean
_REPORTED_CID = Param(1, "cid", params.after)

TABLE: Table = {
    Code.OWN_SET: Method(
        own.set_own,
        (
            CID,
            Param(2, "muted_until_s", params.number(0, UNTIL_S_MAX), None),
            Param(3, "mentions_only", _FLAG, None),
            Param(4, "archived", _FLAG, None),
            Param(5, "unread", _FLAG, None),
        ),
        GUEST,
    ),
    Code.OWN_HIDE: Method(
        own.hide, (CID, Param(2, "upto", params.after, 0), Param(3, "seqs", params.identifiers(200), ())), GUEST
    ),
    Code.OWN_LIST: Method(own.list_own, (*page(1), Param(3, "since_ms", params.after, 0)), GUEST),
    Code.REPORT: Method(
        reports.report,
        (
            _REPORTED_CID,
            Param(2, "seq", params.after, 0),
            Param(3, "user", params.after, 0),
            Param(4, "reason", params.note),
        ),
        GUEST,
    ),
    Code.REPORT_LIST: Method(reports.list_open, (_REPORTED_CID, *page(2)), USER),
    Code.REPORT_RESOLVE: Method(
        reports.resolve, (Param(1, "report", params.identifier), Param(2, "note", params.note, "")), USER
    ),
}
