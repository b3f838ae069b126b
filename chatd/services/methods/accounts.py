"""Users as others see them, one's own devices and password."""

from chatd.services import devices, params, passwords, users
from chatd.services.method import GUEST, USER, Method, Table
from chatd.services.params import Param
from chatd.wire.schema import Method as Code

USERS_PER_REQUEST_MAX = 100

TABLE: Table = {
    Code.USER_RESOLVE: Method(users.resolve, (Param(1, "names", params.names(USERS_PER_REQUEST_MAX)),), USER),
    Code.USER_GET: Method(users.get, (Param(1, "users", params.identifiers(USERS_PER_REQUEST_MAX)),), GUEST),
    Code.DEVICE_LIST: Method(devices.list_own, (), GUEST),
    Code.DEVICE_REVOKE: Method(devices.revoke, (Param(1, "device", params.identifier),), GUEST),
    Code.DEVICE_KICK: Method(devices.kick, (Param(1, "device", params.identifier),), GUEST),
    Code.DEVICE_KEY_CREATE: Method(devices.create_key, (Param(1, "label", params.label, ""),), USER),
    Code.PASSWORD_SET: Method(
        passwords.set_password, (Param(1, "old", params.password, None), Param(2, "new", params.password)), USER
    ),
}
