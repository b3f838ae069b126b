# Profiles: what a user shows, and who may write first. A guest is a user like any other without a name; the upgrade
# gives the same user a name and a password, so everything that belongs to the id stays: conversations, history,
# contacts. Where the guest had the role of one, it becomes a member.
"""Methods about the own account and what others see of one."""

from chatd.hub import reads
from chatd.hub.flags import UserFlag
from chatd.hub.frames import CallError
from chatd.hub.rows import MissingConversation
from chatd.services import events, passwords, relations, users
from chatd.services.caller import Caller, Result
from chatd.storage.interface import UserRow, View
from chatd.wire.schema import ErrorCode, Role


async def get(caller: Caller, user: int) -> Result:
    """PROFILE_GET"""

    def find() -> Result:
        row = caller.rows.find("user", user)
        if row is None:
            raise users.no_such_user()
        relation = relations.between(caller, caller.user, user).state
        shown = {1: row.id, 2: row.name, 3: row.display_name, 4: row.about, 5: row.avatar, 6: relation}
        return shown | {7: int(bool(row.flags & UserFlag.CONTACTS_ONLY))} if user == caller.user else shown

    result: Result = await caller.hub.lookup(find)
    return result


def own_row(caller: Caller) -> UserRow:
    row: UserRow | None = caller.rows.find("user", caller.user)
    if row is None:
        raise users.no_such_user()
    return row


async def set_own(
    caller: Caller, display_name: str | None, about: str | None, avatar: str | None, strangers: int | None
) -> Result:
    """PROFILE_SET"""

    def apply() -> Result:
        row = own_row(caller)
        row = row._replace(
            display_name=row.display_name if display_name is None else display_name,
            about=row.about if about is None else about,
            avatar=row.avatar if avatar is None else avatar,
        )
        if strangers is not None:
            flags = row.flags & ~UserFlag.CONTACTS_ONLY
            row = row._replace(flags=int(flags | UserFlag.CONTACTS_ONLY if strangers else flags))
        caller.rows.stage("user", row)
        return {}

    return await caller.change(apply)


async def upgrade(caller: Caller, name: str, display_name: str, password: str) -> Result:
    """ACCOUNT_UPGRADE"""
    password_hash = await passwords.hashed(password)
    cids = await caller.hub.loader.read(lambda view: _conversations(view, caller.user))
    await caller.hub.loader.load("conversation", cids)

    def apply() -> Result:
        row = own_row(caller)
        if not row.flags & UserFlag.GUEST:
            raise CallError(ErrorCode.FORBIDDEN, "only a guest can be upgraded; this account has a name already")
        users.unused_name(caller.rows, name)
        everywhere = sorted({*cids, *(entry.cid for entry in caller.hub.memberships.of_user(caller.user))})
        for cid in everywhere:
            if caller.core.conversation(cid) is None:
                raise MissingConversation(cid)
        fresh = row._replace(name=name, display_name=display_name or row.display_name, password_hash=password_hash)
        caller.rows.stage("user", fresh._replace(flags=int(row.flags & ~UserFlag.GUEST)))
        for cid in everywhere:
            own = caller.core.intervals(cid, caller.user)
            if own and reads.is_member(own) and own[-1][1] == Role.GUEST:
                caller.hub.memberships.stage(cid, caller.user, Role.MEMBER, own[-1][2])
                events.role_changed(caller.core, cid, caller.user, caller.user, Role.MEMBER)
        return {}

    return await caller.change(apply)


def _conversations(view: View, user: int) -> list[int]:
    return view.conversation_ids(user, 0)
