"""For administrators of the server."""

from chatd.services import admin, api_keys, params, why
from chatd.services.method import ADMIN, CID, Method, Table, page
from chatd.services.params import Param
from chatd.wire.schema import Method as Code

_USER = Param(1, "user", params.identifier)

TABLE: Table = {
    Code.ADMIN_USER_CREATE: Method(
        admin.create_user,
        (
            Param(1, "name", params.user_name),
            Param(2, "display_name", params.display_name, ""),
            Param(3, "password", params.password, None),
            Param(4, "admin", params.boolean, False),
        ),
        ADMIN,
    ),
    Code.ADMIN_USER_LIST: Method(admin.list_users, page(1), ADMIN),
    Code.ADMIN_USER_REVOKE: Method(admin.revoke_user, (_USER,), ADMIN),
    Code.ADMIN_API_KEY_CREATE: Method(
        api_keys.create,
        (_USER, Param(2, "label", params.label, ""), Param(3, "acts_as_others", params.boolean, False)),
        ADMIN,
    ),
    Code.ADMIN_API_KEY_REVOKE: Method(api_keys.revoke, (Param(1, "key_id", params.identifier),), ADMIN),
    Code.ADMIN_WHY: Method(
        why.why, (CID, Param(2, "seq", params.identifier), Param(3, "user", params.identifier)), ADMIN
    ),
    Code.ADMIN_STATS: Method(admin.stats, (), ADMIN),
}
