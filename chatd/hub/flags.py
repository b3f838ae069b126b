"""Bits of the flags columns, shared by hub, services, shards and commands."""

from enum import IntFlag


class UserFlag(IntFlag):
    """Column user.flags."""

    ADMIN = 1
    GUEST = 2


class DeviceFlag(IntFlag):
    """Column device.flags."""

    REVOKED = 1


class KeyFlag(IntFlag):
    """Column api_key.flags."""

    ACTS_AS_OTHERS = 1
    REVOKED = 2
