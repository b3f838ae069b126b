"""The tables of REQUEST methods, one for each room, put together. schema.toml has the wire's side of them."""

from chatd.services.methods import accounts, admin, conversations, members, presence

METHODS = {**accounts.TABLE, **conversations.TABLE, **members.TABLE, **presence.TABLE, **admin.TABLE}
"""code → method"""
