"""`chatd own`: how one has a conversation for oneself, on all devices."""

from typing import Annotated

import typer

from chatd.cli.action import action, moment
from chatd.cli.group import Cid
from chatd.client import Client
from chatd.client.people import OwnSetting

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Own settings of conversations.")

Flag = bool | None


@action(app, "own", "List them.", "list")
async def listed(client: Client) -> list[OwnSetting]:
    return await client.own_settings()


@action(app, "own", "Mute, mentions only, archive, mark unread.", "set")
async def change(
    client: Client,
    cid: Cid,
    mute: Annotated[str | None, typer.Option("--mute", help="10m, 2h, 7d, a date and time; never ends it.")] = None,
    mentions_only: Annotated[Flag, typer.Option("--mentions-only/--all-messages")] = None,
    archived: Annotated[Flag, typer.Option("--archived/--not-archived")] = None,
    unread: Annotated[Flag, typer.Option("--unread/--not-unread")] = None,
) -> None:
    until_s = None if mute is None else moment(mute)
    await client.set_own(cid, muted_until_s=until_s, mentions_only=mentions_only, archived=archived, unread=unread)


@action(app, "own", "Delete events for yourself alone.")
async def delete(
    client: Client,
    cid: Cid,
    seqs: Annotated[list[int] | None, typer.Argument(help="Single events.")] = None,
    upto: Annotated[int, typer.Option("--upto", min=0, help="And all up to this one.")] = 0,
) -> None:
    await client.delete_for_me(cid, upto=upto, seqs=seqs or [])
