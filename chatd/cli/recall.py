"""`chatd recall`: take a message back."""

import typer

from chatd.cli.acting import act
from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Place, Server, StateFile, Timeout, Token, place_of

app = typer.Typer(add_completion=False)


@app.command(help="Take a message back: yours within two minutes, as a moderator any. Its place stays, empty.")
def recall(
    place: Place,
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
    act(lambda client: client.recall(cid, seq), who, timeout, as_json)
