"""`chatd init`: the first administrator and its API key. No default password, no key that another installation has.

Two journal rows, written straight into a store that has no user yet. The key goes into data/secrets/admin.key before
the rows are committed: a crash between leaves a file without effect, which the next attempt replaces, never an
administrator whose key nobody has.
"""

import hashlib
import secrets as random
import time
from pathlib import Path

from chatd import secrets
from chatd.hub.flags import KeyFlag, UserFlag
from chatd.storage.interface import Store, row_record
from chatd.storage.journal_codec import encode_row
from chatd.storage.stores import open_store

ADMIN_NAME = "admin"
KEY_PREFIX, SECRET_BYTES = "chatd", 24
ADMIN_KEY_FILE = "admin.key"


def admin_key_path(data: Path) -> Path:
    return secrets.directory(data) / ADMIN_KEY_FILE


def initialise(data: Path, where: str = "sqlite") -> tuple[list[Path], bool]:
    """Make what is missing: directory, secrets, store, first administrator. The files made, and whether an
    administrator was.

    Raises ConfigError or StorageError (StoreLockedError while a server runs on it).
    """
    made = secrets.create(data)
    store = open_store(where, data)
    try:
        created = ensure_administrator(store, data)
    finally:
        store.close()
    return [*made, *([admin_key_path(data)] if created else [])], created


def ensure_administrator(store: Store, data: Path) -> bool:
    """Make the first administrator when the store has no user at all. True when it did."""
    if store.highest_ids().user:
        return False
    secret = random.token_urlsafe(SECRET_BYTES)
    secrets.write_private(admin_key_path(data), f"{KEY_PREFIX}_1_{secret}\n")
    now_ms = time.time_ns() // 1_000_000
    user = {
        "id": 1,
        "name": ADMIN_NAME,
        "display_name": "Administrator",
        "password_hash": None,
        "flags": int(UserFlag.ADMIN),
        "token_epoch": 0,
        "created_ms": now_ms,
    }
    key = {
        "id": 1,
        "uid": 1,
        "label": "chatd init",
        "hash": hashlib.sha256(secret.encode()).digest(),
        "flags": int(KeyFlag.ACTS_AS_OTHERS),
        "created_ms": now_ms,
    }
    rows = [encode_row(row_record("user", user)), encode_row(row_record("api_key", key))]
    store.append(store.next_pos, len(rows), b"".join(rows))
    return True
