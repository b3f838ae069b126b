"""`chatd group`: groups and channels: who is in them, who may what."""

from typing import Annotated

import typer

from chatd.cli.action import action, moment, user_id
from chatd.client import Client
from chatd.client.groups import HISTORY_ALL, PublicConversation, Restriction, RoleInfo, Rules
from chatd.client.history import Retention
from chatd.client.methods import Member
from chatd.errors import ChatdError
from chatd.wire.schema import Right

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Groups and channels: make, describe, moderate.")

Cid = Annotated[int, typer.Argument(help="The conversation.")]
Name = Annotated[str, typer.Argument(help="The user's name.")]
Names = Annotated[list[str], typer.Argument(help="Users' names.")]
RoleName = Annotated[str, typer.Argument(help="The role; `chatd group roles` lists them.")]
Until = Annotated[str, typer.Option("--until", help="10m, 2h, 7d, a date and time, or never.")]


@action(app, "group", "Make a group, or a channel, and print its cid.")
async def create(
    client: Client,
    title: Annotated[str, typer.Argument(help="Its title.")],
    users: Annotated[list[str] | None, typer.Argument(help="Users to be in a group from the start.")] = None,
    channel: Annotated[bool, typer.Option("--channel", help="Few write, many read.")] = False,
) -> int:
    if channel:
        return await client.create_channel(title)
    return await client.create_group(title, [await user_id(client, name) for name in users or []])


@action(app, "group", "Topic, rules, and what you may do here.")
async def rules(client: Client, cid: Cid) -> Rules:
    return await client.rules(cid)


@action(app, "group", "List the members.")
async def members(client: Client, cid: Cid) -> list[Member]:
    return await client.members(cid)


@action(app, "group", "List the roles of this server, with their rights.")
async def roles(client: Client) -> list[RoleInfo]:
    return await client.roles()


@action(app, "group", "Add members.")
async def add(client: Client, cid: Cid, users: Names) -> str:
    seq = await client.add_members(cid, [await user_id(client, name) for name in users])
    return f"{cid}:{seq}" if seq else "all were members already"


@action(app, "group", "Remove members.")
async def remove(client: Client, cid: Cid, users: Names) -> str:
    seq = await client.remove_members(cid, [await user_id(client, name) for name in users])
    return f"{cid}:{seq}" if seq else "none was a member"


@action(app, "group", "Leave.")
async def leave(client: Client, cid: Cid) -> str:
    return f"{cid}:{await client.leave(cid)}"


@action(app, "group", "Give a member a role; owner hands the conversation over.")
async def role(client: Client, cid: Cid, who: Name, role_name: RoleName) -> str:
    known = {one.name: one.role for one in await client.roles()}
    if role_name not in known:
        raise ChatdError(f"there is no role {role_name!r}; there are {', '.join(sorted(known))}")
    seq = await client.set_role(cid, await user_id(client, who), known[role_name])
    return f"{cid}:{seq}" if seq else f"{who} is {role_name} already"


@action(app, "group", "A member may not write until a time; without --until: may again.")
async def mute(client: Client, cid: Cid, who: Name, until: Until = "never") -> str:
    return f"{cid}:{await client.mute_member(cid, await user_id(client, who), moment(until))}"


@action(app, "group", "Remove a user and keep the user out until a time, or for ever.")
async def ban(
    client: Client,
    cid: Cid,
    who: Name,
    until: Until = "never",
    reason: Annotated[str, typer.Option("--reason", help="For other moderators.")] = "",
) -> str:
    await client.ban(cid, await user_id(client, who), moment(until), reason)
    return f"{who} is banned from {cid}"


@action(app, "group", "End a ban.")
async def unban(client: Client, cid: Cid, who: Name) -> str:
    seq = await client.lift_ban(cid, await user_id(client, who))
    return f"{who} may join {cid} again" if seq else f"{who} was not banned"


