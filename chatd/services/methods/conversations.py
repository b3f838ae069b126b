"""Opening, creating, describing and ruling conversations."""

from chatd.services import conversations, params, public_names, rules
from chatd.services.joining import HISTORY_ALL
from chatd.services.method import CID, GUEST, MEMBERS_PER_REQUEST_MAX, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import ConversationKind
from chatd.wire.schema import Method as Code

SLOW_MODE_S_MAX = 3600
FOUND_MAX = 50

_CREATED = params.one_of(ConversationKind.GROUP, ConversationKind.CHANNEL, ConversationKind.WORLD)

TABLE: Table = {
    Code.DIRECT_OPEN: Method(conversations.open_direct, (Param(1, "user", params.identifier),), GUEST),
    Code.CONVERSATION_CREATE: Method(
        conversations.create,
        (
            Param(1, "kind", _CREATED),
            Param(2, "title", params.title),
            Param(3, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX), ()),
        ),
        USER,
    ),
    Code.CONVERSATION_GET: Method(conversations.get, (CID,), GUEST),
    Code.CONVERSATION_LIST: Method(conversations.list_own, page(1), GUEST),
    Code.CONVERSATION_SET_TITLE: Method(conversations.set_title, (CID, Param(2, "title", params.title)), USER),
    Code.CONVERSATION_SET_INFO: Method(
        rules.set_info, (CID, Param(2, "topic", params.topic, None), Param(3, "avatar", params.reference, None)), USER
    ),
    Code.CONVERSATION_SET_RULES: Method(
        rules.set_rules,
        (
            CID,
            Param(2, "slow_mode_s", params.number(0, SLOW_MODE_S_MAX), None),
            Param(3, "history", params.number(0, HISTORY_ALL), None),
            Param(4, "denied", params.denials, None),
        ),
        USER,
    ),
    Code.CONVERSATION_RULES: Method(rules.get, (CID,), GUEST),
    Code.CONVERSATION_ARCHIVE: Method(rules.archive, (CID, Param(2, "archived", params.boolean)), USER),
    Code.CONVERSATION_DELETE: Method(rules.delete, (CID,), USER),
    Code.PUBLIC_NAME_SET: Method(
        public_names.set_name,
        (CID, Param(2, "name", params.public_name), Param(3, "ask", params.boolean, False)),
        USER,
    ),
    Code.PUBLIC_FIND: Method(
        public_names.find,
        (
            Param(1, "begin", params.public_name, ""),
            Param(2, "after", params.public_name, ""),
            Param(3, "limit", params.limit(FOUND_MAX), FOUND_MAX),
        ),
        GUEST,
    ),
    Code.PUBLIC_JOIN: Method(
        public_names.join, (Param(1, "name", params.user_name), Param(2, "text", params.reason, "")), GUEST
    ),
}
