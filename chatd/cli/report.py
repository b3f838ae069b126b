"""`chatd report`: messages and users brought before moderators, and what moderators do with them."""

from typing import Annotated

import typer

from chatd.cli.action import action, user_id
from chatd.client import Client
from chatd.client.people import Report

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Reports: make, list, resolve.")

Reason = Annotated[str, typer.Argument(help="What is wrong.")]


@action(app, "report", "Report a message.")
async def message(
    client: Client,
    cid: Annotated[int, typer.Argument(help="The conversation.")],
    seq: Annotated[int, typer.Argument(help="The message.")],
    reason: Reason,
) -> int:
    return await client.report(reason, cid=cid, seq=seq)


@action(app, "report", "Report a user.")
async def user(client: Client, name: Annotated[str, typer.Argument(help="The user's name.")], reason: Reason) -> int:
    return await client.report(reason, user=await user_id(client, name))


@action(app, "report", "List open reports of a conversation; without CID, for administrators: of all.", "list")
async def listed(client: Client, cid: Annotated[int, typer.Argument(help="The conversation.")] = 0) -> list[Report]:
    return await client.reports(cid)


@action(app, "report", "Take a report out of the queue.")
async def resolve(
    client: Client,
    report: Annotated[int, typer.Argument(help="Its number in the list.")],
    note: Annotated[str, typer.Option("--note", help="What was done.")] = "",
) -> None:
    await client.resolve_report(report, note)
