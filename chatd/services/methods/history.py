"""Search."""

from chatd.services import params, search
from chatd.services.method import GUEST, Method, Table
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
}
