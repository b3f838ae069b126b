"""`chatd send`: one message, said to be sent only when it is durable."""

import json
import sys
from typing import Annotated

import anyio
import typer

from chatd.cli.login import (
    DEFAULT_DATA,
    As,
    Ca,
    Data,
    Json,
    Login,
    Server,
    StateFile,
    Timeout,
    Token,
    run,
)
from chatd.client import Client, Sent
from chatd.errors import ChatdError
from chatd.wire.schema import Kind

app = typer.Typer(add_completion=False)


@app.command(help="Send a message and print cid:seq once it is durable. Not acknowledged in time: it stays queued.")
def send(
    text: Annotated[str, typer.Argument(help="The text; - reads it from standard input.")],
    user: As,
    to: Annotated[str | None, typer.Option("--to", metavar="USER", help="Send to this user.")] = None,
    group: Annotated[int | None, typer.Option("--group", metavar="CID", help="Send to this conversation.")] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="The text is Markdown.")] = False,
    as_json: Json = False,
    timeout: Timeout = 30.0,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    if (to is None) == (group is None):
        raise typer.BadParameter("say where: --to USER or --group CID")
    login = Login("send", user, server, data, token, state, tls)
    body = sys.stdin.read() if text == "-" else text
    kind = Kind.MARKDOWN if markdown else Kind.TEXT

    async def main() -> Sent:
        async with login.client(wait_s=timeout) as client:
            with anyio.move_on_after(timeout):
                cid = group if group is not None else await direct(client, to or "")
                return await client.send(cid, body, kind)
        raise ChatdError(
            f"not acknowledged within {timeout:g} s: it stays queued and leaves with the next `chatd send`"
        )

    sent = run(main, login)
    if as_json:
        typer.echo(json.dumps({"cid": sent.cid, "seq": sent.seq, "time_ms": sent.time_ms, "dup": sent.dup}))
    else:
        typer.echo(f"{sent.cid}:{sent.seq}")


async def direct(client: Client, name: str) -> int:
    users = await client.resolve([name])
    if name not in users:
        raise ChatdError(f"there is no user {name!r} on this server: `chatd user add {name}` makes one")
    return await client.direct(users[name].id)
