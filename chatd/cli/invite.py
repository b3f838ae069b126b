"""`chatd invite`: links into a conversation, and those who ask to come in."""

from typing import Annotated

import typer

from chatd.cli.action import action, link_of, moment, user_id
from chatd.cli.group import Cid, Name
from chatd.client import Client
from chatd.client.groups import Invitation, JoinRequest

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Invitation links and requests to join.")


@action(app, "invite", "Make a link and print it: whoever has it can join.")
async def create(
    client: Client,
    cid: Cid,
    until: Annotated[str, typer.Option("--until", help="10m, 2h, 7d, a date and time, or never.")] = "7d",
    uses: Annotated[int, typer.Option("--uses", min=0, help="How often; 0: any number.")] = 0,
    ask: Annotated[bool, typer.Option("--ask", help="Who comes has to be accepted.")] = False,
) -> str:
    token, _ = await client.invite(cid, expires_s=moment(until), uses_max=uses, ask=ask)
    return link_of(token)


@action(app, "invite", "List the links.", "list")
async def listed(client: Client, cid: Cid) -> list[Invitation]:
    return await client.invitations(cid)


@action(app, "invite", "End a link.")
async def revoke(
    client: Client, cid: Cid, invitation: Annotated[int, typer.Argument(help="Its number in the list.")]
) -> None:
    await client.revoke_invitation(cid, invitation)


@action(app, "invite", "List who asks to join.")
async def requests(client: Client, cid: Cid) -> list[JoinRequest]:
    return await client.join_requests(cid)


@action(app, "invite", "Let in who asks.")
async def accept(client: Client, cid: Cid, who: Name) -> str:
    return f"{cid}:{await client.answer_join_request(cid, await user_id(client, who), accept=True)}"


@action(app, "invite", "Do not let in who asks.")
async def refuse(client: Client, cid: Cid, who: Name) -> None:
    await client.answer_join_request(cid, await user_id(client, who), accept=False)
