"""`chatd draft`: what has been begun to write, the same on all devices of a user."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, Token, run
from chatd.cli.show import local_time, safe

app = typer.Typer(add_completion=False)


@app.command(help="Keep a draft for a conversation; without a text: forget it. Without a CID: list the drafts.")
def draft(
    user: As,
    cid: Annotated[int, typer.Argument(help="The conversation.")] = 0,
    text: Annotated[str, typer.Argument(help="The draft.")] = "",
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("act", user, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            if cid:
                await client.set_draft(cid, text)
                return
            for found in await client.drafts():
                said = found.content.decode("utf-8", "replace")
                if as_json:
                    shown = {"cid": found.cid, "text": said, "changed_ms": found.changed_ms}
                    typer.echo(json.dumps(shown, ensure_ascii=False))
                else:
                    typer.echo(f"{found.cid}  {local_time(found.changed_ms)}  {safe(said)}")

    run(main, login)
