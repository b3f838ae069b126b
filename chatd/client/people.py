"""Typed methods about people: profiles, contacts, blocks, own settings, reports."""

from collections.abc import Sequence
from dataclasses import dataclass

from chatd.client.asking import Asking
from chatd.wire.schema import Method

CONTACT, ASKED, ASKED_ME, BLOCKED = 1, 2, 4, 8
"""Bits of a relation."""


@dataclass(frozen=True, slots=True)
class Profile:
    """relation: how the caller stands to that user. contacts_only: told of oneself."""

    user: int
    name: str
    display_name: str
    about: str
    avatar: str
    relation: int
    contacts_only: bool


@dataclass(frozen=True, slots=True)
class RelationInfo:
    user: int
    relation: int
    changed_ms: int
    text: str
    name: str


@dataclass(frozen=True, slots=True)
class OwnSetting:
    """flags: 1 mentions only, 2 archived, 4 unread. Everything up to hidden_seq and each of hidden is deleted for the
    caller alone.
    """

    cid: int
    muted_until_s: int
    flags: int
    hidden_seq: int
    hidden: list[int]
    changed_ms: int


@dataclass(frozen=True, slots=True)
class Report:
    id: int
    cid: int
    seq: int
    user: int
    by: int
    reason: str
    created_ms: int


class PeopleMethods(Asking):
    """What a user does for him- or herself."""

    async def profile(self, user: int) -> Profile:
        result = await self.request(Method.PROFILE_GET, {1: user})
        shown = [*(result[key] for key in range(1, 7)), bool(result.get(7))]
        return Profile(*shown)

    async def set_profile(
        self,
        *,
        display_name: str | None = None,
        about: str | None = None,
        avatar: str | None = None,
        contacts_only: bool | None = None,
    ) -> None:
        """None leaves a value as it is. contacts_only: nobody else may write first."""
        strangers = None if contacts_only is None else int(contacts_only)
        await self.request(Method.PROFILE_SET, {1: display_name, 2: about, 3: avatar, 4: strangers})

    async def upgrade_guest(self, name: str, password: str, display_name: str = "") -> None:
        """A guest becomes a registered user and keeps everything."""
        await self.request(Method.ACCOUNT_UPGRADE, {1: name, 2: display_name, 3: password})

    # ------------------------------------------------------------ contacts; each returns the caller's relation

    async def ask_contact(self, user: int, text: str = "") -> int:
        return int((await self.request(Method.CONTACT_REQUEST, {1: user, 2: text}))[1])

    async def answer_contact(self, user: int, accept: bool) -> int:
        return int((await self.request(Method.CONTACT_ANSWER, {1: user, 2: accept}))[1])

    async def remove_contact(self, user: int) -> int:
        return int((await self.request(Method.CONTACT_REMOVE, {1: user}))[1])

    async def block(self, user: int, blocked: bool = True) -> int:
        """Who is blocked cannot write directly, ask, or add the caller to a group."""
        return int((await self.request(Method.BLOCK, {1: user, 2: blocked}))[1])

    async def relations(self) -> list[RelationInfo]:
        return [RelationInfo(*row) async for row in self._rows(Method.RELATION_LIST, {})]

    # ------------------------------------------------------------ own settings

    async def set_own(
        self,
        cid: int,
        *,
        muted_until_s: int | None = None,
        mentions_only: bool | None = None,
        archived: bool | None = None,
        unread: bool | None = None,
    ) -> None:
        """How the caller has a conversation, on all devices. None leaves a value as it is."""
        await self.request(Method.OWN_SET, {1: cid, 2: muted_until_s, 3: mentions_only, 4: archived, 5: unread})

    async def delete_for_me(self, cid: int, *, upto: int = 0, seqs: Sequence[int] = ()) -> None:
        """Events that the caller does not get any more: all up to a seq, single ones."""
        await self.request(Method.OWN_HIDE, {1: cid, 2: upto, 3: list(seqs)})

    async def own_settings(self, since_ms: int = 0) -> list[OwnSetting]:
        """Those that changed after a moment of the server's clock (the highest changed_ms seen), or all."""
        return [OwnSetting(*row) async for row in self._rows(Method.OWN_LIST, {3: since_ms}, key=1)]

    # ------------------------------------------------------------ reports

    async def report(self, reason: str, *, cid: int = 0, seq: int = 0, user: int = 0) -> int:
        """An event that the caller can read, or a user. Returns the number of the report."""
        return int((await self.request(Method.REPORT, {1: cid, 2: seq, 3: user, 4: reason}))[1])

    async def reports(self, cid: int = 0) -> list[Report]:
        """Open ones of a conversation, for its moderators; of all, for administrators."""
        return [Report(*row) async for row in self._rows(Method.REPORT_LIST, {1: cid})]

    async def resolve_report(self, report: int, note: str = "") -> None:
        await self.request(Method.REPORT_RESOLVE, {1: report, 2: note})
