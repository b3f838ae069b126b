"""Every REQUEST method of the schema with names and types: what `Client` offers beside events and sends."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatd.client.asking import PAGE
from chatd.client.errors import NotFoundError
from chatd.client.groups import GroupMethods
from chatd.client.people import PeopleMethods
from chatd.client.service import ServiceMethods
from chatd.wire.schema import Audience, ConversationKind, ErrorCode, Method, Role

NAMES_MAX = 100


@dataclass(frozen=True, slots=True)
class User:
    id: int
    name: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Account:
    """A user as an administrator sees it."""

    id: int
    name: str
    display_name: str
    flags: int
    created_ms: int


@dataclass(frozen=True, slots=True)
class ConversationInfo:
    cid: int
    kind: int
    title: str
    head_seq: int
    member_count: int
    role: int


@dataclass(frozen=True, slots=True)
class Member:
    user: int
    role: int
    join_seq: int
    delivered_seq: int
    read_seq: int
    name: str


@dataclass(frozen=True, slots=True)
class Device:
    id: int
    label: str
    created_ms: int
    online: bool
    has_key: bool


@dataclass(frozen=True, slots=True)
class Reader:
    user: int
    delivered: bool
    read: bool


@dataclass(frozen=True, slots=True)
class Receipts:
    """Counts over the members who could read an event; by member where there are at most 500."""

    members: int
    delivered: int
    read: int
    by_member: list[Reader]


@dataclass(frozen=True, slots=True)
class Hop:
    """One step of a message's way, from the ledger."""

    time_ms: int
    hop: str
    detail: str


