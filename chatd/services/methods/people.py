"""People: profiles, contacts and blocks, guests."""

from chatd.services import params, profiles, relations
from chatd.services.method import GUEST, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import Method as Code

_USER = Param(1, "user", params.identifier)

TABLE: Table = {
    Code.PROFILE_GET: Method(profiles.get, (_USER,), GUEST),
    Code.PROFILE_SET: Method(
        profiles.set_own,
        (
            Param(1, "display_name", params.display_name, None),
            Param(2, "about", params.topic, None),
            Param(3, "avatar", params.reference, None),
            Param(4, "strangers", params.number(0, 1), None),
        ),
        GUEST,
    ),
    Code.ACCOUNT_UPGRADE: Method(
        profiles.upgrade,
        (
            Param(1, "name", params.user_name),
            Param(2, "display_name", params.display_name, ""),
            Param(3, "password", params.password),
        ),
        GUEST,
    ),
    Code.CONTACT_REQUEST: Method(relations.ask, (_USER, Param(2, "text", params.reason, "")), USER),
    Code.CONTACT_ANSWER: Method(relations.answer, (_USER, Param(2, "accept", params.boolean)), USER),
    Code.CONTACT_REMOVE: Method(relations.remove, (_USER,), USER),
    Code.BLOCK: Method(relations.block, (_USER, Param(2, "blocked", params.boolean)), GUEST),
    Code.RELATION_LIST: Method(relations.list_own, page(1), GUEST),
}