@action(app, "group", "List who is muted or banned.")
async def restrictions(client: Client, cid: Cid) -> list[Restriction]:
    return await client.restrictions(cid)


@action(app, "group", "Set title, topic or avatar.")
async def describe(
    client: Client,
    cid: Cid,
    title: Annotated[str | None, typer.Option("--title")] = None,
    topic: Annotated[str | None, typer.Option("--topic")] = None,
    avatar: Annotated[str | None, typer.Option("--avatar", help="A reference to a picture.")] = None,
) -> None:
    if title is not None:
        await client.set_title(cid, title)
    if topic is not None or avatar is not None:
        await client.set_info(cid, topic, avatar)


@action(app, "group", "Set slow mode, history for those who join later, and what a role may not do here.", "set-rules")
async def set_rules(
    client: Client,
    cid: Cid,
    slow_mode: Annotated[int | None, typer.Option("--slow-mode", min=0, help="Seconds between two messages.")] = None,
    history: Annotated[str | None, typer.Option("--history", help="all, none, or how many events.")] = None,
    deny: Annotated[list[str] | None, typer.Option("--deny", metavar="ROLE:RIGHT", help="Again for more.")] = None,
    allow: Annotated[list[str] | None, typer.Option("--allow", metavar="ROLE:RIGHT", help="Takes it back.")] = None,
) -> None:
    words = {"all": HISTORY_ALL, "none": 0}
    try:
        kept = None if history is None else words[history] if history in words else int(history)
    except ValueError:
        raise ChatdError(f"{history!r} is neither all nor none nor a number of events") from None
    denied = None
    if deny or allow:
        denied = dict((await client.rules(cid)).denied)
        known = {one.name: one.role for one in await client.roles()}
        for text in deny or []:
            role_code, right = parsed(text, known)
            denied[role_code] = denied.get(role_code, 0) | right
        for text in allow or []:
            role_code, right = parsed(text, known)
            denied[role_code] = denied.get(role_code, 0) & ~right
    await client.set_rules(cid, slow_mode_s=slow_mode, history=kept, denied=denied)


def parsed(text: str, roles_known: dict[str, int]) -> tuple[int, int]:
    """member:write → codes."""
    role_name, _, right = text.partition(":")
    try:
        return roles_known[role_name], int(Right[right.upper()])
    except KeyError:
        rights = ", ".join(one.name.lower() for one in Right if one.name)
        raise ChatdError(f"{text!r} is not ROLE:RIGHT; rights are {rights}") from None


@action(app, "group", "How long events are kept; with --days or --events: keep them so long, or so many.")
async def retention(
    client: Client,
    cid: Cid,
    days: Annotated[int | None, typer.Option("--days", min=0, help="0: for ever.")] = None,
    events: Annotated[int | None, typer.Option("--events", min=0, help="The newest; 0: all.")] = None,
) -> Retention:
    if days is not None or events is not None:
        await client.set_retention(cid, days, events)
    return await client.retention(cid)


@action(app, "group", "Nobody writes any more; --undo: they do again.")
async def archive(client: Client, cid: Cid, undo: Annotated[bool, typer.Option("--undo")] = False) -> None:
    await client.archive(cid, not undo)


@action(app, "group", "Remove everybody and end the conversation.")
async def delete(client: Client, cid: Cid) -> str:
    return f"{cid}:{await client.delete_conversation(cid)}"


@action(app, "group", "Let everybody find and join it under a name; without NAME: nobody any more.")
async def public(
    client: Client,
    cid: Cid,
    name: Annotated[str, typer.Argument(help="The public name.")] = "",
    ask: Annotated[bool, typer.Option("--ask", help="Who comes has to be accepted.")] = False,
) -> None:
    await client.set_public_name(cid, name, ask)


@action(app, "group", "List public conversations whose name begins so.")
async def find(
    client: Client, begin: Annotated[str, typer.Argument(help="The beginning.")] = ""
) -> list[PublicConversation]:
    return await client.find_public(begin)
