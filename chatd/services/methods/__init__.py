"""The tables of REQUEST methods, one for each room, put together. schema.toml has the wire's side of them."""

from chatd.services.methods import accounts, admin, conversations, members, messages, presence

METHODS = {**accounts.TABLE, **conversations.TABLE, **members.TABLE, **messages.TABLE, **presence.TABLE, **admin.TABLE}
"""code → method"""
