"""`chatd react`: add a reaction to a message, or take it back."""

from typing import Annotated

import typer

from chatd.cli.acting import act
from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Place, Server, StateFile, Timeout, Token, place_of

app = typer.Typer(add_completion=False)


@app.command(help="React to a message with an emoji.")
def react(
    place: Place,
    emoji: Annotated[str, typer.Argument(help="The reaction, without spaces.")],
    user: As,
    remove: Annotated[bool, typer.Option("--remove", help="Take it back.")] = False,
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
        lambda client: client.react(cid, seq, emoji, added=not remove),
        (user, server, data, token, state, tls),
        timeout,
        as_json,
    )
