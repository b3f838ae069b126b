"""`chatd recall`: take a message back."""

import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, Sent

app = typer.Typer(add_completion=False)


@action(
    app,
    "act",
    "Take a message back: yours within two minutes, as a moderator any. Its place stays, empty.",
    waits=True,
)
async def recall(client: Client, place: Place) -> Sent:
    return await client.recall(*place)
