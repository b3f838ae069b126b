"""The tables of REQUEST methods, one for each room, put together. schema.toml has the wire's side of them."""

from chatd.services.methods import (
    accounts,
    admin,
    conversations,
    history,
    members,
    messages,
    own,
    people,
    presence,
    service,
)

METHODS = {
    **accounts.TABLE,
    **people.TABLE,
    **conversations.TABLE,
    **members.TABLE,
    **messages.TABLE,
    **own.TABLE,
    **presence.TABLE,
    **service.TABLE,
    **history.TABLE,
    **admin.TABLE,
}
"""code → method"""
