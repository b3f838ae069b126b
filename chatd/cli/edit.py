"""`chatd edit`: say it anew."""

from typing import Annotated

import typer

from chatd.cli.acting import act
from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Place, Server, StateFile, Timeout, Token, place_of

app = typer.Typer(add_completion=False)


@app.command(help="Replace the text of a message of yours, within 24 hours unless the operator set another time.")
def edit(
    place: Place,
    text: Annotated[str, typer.Argument(help="The new text.")],
    user: As,
    as_json: Json = False,
    timeout: Timeout = 30.0,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    cid, seq = place_of(place)
    who = (user, server, data, token, state, tls)
    act(lambda client: client.edit(cid, seq, text), who, timeout, as_json)
