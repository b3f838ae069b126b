"""`chatd receipts`: who has received and read an event."""

import json

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Place, Server, Token, run
from chatd.cli.show import safe
from chatd.client.methods import Receipts, User

app = typer.Typer(add_completion=False)

_STATES = {(False, False): "sent", (True, False): "delivered", (True, True): "read"}


@app.command(help="Print how many members have received and read an event, and who where there are at most 500.")
def receipts(
    user: As,
    event: Place,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("receipts", user, server, data, token, None, tls)

    async def main() -> tuple[Receipts, dict[int, User]]:
        async with login.client() as client:
            found = await client.receipts(*event)
            return found, await client.users([reader.user for reader in found.by_member])

    found, users = run(main, login)
    states = {reader.user: _STATES[reader.delivered, reader.read] for reader in found.by_member}
    if as_json:
        shown = {"members": found.members, "delivered": found.delivered, "read": found.read, "by_member": states}
        typer.echo(json.dumps(shown))
        return
    typer.echo(f"read by {found.read}, delivered to {found.delivered} of {found.members}")
    for ident, state in states.items():
        name = users[ident].name if ident in users else f"user {ident}"
        typer.echo(f"{state:>9}  {safe(name)}")
