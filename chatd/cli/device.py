"""`chatd device`: a user's devices; close the session of one, or end it for good."""

from typing import Annotated

import typer

from chatd.cli.action import action
from chatd.client import Client
from chatd.client.methods import Device

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Devices of a user: list, kick, revoke.")

Number = Annotated[int, typer.Argument(metavar="DEVICE", min=1, help="Its number, as `chatd device list` prints it.")]


@action(app, "device", "List the devices, with their labels and whether they are online.", "list")
async def listed(client: Client) -> list[Device]:
    return await client.devices()


@action(app, "device", "Close the session of a device. It may come again: `revoke` ends it for good.")
async def kick(client: Client, device: Number) -> str:
    was_online = await client.kick_device(device)
    return f"device {device}: its session is closed" if was_online else f"device {device} was not online"


@action(app, "device", "Log a device out for good: its tickets and its key stop working.")
async def revoke(client: Client, device: Number) -> str:
    await client.revoke_device(device)
    return f"device {device}: revoked"