class Methods(GroupMethods, PeopleMethods, ServiceMethods):
    """Typed helpers over `request`: RefusedError by what the server says, NoAnswerError when time is over."""

    # ------------------------------------------------------------ users

    async def resolve(self, names: Sequence[str]) -> dict[str, User]:
        """Users by name; unknown names are left out."""
        users = {}
        for start in range(0, len(names), NAMES_MAX):
            result = await self.request(Method.USER_RESOLVE, {1: list(names[start : start + NAMES_MAX])})
            users.update({name: User(ident, name, display) for ident, name, display in result[1]})
        return users

    async def user_named(self, name: str) -> User:
        """One user by name. NotFoundError when there is none."""
        found = (await self.resolve([name])).get(name)
        if found is None:
            raise NotFoundError(ErrorCode.NOT_FOUND, f"there is no user {name!r}")
        return found

    async def users(self, ids: Sequence[int]) -> dict[int, User]:
        users = {}
        for start in range(0, len(ids), NAMES_MAX):
            result = await self.request(Method.USER_GET, {1: list(ids[start : start + NAMES_MAX])})
            users.update({ident: User(ident, name, display) for ident, name, display in result[1]})
        return users

    async def set_password(self, old: str | None, new: str) -> None:
        await self.request(Method.PASSWORD_SET, {1: old, 2: new})

    # ------------------------------------------------------------ conversations and members

    async def direct(self, user: int) -> int:
        """The cid of the direct conversation with that user, made when there is none."""
        return int((await self.request(Method.DIRECT_OPEN, {1: user}))[1])

    async def create_group(self, title: str, users: Sequence[int] = ()) -> int:
        """A new group with these members; the caller is its owner. Returns its cid."""
        params = {1: int(ConversationKind.GROUP), 2: title, 3: list(users)}
        return int((await self.request(Method.CONVERSATION_CREATE, params))[1])

    async def conversation(self, cid: int) -> ConversationInfo:
        result = await self.request(Method.CONVERSATION_GET, {1: cid})
        return ConversationInfo(*(result[key] for key in (1, 2, 3, 4, 5, 6)))

    async def conversation_list(self) -> list[ConversationInfo]:
        """Every conversation of the caller, ascending by cid."""
        return [ConversationInfo(*row) async for row in self._rows(Method.CONVERSATION_LIST, {}, PAGE)]

    async def set_title(self, cid: int, title: str) -> int:
        return int((await self.request(Method.CONVERSATION_SET_TITLE, {1: cid, 2: title}))[1])

    async def members(self, cid: int) -> list[Member]:
        return [Member(*row) async for row in self._rows(Method.MEMBER_LIST, {1: cid}, 500)]

    async def add_members(self, cid: int, users: Sequence[int], role: int = Role.MEMBER) -> int:
        """Returns the seq of the event; 0 when all were members already."""
        return int((await self.request(Method.MEMBER_ADD, {1: cid, 2: list(users), 3: int(role)}))[1])

    async def remove_members(self, cid: int, users: Sequence[int]) -> int:
        """Returns the seq of the event; 0 when none was a member."""
        return int((await self.request(Method.MEMBER_REMOVE, {1: cid, 2: list(users)}))[1])

    async def leave(self, cid: int) -> int:
        return int((await self.request(Method.MEMBER_LEAVE, {1: cid}))[1])

    async def set_role(self, cid: int, user: int, role: int) -> int:
        return int((await self.request(Method.MEMBER_SET_ROLE, {1: cid, 2: user, 3: int(role)}))[1])

    # ------------------------------------------------------------ presence and receipts

    async def presence_audience(self, audience: Audience | None = None) -> Audience:
        """Who may see when this user is there; None only asks."""
        return Audience((await self.request(Method.PRESENCE_AUDIENCE, {1: audience}))[1])

    async def receipts(self, cid: int, seq: int) -> Receipts:
        """Who has received and read an event, this user left out."""
        result = await self.request(Method.RECEIPT_GET, {1: cid, 2: seq})
        return Receipts(result[1], result[2], result[3], [Reader(*row) for row in result[4]])

    # ------------------------------------------------------------ devices

    async def devices(self) -> list[Device]:
        result = await self.request(Method.DEVICE_LIST)
        return [Device(*row) for row in result[1]]

    async def revoke_device(self, device: int) -> None:
        """The device is logged out now; its tickets and key stop working."""
        await self.request(Method.DEVICE_REVOKE, {1: device})

    async def kick_device(self, device: int) -> bool:
        """Close the session of another device of this user; it may come again. False: it had none."""
        return bool((await self.request(Method.DEVICE_KICK, {1: device}))[1])

    async def create_device_key(self, label: str) -> tuple[int, bytes]:
        """A new device that logs in by key: (device, key). The key is shown once."""
        result = await self.request(Method.DEVICE_KEY_CREATE, {1: label})
        return int(result[1]), bytes(result[2])

    # ------------------------------------------------------------ administration

    async def admin_create_user(
        self, name: str, display_name: str = "", password: str | None = None, admin: bool = False
    ) -> int:
        params = {1: name, 2: display_name or name, 3: password, 4: admin}
        return int((await self.request(Method.ADMIN_USER_CREATE, params))[1])

    async def admin_users(self) -> list[Account]:
        return [Account(*row) async for row in self._rows(Method.ADMIN_USER_LIST, {}, PAGE)]

    async def admin_revoke_user(self, user: int) -> int:
        """Every token, ticket and session of that user ends now. Returns the new token epoch."""
        return int((await self.request(Method.ADMIN_USER_REVOKE, {1: user}))[1])

    async def admin_create_api_key(self, user: int, label: str, may_act_as_others: bool = False) -> tuple[str, int]:
        """(key, its id). The key is shown once."""
        result = await self.request(Method.ADMIN_API_KEY_CREATE, {1: user, 2: label, 3: may_act_as_others})
        return str(result[1]), int(result[2])

    async def admin_revoke_api_key(self, key_id: int) -> None:
        await self.request(Method.ADMIN_API_KEY_REVOKE, {1: key_id})

    async def admin_why(self, cid: int, seq: int, user: int) -> tuple[list[Hop], bool]:
        """What happened to an event on its way to that user: (hops, aged_out)."""
        result = await self.request(Method.ADMIN_WHY, {1: cid, 2: seq, 3: user})
        return [Hop(*row) for row in result[1]], bool(result[2])

    async def admin_stats(self) -> dict[str, float]:
        return dict((await self.request(Method.ADMIN_STATS))[1])
