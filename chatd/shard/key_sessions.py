# Sessions of API keys that act as others. Revoking a user ends what carries its token epoch, but a program's key opens
# sessions of other users, whose epochs must not move for it. So the shard remembers which of its sessions such a key
# opened, and these sessions get no resume ticket: it would outlive the key. Price: a bridge logs in with its key again.
"""Which live sessions were opened with whose API key."""

from collections import OrderedDict
from collections.abc import Callable

# Of the last revocations: only logins that were under way meanwhile ask.
REVOKED_MAX = 1024
PRUNE_MIN = 1024


class KeySessions:
    """handle → API key. A handle that died stays until the next pruning: at most as many as there are live ones."""

    def __init__(self, is_live: Callable[[int], bool], close: Callable[[int], None]) -> None:
        self._is_live, self._close = is_live, close
        self._keys: dict[int, int] = {}
        self._revoked: OrderedDict[int, None] = OrderedDict()
        self._prune_at = PRUNE_MIN

    def __len__(self) -> int:
        return len(self._keys)

    def keys(self) -> list[int]:
        """Those that have opened sessions here."""
        return sorted(set(self._keys.values()))

    def is_revoked(self, key: int) -> bool:
        return key in self._revoked

    def opened(self, handle: int, key: int) -> None:
        """This connection belongs to that key from here on; 0: to none any more."""
        self._keys.pop(handle, None)
        if not key:
            return
        if len(self._keys) >= self._prune_at:
            self._keys = {known: its_key for known, its_key in self._keys.items() if self._is_live(known)}
            self._prune_at = max(PRUNE_MIN, 2 * len(self._keys))
        self._keys[handle] = key

    def revoke(self, key: int) -> int:
        """Close everything this key opened here. Returns how many sessions that were."""
        self._revoked[key] = None
        if len(self._revoked) > REVOKED_MAX:
            self._revoked.popitem(last=False)
        ended = [handle for handle, its_key in self._keys.items() if its_key == key]
        for handle in ended:
            del self._keys[handle]
            self._close(handle)
        return len(ended)
