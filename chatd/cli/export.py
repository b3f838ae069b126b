"""`chatd export`: a conversation as JSON lines, as far as the user may read it."""

import json
import sys
from pathlib import Path
from typing import Annotated, TextIO

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Login, Server, StateFile, Token, run
from chatd.cli.show import event_json
from chatd.cli.tail import learn_names
from chatd.client import Client, NotFoundError

app = typer.Typer(add_completion=False)


@app.command(help="Write a conversation as JSON lines: one about the conversation, then one per event, oldest first.")
def export(
    user: As,
    cid: Annotated[int, typer.Argument(help="The conversation.")],
    out: Annotated[Path | None, typer.Option("--out", help="A new file; default: standard output.")] = None,
    from_seq: Annotated[int, typer.Option("--from-seq", min=1, help="From this seq ...")] = 1,
    to_seq: Annotated[int, typer.Option("--to-seq", min=0, help="... to this one; 0: to the newest.")] = 0,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    login = Login("export", user, server, data, token, state, tls)

    async def main() -> None:
        async with login.client() as client:
            if out is None:
                await write(client, cid, from_seq, to_seq, sys.stdout)
                return
            # Complete under its name, or not there: a file that ends early must not look like an export.
            part = out.with_name(out.name + ".part")
            with part.open("x", encoding="utf-8") as file:
                try:
                    await write(client, cid, from_seq, to_seq, file)
                except BaseException:
                    part.unlink()
                    raise
            part.rename(out)

    if out is not None and out.exists():
        raise typer.BadParameter(f"{out} is there already; an export overwrites nothing")
    run(main, login)


async def write(client: Client, cid: int, from_seq: int, to_seq: int, file: TextIO) -> None:
    """A page of events is in memory at a time. What comes while this runs is left out."""
    page = await client.history(cid, from_seq, to_seq, 1)
    last = min(to_seq, page.head_seq) if to_seq else page.head_seq
    names: dict[int, str] = {}
    about = {"cid": cid, "title": await title_of(client, cid), "floor_seq": page.floor_seq}
    about |= {"from_seq": from_seq, "to_seq": last}
    file.write(json.dumps({"conversation": about}, ensure_ascii=False) + "\n")
    async for event in client.log(cid, from_seq, last):
        await learn_names(client, event, names)
        shown = {**event_json(event), "sender_name": names.get(event.sender, "")}
        file.write(json.dumps(shown, ensure_ascii=False) + "\n")
    file.flush()


async def title_of(client: Client, cid: int) -> str:
    """Who has left may read what he could read, but is told nothing of the conversation as it is now."""
    try:
        return (await client.conversation(cid)).title
    except NotFoundError:
        return ""
