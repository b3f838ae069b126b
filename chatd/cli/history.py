"""`chatd history`: what a conversation holds, without touching any position."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Token, run
from chatd.cli.show import event_json, moment
from chatd.cli.tail import learn_names, update_text
from chatd.client import Client
from chatd.wire.schema import PULL_EVENTS_MAX

app = typer.Typer(add_completion=False)


@app.command(help="Print events of a conversation, oldest first. Without a CID: list the conversations.")
def history(
    user: As,
    cid: Annotated[int, typer.Argument(help="The conversation.")] = 0,
    last: Annotated[
        int, typer.Option("--last", min=1, max=10_000, help="So many; of the newest, where nothing else is said.")
    ] = 20,
    from_seq: Annotated[int, typer.Option("--from-seq", min=0, help="Instead: from this seq ...")] = 0,
    to_seq: Annotated[int, typer.Option("--to-seq", min=0, help="... to this one; 0: to the newest.")] = 0,
    around: Annotated[int, typer.Option("--around", min=0, metavar="SEQ", help="Instead: the events around it.")] = 0,
    at: Annotated[str, typer.Option("--at", metavar="TIME", help="Instead: from this date or time on.")] = "",
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    login = Login("history", user, server, data, token, state, tls)

    async def main() -> None:
        async with login.client() as client:
            if not cid:
                await conversations(client, as_json)
                return
            names: dict[int, str] = {}
            if at:
                events = await client.at(cid, moment(at), after=min(last, PULL_EVENTS_MAX))
            elif around:
                events = await client.around(cid, around, min(last, PULL_EVENTS_MAX - 1) // 2, last // 2)
            elif from_seq:
                events = [event async for event in client.log(cid, from_seq, to_seq)]
            else:
                events = await client.latest(cid, last)
            for event in events:
                if as_json:
                    typer.echo(json.dumps(event_json(event), ensure_ascii=False))
                else:
                    await learn_names(client, event, names)
                    typer.echo(update_text(event, names))

    run(main, login)


async def conversations(client: Client, as_json: bool) -> None:
    await client.synced()
    unread = {overview.cid: overview.unread for overview in client.conversations()}
    for info in await client.conversation_list():
        if as_json:
            shown = {"cid": info.cid, "kind": info.kind, "title": info.title, "head_seq": info.head_seq}
            shown |= {"member_count": info.member_count, "role": info.role, "unread": unread.get(info.cid, 0)}
            typer.echo(json.dumps(shown, ensure_ascii=False))
        else:
            title = info.title or f"{info.member_count} members"
            typer.echo(f"{info.cid:>8}  {info.head_seq:>8} events  {unread.get(info.cid, 0):>5} unread  {title}")
