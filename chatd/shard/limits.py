"""How often may somebody try to log in? Cost is charged before the work (security.md L3); every table is bounded."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from functools import lru_cache

TABLE_ENTRIES_MAX = 65_536


class Buckets:
    """Token buckets by key: `burst` at once, refilled with per_s.

    A bucket is one number, the time at which it will be full again; a full one is forgotten, so who logs in rarely
    costs nothing. The table is bounded all the same: an attacker who floods it with keys wins one fresh bucket per
    forgotten one, which its own rate bounds.
    """

    def __init__(self, per_s: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s, self._clock = 1 / per_s, clock
        # How far ahead of now a bucket may be full again and still hold one token.
        self._ahead_max_s = (burst - 1) / per_s
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def take(self, key: Hashable) -> float:
        """Charge one. 0.0: allowed; otherwise the seconds until it would be, and nothing is charged."""
        now = self._clock()
        full_at = max(now, self._full_at.get(key, now))
        # A nanosecond of grace for the sums of floats.
        if full_at - now > self._ahead_max_s + 1e-9:
            return full_at - now - self._ahead_max_s
        self._full_at[key] = full_at + self._interval_s
        self._full_at.move_to_end(key)
        self._forget(now)
        return 0.0

    def give_back(self, key: Hashable) -> None:
        """Undo one take."""
        known = self._full_at.get(key)
        if known is None:
            return
        if known - self._interval_s <= self._clock():
            del self._full_at[key]
        else:
            self._full_at[key] = known - self._interval_s

    def _forget(self, now: float) -> None:
        """Each take lets up to two full buckets go, the least recently used first, so that they never pile up."""
        for _ in range(2):
            oldest = next(iter(self._full_at))
            if self._full_at[oldest] > now and len(self._full_at) <= TABLE_ENTRIES_MAX:
                return
            del self._full_at[oldest]

    def __len__(self) -> int:
        return len(self._full_at)


class Bans:
    """Who is refused for a while without being looked at."""

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds, self._clock = seconds, clock
        self._until: OrderedDict[Hashable, float] = OrderedDict()

    def add(self, key: Hashable) -> None:
        self._until[key] = self._clock() + self._seconds
        self._until.move_to_end(key)
        if len(self._until) > TABLE_ENTRIES_MAX:
            self._until.popitem(last=False)

    def remaining_s(self, key: Hashable) -> float:
        until = self._until.get(key)
        if until is None:
            return 0.0
        left = until - self._clock()
        if left <= 0:
            del self._until[key]
            return 0.0
        return left


class Exemptions:
    """Networks that per-address limits do not apply to."""

    def __init__(self, networks: list[str]) -> None:
        self._networks = [ipaddress.ip_network(network) for network in networks]
        self.covers = lru_cache(maxsize=4096)(self._covers)

    def _covers(self, address: str) -> bool:
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


@lru_cache(maxsize=4096)
def limited_prefix(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    if parsed.version == 4:
        return address
    return str(ipaddress.ip_network((int(parsed) >> 64 << 64, 64)))


class LoginLimits:
    """The three limits of logins: per address, per user, per device (flapping)."""

    def __init__(
        self,
        user_per_min: int,
        address_per_min: int,
        device_per_min: int,
        ban_s: int,
        exempt: list[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._users = Buckets(user_per_min / 60, user_per_min, clock)
        self._addresses = Buckets(address_per_min / 60, address_per_min, clock)
        self._devices = Buckets(device_per_min / 60, device_per_min, clock)
        self._bans = Bans(ban_s, clock)
        self._exemptions = Exemptions(exempt)

    def exempt(self, address: str) -> bool:
        return self._exemptions.covers(address)

    def address(self, address: str) -> float:
        """Charge an AUTH to its address. Seconds to wait, 0.0 when allowed."""
        return 0.0 if self.exempt(address) else self._addresses.take(limited_prefix(address))

    def user(self, name: Hashable) -> float:
        """Charge an AUTH to the user it names. Not lifted for exempt addresses: give_back after success instead."""
        return self._users.take(name)

    def user_succeeded(self, name: Hashable, address: str) -> None:
        """A login that succeeded from an exempt address is not counted: only guessing is."""
        if self.exempt(address):
            self._users.give_back(name)

    def banned(self, device: int) -> float:
        """Seconds for which this device is refused, before its credential is looked at. Costs it nothing: the number
        is only the client's word so far, and others must not be able to shut a device out by naming it."""
        return self._bans.remaining_s(device) if device else 0.0

    def ban(self, device: int) -> None:
        """Refuse a device for a while, wherever it comes from: it flooded or flapped."""
        self._bans.add(device)

    def device(self, device: int, address: str) -> float:
        """Charge a login whose credential was good to its device; too many and it is banned. Seconds to wait."""
        if not device or self.exempt(address):
            return 0.0
        if self._devices.take(device):
            self.ban(device)
        return self.banned(device)


class AddressGate:
    """Connections of an address, for listeners that the engine does not accept for: rate, and how many at a time.

    Entries of the count live as long as their connections, whose number is bounded elsewhere.
    """

    def __init__(
        self, per_s: int, burst: int, at_once: int, exempt: list[str], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._rates = Buckets(per_s, burst, clock)
        self._limited, self._at_once = bool(per_s), at_once
        self._counts: dict[str, int] = {}
        self._exemptions = Exemptions(exempt)

    def __len__(self) -> int:
        return len(self._counts)

    def enter(self, address: str) -> bool:
        """May it have one more connection? True: leave() gives it back."""
        if self._exemptions.covers(address):
            return True
        prefix = limited_prefix(address)
        count = self._counts.get(prefix, 0)
        if count >= self._at_once or (self._limited and self._rates.take(prefix)):
            return False
        self._counts[prefix] = count + 1
        return True

    def leave(self, address: str) -> None:
        prefix = limited_prefix(address)
        count = self._counts.pop(prefix, 0)
        if count > 1:
            self._counts[prefix] = count - 1
