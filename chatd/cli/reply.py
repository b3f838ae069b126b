"""`chatd reply`: answer a message."""

from typing import Annotated

import typer

from chatd.cli.acting import act
from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Place, Server, StateFile, Timeout, Token, place_of

app = typer.Typer(add_completion=False)


@app.command(help="Answer a message and print cid:seq once the answer is durable.")
def reply(
    place: Place,
    text: Annotated[str, typer.Argument(help="The answer.")],
    user: As,
    expires: Annotated[int, typer.Option("--expires", min=0, help="Gone after so many seconds; 0: never.")] = 0,
    as_json: Json = False,
    timeout: Timeout = 30.0,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    cid, seq = place_of(place)
    act(
        lambda client: client.say(cid, text, reply_to=seq, expires_s=expires),
        (user, server, data, token, state, tls),
        timeout,
        as_json,
    )
