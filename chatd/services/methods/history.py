"""Search, what messages said before, and how long they are kept."""

from chatd.services import params, retention, search
from chatd.services.messages import versions
from chatd.services.method import ADMIN, CID, GUEST, USER, Method, Table
from chatd.services.params import Param
from chatd.wire.schema import Method as Code

HITS_MAX = 50
KINDS_MAX = 16

TABLE: Table = {
    Code.SEARCH: Method(
        search.search,
        (
            Param(1, "query", search.words),
            Param(2, "cid", params.after, 0),
            Param(3, "sender", params.after, 0),
            Param(4, "kinds", params.identifiers(KINDS_MAX), ()),
            Param(5, "since_ms", search.moment, 0),
            Param(6, "until_ms", search.moment, 0),
            Param(7, "limit", params.limit(HITS_MAX), HITS_MAX),
            Param(8, "before", search.cursor, None),
        ),
        GUEST,
    ),
    Code.RETENTION_SET: Method(
        retention.put,
        (
            CID,
            Param(2, "days", params.number(0, retention.DAYS_MAX), None),
            Param(3, "kept", params.number(0, retention.EVENTS_MAX), None),
        ),
        USER,
    ),
    Code.RETENTION_GET: Method(retention.get, (CID,), GUEST),
    Code.EVENT_VERSIONS: Method(
        versions.get, (CID, Param(2, "seq", params.identifier), Param(3, "after", params.after, 0)), GUEST
    ),
    Code.SEARCH_REBUILD: Method(search.rebuild, (), ADMIN),
}
