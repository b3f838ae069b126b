"""Typed methods about conversations: rules, moderation, links, public names, requests to join."""

from collections.abc import Mapping
from dataclasses import dataclass

from chatd.client.asking import Asking
from chatd.wire.schema import ConversationKind, Method

HISTORY_ALL = 1 << 32
"""For set_rules: those who join later read everything."""
FOUND_PAGE = 50


@dataclass(frozen=True, slots=True)
class RoleInfo:
    role: int
    name: str
    rank: int
    rights: int


@dataclass(frozen=True, slots=True)
class Rules:
    """denied: rights that a role does not have here. rights, muted_until_s: of the caller."""

    topic: str
    avatar: str
    slow_mode_s: int
    history: int
    denied: dict[int, int]
    public_name: str
    archived: bool
    rights: int
    muted_until_s: int


@dataclass(frozen=True, slots=True)
class Restriction:
    """Times are Unix seconds; 0: not muted, not banned; 2**32 - 1: for ever."""

    user: int
    muted_until_s: int
    banned_until_s: int
    by: int
    changed_ms: int
    reason: str


@dataclass(frozen=True, slots=True)
class Invitation:
    """expires_s 0: never; uses_max 0: any number. ask: who comes has to be accepted."""

    id: int
    token: bytes
    by: int
    expires_s: int
    uses_max: int
    uses: int
    ask: bool
    created_ms: int


@dataclass(frozen=True, slots=True)
class Preview:
    """What a link shows before one joins."""

    kind: int
    title: str
    topic: str
    member_count: int
    ask: bool


@dataclass(frozen=True, slots=True)
class JoinRequest:
    user: int
    name: str
    text: str
    created_ms: int


@dataclass(frozen=True, slots=True)
class PublicConversation:
    name: str
    cid: int
    kind: int
    title: str
    topic: str
    member_count: int


class GroupMethods(Asking):
    """What members, moderators and owners do to a conversation."""

    async def create_channel(self, title: str) -> int:
        """A new channel: few write, many read. The caller is its owner. Returns its cid."""
        return int((await self.request(Method.CONVERSATION_CREATE, {1: int(ConversationKind.CHANNEL), 2: title}))[1])

    async def set_info(self, cid: int, topic: str | None = None, avatar: str | None = None) -> int:
        """None leaves a value as it is. Returns the seq of the event, like all that change a conversation."""
        return int((await self.request(Method.CONVERSATION_SET_INFO, {1: cid, 2: topic, 3: avatar}))[1])

    async def rules(self, cid: int) -> Rules:
        result = await self.request(Method.CONVERSATION_RULES, {1: cid})
        return Rules(*(result[key] for key in range(1, 10)))

    async def set_rules(
        self,
        cid: int,
        *,
        slow_mode_s: int | None = None,
        history: int | None = None,
        denied: Mapping[int, int] | None = None,
    ) -> int:
        """None leaves a value as it is. history: how many events those read who join later; HISTORY_ALL: all."""
        params = {1: cid, 2: slow_mode_s, 3: history, 4: None if denied is None else dict(denied)}
        return int((await self.request(Method.CONVERSATION_SET_RULES, params))[1])

    async def archive(self, cid: int, archived: bool = True) -> int:
        """Nobody writes in an archived conversation. Returns 0 when it was so already."""
        return int((await self.request(Method.CONVERSATION_ARCHIVE, {1: cid, 2: archived}))[1])

    async def delete_conversation(self, cid: int) -> int:
        """Everybody is removed; the event is the last one."""
        return int((await self.request(Method.CONVERSATION_DELETE, {1: cid}))[1])

    async def roles(self) -> list[RoleInfo]:
        """Those of the protocol and of this server."""
        return [RoleInfo(*row) for row in (await self.request(Method.ROLE_LIST))[1]]

    # ------------------------------------------------------------ moderation

    async def mute_member(self, cid: int, user: int, until_s: int) -> int:
        """until_s: Unix time; 0: may write again."""
        return int((await self.request(Method.MEMBER_MUTE, {1: cid, 2: user, 3: until_s}))[1])

    async def ban(self, cid: int, user: int, until_s: int = 0, reason: str = "") -> int:
        """Remove and keep out. until_s: Unix time; 0: for ever. Returns 0 when the user was no member."""
        return int((await self.request(Method.MEMBER_BAN, {1: cid, 2: user, 3: until_s, 4: reason}))[1])

    async def lift_ban(self, cid: int, user: int) -> int:
        return int((await self.request(Method.BAN_LIFT, {1: cid, 2: user}))[1])

    async def restrictions(self, cid: int) -> list[Restriction]:
        return [Restriction(*row) async for row in self._rows(Method.RESTRICTION_LIST, {1: cid})]

    # ------------------------------------------------------------ links

    async def invite(self, cid: int, *, expires_s: int = 0, uses_max: int = 0, ask: bool = False) -> tuple[bytes, int]:
        """A link: (token, number of the invitation). expires_s: Unix time, 0 never; uses_max: 0 any number."""
        result = await self.request(Method.INVITE_CREATE, {1: cid, 2: expires_s, 3: uses_max, 4: ask})
        return bytes(result[1]), int(result[2])

    async def invitations(self, cid: int) -> list[Invitation]:
        return [Invitation(*row) async for row in self._rows(Method.INVITE_LIST, {1: cid})]

    async def revoke_invitation(self, cid: int, invitation: int) -> None:
        await self.request(Method.INVITE_REVOKE, {1: cid, 2: invitation})

    async def preview(self, token: bytes) -> Preview:
        result = await self.request(Method.INVITE_LOOK, {1: token})
        return Preview(*(result[key] for key in range(1, 6)))

    async def join(self, token: bytes, text: str = "") -> int:
        """By a link. Returns the cid; 0 while those who may accept have not answered."""
        return int((await self.request(Method.INVITE_JOIN, {1: token, 2: text}))[1])

    async def join_requests(self, cid: int) -> list[JoinRequest]:
        return [JoinRequest(*row) async for row in self._rows(Method.JOIN_REQUEST_LIST, {1: cid})]

    async def answer_join_request(self, cid: int, user: int, accept: bool) -> int:
        return int((await self.request(Method.JOIN_REQUEST_ANSWER, {1: cid, 2: user, 3: accept}))[1])

    # ------------------------------------------------------------ public names

    async def set_public_name(self, cid: int, name: str, ask: bool = False) -> int:
        """Everybody can find and join it, or ask to; "": nobody can any more."""
        return int((await self.request(Method.PUBLIC_NAME_SET, {1: cid, 2: name, 3: ask}))[1])

    async def find_public(self, begin: str = "") -> list[PublicConversation]:
        """Conversations whose public name begins so, ascending by name."""
        rows = self._rows(Method.PUBLIC_FIND, {1: begin}, FOUND_PAGE, after="")
        return [PublicConversation(*row) async for row in rows]

    async def join_public(self, name: str, text: str = "") -> int:
        """Returns the cid; 0 while those who may accept have not answered."""
        return int((await self.request(Method.PUBLIC_JOIN, {1: name, 2: text}))[1])
