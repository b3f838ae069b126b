"""`chatd pin`: keep a message at hand, or let it go."""

from typing import Annotated

import typer

from chatd.cli.acting import act
from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Place, Server, StateFile, Timeout, Token, place_of

app = typer.Typer(add_completion=False)


@app.command(help="Pin a message of the conversation; admins may, and both in a direct one.")
def pin(
    place: Place,
    user: As,
    remove: Annotated[bool, typer.Option("--remove", help="Unpin it.")] = False,
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
        lambda client: client.pin(cid, seq, pinned=not remove),
        (user, server, data, token, state, tls),
        timeout,
        as_json,
    )
