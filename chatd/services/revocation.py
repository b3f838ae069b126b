# Revocation: the token epoch of a user is the Unix time in milliseconds of its last revocation, 0 = never. Tickets
# carry the epoch they were issued under; a JSON Web Token carries its time of issue (iat), which is compared with the
# epoch directly, so tokens of a foreign issuer need no claim of ours. It only grows, also when the clock is set back.
# Enforced in three places: shards refuse at login what is older, the core refuses a registration with an older epoch,
# and live sessions are closed right after the commit.
"""Ending every token, ticket and session of a user."""

from chatd.hub.loop import Hub
from chatd.hub.rows import Rows
from chatd.services.caller import now_ms
from chatd.wire.schema import Close


def stage(rows: Rows, user: int) -> int:
    """In a turn that has found the user. Returns the new token epoch."""
    row = rows.find("user", user)
    epoch: int = max(row.token_epoch + 1, now_ms())
    rows.stage("user", row._replace(token_epoch=epoch))
    return epoch


async def enforce(hub: Hub, user: int) -> None:
    """After the commit."""
    row = await hub.lookup(lambda: hub.rows.find("user", user))
    hub.revoked.append((user, row.token_epoch))
    hub.core.put_user(user, row.token_epoch, row.flags)
    end_sessions(hub, user)


def end_sessions(hub: Hub, user: int, device: int = 0) -> None:
    """Close the live sessions of a user, or of one device, with REVOKED."""
    hub.wake()
    for shard, handle, live_device, _ in hub.core.sessions(user):
        if device in (0, live_device):
            hub.core.kick(shard, handle, Close.REVOKED)
