"""`chatd schedule`: messages that the server sends later."""

import time
from datetime import datetime
from typing import Annotated, Any

import typer

from chatd.cli.action import action
from chatd.client import Client
from chatd.errors import ChatdError

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Messages that the server sends later.")


@action(app, "act", "Send a text at a time; prints the number that cancels it.")
async def add(
    client: Client,
    cid: Annotated[int, typer.Argument(help="The conversation.")],
    when: Annotated[str, typer.Argument(help="2026-12-24T18:00 in local time, or +SECONDS from now.")],
    text: Annotated[str, typer.Argument(help="The text.")],
) -> int:
    return await client.schedule(cid, text, due_of(when))


@action(app, "act", "What is still to be sent, the earliest first.", "list")
async def listed(client: Client) -> list[dict[str, Any]]:
    return [
        {"number": one.number, "cid": one.cid, "due_ms": one.due_ms, "text": one.preview.decode("utf-8", "replace")}
        for one in await client.scheduled()
    ]


@action(app, "act", "Do not send it.")
async def cancel(
    client: Client, number: Annotated[int, typer.Argument(help="As printed by `chatd schedule add`.")]
) -> None:
    await client.cancel_scheduled(number)


def due_of(when: str) -> int:
    """Unix milliseconds. ChatdError when it is no time."""
    try:
        if when.startswith("+"):
            return time.time_ns() // 1_000_000 + int(float(when[1:]) * 1000)
        return int(datetime.fromisoformat(when).timestamp() * 1000)
    except (ValueError, OverflowError):
        raise ChatdError(f"{when!r} is no time: write 2026-12-24T18:00, or +3600 for in an hour") from None
