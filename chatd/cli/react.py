"""`chatd react`: add a reaction to a message, or take it back."""

from typing import Annotated

import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, Sent

app = typer.Typer(add_completion=False)


@action(app, "act", "React to a message with an emoji.", waits=True)
async def react(
    client: Client,
    place: Place,
    emoji: Annotated[str, typer.Argument(help="The reaction, without spaces.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take it back.")] = False,
) -> Sent:
    return await client.react(*place, emoji, added=not remove)
