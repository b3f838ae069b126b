"""`chatd forward`: a message into another conversation."""

from typing import Annotated

import typer

from chatd.cli.acting import act, forwarded
from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Place, Server, StateFile, Timeout, Token, place_of

app = typer.Typer(add_completion=False)


@app.command(help="Send a message on; its author is named, its conversation is not.")
def forward(
    place: Place,
    group: Annotated[int, typer.Argument(metavar="CID", help="The conversation it goes to.")],
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
    act(lambda client: forwarded(client, cid, seq, group), who, timeout, as_json)
