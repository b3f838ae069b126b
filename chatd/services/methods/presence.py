"""Who is there, who has read, and what was told last."""

from chatd.services import params, presence, receipts, telemetry
from chatd.services.method import CID, GUEST, USER, Method, Table
from chatd.services.params import Param
from chatd.wire.schema import TELEMETRY_KEY_MAX, Audience, PresenceState
from chatd.wire.schema import Method as Code

USERS_PER_REQUEST_MAX = 200
# A page of the largest values has to fit into a frame.
VALUES_PER_PAGE_MAX = 50
_USERS = Param(1, "users", params.identifiers(USERS_PER_REQUEST_MAX))
_STATES = (PresenceState.ONLINE, PresenceState.AWAY, PresenceState.INVISIBLE)

TABLE: Table = {
    Code.RECEIPT_GET: Method(receipts.get, (CID, Param(2, "seq", params.identifier)), GUEST),
    Code.PRESENCE_SET: Method(presence.set_state, (Param(1, "state", params.one_of(*_STATES)),), GUEST),
    Code.PRESENCE_AUDIENCE: Method(presence.audience, (Param(1, "wanted", params.one_of(*Audience), None),), USER),
    Code.PRESENCE_FOLLOW: Method(presence.follow, (_USERS,), USER),
    Code.PRESENCE_UNFOLLOW: Method(presence.unfollow, (_USERS,), USER),
    Code.TELEMETRY_LAST: Method(
        telemetry.last,
        (
            CID,
            Param(2, "user", params.after, 0),
            Param(3, "after_user", params.after, 0),
            # Keys begin at 0.
            Param(4, "after_key", params.number(-1, TELEMETRY_KEY_MAX), -1),
            Param(5, "limit", params.limit(VALUES_PER_PAGE_MAX), VALUES_PER_PAGE_MAX),
        ),
        GUEST,
    ),
}
