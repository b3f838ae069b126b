# API keys: "chatd_" id "_" secret, in base 10 and URL-safe base 64. The secret has 192 random bits, so a plain
# SHA-256 of it is enough to store: there is nothing to guess. The key is shown once and never stored.
"""Keys for programs that log in without a person."""

import hashlib
import secrets

from chatd.hub.flags import KeyFlag
from chatd.hub.frames import CallError
from chatd.hub.loop import Hub
from chatd.services import revocation, users
from chatd.services.caller import Caller, Result, now_ms
from chatd.storage.interface import ApiKeyRow
from chatd.wire.schema import ErrorCode

PREFIX = "chatd"
SECRET_BYTES = 24


def fresh_secret() -> str:
    return secrets.token_urlsafe(SECRET_BYTES)


def printed(key_id: int, secret: str) -> str:
    return f"{PREFIX}_{key_id}_{secret}"


def parsed(key: str) -> tuple[int, str] | None:
    """key id and secret of a printed key; None when it is none."""
    prefix, _, rest = key.partition("_")
    key_id, _, secret = rest.partition("_")
    if prefix != PREFIX or not key_id.isascii() or not key_id.isdigit() or len(key_id) > 18 or not secret:
        return None
    return int(key_id), secret


def secret_hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def stage_key(hub: Hub, user: int, label: str, acts_as_others: bool, secret: str) -> ApiKeyRow:
    """A new key in this batch."""
    flags = KeyFlag.ACTS_AS_OTHERS if acts_as_others else KeyFlag(0)
    row = ApiKeyRow(hub.rows.next_id("api_key"), user, label, secret_hash(secret), int(flags), now_ms())
    hub.rows.stage("api_key", row)
    return row


async def create(caller: Caller, user: int, label: str, acts_as_others: bool) -> Result:
    """ADMIN_API_KEY_CREATE. A repeat by idempotency key gets the id but nil for the key, which is shown once."""
    secret = fresh_secret()

    def apply() -> Result:
        users.existing(caller.rows, [user])
        row = stage_key(caller.hub, user, label, acts_as_others, secret)
        return {1: printed(row.id, secret), 2: row.id}

    def without_secret(result: Result) -> Result:
        return {1: None, 2: result[2]}

    return await caller.change(apply, remembered=without_secret)


async def revoke(caller: Caller, key_id: int) -> Result:
    """ADMIN_API_KEY_REVOKE. Nobody knows which sessions were opened with it, and somebody else may have had it: all
    sessions, tickets and tokens of its user end, as with ADMIN_USER_REVOKE. Other keys of that user go on working.
    Sessions that it opened as other users end, too; the shards know them (chatd.shard.key_sessions)."""

    def apply() -> Result:
        row = caller.rows.find("api_key", key_id)
        if row is None:
            raise CallError(ErrorCode.NOT_FOUND, "no such API key")
        users.existing(caller.rows, [row.uid])
        caller.rows.stage("api_key", row._replace(flags=row.flags | KeyFlag.REVOKED))
        revocation.stage(caller.rows, row.uid)
        return {}

    result = await caller.change(apply, urgent=True)
    row = await caller.hub.lookup(lambda: caller.rows.find("api_key", key_id))
    await caller.hub.rpc.ask_all("key_revoked", key_id)
    await revocation.enforce(caller.hub, row.uid)
    return result
