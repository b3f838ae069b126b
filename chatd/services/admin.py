"""Methods for administrators: users, revocation, figures."""

import time
from typing import TYPE_CHECKING

from chatd.hub.flags import UserFlag
from chatd.services import passwords, revocation, users
from chatd.services.caller import Caller, Result, now_ms

if TYPE_CHECKING:
    from chatd.storage.interface import UserRow


async def create_user(caller: Caller, name: str, display_name: str, password: str | None, admin: bool) -> Result:
    """ADMIN_USER_CREATE"""
    password_hash = None if password is None else await passwords.hashed(password)
    flags = UserFlag.ADMIN if admin else UserFlag(0)

    def apply() -> Result:
        users.unused_name(caller.rows, name)
        return {1: users.stage_user(caller.rows, name, display_name, password_hash, flags, now_ms()).id}

    return await caller.change(apply)


async def list_users(caller: Caller, after: int, limit: int) -> Result:
    """ADMIN_USER_LIST"""
    found = {row.id: row for row in await caller.hub.loader.read(lambda view: view.users_after(after, limit + 1))}
    found |= {row.id: row for row in caller.rows.unfolded("user") if row.id > after}
    page: list[UserRow] = [caller.rows.newest("user", row) for _, row in sorted(found.items())]
    listed = [[row.id, row.name, row.display_name, row.flags, row.created_ms] for row in page[:limit]]
    return {1: listed, 2: len(page) > limit}


async def revoke_user(caller: Caller, user: int) -> Result:
    """ADMIN_USER_REVOKE"""

    def apply() -> Result:
        users.existing(caller.rows, [user])
        return {1: revocation.stage(caller.rows, user)}

    result = await caller.change(apply, urgent=True)
    await revocation.enforce(caller.hub, user)
    return result


async def stats(caller: Caller) -> Result:
    """ADMIN_STATS: the core's counters and those of the Python side, since the hub started; shards_…: the engines' of
    all shards added up, since each started."""
    hub = caller.hub
    counts = await hub.loader.read(lambda view: view.counts())
    shards = list((await hub.rpc.ask_all("counters")).values())
    figures: dict[str, int] = dict(hub.core.counters())
    figures |= {
        "uptime_s": int(time.time() - hub.started_ms / 1000),
        "committed_pos": hub.core.committed_pos,
        "folded_pos": hub.loader.folded_pos,
        "batches_committed": hub.committer.batch_count,
        "batches_refused": hub.committer.refused_count,
        "store_full": int(hub.committer.store_full),
        "calls_in_progress": hub.calls.in_progress,
        "calls_refused": hub.calls.refused_count,
        "shards_linked": len(hub.shards),
        **{f"shards_{name}": sum(found.get(name, 0) for found in shards) for name in sorted(set().union(*shards))},
        **{f"{name}_folded": count for name, count in counts._asdict().items()},
    }
    return {1: figures}
