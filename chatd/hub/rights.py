# Roles: the six of the protocol and the operator's own. A role grants rights and has a rank; who may change a member
# must have the higher rank. Each of the built-in roles inherits from another one, and so does every role of the
# configuration: it names a role that it begins with, and what it adds or takes away. The core gets one word of rights
# for each code and nothing else, so a reload of the configuration is one call.
"""Roles, their rights and ranks."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgpack

from chatd.wire.schema import ConversationKind, Right, Role

ROLES = 16
"""Codes of roles are below."""
OWN_ROLES = range(8, ROLES)
"""Codes that the configuration may give."""

NOTHING_DENIED = (0,) * ROLES


class RoleRule(NamedTuple):
    code: int
    name: str
    rank: int
    rights: Right


_ALL_READ = Right.SEE_MEMBERS
_GUEST = Right.WRITE | _ALL_READ
_FREER = Right.NO_SLOW_MODE | Right.MENTION_ALL | Right.PIN | Right.COMMAND
_MODERATOR = _GUEST | _FREER | Right.MODERATE | Right.REMOVE | Right.INVITE
_ADMIN = _MODERATOR | Right.EDIT_INFO | Right.MANAGE | Right.ROLES
BUILT_IN = (
    RoleRule(Role.GUEST, "guest", 10, _GUEST),
    RoleRule(Role.BOT, "bot", 20, _GUEST | Right.NO_SLOW_MODE),
    RoleRule(Role.MEMBER, "member", 30, _GUEST),
    RoleRule(Role.MODERATOR, "moderator", 40, _MODERATOR),
    RoleRule(Role.ADMIN, "admin", 50, _ADMIN),
    RoleRule(Role.OWNER, "owner", 60, _ADMIN | Right.DELETE),
)


class Roles:
    """The table of roles, by code and by name."""

    def __init__(self, own: Iterable[Mapping[str, Any]] = ()) -> None:
        """own: code, name, inherits (a name), grants and denies (names of rights) of each. ValueError says what is
        wrong.
        """
        self.by_code = {rule.code: rule for rule in BUILT_IN}
        self.by_name = {rule.name: rule for rule in BUILT_IN}
        for given in own:
            self._add(made(given, self.by_name))
        self.words = tuple(int(self.by_code[code].rights) if code in self.by_code else 0 for code in range(ROLES))

    def _add(self, rule: RoleRule) -> None:
        if rule.name in self.by_name or rule.code in self.by_code:
            raise ValueError(f"role {rule.name}: its name or its code {rule.code} is taken by another role")
        self.by_code[rule.code] = self.by_name[rule.name] = rule

    def rank(self, code: int) -> int:
        """A role that the configuration does not have any more has the lowest rank, and no rights."""
        rule = self.by_code.get(code)
        return 0 if rule is None else rule.rank

    def name(self, code: int) -> str:
        rule = self.by_code.get(code)
        return f"role {code}" if rule is None else rule.name


def made(given: Mapping[str, Any], known: Mapping[str, RoleRule]) -> RoleRule:
    name, code = given["name"], given["code"]
    base = known.get(given["inherits"])
    if base is None:
        raise ValueError(f"role {name}: it inherits from {given['inherits']}, which is not among the roles before it")
    if base.code == Role.OWNER:
        raise ValueError(f"role {name}: nothing inherits from owner, there is one in a conversation")
    rights = (base.rights | _rights(name, given["grants"])) & ~_rights(name, given["denies"])
    return RoleRule(code, name, base.rank, rights)


def _rights(role: str, names: Iterable[str]) -> Right:
    found = Right(0)
    for name in names:
        try:
            found |= Right[name.upper()]
        except KeyError:
            known = ", ".join(right.name.lower() for right in Right if right.name)
            raise ValueError(f"role {role}: there is no right {name}; there are {known}") from None
    return found


DEFAULT = Roles()

# What a kind of conversation denies to all but the privileged roles, unless its rules say otherwise: few write, many
# read. An operator's own role is among the many there: what it may do in a channel does not change with a reload.
_PRIVILEGED = frozenset({Role.BOT, Role.MODERATOR, Role.ADMIN, Role.OWNER})
_READERS = int(Right.WRITE | Right.SEE_MEMBERS)
DENIED_BY_KIND: dict[int, int] = {ConversationKind.CHANNEL: _READERS, ConversationKind.WORLD: int(Right.SEE_MEMBERS)}


def packed_denials(own: Mapping[int, int]) -> bytes:
    """Column conversation.denied."""
    packed: bytes = msgpack.packb({int(role): int(rights) for role, rights in own.items() if rights})
    return packed


def unpacked_denials(column: bytes | None) -> dict[int, int] | None:
    return None if column is None else dict(msgpack.unpackb(column, strict_map_key=False))


def denied_words(kind: int, own: Mapping[int, int] | None) -> tuple[int, ...]:
    """What each role may not do in a conversation of that kind. own: what this one says itself, None: nothing."""
    if own is not None:
        return tuple(own.get(code, 0) for code in range(ROLES))
    denied = DENIED_BY_KIND.get(kind, 0)
    return tuple(0 if code in _PRIVILEGED else denied for code in range(ROLES))
