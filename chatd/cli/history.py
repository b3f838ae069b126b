"""`chatd history`: what a conversation holds, without touching any position."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Token, run
from chatd.cli.show import event_json, moment, safe
from chatd.cli.tail import learn_names, update_text
from chatd.client import Client, Event
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
    folded: Annotated[
        bool, typer.Option("--folded", help="Messages as they are now: edits and recalls applied, reactions counted.")
    ] = False,
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
            newest = await client.history(cid, 1, 1, 1)
            if at or around:
                before = min(last, PULL_EVENTS_MAX - 1) // 2 if around else 0
                from_ms = moment(at) if at else None
                count = min(last, PULL_EVENTS_MAX)
                page = await client.history(cid, around, 0, count, before=before, from_ms=from_ms, folded=folded)
                events = page.events
            else:
                start = from_seq or max(1, newest.head_seq + 1 - last)
                events = [event async for event in client.log(cid, start, to_seq, folded=folded)]
            if not as_json and newest.floor_seq > 1 and (not events or events[0].seq == newest.floor_seq):
                typer.echo(f"{cid}:1-{newest.floor_seq - 1}  (not kept, or from before you came)")
            for event in events:
                if as_json:
                    typer.echo(json.dumps(event_json(event), ensure_ascii=False))
                else:
                    await learn_names(client, event, names)
                    typer.echo(update_text(event, names) + marks_now(event))

    run(main, login)


def marks_now(event: Event) -> str:
    """What became of a message, behind its text; "" where the event is shown as it was sent."""
    now = event.now
    marks = ["(edited)"] if now.edit_seq else []
    marks += ["(pinned)"] if now.pinned else []
    marks += [f"{safe(reaction.emoji)} {reaction.count}" for reaction in now.reactions]
    marks += [f"and {now.other_reactions} more"] if now.other_reactions else []
    return "".join(f"  {mark}" for mark in marks)


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
