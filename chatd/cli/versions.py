"""`chatd versions`: what a message has said, one edit after another."""

import json

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Place, Server, StateFile, Token, run
from chatd.cli.show import local_time, printable, safe
from chatd.client.history import Version

app = typer.Typer(add_completion=False)


@app.command(help="Print every version of a message, the oldest first: for its author and for moderators.")
def versions(
    user: As,
    event: Place,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    state: StateFile = None,
    tls: Ca = None,
) -> None:
    login = Login("versions", user, server, data, token, state, tls)

    async def main() -> list[Version]:
        async with login.client() as client:
            return await client.versions(*event)

    for version in run(main, login):
        said = printable(version.payload)
        if as_json:
            shown = {"cid": event.cid, "seq": version.seq, "time_ms": version.time_ms, "payload": said}
            typer.echo(json.dumps(shown, ensure_ascii=False))
        else:
            typer.echo(f"{event.cid}:{version.seq}  {local_time(version.time_ms)}  {safe(said)}")
