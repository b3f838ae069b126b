"""`chatd forward`: a message into another conversation."""

from typing import Annotated

import typer

from chatd.cli.action import action
from chatd.cli.login import Place
from chatd.client import Client, NotFoundError, Sent
from chatd.wire.schema import ErrorCode

app = typer.Typer(add_completion=False)


@action(app, "act", "Send a message on; its author is named, its conversation is not.", waits=True)
async def forward(
    client: Client,
    place: Place,
    group: Annotated[int, typer.Argument(metavar="CID", help="The conversation it goes to.")],
) -> Sent:
    events = (await client.history(place.cid, place.seq, place.seq, 1)).events
    if not events or events[0].tombstone:
        raise NotFoundError(ErrorCode.NOT_FOUND, f"there is no message {place.cid}:{place.seq} for you")
    return await client.forward(events[0], group)
