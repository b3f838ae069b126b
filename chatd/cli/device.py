"""`chatd device`: a user's devices; close the session of one, or end it for good."""

import json
from typing import Annotated

import typer

from chatd.cli.login import DEFAULT_DATA, As, Ca, Data, Json, Login, Server, Token, run
from chatd.cli.show import local_time, safe
from chatd.client.methods import Device

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Devices of a user: list, kick, revoke.")

Number = Annotated[int, typer.Argument(metavar="DEVICE", min=1, help="Its number, as `chatd device list` prints it.")]


@app.command("list", help="List the devices, with their labels and whether they are online.")
def listed(
    user: As,
    as_json: Json = False,
    server: Server = None,
    data: Data = DEFAULT_DATA,
    token: Token = None,
    tls: Ca = None,
) -> None:
    login = Login("device", user, server, data, token, None, tls)

    async def main() -> list[Device]:
        async with login.client() as client:
            return await client.devices()

    for device in run(main, login):
        if as_json:
            shown = {"id": device.id, "label": device.label, "created_ms": device.created_ms}
            typer.echo(json.dumps(shown | {"online": device.online, "has_key": device.has_key}, ensure_ascii=False))
        else:
            state = "online" if device.online else "offline"
            typer.echo(f"{device.id:>8}  {local_time(device.created_ms)}  {state:<7}  {safe(device.label)}")


@app.command(help="Close the session of a device. It may come again: `revoke` ends it for good.")
def kick(
    user: As, device: Number, server: Server = None, data: Data = DEFAULT_DATA, token: Token = None, tls: Ca = None
) -> None:
    login = Login("device", user, server, data, token, None, tls)

    async def main() -> bool:
        async with login.client() as client:
            return await client.kick_device(device)

    typer.echo(f"device {device}: its session is closed" if run(main, login) else f"device {device} was not online")


@app.command(help="Log a device out for good: its tickets and its key stop working.")
def revoke(
    user: As, device: Number, server: Server = None, data: Data = DEFAULT_DATA, token: Token = None, tls: Ca = None
) -> None:
    login = Login("device", user, server, data, token, None, tls)

    async def main() -> None:
        async with login.client() as client:
            await client.revoke_device(device)

    run(main, login)
    typer.echo(f"device {device}: revoked")
