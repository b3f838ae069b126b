"""`chatd history`: what a conversation holds, without touching any position."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Token, run
from chatd.cli.show import event_json
from chatd.cli.tail import learn_names, update_text
from chatd.client import Client, Event

app = typer.Typer(add_completion=False)


@app.command(help="Print events of a conversation, oldest first. Without a CID: list the conversations.")
def history(
    user: As,
    cid: Annotated[int, typer.Argument(help="The conversation.")] = 0,
    last: Annotated[int, typer.Option("--last", min=1, max=10_000, help="So many of the newest.")] = 20,
    from_seq: Annotated[int, typer.Option("--from-seq", min=0, help="Instead: from this seq ...")] = 0,
    to_seq: Annotated[int, typer.Option("--to-seq", min=0, help="... to this one; 0: to the newest.")] = 0,
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
            events = await (ranged(client, cid, from_seq, to_seq) if from_seq else client.latest(cid, last))
            for event in events:
                if as_json:
                    typer.echo(json.dumps(event_json(event), ensure_ascii=False))
                else:
                    await learn_names(client, event, names)
                    typer.echo(update_text(event, names))

    run(main, login)


async def ranged(client: Client, cid: int, from_seq: int, to_seq: int) -> list[Event]:
    events: list[Event] = []
    while from_seq:
        page = await client.history(cid, from_seq, to_seq, 200)
        events += page.events
        from_seq = page.next_seq
    return events


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
