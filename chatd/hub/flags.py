"""Bits of the flags columns, shared by hub, services, shards and commands."""

from enum import IntFlag


class UserFlag(IntFlag):
    """Column user.flags."""

    ADMIN = 1
    GUEST = 2
    CONTACTS_ONLY = 4
    """Only contacts may write first or add this user to a conversation."""


class ConversationFlag(IntFlag):
    """Column conversation.flags."""

    CLOSED = 2
    """Archived: nobody writes."""
    DELETED = 4
    ASK = 8
    """Who comes by the public name has to be accepted."""


class InvitationFlag(IntFlag):
    """Column invitation.flags."""

    REVOKED = 1
    ASK = 2


class DeviceFlag(IntFlag):
    """Column device.flags."""

    REVOKED = 1


class KeyFlag(IntFlag):
    """Column api_key.flags."""

    ACTS_AS_OTHERS = 1
    REVOKED = 2


class Relation(IntFlag):
    """Column relation.state, and bits of RELATION_LIST."""

    CONTACT = 1
    ASKED = 2
    ASKED_ME = 4
    BLOCKED = 8
