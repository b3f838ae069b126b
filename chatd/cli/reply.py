"""`chatd reply`: answer a message."""

from typing import Annotated

import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, Sent

app = typer.Typer(add_completion=False)


@action(app, "act", "Answer a message and print cid:seq once the answer is durable.", waits=True)
async def reply(
    client: Client,
    place: Place,
    text: Annotated[str, typer.Argument(help="The answer.")],
    expires: Annotated[int, typer.Option("--expires", min=0, help="Gone after so many seconds; 0: never.")] = 0,
) -> Sent:
    return await client.say(place.cid, text, reply_to=place.seq, expires_s=expires)
