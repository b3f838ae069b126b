"""Who is there, and who has read."""

from chatd.services import params, presence, receipts
from chatd.services.method import CID, GUEST, USER, Method, Table
from chatd.services.params import Param
from chatd.wire.schema import Audience, PresenceState
from chatd.wire.schema import Method as Code

USERS_PER_REQUEST_MAX = 200
_USERS = Param(1, "users", params.identifiers(USERS_PER_REQUEST_MAX))
_STATES = (PresenceState.ONLINE, PresenceState.AWAY, PresenceState.INVISIBLE)

TABLE: Table = {
    Code.RECEIPT_GET: Method(receipts.get, (CID, Param(2, "seq", params.identifier)), GUEST),
    Code.PRESENCE_SET: Method(presence.set_state, (Param(1, "state", params.one_of(*_STATES)),), GUEST),
    Code.PRESENCE_AUDIENCE: Method(presence.audience, (Param(1, "wanted", params.one_of(*Audience), None),), USER),
    Code.PRESENCE_FOLLOW: Method(presence.follow, (_USERS,), USER),
    Code.PRESENCE_UNFOLLOW: Method(presence.unfollow, (_USERS,), USER),
}
