"""`chatd schedule`: messages that the server sends later."""

import json
import time
from datetime import datetime
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, Token, run
from chatd.cli.show import local_time, safe
from chatd.errors import ChatdError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Messages that the server sends later.")


@app.command(help="Send a text at a time; prints the number that cancels it.")
def add(
    cid: Annotated[int, typer.Argument(help="The conversation.")],
    when: Annotated[str, typer.Argument(help="2026-12-24T18:00 in local time, or +SECONDS from now.")],
    text: Annotated[str, typer.Argument(help="The text.")],
    user: As,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login, due_ms = Login("act", user, server, data, token, None, tls), due_of(when)

    async def main() -> int:
        async with login.client() as client:
            return await client.schedule(cid, text, due_ms)

    typer.echo(run(main, login))


@app.command("list", help="What is still to be sent, the earliest first.")
def list_(
    user: As,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("act", user, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            for entry in await client.scheduled():
                text = entry.preview.decode("utf-8", "replace")
                if as_json:
                    shown = {"number": entry.number, "cid": entry.cid, "due_ms": entry.due_ms, "text": text}
                    typer.echo(json.dumps(shown, ensure_ascii=False))
                else:
                    typer.echo(f"{entry.number}  {entry.cid}  {local_time(entry.due_ms)}  {safe(text)}")

    run(main, login)


@app.command(help="Do not send it.")
def cancel(
    number: Annotated[int, typer.Argument(help="As printed by `chatd schedule add`.")],
    user: As,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("act", user, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            await client.cancel_scheduled(number)

    run(main, login)


def due_of(when: str) -> int:
    """Unix milliseconds. ChatdError when it is no time."""
    try:
        if when.startswith("+"):
            return time.time_ns() // 1_000_000 + int(float(when[1:]) * 1000)
        return int(datetime.fromisoformat(when).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ChatdError(f"{when!r} is no time: write 2026-12-24T18:00, or +3600 for in an hour") from None
