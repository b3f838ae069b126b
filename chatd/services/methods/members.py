"""Members of a conversation: who is there, who comes and goes, who may what."""

from chatd.services import invitations, join_requests, members, params, restrictions
from chatd.services.method import CID, GUEST, MEMBERS_PAGE_MAX, MEMBERS_PER_REQUEST_MAX, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import Method as Code
from chatd.wire.schema import Role

UNTIL_S_MAX = (1 << 32) - 2
"""Unix time; the number above it stands for ever."""

_NAMED = Param(2, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX))
_USER = Param(2, "user", params.identifier)
_UNTIL = Param(3, "until_s", params.number(0, UNTIL_S_MAX))
_ROLE = params.number(1, 15)
_TOKEN = Param(1, "token", params.exactly(invitations.TOKEN_BYTES))

TABLE: Table = {
    Code.MEMBER_LIST: Method(members.list_members, (CID, *page(2, MEMBERS_PAGE_MAX)), GUEST),
    Code.MEMBER_ADD: Method(members.add, (CID, _NAMED, Param(3, "role", _ROLE, int(Role.MEMBER))), USER),
    Code.MEMBER_REMOVE: Method(members.remove, (CID, _NAMED), USER),
    Code.MEMBER_LEAVE: Method(members.leave, (CID,), GUEST),
    Code.MEMBER_SET_ROLE: Method(members.set_role, (CID, _USER, Param(3, "role", _ROLE)), USER),
    Code.ROLE_LIST: Method(members.list_roles, (), GUEST),
    Code.MEMBER_MUTE: Method(restrictions.mute, (CID, _USER, _UNTIL), USER),
    Code.MEMBER_BAN: Method(restrictions.ban, (CID, _USER, _UNTIL, Param(4, "reason", params.reason, "")), USER),
    Code.BAN_LIFT: Method(restrictions.lift, (CID, _USER), USER),
    Code.RESTRICTION_LIST: Method(restrictions.list_restrictions, (CID, *page(2)), USER),
    Code.INVITE_CREATE: Method(
        invitations.create,
        (
            CID,
            Param(2, "expires_s", params.number(0, UNTIL_S_MAX), 0),
            Param(3, "uses_max", params.number(0, 1_000_000), 0),
            Param(4, "ask", params.boolean, False),
        ),
        USER,
    ),
    Code.INVITE_LIST: Method(invitations.list_open, (CID, *page(2)), USER),
    Code.INVITE_REVOKE: Method(invitations.revoke, (CID, Param(2, "invitation", params.identifier)), USER),
    Code.INVITE_LOOK: Method(invitations.look, (_TOKEN,), GUEST),
    Code.INVITE_JOIN: Method(invitations.join, (_TOKEN, Param(2, "text", params.reason, "")), GUEST),
    Code.JOIN_REQUEST_LIST: Method(join_requests.list_waiting, (CID, *page(2)), USER),
    Code.JOIN_REQUEST_ANSWER: Method(join_requests.answer, (CID, _USER, Param(3, "accept", params.boolean)), USER),
}
