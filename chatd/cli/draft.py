"""`chatd draft`: what has been begun to write, the same on all devices of a user."""

from typing import Annotated, Any

import typer

from chatd.cli.action import action
from chatd.client import Client

app = typer.Typer(add_completion=False)


@action(app, "act", "Keep a draft for a conversation; without a text: forget it. Without a CID: list the drafts.")
async def draft(
    client: Client,
    cid: Annotated[int, typer.Argument(help="The conversation.")] = 0,
    text: Annotated[str, typer.Argument(help="The draft.")] = "",
) -> list[dict[str, Any]]:
    if cid:
        await client.set_draft(cid, text)
        return []
    return [
        {"cid": kept.cid, "changed_ms": kept.changed_ms, "text": kept.content.decode("utf-8", "replace")}
        for kept in await client.drafts()
    ]
