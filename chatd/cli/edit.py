"""`chatd edit`: say it anew."""

from typing import Annotated

import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, Sent

app = typer.Typer(add_completion=False)


@action(
    app,
    "act",
    "Replace the text of a message of yours, within 24 hours unless the operator set another time.",
    waits=True,
)
async def edit(client: Client, place: Place, text: Annotated[str, typer.Argument(help="The new text.")]) -> Sent:
    return await client.edit(*place, text)
