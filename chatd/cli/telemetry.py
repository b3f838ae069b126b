"""`chatd telemetry`: tell a value of a device, and read the last ones."""

import json
from typing import Annotated

import anyio
import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, Token, run
from chatd.cli.show import safe
from chatd.client import Client, Followed, NoAnswerError, NotFoundError
from chatd.client.methods import User
from chatd.client.telling import LastValue
from chatd.errors import ChatdError
from chatd.wire.schema import TELEMETRY_KEY_MAX, ErrorCode, Topic

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Values that devices tell: send, last.")

ANSWER_WITHIN_S = 10.0

Conversation = Annotated[int, typer.Argument(metavar="CID", min=1, help="The conversation.")]


@app.command(help="Tell a value to those who follow the conversation. It is not stored, and nobody acknowledges it.")
def send(
    user: As,
    cid: Conversation,
    value: Annotated[str, typer.Argument(help="The value, as text.")],
    key: Annotated[int, typer.Option("--key", min=0, max=TELEMETRY_KEY_MAX, help="Which of your values it is.")] = 0,
    keep: Annotated[bool, typer.Option("--keep", help="The server keeps the newest one, until it restarts.")] = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("telemetry", user, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            await follow(client, cid)
            if not client.send_telemetry(cid, value.encode(), key, keep=keep):
                raise ChatdError("the connection was lost, nothing was told: try again")
            # What was said before is said when this is answered.
            await client.conversation(cid)

    run(main, login)


@app.command(help="Print the values that were kept: user, key, age, value.")
def last(
    user: As,
    cid: Conversation,
    of: Annotated[str | None, typer.Option("--of", metavar="USER", help="Only those of this user.")] = None,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("telemetry", user, server, data, token, None, tls)

    async def main() -> tuple[list[LastValue], dict[int, User]]:
        async with login.client() as client:
            only = (await client.user_named(of)).id if of is not None else 0
            found = await client.last_telemetry(cid, only)
            return found, await client.users(sorted({value.user for value in found}))

    found, users = run(main, login)
    for value in found:
        text = value.value.decode("utf-8", "backslashreplace")
        if as_json:
            shown = {"user": value.user, "key": value.key, "time_ms": value.time_ms, "age_ms": value.age_ms}
            typer.echo(json.dumps({**shown, "value": text}, ensure_ascii=False))
        else:
            name = users[value.user].name if value.user in users else f"user {value.user}"
            typer.echo(f"{safe(name)}  {value.key}  {value.age_ms / 1000:.1f} s ago  {safe(text)}")


async def follow(client: Client, cid: int) -> None:
    """Who tells must follow. NotFoundError: no member."""
    client.follow(cid, Topic.EPHEMERAL)
    with anyio.move_on_after(ANSWER_WITHIN_S):
        async for signal in client.signals():
            if isinstance(signal, Followed) and signal.cid == cid:
                if not signal.topics:
                    raise NotFoundError(ErrorCode.NOT_FOUND, f"there is no conversation {cid} for you")
                return
    raise NoAnswerError(f"no answer within {ANSWER_WITHIN_S:g} s")
