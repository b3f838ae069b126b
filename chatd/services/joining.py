# Joining: what is the same however somebody comes into a conversation: added, by a link, by the public name, accepted.
# A conversation says how much of its history those read who come later; it is a matter of the interval and of nothing
# else: its join_seq lies as far back as they may read, but never before the end of an earlier interval of the same
# user. So PULL, SYNC, push and search need no rule of their own. Whoever joins has read what was there before: unread
# counts begin at the join.
"""Joining, and what stands against it."""

import time

from chatd.hub.frames import CallError
from chatd.services import events, users
from chatd.services.caller import Caller
from chatd.services.seats import first_role, is_deleted
from chatd.storage.interface import ConversationRow, View
from chatd.storage.people_rows import RestrictionRow
from chatd.wire.schema import ConversationKind, ErrorCode, Role

HISTORY_ALL = 1 << 32


def members_max(caller: Caller, kind: int) -> int:
    settings = caller.hub.settings
    readers = kind in {ConversationKind.CHANNEL, ConversationKind.WORLD}
    return settings.channel_members_max if readers else settings.group_members_max


def check_room(caller: Caller, kind: int, count: int) -> None:
    """LIMIT_REACHED when a conversation of that kind cannot have so many members."""
    most = members_max(caller, kind)
    if count > most:
        what = ConversationKind(kind).name.lower()
        raise CallError(ErrorCode.LIMIT_REACHED, f"a {what} has at most {most} members")


async def check_conversation_counts(caller: Caller, members: list[int], owner: int = 0) -> None:
    """LIMIT_REACHED when one of them has as many conversations as a user may have, or the owner as many groups."""
    settings = caller.hub.settings

    def read(view: View) -> tuple[dict[int, int], int]:
        return view.conversation_counts(members), view.owned_count(owner) if owner else 0

    counts, owned = await caller.hub.loader.read(read)
    for user in members:
        unfolded = sum(entry.leave_seq == 0 for entry in caller.hub.memberships.of_user(user))
        if counts.get(user, 0) + unfolded >= settings.user_conversations_max:
            text = f"user {user} is in {settings.user_conversations_max} conversations, which is the limit"
            raise CallError(ErrorCode.LIMIT_REACHED, text)
    if owner:
        owned += sum(entry.role == Role.OWNER for entry in caller.hub.memberships.of_user(owner))
        if owned >= settings.user_groups_owned_max:
            raise CallError(
                ErrorCode.LIMIT_REACHED, f"you own {settings.user_groups_owned_max} groups, which is the limit"
            )


def is_banned(row: RestrictionRow | None) -> bool:
    return row is not None and row.banned_until_s > time.time()


def check_bans(caller: Caller, cid: int, wanted: list[int]) -> None:
    """BANNED names the first user who may not join. For turns."""
    found = caller.rows.find_all("restriction", [(cid, user) for user in wanted])
    for user in wanted:
        if is_banned(found.get((cid, user))):
            raise CallError(ErrorCode.BANNED, f"user {user} is banned from this conversation")


def readable_from(caller: Caller, row: ConversationRow, user: int, seq: int) -> int:
    """join_seq of somebody who joins with the event at seq."""
    if not row.history:
        return seq
    left = max((interval[3] for interval in caller.core.intervals(row.id, user) or ()), default=0)
    return max(left + 1, 1 if row.history >= HISTORY_ALL else seq - row.history)


def stage_interval(caller: Caller, row: ConversationRow, user: int, role: int, seq: int) -> None:
    """The user joins with the event at seq, which is staged next."""
    caller.hub.memberships.stage(row.id, user, role, readable_from(caller, row, user, seq))


def stage_read(caller: Caller, cid: int, joined: list[int], seq: int) -> None:
    """After that event: what was there before counts as read."""
    for user in joined:
        caller.core.stage_position(cid, user, seq, seq)


def stage_own_join(caller: Caller, row: ConversationRow, user: int, by: int) -> int:
    """The user comes without being added: checks, interval, MEMBER_JOINED. Its seq; 0: a member already. For turns."""
    state = caller.core.conversation(row.id)
    assert state is not None, row.id
    if is_deleted(row):
        raise CallError(ErrorCode.NOT_FOUND, "this conversation has been deleted")
    intervals = caller.core.intervals(row.id, user)
    if intervals and intervals[-1][3] == 0:
        return 0
    check_bans(caller, row.id, [user])
    check_room(caller, row.kind, state[6] + 1)
    account = users.existing(caller.rows, [user])[user]
    seq = state[2] + 1
    stage_interval(caller, row, user, first_role(account), seq)
    staged = events.member_joined(caller.core, row.id, user, by)
    assert staged == seq, (staged, seq)
    stage_read(caller, row.id, [user], seq)
    return seq
