"""Members of a conversation: who is there, who comes and goes, who has which role."""

from chatd.services import members, params
from chatd.services.method import CID, GUEST, MEMBERS_PAGE_MAX, MEMBERS_PER_REQUEST_MAX, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import Method as Code
from chatd.wire.schema import Role

_NAMED = Param(2, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX))

TABLE: Table = {
    Code.MEMBER_LIST: Method(members.list_members, (CID, *page(2, MEMBERS_PAGE_MAX)), GUEST),
    Code.MEMBER_ADD: Method(
        members.add, (CID, _NAMED, Param(3, "role", params.one_of(Role.MEMBER, Role.ADMIN), int(Role.MEMBER))), USER
    ),
    Code.MEMBER_REMOVE: Method(members.remove, (CID, _NAMED), USER),
    Code.MEMBER_LEAVE: Method(members.leave, (CID,), GUEST),
    Code.MEMBER_SET_ROLE: Method(
        members.set_role, (CID, Param(2, "user", params.identifier), Param(3, "role", params.one_of(*Role))), USER
    ),
}
