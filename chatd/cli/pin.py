"""`chatd pin`: keep a message at hand, or let it go."""

from typing import Annotated

import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, Sent

app = typer.Typer(add_completion=False)


@action(app, "act", "Pin a message of the conversation; admins may, and both in a direct one.", waits=True)
async def pin(
    client: Client, place: Place, remove: Annotated[bool, typer.Option("--remove", help="Unpin it.")] = False
) -> Sent:
    return await client.pin(*place, pinned=not remove)
