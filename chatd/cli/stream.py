"""`chatd stream`: standard input as a message that others see grow."""

import json
import sys
from typing import Annotated

import anyio.to_thread
import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, StateFile, Timeout, Token, run
from chatd.cli.send import direct
from chatd.client import Sent
from chatd.wire.schema import Kind

app = typer.Typer(add_completion=False)
PIECE_BYTES_MAX = 4096


@app.command(help="Show standard input as it comes to those who follow; at its end it is stored as one message.")
def stream(
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
    login = Login("stream", user, server, data, token, state, tls)
    kind = Kind.MARKDOWN if markdown else Kind.TEXT

    async def main() -> Sent | None:
        async with login.client(wait_s=timeout) as client:
            cid = group if group is not None else await direct(client, to or "")
            async with client.stream(cid, kind, timeout_s=timeout) as writer:
                # A pipe gives what is there; ^C ends the waiting for more.
                while piece := await anyio.to_thread.run_sync(
                    sys.stdin.buffer.read1,  # type: ignore[union-attr]
                    PIECE_BYTES_MAX,
                    abandon_on_cancel=True,
                ):
                    writer.write(piece)
            return writer.sent

    sent = run(main, login)
    assert sent is not None
    if as_json:
        typer.echo(json.dumps({"cid": sent.cid, "seq": sent.seq, "time_ms": sent.time_ms, "dup": sent.dup}))
    else:
        typer.echo(f"{sent.cid}:{sent.seq}")
