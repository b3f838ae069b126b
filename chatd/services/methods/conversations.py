"""Opening, creating and describing conversations."""

from chatd.services import conversations, params
from chatd.services.method import CID, GUEST, MEMBERS_PER_REQUEST_MAX, USER, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import ConversationKind
from chatd.wire.schema import Method as Code

TABLE: Table = {
    Code.DIRECT_OPEN: Method(conversations.open_direct, (Param(1, "user", params.identifier),), GUEST),
    Code.CONVERSATION_CREATE: Method(
        conversations.create,
        (
            Param(1, "kind", params.one_of(ConversationKind.GROUP)),
            Param(2, "title", params.title),
            Param(3, "named", params.identifiers(MEMBERS_PER_REQUEST_MAX), ()),
        ),
        USER,
    ),
    Code.CONVERSATION_GET: Method(conversations.get, (CID,), GUEST),
    Code.CONVERSATION_LIST: Method(conversations.list_own, page(1), GUEST),
    Code.CONVERSATION_SET_TITLE: Method(conversations.set_title, (CID, Param(2, "title", params.title)), USER),
}
